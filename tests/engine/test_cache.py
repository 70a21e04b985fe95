"""The engine, with a real store and a real upstream on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from support.clock import Clock
from support.engine import CONTENT, URL, Bench, Make
from support.faults import Fault, closed, corrupt, cut, hold, longer, replaced, status, without
from support.signing import Rel, other_signer, signer
from support.upstream import Upstream

OLDER = Rel("1.0.0", b"first content")


async def hold_until(upstream: Upstream) -> None:
    await asyncio.to_thread(upstream.wait_until_holding)


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
        await hold_until(made.fake)
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
        await hold_until(foo.fake)
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
        await hold_until(foo.fake)
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


class TestOffline:
    async def test_stored_is_fresh_missing_is_named(
        self, bench: Make, foo: Bench, clock: Clock, upstream: Upstream
    ) -> None:
        await foo.get(URL)
        foo.publish_csv(b"one")
        await foo.get("/installs/hex-1.x.csv")
        await foo.close()
        offline = bench(offline=True)
        upstream.requests.clear()
        clock.advance(1e8)
        for path in ("/packages/foo", URL, "/installs/hex-1.x.csv", "/installs/hex-1.x.csv.signed"):
            got = await offline.get(path, client="somebody else")
            assert (got.status, got.outcome) == (200, "offline")
            assert "x-hex-message" not in got.headers
        for path in (
            "/packages/bar",
            "/tarballs/foo-2.0.0.tar",
            "/tarballs/bar-1.0.0.tar",
            "/names",
            "/installs/other.csv",
            "/installs/other.csv.signed",
        ):
            got = await offline.get(path)
            assert (got.status, got.outcome) == (504, "offline")
            # Fetching a CSV brings its signature along.
            command = f"http://127.0.0.1:4000{path.removesuffix('.signed')}"
            assert command.encode() in got.body
            assert b"`hexcache offline off`" in got.body
        private = await offline.get("/repos/acme/packages/bar")
        assert (private.status, private.outcome) == (504, "offline")
        assert b"`hexcache offline off`" in private.body
        assert upstream.requests == []

    @pytest.mark.parametrize(
        ("mirror", "shown"),
        [("[::]:4000", " http://[::1]:4000/packages/bar"), ("off", "http://127.0.0.1:8080 ")],
    )
    async def test_command_where_it_listens_everywhere(
        self, bench: Make, mirror: str, shown: str
    ) -> None:
        """As in the image: 0.0.0.0 is no address to connect to."""
        listen = {"proxy": "0.0.0.0:8080", "mirror": mirror}
        got = await bench(offline=True, listen=listen).get("/packages/bar")
        assert shown.encode() in got.body

    async def test_command_without_a_mirror(self, bench: Make) -> None:
        offline = bench(offline=True, listen={"mirror": "off"})
        got = await offline.get("/packages/bar")
        assert b"--proxy http://127.0.0.1:8080 --cacert" in got.body
