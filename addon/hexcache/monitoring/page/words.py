"""Numbers and times, in words."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_CHECKSUM = re.compile(r"\b[0-9A-Fa-f]{40,}\b")
_CHECKSUM_SHOWN = 12
_SPANS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def size(count: float) -> str:
    """Bytes, in powers of 1000: 1.2 MB."""
    value = float(count)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    if unit == "bytes":
        return f"{value:.0f} {'byte' if round(value) == 1 else unit}"
    return f"{value:.{0 if value >= 99.5 else 1}f} {unit}"


def number(count: float) -> str:
    """1,234."""
    return f"{count:,.0f}"


def span(seconds: float) -> str:
    """3 minutes, 1 hour: the largest unit that is at least one of its kind."""
    if seconds < 1:
        return "less than a second"
    unit, length = next((unit, length) for unit, length in _SPANS if seconds >= length)
    return counted(int(seconds // length), unit)


def ago(seconds: float) -> str:
    """The same, back from now."""
    return "just now" if seconds < 1 else f"{span(seconds)} ago"


def duration(seconds: float) -> str:
    """How long a request took: 3 ms, 1.2 s."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def percent(part: float, whole: float) -> str:
    """A dash where there is nothing to divide by. 99.97 % is never called all of it."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if 99.5 <= share < 100:
        return f"{min(share, 99.9):.1f} %"
    return f"{share:.0f} %"


def counted(count: int, noun: str) -> str:
    """1 package, 2 packages."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def date(at: float) -> str:
    """A day, from seconds since the epoch; "" for what is none."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return ""


def shortened_checksums(text: str) -> str:
    """Enough of each to tell it from another."""
    return _CHECKSUM.sub(lambda match: f"{match[0][:_CHECKSUM_SHOWN]}…", text)


def clock_time(at: float) -> str:
    """Hours and minutes on this machine's clock, from seconds since the epoch."""
    return time.strftime("%H:%M", time.localtime(at))


def moment(at: float, now: float) -> str:
    """A time of day, on this machine's clock; of another day, with that."""
    then, today = time.localtime(at), time.localtime(now)
    text = time.strftime("%H:%M", then)
    return text if then[:3] == today[:3] else f"{text} on {time.strftime('%Y-%m-%d', then)}"


@dataclass(frozen=True)
class Moment:
    """`text` is for the eye, `exact` says all of it, `machine` is HTML's datetime."""

    text: str
    exact: str
    machine: str


NOT_STORED = Moment("not stored", "", "")


def since(at: float | None, now: float, unknown: str = "not known") -> Moment:
    """How long ago that was; `unknown` where there is no such time."""
    return _moment(at, ago(max(now - at, 0)), None) if at else Moment(unknown, "", "")


def day(at: float | None) -> Moment | None:
    """The day of that; None for what is none."""
    return _moment(at, text, UTC) if at and (text := date(at)) else None


def _moment(at: float, text: str, zone: tzinfo | None) -> Moment:
    try:
        then = datetime.fromtimestamp(at, UTC).astimezone(zone)
    except (ValueError, OverflowError, OSError):
        return Moment(text, "", "")
    exact = then.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    return Moment(text, exact, then.isoformat(timespec="seconds"))
