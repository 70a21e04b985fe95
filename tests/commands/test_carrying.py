"""export and import as a user sees them, without a server."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hexcache.printing import size
from support.clock import Clock
from support.commands import run
from support.machines import Machine, flip_a_bit, publish
from support.signing import Rel
from support.upstream import Upstream


@pytest.fixture
async def home(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    """Two packages, one with docs; nobody has the store open when a command runs."""
    machine = Machine(tmp_path / "home", upstream, clock)
    publish(upstream, "alpha", Rel("1.0.0", b"alpha" * 1000), Rel("1.1.0", b"newer"))
    publish(upstream, "beta", Rel("1.0.0", b"beta"))
    upstream.files["/docs/alpha-1.0.0.tar.gz"] = b"docs of alpha"
    await machine.fetch(*upstream.files)
    yield machine
    await machine.close()


async def test_sizes_are_said_as_elsewhere(home: Machine, tmp_path: Path) -> None:
    await home.close()
    file = tmp_path / "train.tar"
    made = run("export", file, config=home.config)
    with tarfile.open(file) as archive:
        sizes = [each.size for each in archive if each.name != "hexcache.json"]
    assert len(sizes) == 6
    assert made.errors == f"{file}: 6 files, {size(sum(sizes))}\n"
    assert "kB" in made.errors
    away = Machine(tmp_path / "away", home.fake, home.clock)
    taken = run("import", file, config=away.config)
    assert taken.text.startswith(f"6 taken ({size(sum(sizes))}), 0 were here already"), taken.text


async def test_a_single_file_is_one_file(home: Machine, tmp_path: Path) -> None:
    for entry in await home.core.store.snapshot():
        if entry.key != "repo/packages/beta":
            await home.core.store.delete(entry.key)
    await home.close()
    made = run("export", tmp_path / "one.tar", config=home.config)
    assert f"{tmp_path}/one.tar: 1 file, " in made.errors


async def test_a_damaged_registry_entry_is_named_with_its_tarballs(
    home: Machine, tmp_path: Path
) -> None:
    """What nothing vouches for can't be carried; whoever carries it must know."""
    await home.close()
    flip_a_bit(home, "packages/alpha")
    file = tmp_path / "train.tar"
    made = run("export", file, config=home.config)
    assert made.status == 1
    *lines, last = made.errors.splitlines()
    assert lines == [
        "missing: package alpha: the stored copy is damaged",
        "missing: tarball alpha-1.0.0: the stored registry entry of alpha is damaged",
        "missing: tarball alpha-1.1.0: the stored registry entry of alpha is damaged",
    ]
    assert last.endswith("; 3 missing")
    with tarfile.open(file) as archive:
        assert set(archive.getnames()) == {
            *("docs/alpha-1.0.0.tar.gz", "packages/beta", "tarballs/beta-1.0.0.tar"),
            "hexcache.json",
        }


async def test_what_the_registry_no_longer_names_is_no_loss(home: Machine, tmp_path: Path) -> None:
    publish(home.fake, "beta", Rel("1.0.0", b"replaced"))
    home.clock.advance(100)
    await home.fetch("/packages/beta")
    await home.close()
    made = run("export", tmp_path / "train.tar", config=home.config)
    assert made.status == 0
    assert made.errors.splitlines()[0] == "1 left out: nothing vouches for them any more"


async def test_nothing_but_damage(home: Machine, tmp_path: Path) -> None:
    for entry in await home.core.store.snapshot():
        if entry.kind != "package":
            await home.core.store.delete(entry.key)
    await home.close()
    flip_a_bit(home, "packages/alpha")
    flip_a_bit(home, "packages/beta")
    made = run("export", tmp_path / "train.tar", config=home.config)
    assert made.status == 1
    assert made.errors.splitlines() == [
        "missing: package alpha: the stored copy is damaged",
        "missing: package beta: the stored copy is damaged",
        "hexcache: nothing that is stored can be carried; nothing is written",
    ]
    assert not (tmp_path / "train.tar").exists()


async def test_docs_that_are_here_go_with_a_lock_file(home: Machine, tmp_path: Path) -> None:
    await home.close()
    lock = tmp_path / "mix.lock"
    lock.write_text(
        '%{\n  "alpha": {:hex, :alpha, "1.0.0", "", [:mix], [], "hexpm", ""},\n'
        '  "beta": {:hex, :beta, "1.0.0", "", [:mix], [], "hexpm", ""},\n}\n'
    )
    file = tmp_path / "train.tar"
    made = run("export", file, "--lock", lock, config=home.config)
    assert made.status == 0, "a release without docs lacks nothing"
    assert made.errors.count("\n") == 1
    with tarfile.open(file) as archive:
        assert "docs/alpha-1.0.0.tar.gz" in archive.getnames()
