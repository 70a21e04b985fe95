"""Tables for people: on a terminal as wide as that is, in a pipe in plain aligned lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

# What else a line for people is made of.
from hexcache.printing import counted as counted
from hexcache.printing import printable
from hexcache.printing import size as size

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration(seconds: float) -> str:
    """In the largest unit that fits; a clock that was set back makes it 0."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return "0 s"


def iso(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601, in UTC."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a registry may say anything
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The last column may be long; the others never break."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(header, cells)
        return
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for row in (header, *cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header[:-1]:
        table.add_column(name, no_wrap=True)
    table.add_column(header[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
