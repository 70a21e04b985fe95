"""The engine on tarballs: they are what the registry names, or they aren't served."""

from __future__ import annotations

import asyncio

import pytest

from support.clock import Clock
from support.engine import CONTENT, URL, Bench, Make
from support.faults import Fault, closed, corrupt, cut, hold, longer, replaced, status, without
from support.signing import Rel, signer


class TestTarballs:
    async def test_fetched_with_its_registry_entry_and_then_a_hit(
        self, foo: Bench, clock: Clock
    ) -> None:
        got = await foo.get(URL)
        assert (got.status, got.body, got.outcome) == (200, CONTENT, "miss")
        assert [seen.path for seen in foo.fake.requests] == ["/packages/foo", URL]
        clock.advance(30 * 86400)
        foo.fake.stop_listening()
        got = await foo.get(URL)
        assert (got.body, got.outcome) == (CONTENT, "hit")

    async def test_republished(self, foo: Bench, clock: Clock) -> None:
        await foo.get(URL)
        foo.publish("foo", Rel("1.0.0", b"replaced"))
        assert (await foo.get(URL)).body == CONTENT, "the entry that clients have names the old one"
        clock.advance(6)
        await foo.get("/packages/foo")
        got = await foo.get(URL)
        assert (got.body, got.outcome) == (b"replaced", "miss")

    async def test_new_tarball_before_the_new_registry_entry(self, foo: Bench) -> None:
        """hexpm writes them in this order: a cold fetch in between can't be verified."""
        await foo.get("/packages/foo")
        foo.fake.files[URL] = b"replaced"
        refused = await foo.get(URL)
        assert refused.status == 502
        assert b"SHA-256" in refused.body
        # The registry entry comes, though the one we hold is still fresh.
        foo.publish("foo", Rel("1.0.0", b"replaced"))
        assert (await foo.get(URL)).body == b"replaced"

    async def test_reverted(self, foo: Bench, clock: Clock) -> None:
        await foo.get(URL)
        foo.publish("foo")
        del foo.fake.files[URL]
        clock.advance(6)
        await foo.get("/packages/foo")
        assert (await foo.get(URL)).status == 404

    async def test_unknown_version_refreshes_the_entry_first(self, foo: Bench) -> None:
        await foo.get("/packages/foo")
        foo.publish("foo", Rel("1.0.0", CONTENT), Rel("1.1.0", b"new"))
        assert (await foo.get("/tarballs/foo-1.1.0.tar")).body == b"new"
        for _ in range(3):
            assert (await foo.get("/tarballs/foo-9.9.9.tar")).status == 404
        assert foo.fake.count("/tarballs/foo-9") == 0
        assert foo.fake.count("/packages/foo") == 3
        assert (await foo.get("/tarballs/bar-1.0.0.tar")).status == 404

    @pytest.mark.parametrize(
        "fault",
        [corrupt(), cut(0), cut(0, reset=True), status(500), closed(), replaced(b"short")],
        ids=["corrupted", "truncated", "reset", "500", "closed", "other"],
    )
    async def test_what_is_wrong_is_an_error_and_never_stored(
        self, foo: Bench, fault: Fault
    ) -> None:
        foo.fake.fault("/tarballs", fault)
        got = await foo.get(URL)
        assert got.status in (502, 504)
        assert CONTENT not in got.body
        foo.fake.heal()
        await foo.until_up()
        assert (await foo.get(URL)).body == CONTENT

    async def test_longer_than_content_length(self, foo: Bench) -> None:
        """The client library may refuse the whole answer; what it gives us is verified."""
        foo.fake.fault("/tarballs", longer())
        got = await foo.get(URL)
        assert got.status in (502, 504) or got.body == CONTENT
        foo.fake.heal()
        assert (await foo.get(URL)).body == CONTENT

    async def test_no_etag_upstream(self, foo: Bench, clock: Clock) -> None:
        """rebar3 takes a 200 without ETag for a failed download."""
        foo.fake.fault("/", without("ETag", "Last-Modified"))
        got = await foo.get(URL)
        assert got.headers["etag"].startswith('"')
        assert (await foo.get(URL, If_None_Match=got.headers["etag"])).status == 304
        clock.advance(6)
        assert (await foo.get("/packages/foo")).status == 200

    async def test_revalidated_by_date_where_there_is_no_etag(
        self, foo: Bench, clock: Clock
    ) -> None:
        foo.fake.fault("/", without("ETag"))
        got = await foo.get("/packages/foo")
        clock.advance(6)
        await foo.get("/packages/foo")
        seen = foo.fake.requests[-1]
        assert seen.headers["if-modified-since"] == got.headers["last-modified"]
        assert "if-none-match" not in seen.headers

    async def test_conditions_and_ranges(self, foo: Bench) -> None:
        got = await foo.get(URL)
        etag = got.headers["etag"]
        assert (await foo.get(URL, If_None_Match=etag)).status == 304
        assert (await foo.get(URL, If_None_Match="")).status == 200
        part = await foo.get(URL, Range="bytes=5-14")
        assert (part.status, part.body) == (206, CONTENT[5:15])
        assert part.headers["content-range"] == f"bytes 5-14/{len(CONTENT)}"
        beyond = await foo.get(URL, Range="bytes=999999-")
        assert (beyond.status, beyond.body) == (416, b"")
        assert beyond.headers["content-range"] == f"bytes */{len(CONTENT)}"
        head = await foo.reply(URL, "HEAD", "repo.hex.pm", "", b"", {"Range": "bytes=0-1"})
        assert (head.status, head.content_length, head.body.length) == (200, len(CONTENT), 0)

    async def test_fifty_clients_one_fetch(self, foo: Bench) -> None:
        foo.fake.fault("/tarballs", hold())
        clients = [asyncio.create_task(foo.get(URL)) for _ in range(50)]
        await asyncio.to_thread(foo.fake.wait_until_holding)
        foo.fake.release()
        replies = await asyncio.gather(*clients)
        assert {reply.body for reply in replies} == {CONTENT}
        assert foo.fake.count("/tarballs") == 1
        assert foo.fake.count("/packages") == 1
        assert sum(reply.outcome == "miss" for reply in replies) == 1
        assert sum(reply.outcome == "coalesced" for reply in replies) == 49

    async def test_the_fetch_goes_on_when_all_hang_up(self, foo: Bench) -> None:
        foo.fake.fault("/tarballs", hold())
        clients = [asyncio.create_task(foo.get(URL)) for _ in range(3)]
        await asyncio.to_thread(foo.fake.wait_until_holding)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        foo.fake.release()
        assert (await foo.get(URL)).body == CONTENT
        assert foo.fake.count("/tarballs") == 1

    async def test_lost_registry_entry_and_dead_upstream(self, foo: Bench) -> None:
        """It was verified when it came; nothing says that it isn't good any more."""
        await foo.get(URL)
        await foo.store.delete("repo/packages/foo")
        foo.fake.stop_listening()
        got = await foo.get(URL)
        assert (got.body, got.outcome) == (CONTENT, "stale")

    async def test_registry_without_outer_checksum(self, foo: Bench) -> None:
        from hexcache.proto import registry_pb2 as pb

        message = pb.Package(name="foo", repository="hexpm")
        message.releases.add(version="1.0.0", inner_checksum=b"x")
        foo.fake.files["/packages/foo"] = signer().sign(message.SerializeToString())
        got = await foo.get(URL)
        assert got.status == 502
        assert b"cache.verify: false" in got.body

    async def test_registry_fails_before_the_tarball(self, foo: Bench) -> None:
        foo.fake.fault("/packages", status(500))
        got = await foo.get(URL)
        assert (got.status, foo.fake.count("/tarballs")) == (502, 0)

    async def test_unverified_tarballs_are_revalidated(self, bench: Make, clock: Clock) -> None:
        made = bench(cache={"verify": False})
        made.fake.files[URL] = b"one"
        assert (await made.get(URL)).body == b"one"
        assert (await made.get(URL)).outcome == "hit"
        made.fake.files[URL] = b"two"
        clock.advance(6)
        assert (await made.get(URL)).body == b"two"
