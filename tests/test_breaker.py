"""A dead line costs nothing."""

from __future__ import annotations

import asyncio

import pytest

from support.clock import Clock
from support.engine import Make
from support.signing import Rel
from support.upstream import Seen, Upstream, status

OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"


def is_probe(seen: Seen) -> bool:
    return seen.headers.get("range") == "bytes=0-0"


class TestBreaker:
    async def test_a_dead_line_costs_nothing(self, bench: Make, clock: Clock) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        made.fake.fault("/", status(500))
        clock.advance(6)
        assert (await made.get(PACKAGE)).outcome == "stale"
        made.fake.requests.clear()
        for _ in range(20):
            assert (await made.get(PACKAGE)).outcome == "stale"
            assert (await made.get("/packages/bar")).status == 504
        assert all(is_probe(seen) for seen in made.fake.requests)
        state = made.upstream.statistics()[made.fake.url.removeprefix("http://")]
        assert state["up"] is False
        assert "500" in str(state["why"])
        assert state["since"] is not None
        made.fake.heal()
        await made.until_up()
        made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        assert (await made.get(PACKAGE)).body == made.fake.files[PACKAGE]
        assert made.upstream.statistics()[made.fake.url.removeprefix("http://")]["up"] is True

    async def test_state_changes_are_logged_once(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = bench()
        made.fake.stop_listening()
        for _ in range(5):
            assert (await made.get(PACKAGE)).status == 504
        made.fake.start_listening()
        await made.until_up()
        lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert sum("is down: " in line for line in lines) == 1
        assert sum("is back" in line for line in lines) == 1

    async def test_who_waits_is_let_go_and_the_fetch_goes_on(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        made.fake.stop_listening()
        assert (await made.get(PACKAGE)).status == 504
        assert made.engine.is_busy
        made.fake.start_listening()
        await made.until_up()
        await made.settled()
        made.fake.requests.clear()
        assert (await made.get(PACKAGE)).outcome == "hit"

    async def test_the_first_upstream_is_taken_back_while_a_mirror_is_up(
        self, bench: Make, upstream: Upstream, clock: Clock
    ) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            second.files.update(upstream.files)
            upstream.stop_listening()
            for number in range(4):
                got = await asyncio.wait_for(made.get(f"/packages/p{number}"), 20)
                assert got.status in (502, 504)
            name = upstream.url.removeprefix("http://")
            assert made.upstream.statistics()[name]["up"] is False
            # So long that the probes have stopped for want of demand.
            for _ in range(200):
                await asyncio.sleep(0.001)
            upstream.start_listening()
            for _ in range(300):
                clock.advance(6)
                await made.get(PACKAGE)
                if made.upstream.statistics()[name]["up"]:
                    break
                await asyncio.sleep(0.01)
            assert made.upstream.statistics()[name]["up"] is True
            await made.close()
