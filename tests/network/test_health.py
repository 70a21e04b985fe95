"""Which upstreams are up."""

from __future__ import annotations

import asyncio

import pytest

from hexcache.errors import UpstreamError
from hexcache.network import health as health_module
from hexcache.network.gate import Gate
from hexcache.network.health import Health
from hexcache.network.pace import Pace
from support.clock import Clock, Waiting


async def test_opened_again_as_the_probe_before_ends() -> None:
    """In one turn of the loop; without a probe there would be no way back."""
    clock, gate = Clock(0.0), asyncio.Event()
    probes = 0

    async def probe(base: str, path: str) -> int:
        nonlocal probes
        probes += 1
        await gate.wait()
        raise UpstreamError("nothing", unreachable=True)

    health = Health(
        ["http://a"], probe, Gate(closed=False), Pace(monotonic=clock, sleep=clock.sleep)
    )

    def ask(fails: bool) -> None:
        try:
            with health.question("http://a", "/x") as answered:
                if fails:
                    raise UpstreamError("refused", unreachable=True)
                answered(200)
        except UpstreamError:
            pass

    async def once_open() -> None:
        await gate.wait()
        ask(fails=True)

    health.want_back()
    ask(fails=True)
    ask(fails=True)
    assert health.healthy(["http://a"]) == []
    while not probes:
        await asyncio.sleep(0)
    ask(fails=False)  # a request that was under way
    late = asyncio.create_task(once_open())
    await asyncio.sleep(0)
    gate.set()
    await late
    if not health.healthy(["http://a"]):
        before = probes
        async with asyncio.timeout(10):
            while probes == before:
                await asyncio.sleep(0)
    await health.close()


async def test_who_is_slow_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe has as long as a request: else an answer after 12 s would never close the breaker."""
    monkeypatch.setattr(health_module, "_PROBE_SECONDS", 0.0)
    clock, found_back = Clock(0.0), asyncio.Event()

    async def probe(base: str, path: str) -> int:
        for _ in range(20):
            await asyncio.sleep(0)
        found_back.set()
        return 200

    health = Health(
        ["http://a"], probe, Gate(closed=False), Pace(monotonic=clock, sleep=clock.sleep), 15.0
    )
    health.want_back()
    for _ in range(2):
        with pytest.raises(UpstreamError), health.question("http://a", "/x"):
            raise UpstreamError("refused", unreachable=True)
    assert health.healthy(["http://a"]) == []
    async with asyncio.timeout(10):
        await found_back.wait()
        while not health.healthy(["http://a"]):
            await asyncio.sleep(0)
    await health.close()


async def test_an_outage_that_ends_while_nobody_asks_is_seen_by_who_looks() -> None:
    clock, up = Waiting(), False
    probes = 0

    async def probe(base: str, path: str) -> int:
        nonlocal probes
        probes += 1
        if not up:
            raise UpstreamError("refused", unreachable=True)
        return 200

    health = Health(
        ["http://a"], probe, Gate(closed=False), Pace(monotonic=clock, sleep=clock.sleep)
    )
    health.want_back()
    for _ in range(2):
        with pytest.raises(UpstreamError), health.question("http://a", "/x"):
            raise UpstreamError("refused", unreachable=True)

    async def pass_time() -> None:
        for _ in range(30):
            clock.advance(5.0)
            for _ in range(5):
                await asyncio.sleep(0)

    await pass_time()
    before = probes
    await pass_time()
    assert probes == before  # nobody asks any more
    assert health.statistics()["a"]["up"] is False
    await pass_time()
    assert probes == before + 1
    up = True
    health.statistics()
    await pass_time()
    assert health.statistics()["a"]["up"] is True
    await health.close()
