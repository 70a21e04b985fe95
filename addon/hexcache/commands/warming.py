"""warm and check: have a project's packages here, and know whether they are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from hexcache.commands import lockfiles
from hexcache.commands.common import config_option, json_option, load_of_server, print_json, run_job
from hexcache.commands.lockfiles import Opened
from hexcache.commands.progress import WarmProgress
from hexcache.commands.tables import counted
from hexcache.locks.locks_on_disk import settled
from hexcache.stock import completeness
from hexcache.stock.completeness import Completeness
from hexcache.storage.library import Library

_WHAT = "LOCKFILE|PACKAGE"


@click.command(epilog="Example: hexcache warm mix.lock; hexcache warm phoenix 'plug ~> 1.14'")
@click.argument("what", nargs=-1, metavar=f"[{_WHAT}]...")
@click.option(
    "--latest",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Of packages without a version: the newest N releases that fit.",
)
@click.option("--all-versions", is_flag=True, help="Of packages: every release that fits.")
@click.option("--docs", is_flag=True, help="The documentation of each release too.")
@click.option("--tools", is_flag=True, help="Also what `mix local.hex` and `mix local.rebar` get.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="So many files at a time.",
)
@json_option
@config_option
def warm(
    what: tuple[str, ...],
    latest: int,
    all_versions: bool,
    docs: bool,
    tools: bool,
    jobs: int,
    as_json: bool,
    config: Path | None,
) -> None:
    """Fetch what a project needs, so that it can be built without a line.

    Reads mix.lock, rebar.lock and Gleam's manifest.toml (without an argument: those that are
    here), or takes packages by name (phoenix), version (phoenix@1.5.6) or requirement ('plug ~>
    1.14'), with everything that they depend on. What is here already isn't fetched again, so an
    interrupted run goes on where it was. Exit status 1 if anything is missing in the end.
    """
    # The engine takes a moment to import; a wrong command line shouldn't.
    from hexcache.jobs.warm import Demand
    from hexcache.versions.wishes import parse_wish

    paths = [Path(each) for each in what if lockfiles.looks_like_one(each)]
    wishes = [parse_wish(each) for each in what if not lockfiles.looks_like_one(each)]
    if not what and not tools and not (paths := lockfiles.found_here()):
        raise click.UsageError(f"{_WHAT} is missing, and no lock file is in this directory.")
    opened = lockfiles.read_all(paths)
    demands = [
        Demand(
            label=settled(str(each.path.absolute())),
            releases=tuple(completeness.public(each.lock)),
            docs=docs,
        )
        for each in opened
    ]
    if wishes:
        label = "by name: " + ", ".join(sorted(wish.source for wish in wishes))
        demands.append(
            Demand(
                label=label,
                wishes=tuple(wishes),
                latest=latest,
                all_versions=all_versions,
                docs=docs,
            )
        )
    if tools:
        demands.append(Demand(label="tools", tools=True))
    settings = load_of_server(config)
    with WarmProgress(quiet=as_json) as progress:
        for each in opened:
            for skipped in completeness.skipped(each.lock):
                progress.note(f"skipped {skipped.name}: {skipped.why}")
        arguments = {"demands": [demand.as_json() for demand in demands], "jobs": jobs}
        run_job(settings, "warm", arguments, progress)
    summary = progress.summary
    if as_json:
        failures = [{"subject": subject, "why": why} for subject, why in summary["failures"]]
        print_json(
            {
                "fetched": summary["fetched"],
                "present": summary["present"],
                "bytes": summary["bytes"],
                "failures": failures,
                "skipped": _skipped(opened),
            }
        )
    sys.exit(1 if summary["failures"] else 0)


@click.command(epilog="Example: hexcache check mix.lock --tools && echo ready for the train")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[LOCKFILE]...")
@click.option("--docs", is_flag=True, help="Also name releases whose docs aren't stored.")
@click.option("--tools", is_flag=True, help="Also what `mix local.hex` and `mix local.rebar` get.")
@json_option
@config_option
def check(
    files: tuple[Path, ...], docs: bool, tools: bool, as_json: bool, config: Path | None
) -> None:
    """Say what of a lock file would be missing without a line: nothing is fetched.

    One line for each thing; exit status 1 if there is any. Without an argument it looks at the
    lock files of this directory. `hexcache warm` brings what is missing. Docs never count as
    missing, since not every release has any: with --docs those that aren't stored are named. Nor
    does a list of --tools count where the same tool's list for other Elixirs is stored.
    """
    paths = files or (() if tools else tuple(lockfiles.found_here()))
    if not paths and not tools:
        raise click.UsageError("LOCKFILE is missing, and no lock file is in this directory.")
    opened = lockfiles.read_all(paths)
    options = f" --config {shlex.quote(str(config))}" if config else ""
    with Library(load_of_server(config)) as library:
        results = [completeness.check(library, each.lock, docs=docs) for each in opened]
        of_tools = completeness.check_tools(library) if tools else None
    everything = [*results, *([of_tools] if of_tools else [])]
    is_complete = all(result.is_complete for result in everything)
    if as_json:
        files_json = [
            {"file": str(each.path), **_as_json(result), **(_docs_as_json(result) if docs else {})}
            for each, result in zip(opened, results, strict=True)
        ]
        tools_json = {"tools": _as_json(of_tools)} if of_tools else {}
        print_json({"complete": is_complete, "files": files_json, **tools_json})
    else:
        for each, result in zip(opened, results, strict=True):
            line = f"hexcache warm {shlex.quote(str(each.path))}{' --docs' if docs else ''}"
            _print(str(each.path), result, f"{line}{options}")
        if of_tools:
            _print("tools", of_tools, f"hexcache warm --tools{options}")
    sys.exit(0 if is_complete else 1)


def _print(where: str, result: Completeness, mend: str) -> None:
    for gap in result.gaps:
        line = f":{gap.line}" if gap.line else ""
        click.echo(f"{where}{line}: {gap.subject}: {gap.why}")
    for skipped in result.skipped:
        click.echo(f"{where}: {skipped.name}: {skipped.why}")
    for each in result.docs_not_stored:
        subject = f"docs of {each.name} {each.version}"
        click.echo(f"{where}: {subject}: not stored (not every release has any)")
    if result.is_complete:
        beside = f", beside {len(result.skipped)} named above" if result.skipped else ""
        if without := len(result.docs_not_stored):
            beside += f"; docs of {counted(without, 'release')} are not stored"
        click.echo(f"{where}: complete: {result.present} files{beside}")
    else:
        click.echo(f"{where}: {len(result.gaps)} missing, {result.present} here; run: {mend}")


def _as_json(result: Completeness) -> dict[str, object]:
    return {
        "complete": result.is_complete,
        "present": result.present,
        "missing": [
            {"subject": gap.subject, "why": gap.why, "line": gap.line} for gap in result.gaps
        ],
        "skipped": [{"name": each.name, "why": each.why} for each in result.skipped],
    }


def _docs_as_json(result: Completeness) -> dict[str, object]:
    releases = [{"name": each.name, "version": each.version} for each in result.docs_not_stored]
    return {"docs_not_stored": releases}


def _skipped(opened: Sequence[Opened]) -> list[dict[str, str]]:
    return [
        {"name": each.name, "why": each.why}
        for one in opened
        for each in completeness.skipped(one.lock)
    ]
