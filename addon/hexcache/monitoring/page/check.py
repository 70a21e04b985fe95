"""What the page says of a lock file: pure."""

from __future__ import annotations

from dataclasses import dataclass

from hexcache.locks.lockfiles import Skipped
from hexcache.monitoring.page import words
from hexcache.stock.completeness import Completeness, Gap

_SHOWN = 300
_UPDATES = {
    "rebar.lock": "rebar3 upgrade PACKAGE",
    "manifest.toml": "gleam update PACKAGE",
}
_UPDATE = "mix deps.update PACKAGE"


@dataclass(frozen=True)
class GapLine:
    """`full_why` is empty where `why` says all of it."""

    subject: str
    why: str
    full_why: str
    line: int


@dataclass(frozen=True)
class Verdict:
    """`warm`: whether fetching brings what is missing, or a part of it; `update` is what to run
    for the rest, or empty. `more` gaps aren't shown."""

    name: str
    colour: str
    title: str
    text: str
    warm: bool
    update: str
    gaps: tuple[GapLine, ...]
    more: str
    skipped: tuple[Skipped, ...]


def verdict_on(name: str, result: Completeness) -> Verdict:
    """`name` is the lock file's."""
    refused = sum(gap.is_disagreement for gap in result.gaps)
    missing = len(result.gaps) - refused
    more = max(len(result.gaps) - _SHOWN, 0)
    colour, title, text = _said(name, result, missing, refused)
    return Verdict(
        name=name,
        colour=colour,
        title=title,
        text=text,
        warm=missing > 0,
        update=_UPDATES.get(name, _UPDATE) if refused else "",
        gaps=tuple(map(_line, result.gaps[:_SHOWN])),
        more=words.number(more) if more else "",
        skipped=result.skipped,
    )


def _said(name: str, result: Completeness, missing: int, refused: int) -> tuple[str, str, str]:
    """Colour, title, text."""
    here, skipped = result.present, len(result.skipped)
    if result.gaps:
        return "warn", _what_is_wrong(missing, refused), f"{_files(here)} here."
    if not here:
        title = f"{name} names no Hex packages"
        if skipped:
            return "off", title, "Hexcache never has what it names: see below."
        return "off", title, "It names no Hex packages: there is nothing that could be missing."
    if skipped:
        return (
            "good",
            f"{name} is complete but for {words.number(skipped)} that Hexcache never has",
            f"{_files(here)} here: all that it could have.",
        )
    text = "The one file that it asks for is here."
    if here > 1:
        text = f"All {words.number(here)} files that it asks for are here."
    return "good", f"{name} is complete", text


def _what_is_wrong(missing: int, refused: int) -> str:
    parts = []
    if missing:
        parts.append(f"{_files(missing)} missing")
    if refused:
        verb = "isn't" if refused == 1 else "aren't"
        parts.append(f"{words.counted(refused, 'checksum')} {verb} the registry's")
    return ", ".join(parts)


def _files(count: int) -> str:
    return f"{words.counted(count, 'file')} {'is' if count == 1 else 'are'}"


def _line(gap: Gap) -> GapLine:
    short = words.shortened_checksums(gap.why)
    return GapLine(gap.subject, short, "" if short == gap.why else gap.why, gap.line)
