"""A dead line costs nothing."""

from __future__ import annotations

import asyncio

import pytest

from hexcache.resources import Origin
from support.clock import Clock
from support.engine import Bench, Make
from support.faults import hold, status
from support.signing import Rel
from support.upstream import Seen, Upstream

OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"


def is_probe(seen: Seen) -> bool:
    return seen.headers.get("range") == "bytes=0-0"


def is_up(made: Bench) -> bool:
    return bool(made.upstream.statistics()[made.fake.url.removeprefix("http://")]["up"])


class TestBreaker:
    async def test_a_dead_line_costs_nothing(self, bench: Make, clock: Clock) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        made.fake.fault("/", status(500))
        clock.advance(6)
        assert (await made.get(PACKAGE)).outcome == "stale"
        await made.settled()
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

    async def test_one_broken_file_is_not_the_line(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        made.fake.fault("/packages/bar", status(500))
        for _ in range(2):
            got = await made.get("/packages/bar")
            assert (got.status, b"answered 500" in got.body) == (502, True)
        assert is_up(made)
        assert (await made.get(PACKAGE)).outcome == "miss"

    async def test_redirects_that_lead_nowhere_are_an_answer(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        for name in "abcd":
            path = f"/installs/{name}.ez"
            made.fake.redirects[path] = (302, made.fake.url + path)
            assert (await made.get(path)).status in (502, 504)
        assert is_up(made)
        assert made.fake.count("/installs") == 4 * 6  # not one was tried again
        assert (await made.get(PACKAGE)).outcome == "miss"

    async def test_a_front_page_proves_nothing(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The site answers, its files are down: no probe may take it for up."""
        made = bench()
        made.fake.files["/"] = b"welcome"
        for path in ("/packages", "/versions", "/public_key", "/tarballs"):
            made.fake.fault(path, status(503))
        for name in "abc":
            assert (await made.get(f"/packages/{name}")).status in (502, 504)
        asked = len(made.fake.requests)
        async with asyncio.timeout(20):
            while len(made.fake.requests) < asked + 10:
                await made.upstream.wait_for_change(0.001)
        assert not is_up(made)
        assert "is back" not in caplog.text

    async def test_an_unreachable_line_is_noticed_at_the_second_try(self, bench: Make) -> None:
        made = bench()
        made.fake.stop_listening()
        assert (await made.get(PACKAGE)).status == 504
        since = made.upstream.statistics()[made.fake.url.removeprefix("http://")]["since"]
        assert isinstance(since, float)
        assert made.time.now - since <= 0.5

    async def test_passing_through_counts_and_obeys(self, bench: Make) -> None:
        made = bench()
        made.fake.stop_listening()
        for _ in range(2):
            assert (await made.get("/repos/acme/names")).status == 504
        assert not is_up(made)
        made.fake.fault("/", status(500))
        made.fake.start_listening()
        made.fake.requests.clear()
        for _ in range(5):
            assert (await made.get("/repos/acme/names", Authorization="key")).status == 504
        assert all(is_probe(seen) for seen in made.fake.requests)

    async def test_who_waits_keeps_the_probes_going(self, bench: Make) -> None:
        """The client has long given up; the fetch still notices that the line is back."""
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        made.fake.stop_listening()
        assert (await made.get(PACKAGE)).status == 504
        async with asyncio.timeout(20):
            while made.time.now < 100:
                await asyncio.sleep(0.001)
            made.fake.start_listening()
            await made.settled()
        made.fake.stop_listening()
        assert (await made.get(PACKAGE)).status == 200

    async def test_patience_is_spent_once_for_all_entries(self, bench: Make, clock: Clock) -> None:
        made = bench(upstream={"patience": 30})
        for name in ("foo", "bar"):
            made.publish(name, Rel("1.0.0", OLD))
            await made.get(f"/packages/{name}")
        made.fake.fault("/", hold())
        clock.advance(6)
        first = asyncio.create_task(made.get("/packages/foo"))
        await asyncio.to_thread(made.fake.wait_until_holding)
        made.time.advance(31)
        second = await asyncio.wait_for(made.get("/packages/bar"), 10)
        assert (second.outcome, second.detail) == ("stale", "upstream is slow")
        # An old silence is forgotten: the line may be another one by now.
        first.cancel()
        made.fake.heal()
        made.fake.release()

    async def test_waiting_for_a_turn_is_not_silence(self, bench: Make) -> None:
        made = bench()
        many = 64
        made.fake.fault("/docs", hold(10), times=many)
        for number in range(many + 1):
            made.fake.files[f"/docs/p{number}-1.0.0.tar.gz"] = b"docs" * 100
        clients = [
            asyncio.create_task(made.get(f"/docs/p{number}-1.0.0.tar.gz"))
            for number in range(many + 1)
        ]
        while made.fake.count("/docs") < many:
            await asyncio.sleep(0.001)
        made.time.advance(100)
        assert made.fake.count("/docs") == many
        assert made.upstream.silent_for(Origin.REPO) == 0
        while not all(client.done() for client in clients):
            made.fake.release()
            await asyncio.sleep(0.001)
        assert {client.result().status for client in clients} == {200}

    async def test_probes_keep_their_pace_whatever_they_are_told(self, bench: Make) -> None:
        """A captive portal redirects everything to where nobody may follow."""
        made = bench()
        made.fake.fault("/", status(503))
        assert (await made.get(PACKAGE)).status == 504
        made.fake.heal()
        made.fake.fault("/", status(302, Location="ftp://portal.example/"))
        began, asked = made.time.now, len(made.fake.requests)
        async with asyncio.timeout(20):
            while len(made.fake.requests) < asked + 20:
                assert made.upstream.is_down(Origin.REPO)  # and somebody wants it back
                await asyncio.sleep(0.001)
        assert made.time.now - began >= 19

    async def test_some_files_are_not_the_others(self, bench: Make) -> None:
        made = bench()
        for name in ("foo", "bar"):
            made.publish(name, Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        made.fake.fault("/docs", status(503))
        await asyncio.gather(*(made.get(f"/docs/{n}-1.0.0.tar.gz") for n in "abc"))
        assert (await made.get("/packages/bar")).status == 200

    async def test_two_on_one_host(self, bench: Make) -> None:
        made = bench(upstream={"repo": ["http://127.0.0.1:1/one", "http://127.0.0.1:1/two"]})
        assert {"127.0.0.1:1/one", "127.0.0.1:1/two"} <= set(made.upstream.statistics())
