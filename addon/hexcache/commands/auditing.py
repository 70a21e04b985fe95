"""audit: what the registry has against what a project uses."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hexcache.commands import lockfiles
from hexcache.commands.common import config_option, json_option, load_of_server, print_json
from hexcache.commands.tables import counted, iso
from hexcache.locks.lockfiles import Skipped
from hexcache.printing import printable
from hexcache.stock import sarif
from hexcache.stock.audit import Audit, Finding, Severity, Unknown, audit
from hexcache.storage.library import Library


@dataclass(frozen=True)
class _Report:
    """Of all lock files together; `below` counts the findings that are too low to be told."""

    findings: list[tuple[Path, Finding]]
    unknown: list[tuple[Path, Unknown]]
    skipped: list[tuple[Path, Skipped]]
    below: int
    looked_at: int
    as_of: str | None
    severity: Severity


@click.command("audit", epilog="Example: hexcache audit mix.lock --severity high")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[LOCKFILE]...")
@click.option(
    "--severity",
    "least",
    type=click.Choice([str(severity) for severity in Severity]),
    default=str(Severity.LOW),
    show_default=True,
    help="Only what is at least so severe.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="sarif: SARIF 2.1.0, for code scanning.",
)
@click.option("--allow-unknown", is_flag=True, help="Releases that nothing is known of are fine.")
@json_option
@config_option
def audit_command(
    files: tuple[Path, ...],
    least: str,
    form: str,
    allow_unknown: bool,
    as_json: bool,
    config: Path | None,
) -> None:
    """List releases in lock files that are retired or have security advisories.

    It asks the stored registry, and nobody else: a release that it doesn't know is listed as
    unknown. Retired for security counts as high, as invalid: medium, for other reasons: low. A
    checksum in the lock file that isn't the registry's counts as high, an advisory that doesn't
    say how severe it is as medium. Without an argument it looks at the lock files of this
    directory. Exit status 1 if anything is listed.
    """
    paths = files or tuple(lockfiles.found_here())
    if not paths:
        raise click.UsageError("LOCKFILE is missing, and no lock file is in this directory.")
    opened = lockfiles.read_all(paths)
    with Library(load_of_server(config)) as library:
        audits = [(each.path, audit(library, each.lock)) for each in opened]
    skipped = [(each.path, skip) for each in opened for skip in each.lock.skipped]
    report = _report(audits, skipped, Severity[least.upper()])
    failed = bool(report.findings) or (bool(report.unknown) and not allow_unknown)
    if form == "sarif":
        print_json(sarif.log(report.findings, report.unknown))
    elif as_json or form == "json":
        print_json(_as_json(report, ok=not failed))
    else:
        _print(report)
        options = f" --config {shlex.quote(str(config))}" if config else ""
        _advise(report.unknown, options, allowed=allow_unknown)
    sys.exit(1 if failed else 0)


def _report(
    audits: Sequence[tuple[Path, Audit]], skipped: list[tuple[Path, Skipped]], least: Severity
) -> _Report:
    found = [(path, finding) for path, result in audits for finding in result.findings]
    told = [(path, finding) for path, finding in found if finding.severity >= least]
    times = [result.as_of for _, result in audits if result.as_of is not None]
    return _Report(
        told,
        [(path, each) for path, result in audits for each in result.unknown],
        skipped,
        len(found) - len(told),
        sum(result.looked_at for _, result in audits),
        iso(min(times)) if times else None,
        least,
    )


def _print(report: _Report) -> None:
    for path, finding in report.findings:
        subject = f"{finding.package} {finding.version}"
        rule = "" if finding.rule.startswith(("retired-", "checksum-")) else f"{finding.rule}: "
        line = f"{subject}: {finding.severity}: {rule}{finding.summary}: {finding.url}"
        click.echo(printable(f"{path}:{finding.line}: {line}"))
    for path, each in report.unknown:
        click.echo(
            printable(f"{path}:{each.line}: {each.package} {each.version}: unknown: {each.why}")
        )
    for path, skipped in report.skipped:
        click.echo(printable(f"{path}: skipped {skipped.name}: {skipped.why}"), err=True)
    unknown = ", as of an unknown time" if report.looked_at else ""
    as_of = f", as the registry was at {report.as_of}" if report.as_of else unknown
    below = f", {report.below} below {report.severity}" if report.below else ""
    click.echo(
        f"{counted(report.looked_at, 'release')} looked at{as_of}: "
        f"{counted(len(report.findings), 'finding')}{below}, {len(report.unknown)} unknown"
    )


def _advise(unknown: list[tuple[Path, Unknown]], options: str, *, allowed: bool) -> None:
    """What to do about them, on standard error. `options` are for a line to paste."""
    paths = dict.fromkeys(str(path) for path, each in unknown if not each.is_private)
    if paths:
        files = printable(" ".join(shlex.quote(path) for path in paths))
        click.echo(f"to know more, run: hexcache warm {files}{options}", err=True)
    private = sum(each.is_private for _, each in unknown)
    if private and not allowed:
        what = f"{private} of a private repository can't be known here"
        click.echo(f"{what}: --allow-unknown doesn't count unknown ones", err=True)


def _as_json(report: _Report, *, ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
        "severity": str(report.severity),
        "releases": report.looked_at,
        "as_of": report.as_of,
        "below": report.below,
        "findings": [
            {"file": str(path), **dataclasses.asdict(finding), "severity": str(finding.severity)}
            for path, finding in report.findings
        ],
        "unknown": [
            {"file": str(path), **dataclasses.asdict(each)} for path, each in report.unknown
        ],
        "skipped": [
            {"file": str(path), **dataclasses.asdict(each)} for path, each in report.skipped
        ],
    }
