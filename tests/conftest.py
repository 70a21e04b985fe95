"""Fixtures of the engine's tests: a real store, a real upstream on loopback, a clock to move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hexcache.settings import Settings, UpstreamSettings
from support.clock import Clock
from support.engine import CONTENT, Bench, Make
from support.signing import Rel, signer
from support.upstream import Upstream


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def bench(
    tmp_path: Path, upstream: Upstream, clock: Clock
) -> AsyncIterator[Callable[..., Bench]]:
    """Makes engines that are closed when the test ends. Keyword arguments: settings by section."""
    benches: list[Bench] = []

    def make(**changes: Any) -> Bench:
        bench = Bench(tmp_path / "store", upstream, clock, changes)
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        await bench.close()
    # aiohttp closes its transports in the next turns of the loop.
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
def shelf(tmp_path: Path) -> Settings:
    """Settings with which a Library finds the benches' store."""
    key = tmp_path / "key.pem"
    key.write_text(signer().public_key)
    (tmp_path / "cache").symlink_to(tmp_path / "store")
    return Settings(data=tmp_path, upstream=UpstreamSettings(public_key=key))


@pytest.fixture
def foo(bench: Make) -> Bench:
    """An engine and a package foo with one release."""
    made = bench()
    made.publish("foo", Rel("1.0.0", CONTENT))
    return made
