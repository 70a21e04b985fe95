"""verify, refresh, rm and gc: done by the running server, or here where none runs."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from hexcache.commands.common import config_option, json_option, load_of_server, print_json, run_job
from hexcache.commands.tables import counted, size
from hexcache.jobs.base import Event
from hexcache.printing import printable

# What became of a release, as `hexcache.upkeep.changes` calls it.
_CHANGES = {
    "new": "new: {}",
    "replaced": "replaced under the same version: {}",
    "reverted": "no longer there: {}",
    "retired": "retired: {}",
    "unretired": "no longer retired: {}",
    "advisories": "other advisories: {}",
}


@click.command(epilog="Example: hexcache verify || echo look into the quarantine")
@json_option
@config_option
def verify(as_json: bool, config: Path | None) -> None:
    """Hash everything that is stored again, and verify what is signed.

    What isn't as it should be is moved to cache/quarantine/ in the data directory, where it stays
    for a week, and is fetched again when somebody asks for it. Exit status 1 if there was any.
    Tarballs that were replaced or reverted since aren't damage: `hexcache gc` removes them.
    """
    settings = load_of_server(config)
    events: dict[str, list[Event]] = {"bad": [], "superseded": [], "summary": []}
    with _bar("verifying", quiet=as_json) as advance:

        def on_event(event: Event) -> None:
            events.setdefault(event["event"], []).append(event)
            if event["event"] == "bad" and not as_json:
                click.echo(f"quarantined {printable(event['subject'])}: {printable(event['why'])}")
            if event["event"] == "superseded" and not as_json:
                click.echo(f"superseded {printable(event['subject'])}")
            if event["event"] in ("total", "progress"):
                advance(event["event"] == "total", event["bytes"])

        run_job(settings, "verify", {}, on_event)
    summary = events["summary"][0]
    if as_json:
        print_json(
            {
                **_counts(summary),
                "quarantined": [{"subject": e["subject"], "why": e["why"]} for e in events["bad"]],
                "superseded": [e["subject"] for e in events["superseded"]],
            }
        )
    else:
        text = f"{counted(summary['files'], 'file')}, {size(summary['bytes'])}: "
        text += f"{summary['bad']} quarantined" if summary["bad"] else "all good"
        if summary["superseded"]:
            text += f", {summary['superseded']} superseded"
        if summary["unvouched"]:
            text += f", {counted(summary['unvouched'], 'tarball')} without a registry entry"
        click.echo(text)
    sys.exit(1 if summary["bad"] else 0)


@click.command(epilog="Example: hexcache refresh phoenix plug; hexcache refresh --all")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Every registry entry that is stored.")
@json_option
@config_option
def refresh(names: tuple[str, ...], everything: bool, as_json: bool, config: Path | None) -> None:
    """Ask upstream about registry entries now, and say what is new.

    One line for each package; exit status 1 if any couldn't be had.
    """
    if bool(names) == everything:
        raise click.UsageError("NAME... or --all is wanted, and not both.")
    packages: list[Event] = []

    def on_event(event: Event) -> None:
        if event["event"] not in ("refreshed", "failed"):
            return
        packages.append(event)
        if not as_json:
            failed = event["event"] == "failed"
            click.echo(f"{printable(event['name'])}: {printable(_news(event))}", err=failed)

    run_job(load_of_server(config), "refresh", {"names": list(names), "all": everything}, on_event)
    failed = [event for event in packages if event["event"] == "failed"]
    if as_json:
        print_json(
            {
                "refreshed": sorted(
                    (
                        {"name": e["name"], "first": e["first"], "changed": e["changed"]}
                        for e in packages
                        if e["event"] == "refreshed"
                    ),
                    key=lambda each: str(each["name"]),
                ),
                "failed": [{"name": e["name"], "why": e["why"]} for e in failed],
            }
        )
    sys.exit(1 if failed else 0)


def _news(event: Event) -> str:
    if event["event"] == "failed":
        return str(event["why"])
    if event["first"]:
        return "stored"
    changed = event["changed"]
    return (
        "; ".join(
            text.format(", ".join(changed[what]))
            for what, text in _CHANGES.items()
            if what in changed
        )
        or "nothing new"
    )


@click.command(epilog="Example: hexcache rm phoenix@1.5.6 plug")
@click.argument("what", nargs=-1, required=True, metavar="NAME[@VERSION]...")
@json_option
@config_option
def rm(what: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """Remove packages, or single releases, from what is stored and what is pinned.

    NAME is the registry entry, the tarballs and the docs. Exit status 1 if nothing is stored of one
    of them; the others are removed.
    """
    for each in what:
        if not re.fullmatch(r"[^@]+(@[^@]+)?", each):
            raise click.UsageError(f"{printable(each)}: NAME or NAME@VERSION is wanted.")
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if event["event"] == "unknown" and not as_json:
            click.echo(f"hexcache: nothing is stored of {printable(event['what'])}", err=True)
        if event["event"] == "removed" and not as_json:
            freed = f"{counted(event['files'], 'file')}, {size(event['bytes'])}"
            pins = f", {counted(event['pins'], 'pin')}" if event["pins"] else ""
            click.echo(f"removed {printable(event['what'])}: {freed}{pins}")

    run_job(load_of_server(config), "rm", {"what": list(what)}, on_event)
    unknown = [event["what"] for event in events if event["event"] == "unknown"]
    if as_json:
        removed = [_counts(event) for event in events if event["event"] == "removed"]
        print_json({"removed": removed, "unknown": unknown})
    sys.exit(1 if unknown else 0)


@click.command(epilog="Example: hexcache gc --dry-run")
@click.option("--dry-run", is_flag=True, help="Only say what would be freed, about.")
@click.option("--put-aside", is_flag=True, help="Also what was put aside less than a week ago.")
@json_option
@config_option
def gc(dry_run: bool, put_aside: bool, as_json: bool, config: Path | None) -> None:
    """Free what is of no use.

    Tarballs that no registry entry names any more; what is above cache.size_limit, by last use,
    pinned files last; parts of downloads, damaged databases and the quarantine, when they are a
    week old.
    """
    events: list[Event] = []
    arguments = {"dry": dry_run, "put_aside": put_aside}
    run_job(load_of_server(config), "gc", arguments, events.append)
    freed = [event for event in events if event["event"] == "freed"]
    total = next(event["bytes"] for event in events if event["event"] == "summary")
    if as_json:
        print_json({"dry_run": dry_run, "bytes": total, "freed": [_counts(e) for e in freed]})
        return
    for event in freed:
        amount = "" if event["bytes"] is None else f", {size(event['bytes'])}"
        click.echo(f"{printable(event['what'])}: {event['count']}{amount}")
    click.echo(f"{'would free' if dry_run else 'freed'} {size(total)}")


def _counts(event: Event) -> dict[str, Any]:
    """An event without its name."""
    return {name: value for name, value in event.items() if name != "event"}


@contextlib.contextmanager
def _bar(what: str, *, quiet: bool) -> Iterator[Callable[[bool, int], None]]:
    """A progress bar on a terminal: call it with the total (True) and then with what is done
    (False), in bytes."""
    if quiet or not sys.stderr.isatty():
        yield lambda _is_total, _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # What goes into a file mustn't end on the terminal.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task(what, total=None)

        def advance(is_total: bool, count: int) -> None:
            if is_total:
                progress.update(task, total=count)
            else:
                progress.update(task, completed=count)

        yield advance
