"""Commands that only read, in a data directory where nothing can be written."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from support.clock import Clock
from support.commands import Ran, clean_environment
from support.machines import Machine, publish
from support.signing import Rel
from support.upstream import Upstream

LOCK = '%{"foo": {:hex, :foo, "1.0.0", "", [:mix], [], "hexpm", ""}}'
Command = Callable[..., Ran]


@pytest.fixture
async def home(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path / "home", upstream, clock)
    publish(upstream, "foo", Rel("1.0.0", b"foo" * 50_000))
    await machine.fetch(*upstream.files)
    machine.core.store.pins.pin("mix.lock", ["repo/packages/foo"], at=1.0)
    yield machine
    await machine.close()


@pytest.fixture
def without_privileges() -> list[str]:
    """What to put before a command: root, too, is kept out by a directory's mode then."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    command = [setpriv or "", "--bounding-set=-dac_override,-dac_read_search", "--"]
    tried = [*command, "true"]
    if setpriv is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("needs setpriv (util-linux), or another user than root")
    return command


@pytest.fixture
def read_only(home: Machine, without_privileges: list[str]) -> Iterator[Command]:
    """`hexcache`, in a data directory after chmod -R a-w."""
    config = home.config
    command = [*without_privileges, sys.executable, "-m", "hexcache"]
    everything = [config.parent, *config.parent.rglob("*")]
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in everything}

    def run(*arguments: str) -> Ran:
        for path in [config.parent, *config.parent.rglob("*")]:
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~0o222)
        result = subprocess.run(
            [*command, *arguments, "--config", str(config)],
            capture_output=True,
            timeout=60,
            check=False,
            env=clean_environment(),
        )
        return Ran(result.returncode, result.stdout, result.stderr.decode())

    yield run
    for path, mode in modes.items():
        if path.exists():
            path.chmod(mode)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("ls", "1 package, 1 release"),
        ("show foo", "foo"),
        ("stats", "1 package, 1 release, 1 file pinned"),
        ("check {}/mix.lock", "complete: 2 files"),
        ("audit {}/mix.lock", "0 findings, 0 unknown"),
        ("export {}/train.tar", "train.tar: 2 files, "),
    ],
)
async def test_who_only_reads_needs_not_write(
    home: Machine, read_only: Command, tmp_path: Path, command: str, says: str
) -> None:
    await home.close()
    (tmp_path / "mix.lock").write_text(LOCK)
    ran = read_only(*command.format(tmp_path).split())
    assert ran.status == 0, ran.errors
    assert says in ran.text + ran.errors


async def test_beside_a_writer_it_reads_what_is_new(home: Machine, read_only: Command) -> None:
    """Whose journal is there: the database alone would be old."""
    ran = read_only("ls")
    assert (ran.status, ran.errors) == (0, "")
    assert "1 package, 1 release" in ran.text


async def test_a_journal_that_can_not_be_read_is_said(home: Machine, read_only: Command) -> None:
    """A writer was killed, and somebody copied its files without the index of the journal."""
    database = home.config.parent / "cache/entries/cache.db"
    kept = database.with_name("cache.db-wal").read_bytes()
    await home.close()
    assert kept
    database.with_name("cache.db-wal").write_bytes(kept)
    ran = read_only("ls")
    assert (ran.status, ran.text) == (1, "")
    assert ran.errors == (
        f"hexcache: {database.parent} can't be read: a writer that was killed left its journal, "
        "and the directory can't be written; make it writable\n"
    )


async def test_a_directory_of_another_user_is_still_that(home: Machine, read_only: Command) -> None:
    await home.close()
    entries = home.config.parent / "cache/entries"
    for path in (entries, *entries.rglob("*")):
        path.chmod(0)
    ran = read_only("ls")
    assert ran.status == 1
    assert "run this as the user that runs the server" in ran.errors
