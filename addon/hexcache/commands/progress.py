"""How `hexcache warm` shows what it does: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

from typing import Any, Self

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hexcache.jobs.base import Event
from hexcache.printing import printable, size


class _Rate(TextColumn):
    """What came so far, and how fast."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        received = int(task.fields["received"])
        seconds = task.elapsed or 0.0
        rate = f" {size(int(received / seconds))}/s" if received and seconds >= 1 else ""
        return Text(f"{size(received)}{rate}")


class WarmProgress:
    """Takes the events of a `warm` job. Failures and notes go to standard error, what was fetched
    to standard output; `quiet` leaves the latter out."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        if self._console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("fetching", total=None, received=0)
        self._before = 0
        self._total = 0
        self._received = 0
        self.summary: dict[str, Any] = {"fetched": 0, "present": 0, "bytes": 0, "failures": []}

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if error is None and not self._quiet:
            click.echo(self._outcome())

    def __call__(self, event: Event) -> None:
        match event["event"]:
            case "total":
                # Each lock file counts from the beginning.
                if event["count"] < self._total:
                    self._before += self._total
                self._total = event["count"]
            case "have":
                self._have(event)
            case "failed" | "note":
                self.note(f"{event['subject']}: {event['why']}")
            case "summary":
                self.summary = dict(event)
        self._draw(event)

    def note(self, text: str) -> None:
        """A line beside the progress."""
        line = printable(text)
        if self._bar is not None:
            self._console.print(escape(line), soft_wrap=True, highlight=False)
        else:
            click.echo(line, err=True)

    def _have(self, event: Event) -> None:
        count = int(event.get("bytes", 0))
        self._received += count
        if count and self._bar is None and not self._quiet:
            click.echo(f"{printable(event['subject'])}: {size(count)}")

    def _draw(self, event: Event) -> None:
        if self._bar is None:
            return
        done = 1 if event["event"] in ("have", "failed") else 0
        self._bar.update(
            self._task,
            advance=done,
            total=self._before + self._total,
            received=self._received,
        )

    def _outcome(self) -> str:
        summary = self.summary
        failures = len(summary["failures"])
        here = f"{summary['fetched']} fetched ({size(summary['bytes'])}), "
        here += f"{summary['present']} here already"
        return f"{here}, {failures} failed" if failures else here
