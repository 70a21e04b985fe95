"""export and import as a user sees them, without a server."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hexcache.printing import size
from support.clock import Clock
from support.commands import run
from support.machines import Machine, publish
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
