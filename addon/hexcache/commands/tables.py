"""Tables for people: on a terminal as wide as that is, in a pipe a line for each row."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

import click

# What else a line for people is made of.
from hexcache.printing import counted as counted
from hexcache.printing import printable
from hexcache.printing import size as size

_GAP = 2
_INDENT = " " * 4
# A column that is narrower breaks too often to be read.
_LEAST = 16
# Of a column in a pipe.
_WIDEST = 40
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration(seconds: float) -> str:
    """In the largest unit that fits; a clock that was set back makes it 0."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return "0 s"


def iso(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601, in UTC; None where they aren't known, 0 too."""
    if not seconds:
        return None
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a registry may say anything
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def age(now: float, at: float | None) -> str:
    """How long ago that was; "-" where it isn't known."""
    return duration(now - at) if at else "-"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, breaking: int = 0) -> None:
    """`breaking`: so many of the last columns may break between words."""
    table = [tuple(map(printable, row)) for row in (header, *rows)]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        console = Console()
        for number, lines in enumerate(fitted(table, console.width, breaking)):
            for line in lines:
                text = Text(line, style="" if number else "bold")
                console.print(text, soft_wrap=True)
        return
    # One line each, for grep; a cell that is very long moves only its own row.
    widths = [min(width, _WIDEST) for width in _widths(table)]
    for row in table:
        click.echo(_line(row, widths))


def fitted(table: Sequence[Sequence[str]], width: int, breaking: int) -> Iterator[list[str]]:
    """The lines of each row. No column but the last `breaking` ones is ever shortened or broken;
    what of these has no room beside the others stands below, indented."""
    widths = _widths(table)
    first = len(widths) - breaking
    room = width - sum(widths[:first]) - _GAP * first
    least = [_least(column) for column in zip(*table, strict=True)][first:]
    beside = breaking
    while beside and sum(least[:beside]) + _GAP * (beside - 1) > room:
        beside -= 1
    left = room - sum(least[:beside]) - _GAP * (beside - 1)
    for number in range(beside):
        more = min(left, widths[first + number] - least[number])
        widths[first + number] = least[number] + more
        left -= more
    for row in table:
        columns = [[cell] for cell in row[:first]]
        for cell, room_of_it in zip(row[first : first + beside], widths[first:], strict=False):
            columns.append(_wrapped(cell, room_of_it))
        lines = [_line(cells, widths) for cells in zip_longest(*columns, fillvalue="")]
        for cell in row[first + beside :]:
            below = [] if cell in ("", "-") else _wrapped(cell, max(width - len(_INDENT), _LEAST))
            lines += [_INDENT + line for line in below]
        yield lines


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def _least(column: Sequence[str]) -> int:
    """The width in which a column can be read."""
    words = [word for cell in column for word in cell.split()]
    return min(max(map(len, column)), max(_LEAST, *map(len, words), 0))


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, max(width, 1), break_on_hyphens=False)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
    return (" " * _GAP).join(padded).rstrip()
