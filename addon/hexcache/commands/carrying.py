"""export and import: carry a cache to where no line leads."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from hexcache.commands import lockfiles
from hexcache.commands.common import config_option, json_option, load_of_server, print_json, run_job
from hexcache.commands.tables import counted, size
from hexcache.errors import BundleError
from hexcache.files import whole_file
from hexcache.jobs.base import Event
from hexcache.printing import printable
from hexcache.resources import Resource
from hexcache.settings import Settings
from hexcache.stock import bundle, completeness
from hexcache.storage.entries import Entry
from hexcache.storage.library import Library

_STANDARD = Path("-")


@click.command(
    "export", epilog="Example: hexcache export train.tar --lock mix.lock --lock ../other/mix.lock"
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "--lock",
    "locks",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="LOCKFILE",
    help="Only what this mix.lock, rebar.lock or manifest.toml needs; may be repeated.",
)
@config_option
def export(file: Path, locks: tuple[Path, ...], config: Path | None) -> None:
    """Write what is stored, or what lock files need of it, to a tar archive.

    The archive is for `hexcache import` on another machine; unpacked under a web server it is a
    static Hex mirror. FILE `-` is standard output. It only reads, also while the server runs. What
    a lock file needs and isn't stored is listed, and so is what is damaged: exit status 1. Docs
    that are stored go along.
    """
    opened = lockfiles.read_all(locks)
    settings = load_of_server(config)
    with Library(settings) as library:
        missing: list[str] = []
        items: dict[Resource, Entry] = {}
        if locks:
            for each in opened:
                found = completeness.check(library, each.lock)
                for skipped in found.skipped:
                    click.echo(
                        f"skipped: {printable(f'{skipped.name} is {skipped.why}')}", err=True
                    )
                missing += [f"{gap.subject}: {gap.why}" for gap in found.gaps]
                items.update(found.found)
                items.update(bundle.docs(library, each.lock))
            if items:
                items.update(bundle.tools(library))
        else:
            stored = bundle.everything(library)
            items.update(stored.good)
            missing += [f"{resource}: {why}" for resource, why in stored.missing.items()]
            if left := stored.left_out:
                click.echo(f"{left} left out: nothing vouches for them any more", err=True)
        missing = list(dict.fromkeys(missing))
        for line in missing:
            click.echo(f"missing: {printable(line)}", err=True)
        if not items:
            raise BundleError(f"{_nothing(locks, missing, settings)}; nothing is written")
        try:
            with _output(file) as out:
                written = bundle.write(library, items.items(), out)
                out.flush()
        except OSError as error:
            raise BundleError(f"{_named(file)}: it can't be written: {error.strerror}") from None
    for resource in written.damaged:
        click.echo(f"missing: {resource}: the stored copy is damaged or just gone", err=True)
    problems = len(missing) + len(written.damaged)
    click.echo(
        f"{_named(file)}: {counted(written.members, 'file')}, {size(written.size)}"
        + (f"; {problems} missing" if problems else ""),
        err=True,
    )
    sys.exit(1 if problems else 0)


@click.command("import", epilog="Example: hexcache import train.tar")
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True)
)
@config_option
@json_option
def import_command(file: Path, config: Path | None, as_json: bool) -> None:
    """Take an archive of `hexcache export` into the store.

    Signatures and checksums are verified again, and what is newer here stays. FILE `-` is standard
    input. A member that is refused is named: exit status 1. A running server takes it in itself.
    """
    settings = load_of_server(config)
    members: list[Event] = []
    summary: dict[str, Any] = {}

    def on_event(event: Event) -> None:
        if "member" in event:
            members.append(event)
            if not as_json:
                click.echo(f"{event['fate']}: {event['member']}: {event['why']}", err=True)
        summary.update(event.get("summary", {}))

    with _upload(file) as upload:
        run_job(settings, "import", {}, on_event, upload)
    if as_json:
        print_json({**summary, "members": members})
    else:
        click.echo(
            f"{summary['taken']} taken ({size(summary['bytes'])}), "
            f"{summary['present']} were here already, {summary['kept']} kept as they are, "
            f"{summary['refused']} refused"
        )
    sys.exit(1 if summary["refused"] else 0)


def _nothing(locks: Sequence[Path], missing: Sequence[str], settings: Settings) -> str:
    if locks:
        return "nothing is stored of what these lock files need"
    if missing:
        return "nothing that is stored can be carried"
    return f"nothing is stored in {settings.cache_directory}"


def _named(file: Path) -> str:
    return "standard output" if file == _STANDARD else printable(str(file))


@contextlib.contextmanager
def _output(file: Path) -> Iterator[BinaryIO]:
    """Raises OSError, BundleError."""
    if file == _STANDARD:
        if sys.stdout.isatty():
            raise BundleError("a tar archive is nothing for a terminal: name a file")
        yield sys.stdout.buffer
    elif file.exists() and not stat.S_ISREG(file.stat().st_mode):
        # A pipe or a device is written into, not replaced.
        with file.open("wb") as out:
            yield out
    else:
        with whole_file(file, 0o644) as out:
            yield out


@contextlib.contextmanager
def _upload(file: Path) -> Iterator[Path]:
    """`file`, or what comes from a pipe kept in one: an archive is looked into before it is
    believed."""
    if file != _STANDARD and stat.S_ISREG(file.stat().st_mode):
        if not os.access(file, os.R_OK):
            raise BundleError(f"{printable(str(file))}: it can't be read: permission denied")
        yield file.absolute()
        return
    with contextlib.ExitStack() as stack:
        try:
            source = sys.stdin.buffer
            if file != _STANDARD:
                source = stack.enter_context(file.open("rb"))
            kept = stack.enter_context(tempfile.NamedTemporaryFile(prefix="hexcache-import-"))
            shutil.copyfileobj(source, kept, 2**20)
            kept.flush()
        except OSError as error:
            raise BundleError(
                f"the archive can't be kept in {tempfile.gettempdir()}: {error.strerror}; TMPDIR "
                "names another place"
            ) from None
        yield Path(kept.name)
