"""Machines and engines with something stored, for jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.bundles import BAR, FOO
from support.clock import Clock
from support.engine import Bench, Make
from support.machines import Machine, publish, publish_tools
from support.signing import signer
from support.upkeep import fill
from support.upstream import Upstream


@pytest.fixture
async def home(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    """A machine on the line, with two packages, docs and tools stored."""
    machine = Machine(tmp_path / "home", upstream, clock)
    publish(upstream, "foo", FOO)
    publish(upstream, "bar", BAR)
    publish_tools(upstream)
    upstream.files["/docs/foo-1.0.0.tar.gz"] = b"docs"
    upstream.files["/names"] = signer().names(["foo", "bar"])
    upstream.files["/versions"] = signer().versions({"foo": ["1.0.0"], "bar": ["1.0.0"]})
    await machine.fetch(*upstream.files)
    yield machine
    await machine.close()


@pytest.fixture
async def away(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    """A machine with nothing stored."""
    machine = Machine(tmp_path / "away", upstream, clock)
    yield machine
    await machine.close()


@pytest.fixture
async def full(bench: Make) -> Bench:
    made = bench(cache={"registry_fresh": 5})
    await fill(made)
    return made
