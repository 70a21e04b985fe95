"""What each answer says of itself: Cache-Status, Age, x-hex-message."""

from __future__ import annotations

import asyncio

import pytest

from hexcache.engine.cachestatus import CacheStatus, quoted
from support.clock import Clock
from support.engine import CONTENT, URL, Bench, Got, Make
from support.faults import closed, corrupt, hold, replaced, status
from support.signing import Rel
from support.structured import Bare, cache_status, parse_list

PACKAGE = "/packages/foo"


def said(got: Got) -> dict[str, Bare]:
    return cache_status(got.headers["cache-status"])


class TestHit:
    async def test_what_ages_has_a_ttl(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        clock.advance(2)
        got = await foo.get(PACKAGE)
        assert said(got) == {"hit": True, "ttl": 3}
        assert got.headers["age"] == "2"

    @pytest.mark.parametrize("path", [URL, "/installs/1.17.0/hex-2.1.1.ez"])
    async def test_what_does_not_age_has_none(self, foo: Bench, clock: Clock, path: str) -> None:
        foo.fake.files.setdefault(path, b"an archive")
        await foo.get(path)
        clock.advance(1000)
        got = await foo.get(path)
        assert said(got) == {"hit": True}
        assert got.headers["age"] == "1000"

    async def test_a_tarball_ages_where_nothing_is_verified(
        self, bench: Make, clock: Clock
    ) -> None:
        made = bench(cache={"verify": False})
        made.publish("foo", Rel("1.0.0", CONTENT))
        await made.get(URL)
        clock.advance(1)
        assert said(await made.get(URL)) == {"hit": True, "ttl": 4}

    async def test_parts_and_304_are_hits_too(self, foo: Bench) -> None:
        await foo.get(URL)
        part = await foo.get(URL, Range="bytes=0-9")
        unchanged = await foo.get(URL, If_None_Match="*")
        assert (part.status, unchanged.status) == (206, 304)
        assert said(part) == said(unchanged) == {"hit": True}

    async def test_offline(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        foo.engine.offline = True
        clock.advance(60)
        got = await foo.get(PACKAGE)
        assert said(got) == {"hit": True, "ttl": -55, "detail": "offline"}
        assert "x-hex-message" not in got.headers, "it was wanted so"


class TestForwarded:
    async def test_a_miss(self, foo: Bench) -> None:
        got = await foo.get(URL)
        assert said(got) == {"fwd": "miss", "fwd-status": 200, "stored": True}

    async def test_revalidated(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        clock.advance(6)
        got = await foo.get(PACKAGE)
        assert said(got) == {"fwd": "stale", "fwd-status": 304}
        assert got.headers["age"] == "0"

    async def test_replaced(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        foo.publish("foo", Rel("2.0.0", b"two"))
        clock.advance(6)
        expected = {"fwd": "stale", "fwd-status": 200, "stored": True}
        assert said(await foo.get(PACKAGE)) == expected

    async def test_a_republished_tarball(self, foo: Bench, clock: Clock) -> None:
        await foo.get(URL)
        foo.publish("foo", Rel("1.0.0", b"replaced"))
        clock.advance(6)
        await foo.get(PACKAGE)
        got = await foo.get(URL)
        assert (got.body, said(got)["fwd"]) == (b"replaced", "stale")

    async def test_insisted(self, foo: Bench) -> None:
        await foo.get(PACKAGE)
        expected = {"fwd": "request", "fwd-status": 304}
        assert said(await foo.get(PACKAGE, Cache_Control="no-cache")) == expected

    async def test_too_large_to_be_stored(self, bench: Make) -> None:
        made = bench(cache={"size_limit": "1MiB"})
        made.publish("foo", Rel("1.0.0", b"large" * 300_000))
        assert said(await made.get(URL)) == {"fwd": "miss", "fwd-status": 200}

    async def test_collapsed(self, foo: Bench) -> None:
        foo.fake.fault("/packages", hold())
        first = asyncio.create_task(foo.get(PACKAGE))
        await asyncio.to_thread(foo.fake.wait_until_holding)
        second = asyncio.create_task(foo.get(PACKAGE))
        await asyncio.sleep(0)
        foo.fake.heal()
        foo.fake.release()
        assert "collapsed" not in said(await first)
        assert said(await second)["collapsed"] is True

    async def test_sent_while_it_comes(self, foo: Bench) -> None:
        foo.fake.fault("/tarballs", hold(20_000))
        first = asyncio.create_task(foo.get(URL))
        await asyncio.to_thread(foo.fake.wait_until_holding)
        second = await foo.reply(URL, "GET", "repo.hex.pm", "", b"", {})
        foo.fake.release()
        assert said(await first) == {"fwd": "miss", "fwd-status": 200}
        (value,) = (v for name, v in second.headers if name == "Cache-Status")
        assert cache_status(value) == {"fwd": "miss", "fwd-status": 200, "collapsed": True}
        _ = [chunk async for chunk in second.body.chunks()]

    async def test_passed(self, foo: Bench) -> None:
        foo.fake.files["/repos/acme/names"] = b"private"
        got = await foo.get("/repos/acme/names")
        assert said(got) == {"fwd": "bypass", "fwd-status": 200}
        got = await foo.get(PACKAGE, method="POST")
        assert said(got) == {"fwd": "method", "fwd-status": 200}

    async def test_whoever_was_before_us_comes_first(self, foo: Bench) -> None:
        """RFC 9211 §2: the member closest to the user is the last one."""
        foo.fake.files["/x"] = b"x"
        foo.fake.fault("/x", replaced(b"x", Cache_Status='"the, CDN"; hit; ttl=5'))
        members = parse_list((await foo.get("/x")).headers["cache-status"])
        assert [member.value for member in members] == ["the, CDN", "hexcache"]


class TestStale:
    async def test_upstream_answered_an_error(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        foo.fake.fault("/packages", status(503))
        clock.advance(60)
        got = await foo.get(PACKAGE)
        told = said(got)
        assert (told["fwd"], told["fwd-status"]) == ("stale", 503)
        assert "answered 503" in str(told["detail"])
        assert ("stored" in told, got.headers["age"]) == (False, "60")

    async def test_upstream_sent_what_is_wrong(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        foo.publish("foo", Rel("2.0.0", b"two"))
        foo.fake.fault("/packages", corrupt())
        clock.advance(60)
        told = said(await foo.get(PACKAGE))
        assert (told["fwd"], told["fwd-status"], "stored" in told) == ("stale", 200, False)

    async def test_nobody_answered(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        foo.fake.stop_listening()
        clock.advance(60)
        told = said(await foo.get(PACKAGE))
        assert (told["hit"], told["ttl"]) == (True, -55)
        assert "Connection refused" in str(told["detail"])


class TestNothing:
    async def test_upstream_has_none(self, foo: Bench, clock: Clock) -> None:
        got = await foo.get("/packages/absent")
        assert said(got)["fwd-status"] == 404
        again = await foo.get("/packages/absent")
        assert (again.status, "fwd" in said(again)) == (404, False), "it was not asked again"
        assert said(again)["detail"] == "upstream has no such file"

    async def test_upstream_sent_what_is_wrong(self, foo: Bench) -> None:
        foo.fake.fault("/packages", corrupt())
        told = said(await foo.get(PACKAGE))
        assert (told["fwd"], told["fwd-status"]) == ("uri-miss", 200)

    @pytest.mark.parametrize("path", [PACKAGE, "/repos/acme/names"])
    async def test_offline(self, bench: Make, path: str) -> None:
        got = await bench(offline=True).get(path)
        assert (got.status, "fwd" in said(got)) == (504, False)
        assert "offline" in str(said(got)["detail"])

    async def test_down(self, foo: Bench) -> None:
        foo.fake.stop_listening()
        assert said(await foo.get(PACKAGE))["fwd"] == "uri-miss"
        told = said(await foo.get(PACKAGE))
        assert ("fwd" in told, "Connection refused" in str(told["detail"])) == (False, True)
        passed = await foo.get("/repos/acme/names")
        assert said(passed)["fwd"] == "bypass"
        head = await foo.get("/repos/acme/names", method="HEAD")
        assert (head.status, head.body) == (504, b"")

    async def test_a_strange_target(self, foo: Bench) -> None:
        assert said(await foo.get("*", method="OPTIONS")) == {"detail": "a path is wanted"}


class TestMessage:
    """What mix prints."""

    async def test_stale_says_how_old(self, foo: Bench, clock: Clock) -> None:
        await foo.get(PACKAGE)
        foo.fake.fault("/packages", closed())
        clock.advance(3 * 3600)
        message = (await foo.get(PACKAGE)).headers["x-hex-message"]
        assert message.startswith('"hexcache: 127.0.0.1:')
        assert message.endswith('; this copy is 3 hours old";level=warn')

    async def test_fresh_while_upstream_is_down(self, bench: Make, clock: Clock) -> None:
        made = bench(cache={"registry_fresh": "1h"})
        made.publish("foo", Rel("1.0.0", CONTENT))
        await made.get(PACKAGE)
        assert "x-hex-message" not in (await made.get(PACKAGE)).headers
        made.fake.stop_listening()
        assert (await made.get("/packages/bar", client="10.0.0.9")).status == 504
        clock.advance(120)
        got = await made.get(PACKAGE)
        assert got.outcome == "hit"
        assert "Connection refused; this copy is 2 minutes old" in got.headers["x-hex-message"]

    async def test_nothing_to_serve_says_why(self, foo: Bench) -> None:
        foo.fake.stop_listening()
        got = await foo.get("/packages/bar")
        message = got.headers["x-hex-message"]
        assert (got.status, message.startswith('"hexcache: package bar: ')) == (504, True)
        assert "Connection refused" in message
        assert "x-hex-message" not in (await foo.get("/packages/baz")).headers, "once a minute"

    async def test_offline_says_what_to_do(self, bench: Make) -> None:
        got = await bench(offline=True).get(PACKAGE)
        assert "turn the offline flag off" in got.headers["x-hex-message"]

    async def test_a_404_is_no_trouble(self, foo: Bench) -> None:
        assert "x-hex-message" not in (await foo.get("/packages/absent")).headers

    async def test_only_where_hex_looks_for_it(self, foo: Bench) -> None:
        foo.fake.stop_listening()
        assert "x-hex-message" not in (await foo.get(URL)).headers
        assert "x-hex-message" in (await foo.get(PACKAGE)).headers, "and it isn't used up"


@pytest.mark.parametrize("text", ['a "b" \\c', "ü\n\x1b[2J\u202e", "", "'"])
def test_any_text_is_a_string(text: str) -> None:
    told = cache_status(CacheStatus(hit=True, detail=text).header[1])
    assert told.get("detail", "") == parse_list(quoted(text))[0].value
    assert len(quoted(text)) == len(text) + 2


@pytest.mark.parametrize(
    "wrong",
    [
        "hexcache; hit; fwd=miss",
        "hexcache; fwd=because",
        'hexcache; detail="ü"',
        "hexcache; ttl=x",
        "hexcache; hit,",
        "other; hit",
        "hexcache; stored",
    ],
)
def test_the_check_can_fail(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cache_status(wrong)
