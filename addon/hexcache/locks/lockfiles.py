"""Which releases a lock file names: mix.lock, rebar.lock and Gleam's manifest.toml.

`parse` is pure: text in, releases out. What it reads was written by Mix (`Mix.Dep.Lock`) with
Hex's entries (`Hex.Utils.lock/1`), by rebar3 (`rebar_config:consult_lock_file/1`) or by Gleam
(compiler-core, `Manifest::to_toml`), perhaps edited by hand, perhaps half merged.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hexcache.errors import LockFileError
from hexcache.locks import elixir_terms, erlang_terms
from hexcache.locks.terms import Atom, List, Map, Source, Term, Tuple, text_of
from hexcache.printing import quoted

PUBLIC_REPOSITORY = "hexpm"


class LockKind(StrEnum):
    MIX = "mix.lock"
    REBAR = "rebar.lock"
    GLEAM = "manifest.toml"


@dataclass(frozen=True)
class LockedRelease:
    """One release of a Hex package. `name` is the package, which an app need not be called
    after; `repository` as the lock names it: `hexpm`, `hexpm:ORGANIZATION`, or a name of the
    project's own. Checksums are 64 lower-case hexadecimal digits, None where the lock has none
    (old formats; Gleam has no inner one). `line` is where the entry begins, from 1."""

    name: str
    version: str
    repository: str = PUBLIC_REPOSITORY
    inner_checksum: str | None = None
    outer_checksum: str | None = None
    line: int = 1


@dataclass(frozen=True)
class Skipped:
    """An entry that no Hex repository has: `name` is the app, `why` is fit for a user's eyes."""

    name: str
    why: str


@dataclass(frozen=True)
class LockFile:
    """Both parts in the order of the file; no release twice."""

    kind: LockKind
    releases: tuple[LockedRelease, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def parse(name: str, text: str) -> LockFile:
    """The releases of a lock file. Its kind goes by `name` (a path or URL whose last part
    counts), else by what it looks like. Raises LockFileError, whose message is one line with
    the file, the line, what is wrong and what to do."""
    source = Source(name, "is this a lock file of Mix, rebar3 or Gleam?")
    if len(text) > _MAX_TEXT:
        raise source.error(1, f"a lock file of more than {_MAX_TEXT:,} characters")
    text = text.removeprefix("\ufeff")
    # Before the kind is known by its look: markers may stand at the top.
    if conflict := _CONFLICT.search(text):
        raise source.error(
            _line(text, conflict.start()),
            "a merge conflict",
            "settle it (keep one side, take the markers out) and let the build tool mend the rest",
        )
    kind = _kind(name, text)
    if kind is None:
        raise source.error(1, "not known what kind of lock file this is", _WHICH)
    source = Source(name, _CURES[kind])
    entries = _Entries(source)
    _READERS[kind](text, entries)
    return entries.lock_file(kind)


# A release takes about 350 characters: this is 3,000 of them.
_MAX_TEXT = 1 << 20

# As Mix looks for them (Mix.Dep.Lock.read/1), and git's third marker of diff3.
_CONFLICT = re.compile(r"^(?:<<<<<<<|=======|>>>>>>>|\|\|\|\|\|\|\|)(?:[ \r]|$)", re.MULTILINE)

_WHICH = "name it mix.lock, rebar.lock or manifest.toml"
_CURES = {
    LockKind.MIX: "take it from version control again, or run `mix deps.get`",
    LockKind.REBAR: "take it from version control again, or remove it and run `rebar3 lock`",
    LockKind.GLEAM: "take it from version control again, or run `gleam deps download`",
}

# What the first thing in a file without a telling name tells. `%` begins a comment in Erlang, so
# for Elixir's `%{` what comes next counts too.
_LOOKS = (
    (LockKind.GLEAM, re.compile(r"^(?:packages\s*+=|\[\[?(?:packages|requirements)\])", re.M)),
    (LockKind.MIX, re.compile(r"\A(?:\s++|#[^\n]*+)*+%\{(?:\s++|#[^\n]*+)*+(?:[\"':}]|\w++:)")),
    (LockKind.REBAR, re.compile(r"\A(?:\s++|%[^\n]*+)*+(?:\{\s*+\"[0-9.]++\"|\[\s*+(?:\]|\{))")),
    # Before Elixir had maps.
    (LockKind.MIX, re.compile(r"\A(?:\s++|#[^\n]*+)*+\[\s*+[\"'\w]")),
)


def _kind(name: str, text: str) -> LockKind | None:
    last = re.split(r"[/\\]", name)[-1]
    for kind in LockKind:
        if last == kind:
            return kind
    return next((kind for kind, look in _LOOKS if look.search(text)), None)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


# Package names as in `resources`; any of these ends up in a URL.
_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,254}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,254}")
_CHECKSUM = re.compile(r"[0-9A-Fa-f]{64}")
_CREDENTIALS = re.compile(r"//[^/@]*+@")


class _Entries:
    """Collects what a file names, by app: where one stands twice, the last one counts, as in the
    map that Mix makes of its lock. Takes what the readers found as text, None for nothing."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._releases: dict[str, LockedRelease] = {}
        self._skipped: dict[str, Skipped] = {}

    def lock_file(self, kind: LockKind) -> LockFile:
        releases = {
            (each.repository, each.name, each.version): each for each in self._releases.values()
        }
        return LockFile(kind, tuple(releases.values()), tuple(self._skipped.values()))

    def add(
        self,
        app: str,
        line: int,
        name: str | None,
        version: str | None,
        *,
        repository: str | None = None,
        inner: str | None = None,
        outer: str | None = None,
    ) -> None:
        self._forget(app)
        self._releases[app] = LockedRelease(
            self._checked("package name", app, name, _PACKAGE, line),
            self._checked("version", app, version, _VERSION, line),
            self._checked("repository", app, repository or PUBLIC_REPOSITORY, _REPOSITORY, line),
            self._checksum(app, inner, line),
            self._checksum(app, outer, line),
            line,
        )

    def skip(self, app: str, kind: str, place: str | None) -> None:
        """`kind` is what fetches it, `place` where it is, if that is known."""
        self._forget(app)
        where = _CREDENTIALS.sub("//", place) if place else ""
        if where and not where.isprintable():
            where = ascii(where)
        kind = kind if kind.isprintable() else ascii(kind)
        why = f"from {kind} ({where}), not from Hex" if where else f"from {kind}, not from Hex"
        self._skipped[app] = Skipped(app if app.isprintable() else ascii(app), why)

    def malformed(self, line: int, what: str) -> LockFileError:
        return self.source.error(line, what)

    def _checksum(self, app: str, value: str | None, line: int) -> str | None:
        if not value:
            return None
        return self._checked("checksum", app, value, _CHECKSUM, line).lower()

    def _forget(self, app: str) -> None:
        self._releases.pop(app, None)
        self._skipped.pop(app, None)

    def _checked(
        self, what: str, app: str, value: str | None, pattern: re.Pattern[str], line: int
    ) -> str:
        if value is None:
            raise self.malformed(line, f"the entry {quoted(app)} has no {what}")
        if pattern.fullmatch(value) is None:
            raise self.malformed(line, f"{quoted(value)} is no {what} (entry {quoted(app)})")
        return value


def _read_mix(text: str, entries: _Entries) -> None:
    """`%{"app": {:hex, :package, "1.0.0", …}, …}`; before Elixir had maps, a keyword list."""
    lock = elixir_terms.parse(text, entries.source)
    if lock is None:
        return
    if not isinstance(lock, Map | List):
        raise entries.malformed(1, "a map %{…} is wanted")
    for pair in lock.pairs if isinstance(lock, Map) else lock.items:
        if not isinstance(pair, Tuple) or len(pair.items) != 2:
            raise entries.malformed(lock.line, "a list of `app: {…}` is wanted")
        app = text_of(pair.items[0])
        if app is None:
            raise entries.malformed(pair.line, "an entry whose key is no name")
        _mix_entry(app, pair.items[1], pair.line, entries)


def _mix_entry(app: str, entry: Term, line: int, entries: _Entries) -> None:
    match entry:
        case Tuple((Atom("hex"), *rest)):
            # Hex only ever appended, and reads what is missing as nil (Hex.Utils.lock/1): name and
            # version, since 0.12 inner checksum, managers and deps, since 0.16 the repository,
            # since 0.20.2 the outer checksum.
            padded: list[Term] = [*rest, *[Atom("nil")] * 7]
            name, version, inner, _managers, _deps, repository, outer = padded[:7]
            entries.add(
                app,
                line,
                _optional(name, line, entries),
                _optional(version, line, entries),
                repository=_optional(repository, line, entries),
                inner=_optional(inner, line, entries),
                outer=_optional(outer, line, entries),
            )
        case Tuple((Atom("package"), version)):  # Hex before 0.6
            entries.add(app, line, app, _optional(version, line, entries))
        case Tuple((Atom(scm), *rest)):
            entries.skip(app, scm, text_of(rest[0]) if rest else None)
        case bytes():  # a bare git revision, from Mix's first years
            entries.skip(app, "git", None)
        case Atom("nil"):  # Mix forgets these when it writes the lock again
            pass
        case _:
            raise entries.malformed(
                line, f"the entry {quoted(app)} is no {{:hex, …}} or {{:git, …}}"
            )


def _read_rebar(text: str, entries: _Entries) -> None:
    """`[{<<"app">>, {pkg, <<"package">>, <<"1.0.0">>}, 0}, …].`, since rebar3 3.1 as
    `{"1.2.0", [ … ]}.` with a second term that has the checksums by app: `pkg_hash` (inner) and,
    since "1.2.0", `pkg_hash_ext` (outer). Newer formats are read like the newest known one, as
    rebar3 does it."""
    match erlang_terms.parse(text, entries.source):
        case ():
            return
        case (List() as locks, *_):
            hashes: dict[str, dict[str, str]] = {}
        case (Tuple((_, List() as locks)), *rest):
            hashes = _rebar_hashes(rest[0], entries) if rest else {}
        case _:
            raise entries.malformed(1, "a list of locks, or {Version, Locks}, is wanted")
    for lock in locks.items:
        match lock:
            case Tuple((app_term, source, *_), line) if (app := text_of(app_term)) is not None:
                _rebar_entry(app, source, line, hashes, entries)
            case _:
                line = lock.line if isinstance(lock, Tuple) else locks.line
                raise entries.malformed(line, "a lock is wanted: {Name, Source, Level}")


def _rebar_hashes(attributes: Term, entries: _Entries) -> dict[str, dict[str, str]]:
    """The checksums by app, of each attribute. The first one counts (proplists:get_value/2)."""
    hashes: dict[str, dict[str, str]] = {}
    for attribute in attributes.items if isinstance(attributes, List) else ():
        match attribute:
            case Tuple((Atom(("pkg_hash" | "pkg_hash_ext") as name), List(pairs))):
                by_app = hashes.setdefault(name, {})
                for pair in pairs:
                    match pair:
                        case Tuple((app, checksum), line):
                            found = _optional(checksum, line, entries)
                            if found is not None:
                                by_app.setdefault(text_of(app) or "", found)
            case _:
                pass
    return hashes


def _rebar_entry(
    app: str, source: Term, line: int, hashes: dict[str, dict[str, str]], entries: _Entries
) -> None:
    match source:
        case Tuple((Atom("pkg"), *rest)):
            # Only some versions kept the checksums in the entry itself.
            padded: list[Term] = [*rest, *[Atom("undefined")] * 5]
            name, version, inner, outer, repository = padded[:5]
            if isinstance(repository, Map):
                named = (value for key, value in _pairs(repository) if key == Atom("name"))
                repository = next(named, Atom("undefined"))
            entries.add(
                app,
                line,
                _optional(name, line, entries),
                _optional(version, line, entries),
                repository=_optional(repository, line, entries),
                inner=_optional(inner, line, entries) or hashes.get("pkg_hash", {}).get(app),
                outer=_optional(outer, line, entries) or hashes.get("pkg_hash_ext", {}).get(app),
            )
        case Tuple((Atom(kind), *rest)):
            entries.skip(app, kind, text_of(rest[0]) if rest else None)
        case _:
            raise entries.malformed(
                line, f"the lock {quoted(app)} has no source: {{pkg, …}}, {{git, …}}"
            )


def _pairs(term: Map) -> Iterable[tuple[Term, Term]]:
    for pair in term.pairs:
        key, value = pair.items
        yield key, value


def _optional(term: Term, line: int, entries: _Entries) -> str | None:
    """The text of a term; None for nil and undefined. Raises LockFileError for anything else."""
    if term in (Atom("nil"), Atom("undefined")):
        return None
    text = text_of(term)
    if text is None:
        raise entries.malformed(line, "a text is wanted where the entry has something else")
    return text


def _read_gleam(text: str, entries: _Entries) -> None:
    """`packages = [{ name, version, source = "hex" | "git" | "local", … }, …]`."""
    if deep := _DEEP_KEY.search(text):
        raise entries.malformed(_line(text, deep.start()), "a key of too many parts")
    try:
        manifest = tomllib.loads(text)
    except RecursionError as error:
        raise entries.malformed(1, "it is nested too deeply") from error
    except ValueError as error:  # int() of 4301 digits raises a plain ValueError
        at = _TOML_PLACE.search(str(error))
        what = str(error)[: at.start()] if at else str(error)
        what = what if what.isprintable() else ascii(what)
        raise entries.malformed(int(at["line"] or 1) if at else 1, f"not TOML: {what}") from error
    lines = _gleam_lines(text)
    packages = manifest.get("packages", [])
    if not isinstance(packages, list):
        raise entries.malformed(1, "`packages` is no list")
    for package in packages:
        name = package.get("name") if isinstance(package, dict) else None
        if not isinstance(name, str):
            raise entries.malformed(1, "a package without a name")
        _gleam_entry(name, package, lines.get(name, 1), entries)


# tomllib takes quadratic time for a key of many parts; Gleam writes one of two at most.
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
_TOML_PLACE = re.compile(r" \(at (?:line (?P<line>[0-9]+), column [0-9]+|end of document)\)")
_GLEAM_NAME = re.compile(r"""\bname\s*+=\s*+["'](?P<name>\w++)["']""")


def _gleam_lines(text: str) -> dict[str, int]:
    """Where each package begins, as well as a search can tell: tomllib knows no lines."""
    lines: dict[str, int] = {}
    line, position = 1, 0
    for found in _GLEAM_NAME.finditer(text):
        line += text.count("\n", position, found.start())
        position = found.start()
        lines.setdefault(found["name"], line)
    return lines


def _gleam_entry(name: str, package: dict[str, object], line: int, entries: _Entries) -> None:
    def text(key: str) -> str | None:
        value = package.get(key)
        if value is not None and not isinstance(value, str):
            raise entries.malformed(line, f"{key} of the package {quoted(name)} is no text")
        return value

    source = text("source")
    if source == "hex":
        outer = text("outer_checksum")
        entries.add(name, line, name, text("version"), outer=outer)
    elif source is None:
        raise entries.malformed(line, f"the package {quoted(name)} has no source")
    else:
        entries.skip(name, _GLEAM_SOURCES.get(source, source), text("repo") or text("path"))


_GLEAM_SOURCES = {"local": "path"}
_READERS = {
    LockKind.MIX: _read_mix,
    LockKind.REBAR: _read_rebar,
    LockKind.GLEAM: _read_gleam,
}
