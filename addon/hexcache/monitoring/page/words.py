"""Numbers and times, in words."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
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


def clock_time(at: float) -> str:
    """Hours and minutes on this machine's clock, from seconds since the epoch."""
    return time.strftime("%H:%M", time.localtime(at))
