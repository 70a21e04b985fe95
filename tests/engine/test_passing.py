"""What is passed through."""

from __future__ import annotations

import asyncio

import pytest

from hexcache.messages import read
from support.engine import URL, Bench, Make
from support.faults import cut, replaced, without
from support.upstream import Upstream


class TestPassing:
    async def test_nothing_is_stored_and_the_credential_travels(self, foo: Bench) -> None:
        foo.fake.files["/repos/acme/names"] = b"private"
        for _ in range(2):
            got = await foo.get("/repos/acme/names", Authorization="key", TE="", Connection="x-y")
            assert (got.status, got.body, got.outcome) == (200, b"private", "passed")
        assert [seen.headers["authorization"] for seen in foo.fake.requests] == ["key", "key"]
        assert "te" not in foo.fake.requests[0].headers
        assert list(foo.store.entries()) == []

    async def test_the_client_s_credential_goes_before_the_settings_(
        self, bench: Make, upstream: Upstream
    ) -> None:
        """Someone's own hexpm behind HTTP authentication."""
        made = bench(upstream={"repo": [upstream.url.replace("://", "://me:secret@")]})
        made.fake.files["/repos/acme/names"] = b"private"
        got = await made.get("/repos/acme/names", Authorization="key")
        assert (got.status, got.body) == (200, b"private"), got.detail
        await made.get("/repos/acme/names")
        sent = [seen.headers["authorization"] for seen in made.fake.requests]
        assert (sent[0], sent[1].split()[0]) == ("key", "Basic")

    async def test_credentials_on_public_paths_stay_here(self, foo: Bench) -> None:
        await foo.get(URL, Authorization="key", Cookie="a=b", TE="")
        for seen in foo.fake.requests:
            assert not {"authorization", "cookie", "te"} & set(seen.headers)

    async def test_methods_bodies_and_statuses(self, foo: Bench) -> None:
        got = await foo.get("/packages/foo", method="POST", body=b"x" * 100)
        assert got.outcome == "passed"
        assert foo.fake.requests[0].headers["content-length"] == "100"
        assert (await foo.get("/nothing")).status == 404
        head = await foo.get("/nothing", method="HEAD")
        assert (head.status, head.body) == (404, b"")

    async def test_dead_upstream(self, foo: Bench) -> None:
        foo.fake.stop_listening()
        assert (await foo.get("/repos/acme/names")).status == 504

    async def test_a_body_whose_end_cannot_be_told(self, foo: Bench) -> None:
        foo.fake.files["/repos/acme/names"] = b"half of it"
        foo.fake.fault("/repos", without("Content-Length"))
        foo.fake.fault("/repos", cut(5))
        assert (await foo.get("/repos/acme/names")).status == 502

    async def test_headers_of_one_connection_stay_on_it(self, foo: Bench) -> None:
        foo.fake.files["/x"] = b"x"
        foo.fake.fault("/x", replaced(b"x", Connection="X-Hop", X_Hop="1", X_End="2"))
        got = await foo.get("/x", Connection="X-Mine", X_Mine="1", X_Yours="2")
        assert ("x-hop" in got.headers, "x-end" in got.headers) == (False, True)
        seen = foo.fake.requests[0].headers
        assert ("x-mine" in seen, "x-yours" in seen) == (False, True)

    @pytest.mark.parametrize("target", ["*", "/packages/\udcff", "/\u2028"])
    async def test_strange_targets_are_an_error(self, bench: Make, target: str) -> None:
        made = bench()
        assert (await made.get(target, method="OPTIONS")).status in (400, 404, 504)
        await made.close()
        assert (await bench(offline=True).get(target)).status == 504

    async def test_slow_clients_are_in_nobodys_way(self, foo: Bench) -> None:
        """Who doesn't read what was passed through holds nothing that others need."""
        large = b"z" * 5_000_000
        replies = []
        for number in range(70):
            path = f"/repos/acme/tarballs/x-{number}.tar"
            foo.fake.files[path] = large
            replies.append(await foo.reply(path, "GET", "repo.hex.pm", "", b"", {}))
        assert (await asyncio.wait_for(foo.get("/packages/foo"), 20)).status == 200
        for reply in replies:
            assert await read(reply.body) == large
