"""What `mix local.hex` and `mix local.rebar` fetch from builds.hex.pm.

Both read a list, check the `.signed` beside it, and fetch the one file that it names for their
Elixir and Erlang/OTP (elixir, lib/mix/lib/mix/local.ex and tasks/local.{hex,rebar}.ex). There are
two generations of lists, with a row for each build, newer ones below:

- up to Elixir 1.18.3, `hex-1.x.csv` and `rebar3-1.x.csv`: `VERSION,SHA512,ELIXIR[,ELIXIR…]`;
- from 1.18.4, `hex.csv` and `rebar.csv`: `VERSION,SHA512,ELIXIR,OTP`.

rebar3 fetches nothing from there. Hex's update check reads `hex-1.x.csv` (Hex.UpdateChecker). The
list of rebar 2, which Elixir 1.13 was the last to ask for, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hexcache import resources
from hexcache.errors import RequirementError
from hexcache.resources import Kind, Resource
from hexcache.versions.requirements import Version


@dataclass(frozen=True)
class _List:
    """`file` is below /installs, with what a row's columns are put into."""

    path: str
    file: str
    by_otp: bool

    @property
    def csv(self) -> Resource:
        return Resource(Kind.CSV, self.path, self.path.lstrip("/"))


_OLD_HEX = _List("/installs/hex-1.x.csv", "{elixir}/hex-{version}.ez", by_otp=False)
_OLD_REBAR = _List("/installs/rebar3-1.x.csv", "{elixir}/rebar3-{version}", by_otp=False)
_HEX = _List("/installs/hex.csv", "{elixir}/hex-{version}-otp-{otp}.ez", by_otp=True)
_REBAR = _List("/installs/rebar.csv", "{elixir}/rebar3-{version}-otp-{otp}", by_otp=True)
_LISTS = (_OLD_HEX, _OLD_REBAR, _HEX, _REBAR)


# Of all generations. Each has its signature beside it (`resources.signature_of`).
CSVS = tuple(each.csv for each in _LISTS)
# Both generations of each tool's list.
GENERATIONS = ((_OLD_HEX.csv, _HEX.csv), (_OLD_REBAR.csv, _REBAR.csv))


def readers_of(csv: Resource) -> str:
    """Who asks for one of CSVS."""
    by_otp = any(each.by_otp for each in _LISTS if each.path == csv.path)
    return "Elixir 1.18.4 and newer" if by_otp else "Elixir 1.18.3 and older"


def files_of(csv: Resource, text: str) -> tuple[Resource, ...]:
    """What Mix would fetch by a list, for every Elixir and Erlang/OTP that it makes a difference
    for, in the order of the list; nothing for a list that isn't one of CSVS. Rows that make no
    sense are left out."""
    layout = next((each for each in _LISTS if each.path == csv.path), None)
    if layout is None:
        return ()
    rows = [row for line in text.split("\n") if (row := _row(line, layout)) is not None]
    elixirs = {elixir for row in rows for _, elixir in row.elixirs}
    otps = {row.otp for row in rows}
    chosen = {build for elixir in elixirs for otp in otps if (build := _latest(rows, elixir, otp))}
    found = (_file(layout, build) for row in rows for build in row.builds if build in chosen)
    return tuple(dict.fromkeys(resource for resource in found if resource is not None))


@dataclass(frozen=True)
class _Build:
    version: str
    elixir: str
    otp: str


@dataclass(frozen=True)
class _Row:
    """`elixirs`: as it stands there, and as a version. `otp` is "" in lists without it."""

    version: str
    elixirs: tuple[tuple[str, Version], ...]
    otp: str

    @property
    def builds(self) -> Iterator[_Build]:
        for text, _ in self.elixirs:
            yield _Build(self.version, text, self.otp)

    def build_for(self, elixir: Version, otp: str) -> _Build | None:
        # Mix compares the release of OTP as text.
        if self.otp > otp:
            return None
        text = next((text for text, least in self.elixirs if least <= elixir), None)
        return None if text is None else _Build(self.version, text, self.otp)


def _latest(rows: list[_Row], elixir: Version, otp: str) -> _Build | None:
    """The last row that fits, as in `Mix.Local.find_latest_eligible_version`."""
    builds = (row.build_for(elixir, otp) for row in reversed(rows))
    return next((build for build in builds if build is not None), None)


def _row(line: str, layout: _List) -> _Row | None:
    try:
        version, _, *columns = line.strip().split(",")
        Version.parse(version)
        otp = ""
        if layout.by_otp:
            elixir, otp, *_ = columns
            columns = [elixir]
            if not (otp.isascii() and otp.isdecimal()):
                return None
        elixirs = tuple((text, Version.parse(text)) for text in columns if text)
    except (ValueError, RequirementError):  # too few columns, or no version
        return None
    return _Row(version, elixirs, otp) if elixirs else None


def _file(layout: _List, build: _Build) -> Resource | None:
    name = layout.file.format(elixir=build.elixir, version=build.version, otp=build.otp)
    return resources.parse(resources.BUILDS_HOST, f"/installs/{name}")
