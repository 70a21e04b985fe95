"""Which upstreams are up."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from hexcache.errors import UpstreamError
from hexcache.network import health as health_module
from hexcache.network.gate import Gate
from hexcache.network.health import Health
from hexcache.network.pace import Pace
from hexcache.resources import Origin
from support.clock import Clock, Waiting
from support.engine import Make
from support.faults import hold
from support.signing import Rel


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


class TestBytesComeIn:
    """Our own downloads may be what leaves no room for anything else."""

    BASES = ("http://a",)

    def _health(self, clock: Clock) -> Health:
        async def probe(base: str, path: str) -> int:
            raise UpstreamError("no answer in time", timed_out=True)

        return Health(
            self.BASES, probe, Gate(closed=False), Pace(monotonic=clock, sleep=clock.sleep)
        )

    def _fail(self, health: Health, **how: bool) -> None:
        with contextlib.suppress(UpstreamError), health.question("http://a", "/x"):
            raise UpstreamError("nothing", **how)

    @pytest.mark.parametrize("connected", [True, False])
    async def test_a_time_out_says_nothing(self, connected: bool) -> None:
        clock = Clock(0.0)
        health = self._health(clock)
        for _ in range(6):
            health.heard("http://a")
            clock.advance(4)
            self._fail(health, timed_out=True, unreachable=not connected)
        await asyncio.sleep(0)
        assert health.healthy(self.BASES) == ["http://a"]
        # They have ended.
        for _ in range(3):
            clock.advance(6)
            self._fail(health, timed_out=True, unreachable=not connected)
            await asyncio.sleep(0)
        assert health.healthy(self.BASES) == []
        await health.close()

    async def test_a_refusal_does(self) -> None:
        health = self._health(Clock(0.0))
        for _ in range(2):
            health.heard("http://a")
            self._fail(health, unreachable=True)
        assert health.healthy(self.BASES) == []
        await health.close()

    async def test_probes_keep_their_pace(self) -> None:
        """It is down all the same, until it answers."""
        clock = Clock(0.0)
        health = self._health(clock)
        for _ in range(2):
            self._fail(health, unreachable=True)
        health.want_back()
        async with asyncio.timeout(10):
            while clock.now < 30:
                health.heard("http://a")
                await asyncio.sleep(0)
        assert health.statistics()["a"]["failures"] in range(4, 12)
        await health.close()


async def test_a_body_counts(bench: Make) -> None:
    made = bench(upstream={"timeout": 0.2})
    made.publish("foo", Rel("1.0.0", b"a tarball " * 10_000))
    made.fake.fault("/tarballs", hold(90_000))
    client = asyncio.create_task(made.get("/tarballs/foo-1.0.0.tar"))
    await asyncio.to_thread(made.fake.wait_until_holding)
    async with asyncio.timeout(20):
        while not any(fetch.size >= 80_000 for fetch in made.engine.fetches()):
            await asyncio.sleep(0.001)
    made.fake.fault("/", hold())
    before = made.fake.count()
    for _ in range(4):
        assert (await made.get("/repos/acme/names")).status == 504
    assert not made.upstream.is_down(Origin.REPO)
    assert made.fake.count() == before + 4, "no second opinion is asked for"
    made.fake.heal()
    made.fake.release()
    assert (await client).status == 200


async def test_no_connection_in_time(bench: Make) -> None:
    made = bench(upstream={"timeout": 0.2})
    made.upstream.heard(made.fake.url)
    with made.fake.not_accepting():
        for _ in range(4):
            assert (await made.get("/repos/acme/names")).status == 504
        assert not made.upstream.is_down(Origin.REPO)
        made.time.advance(6)
        for _ in range(4):
            assert (await made.get("/repos/acme/names")).status == 504
        async with asyncio.timeout(20):
            while not made.upstream.is_down(Origin.REPO):
                await asyncio.sleep(0.001)


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
