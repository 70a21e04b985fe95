"""Bodies over bad lines: resumed, and from whichever mirror has them."""

from __future__ import annotations

import asyncio

import pytest

from support.clock import Clock
from support.engine import Make
from support.faults import Answer, closed, corrupt, cut, hold, one_after_another, status
from support.signing import Rel, other_signer
from support.upstream import Upstream

OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"


class TestResume:
    async def test_what_has_come_is_not_fetched_again(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, cut(30_000), times=3)
        assert (await made.get(TARBALL)).body == NEW
        ranges = [s.headers.get("range") for s in made.fake.requests if s.path == TARBALL]
        assert ranges == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]
        seen = [s for s in made.fake.requests if s.path == TARBALL][1]
        assert seen.headers["if-range"].startswith('"')

    async def test_across_a_restart(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, hold(100_000))
        client = asyncio.create_task(made.get(TARBALL))
        await asyncio.to_thread(made.fake.wait_until_holding)
        while not list(made.partial.glob("*.part")):
            await asyncio.sleep(0.001)
        while next(made.partial.glob("*.part")).stat().st_size < 100_000:
            await asyncio.sleep(0.001)
        client.cancel()
        await made.close()
        made.fake.heal()
        made.fake.release()
        again = bench()
        made.fake.requests.clear()
        assert (await again.get(TARBALL)).body == NEW
        (seen,) = [s for s in made.fake.requests if s.path == TARBALL]
        assert seen.headers["range"] == "bytes=100000-"

    async def test_a_server_that_ignores_range(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, cut(70_000), times=1)
        made.fake.ignore_range = True
        assert (await made.get(TARBALL)).body == NEW

    async def test_content_that_changed_meanwhile(self, bench: Make) -> None:
        """Another ETag: the part that we have is not a part of this."""
        made = bench()
        made.fake.files["/docs/foo-1.0.0.tar.gz"] = OLD
        made.fake.fault("/docs", one_after_another(cut(70_000), hold()))
        client = asyncio.create_task(made.get("/docs/foo-1.0.0.tar.gz"))
        await asyncio.to_thread(made.fake.wait_until_holding)
        made.fake.files["/docs/foo-1.0.0.tar.gz"] = NEW
        made.fake.release()
        while not client.done():
            made.fake.release()
            await asyncio.sleep(0.001)
        assert client.result().body in (OLD, NEW)

    async def test_a_wrong_part_is_thrown_away(self, bench: Make) -> None:
        """What was left half done is of something else: the whole is fetched once more."""
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, corrupt(5), times=1)
        made.fake.fault(TARBALL, cut(90_000), times=1)
        assert (await made.get(TARBALL)).body == NEW

    async def test_another_mirror_continues(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", NEW))
            second.files.update(upstream.files)
            upstream.fault(TARBALL, one_after_another(cut(70_000), closed()))
            assert (await made.get(TARBALL)).body == NEW
            (seen,) = [s for s in second.requests if s.path == TARBALL]
            assert seen.headers["range"] == "bytes=70000-"
            await made.close()


class TestMirrors:
    async def test_in_order_and_skipping_the_dead(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            second.files.update(upstream.files)
            assert (await made.get(PACKAGE)).status == 200
            assert second.requests == []
            upstream.stop_listening()
            assert (await made.get(TARBALL)).body == OLD
            await made.close()

    async def test_wrong_content_loses_its_turn(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            second.files.update(upstream.files)
            upstream.files[PACKAGE] = other_signer().package("foo")
            upstream.files[TARBALL] = b"wrong"
            assert (await made.get(PACKAGE)).body == second.files[PACKAGE]
            assert (await made.get(TARBALL)).body == OLD
            await made.close()

    async def test_a_lagging_mirror_takes_nothing_away(
        self, bench: Make, upstream: Upstream, clock: Clock
    ) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            second.files.update(upstream.files)
            made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
            newest = (await made.get(PACKAGE)).body
            upstream.fault("/", status(500))
            clock.advance(6)
            got = await made.get(PACKAGE)
            assert (got.status, got.body) == (200, newest)
            await made.close()

    async def test_a_replayed_older_entry(self, bench: Make, clock: Clock) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        older = made.fake.files[PACKAGE]
        made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        newest = (await made.get(PACKAGE)).body
        made.fake.files[PACKAGE] = older
        made.fake.modified[PACKAGE] = 1.6e9
        clock.advance(6)
        got = await made.get(PACKAGE)
        assert (got.outcome, got.body) == ("stale", newest)
        assert "older registry entry" in got.detail
        # A revert is newer, and takes away.
        made.fake.modified[PACKAGE] = 1.75e9
        clock.advance(6)
        assert (await made.get(PACKAGE)).body == older

    async def test_a_mirror_without_it_proves_nothing(
        self, bench: Make, upstream: Upstream, clock: Clock
    ) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            body = (await made.get(PACKAGE)).body
            upstream.fault("/", status(500))
            clock.advance(6)
            assert (await made.get(PACKAGE)).body == body
            await made.close()

    async def test_credentials_go_to_the_first_only(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            upstream.stop_listening()
            got = await made.get("/repos/acme/names", Authorization="key")
            assert got.status == 504
            assert second.requests == []
            await made.close()

    async def test_each_has_its_own_retry_after(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            asked: list[float] = []

            def busy(answer: Answer) -> None:
                asked.append(made.time.now)
                if len(asked) == 1:
                    status(429, Retry_After="20")(answer)

            upstream.fault(PACKAGE, busy)
            second.fault("/", status(429))
            assert (await made.get(PACKAGE)).status == 200
            assert asked[0] == 0
            assert asked[1] >= 20
            assert second.count(PACKAGE) > 2
            await made.close()


class TestUnstored:
    async def test_too_large_for_the_store(self, bench: Make) -> None:
        """Whoever waits gets it, and nothing of it stays."""
        made = bench(cache={"size_limit": 2**20})
        large = b"docs" * 2**19
        made.fake.files["/docs/foo-1.0.0.tar.gz"] = large
        made.fake.fault("/docs", hold())
        clients = [asyncio.create_task(made.get("/docs/foo-1.0.0.tar.gz")) for _ in range(3)]
        await asyncio.to_thread(made.fake.wait_until_holding)
        made.fake.heal()
        made.fake.release()
        assert [got.body == large for got in await asyncio.gather(*clients)] == [True] * 3
        assert list(made.store.entries()) == []
        assert list(made.partial.iterdir()) == []

    async def test_larger_than_it_may_be_is_not_tried_again(self, bench: Make) -> None:
        made = bench()
        made.fake.files["/names"] = bytes(65 * 2**20)
        assert (await made.get("/names")).status == 502
        assert made.fake.count("/names") == 1


class TestJoints:
    DOCS = "/docs/foo-1.0.0.tar.gz"

    async def test_a_206_of_something_else_is_not_spliced(self, bench: Make) -> None:
        """The server ignores If-Range and continues with what it has by now."""
        made = bench()
        made.fake.files[self.DOCS] = OLD
        made.fake.fault(self.DOCS, one_after_another(cut(70_000), lambda answer: None))

        def changed(answer: Answer) -> None:
            if answer.status == 206:
                made.fake.files[self.DOCS] = NEW
                answer.body = NEW[70_000:]
                answer.headers["ETag"] = '"another"'

        made.fake.fault(self.DOCS, changed)
        got = await made.get(self.DOCS)
        assert got.body in (OLD, NEW)

    async def test_wrong_content_on_a_breaking_line_ends(self, bench: Make) -> None:
        made = bench(upstream={"give_up": 10})
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        made.fake.files[TARBALL] = NEW
        made.fake.fault(TARBALL, cut(70_000))
        got = await asyncio.wait_for(made.get(TARBALL), 20)
        assert got.status in (502, 504)
        await asyncio.wait_for(made.settled(), 20)
        assert made.fake.count(TARBALL) < 200

    async def test_a_weak_etag_and_a_known_checksum(self, bench: Make) -> None:
        """A CDN may put W/ before it; the checksum proves that the parts fit."""
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))

        def weak(answer: Answer) -> None:
            answer.headers["ETag"] = f"W/{answer.headers['ETag']}"

        made.fake.fault(TARBALL, weak)
        made.fake.fault(TARBALL, cut(30_000))
        assert (await made.get(TARBALL)).body == NEW
        assert made.fake.count(TARBALL) < 8


@pytest.mark.parametrize("code", [429, 503])
async def test_no_pause_is_shorter_than_our_own(bench: Make, code: int) -> None:
    """Retry-After: 0 is no leave to ask without end."""
    made = bench()
    made.fake.fault(PACKAGE, status(code, Retry_After="0"))
    assert (await made.get(PACKAGE)).status in (502, 504)
    await made.settled()
    assert 3 <= made.fake.count(PACKAGE) <= 40
