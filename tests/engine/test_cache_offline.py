"""The engine offline: what is stored is served, what is missing is told with its remedy."""

from __future__ import annotations

import pytest

from support.clock import Clock
from support.engine import URL, Bench, Make
from support.upstream import Upstream


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
