"""The engine on registry entries and indexes: how long they are fresh, what is stale, what is
refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from support.clock import Clock
from support.engine import CONTENT, URL, Bench, Make
from support.faults import Fault, closed, corrupt, cut, hold, replaced, status
from support.signing import Rel, other_signer, signer

OLDER = Rel("1.0.0", b"first content")


class TestRegistry:
    async def test_fresh_for_5_seconds_then_revalidated(self, foo: Bench, clock: Clock) -> None:
        first = await foo.get("/packages/foo")
        assert (first.status, first.outcome) == (200, "miss")
        clock.advance(4.9)
        assert (await foo.get("/packages/foo")).outcome == "hit"
        assert foo.fake.count() == 1
        clock.advance(0.2)
        again = await foo.get("/packages/foo")
        assert (again.outcome, again.body) == ("revalidated", first.body)
        assert foo.fake.count("/packages/foo", status=304) == 1
        clock.advance(4.9)
        assert (await foo.get("/packages/foo")).outcome == "hit"

    async def test_a_new_release_is_seen(self, foo: Bench, clock: Clock) -> None:
        await foo.get("/packages/foo")
        foo.publish("foo", Rel("1.0.0", CONTENT), Rel("1.1.0", b"new"))
        clock.advance(6)
        assert (await foo.get("/packages/foo")).body == foo.fake.files["/packages/foo"]
        assert (await foo.get("/tarballs/foo-1.1.0.tar")).body == b"new"

    async def test_client_may_insist(self, foo: Bench) -> None:
        await foo.get("/packages/foo")
        assert (await foo.get("/packages/foo", Cache_Control="no-cache")).outcome == "revalidated"
        stale = await foo.get("/packages/foo", Cache_Control="no-cache, only-if-cached")
        assert (stale.outcome, stale.detail) == ("stale", "upstream was not asked")
        refused = await foo.get("/packages/bar", Cache_Control="only-if-cached")
        assert (refused.status, foo.fake.count("/packages/bar")) == (504, 0)
        assert refused.outcome == "miss"  # what it asked for, and nothing that went wrong

    @pytest.mark.parametrize(
        "fault",
        [status(500), status(502), status(429), status(403), closed(), cut(0), corrupt()],
        ids=["500", "502", "429", "403", "closed", "truncated", "corrupted"],
    )
    async def test_stale_whatever_its_age_when_upstream_fails(
        self, foo: Bench, clock: Clock, fault: Fault
    ) -> None:
        good = await foo.get("/packages/foo")
        foo.publish("foo", Rel("1.0.0", CONTENT), Rel("2.0.0", b"two"))
        foo.fake.fault("/", fault)
        clock.advance(400 * 86400)
        stale = await foo.get("/packages/foo")
        assert (stale.status, stale.outcome, stale.body) == (200, "stale", good.body)
        assert stale.headers["age"] == str(400 * 86400)
        assert "400 days old" in stale.headers["x-hex-message"]
        assert stale.headers["x-hex-message"].endswith('";level=warn')
        # One line for mix, not sixteen; another client gets its own.
        assert "x-hex-message" not in (await foo.get("/packages/foo")).headers
        assert "x-hex-message" in (await foo.get("/packages/foo", client="10.0.0.2")).headers
        clock.advance(61)
        assert "x-hex-message" in (await foo.get("/packages/foo")).headers

    async def test_dead_upstream(self, foo: Bench, clock: Clock) -> None:
        good = await foo.get("/packages/foo")
        foo.fake.stop_listening()
        clock.advance(10)
        stale = await foo.get("/packages/foo")
        assert (stale.outcome, stale.body) == ("stale", good.body)
        assert stale.detail.endswith("no connection: Connection refused")
        miss = await foo.get("/packages/bar")
        assert miss.status == 504
        assert b"package bar: " in miss.body
        assert b"Connection refused" in miss.body

    async def test_max_stale(self, bench: Make, clock: Clock) -> None:
        made = bench(cache={"max_stale": "1h"})
        made.publish("foo")
        await made.get("/packages/foo")
        made.fake.stop_listening()
        clock.advance(3600)
        assert (await made.get("/packages/foo")).status == 200
        clock.advance(10)
        assert (await made.get("/packages/foo")).status == 504

    async def test_patience_is_spent_once(self, bench: Make, clock: Clock) -> None:
        made = bench(upstream={"patience": "10ms"})
        made.publish("foo")
        await made.get("/packages/foo")
        made.publish("foo", OLDER)
        made.fake.fault("/packages", hold())
        clock.advance(6)
        slow = await made.get("/packages/foo")
        assert (slow.outcome, slow.detail) == ("stale", "upstream is slow")
        assert (await made.get("/packages/foo")).outcome == "stale"
        assert made.fake.count("/packages/foo") <= 2
        # The refresh went on behind, and its result is there.
        await asyncio.to_thread(made.fake.wait_until_holding)
        made.fake.heal()
        made.fake.release()
        current = made.fake.files["/packages/foo"]
        while (await made.get("/packages/foo")).body != current:
            await asyncio.sleep(0)
        assert made.fake.count("/packages/foo") == 2

    async def test_404_is_believed_for_5_seconds(self, foo: Bench, clock: Clock) -> None:
        for _ in range(3):
            assert (await foo.get("/packages/bar")).status == 404
        assert foo.fake.count("/packages/bar") == 1
        clock.advance(5.1)
        foo.publish("bar")
        assert (await foo.get("/packages/bar")).status == 200

    async def test_errors_are_not_remembered(self, foo: Bench) -> None:
        foo.fake.fault("/packages", status(403), times=1)
        assert (await foo.get("/packages/foo")).status == 502
        assert (await foo.get("/packages/foo")).status == 200

    async def test_a_passing_error_goes_unnoticed(self, foo: Bench) -> None:
        for fault in (status(503), closed(), status(429, Retry_After="1"), cut(20)):
            foo.fake.fault("/packages", fault, times=1)
            assert (await foo.get("/packages/foo")).status == 200
            await foo.store.delete("repo/packages/foo")

    async def test_404_hides_a_copy_without_losing_it(self, foo: Bench, clock: Clock) -> None:
        good = await foo.get("/packages/foo")
        body = foo.fake.files.pop("/packages/foo")
        clock.advance(6)
        assert (await foo.get("/packages/foo")).status == 404
        foo.fake.files["/packages/foo"] = body
        clock.advance(6)
        assert (await foo.get("/packages/foo")).body == good.body

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (lambda: other_signer().package("foo"), "not signed"),
            (lambda: signer().package("bar"), "another package"),
            (lambda: signer().package("foo", repository="acme"), "of the repository 'acme'"),
            (lambda: b"<html>please log in</html>", "not a gzip"),
        ],
        ids=["wrong key", "other name", "other repository", "portal"],
    )
    async def test_what_fails_verification_is_never_stored(
        self, foo: Bench, clock: Clock, body: Callable[[], bytes], reason: str
    ) -> None:
        foo.fake.fault("/packages/foo", replaced(body()))
        refused = await foo.get("/packages/foo")
        assert refused.status == 502
        assert reason in refused.body.decode()
        assert list(foo.store.entries()) == []
        foo.fake.heal()
        good = await foo.get("/packages/foo")
        foo.fake.fault("/packages/foo", replaced(body(), ETag='"new"'))
        clock.advance(6)
        kept = await foo.get("/packages/foo")
        assert (kept.outcome, kept.body) == ("stale", good.body)

    async def test_unverified_when_asked_for(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = bench(cache={"verify": False})
        made.fake.files["/packages/foo"] = other_signer().package("foo")
        made.fake.files[URL] = b"anything"
        assert (await made.get("/packages/foo")).status == 200
        assert (await made.get(URL)).body == b"anything"

    @pytest.mark.parametrize("path", ["/names", "/versions"])
    async def test_indexes(self, foo: Bench, clock: Clock, path: str) -> None:
        make = signer().names if path == "/names" else lambda _: signer().versions({"foo": ["1"]})
        foo.fake.files[path] = make(["foo"])
        assert (await foo.get(path)).body == foo.fake.files[path]
        clock.advance(6)
        assert (await foo.get(path)).outcome == "revalidated"
        foo.fake.fault(path, replaced(other_signer().names(["foo"])))
        clock.advance(6)
        assert (await foo.get(path)).outcome == "stale"

    async def test_public_key(self, foo: Bench, clock: Clock) -> None:
        foo.fake.files["/public_key"] = signer().public_key.encode()
        assert (await foo.get("/public_key")).status == 200
        foo.fake.files["/public_key"] = other_signer().public_key.encode()
        clock.advance(6)
        assert (await foo.get("/public_key")).body == signer().public_key.encode()

    async def test_gzip_goes_through_as_it_is(self, foo: Bench) -> None:
        got = await foo.get("/packages/foo", Accept_Encoding="gzip")
        assert got.body == foo.fake.files["/packages/foo"]
        assert "content-encoding" not in got.headers
        assert foo.fake.requests[0].headers["accept-encoding"] == "identity"

    async def test_a_recoded_body_is_refused(self, foo: Bench) -> None:
        foo.fake.fault("/packages", replaced(b"recoded", Content_Encoding="br"))
        got = await foo.get("/packages/foo")
        assert got.status == 502
        assert b"as br, unasked" in got.body
