"""What can be seen from outside: metrics, numbers, log lines, headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from e2e.conftest import World
from support.http import curl
from support.prometheus import Scrape, check
from support.running import Running
from support.upstream import replaced

TARBALL = "/tarballs/gamma-0.1.0.tar"


def metrics(running: Running) -> tuple[str, Scrape]:
    got = curl(f"{running.status}/metrics")
    assert (got.status, got.headers["content-type"][:24]) == (200, "text/plain; version=0.0.4"[:24])
    text = got.body.decode()
    return text, Scrape(text)


class TestMetrics:
    def test_after_all_kinds_of_answers(
        self, world: World, hexcache: Callable[..., Running]
    ) -> None:
        running = hexcache(cache={"registry_fresh": "1h"})
        for _ in range(2):
            assert curl(running.mirror + TARBALL).status == 200
        world.upstream.fault("/tarballs/beta", replaced(b"planted"))
        assert curl(f"{running.mirror}/tarballs/beta-1.0.0.tar").status == 502
        assert curl(f"{running.mirror}/packages/absent").status == 404
        assert curl(f"{running.mirror}/repos/acme/names").status == 404
        assert curl("http://elsewhere.example/", proxy=running.proxy).status == 403
        text, seen = metrics(running)
        assert check("metrics", text=text) == ""
        requests = {
            (kind, outcome): seen("hexcache_requests_total", kind=kind, outcome=outcome)
            for kind, outcome in (
                ("tarball", "miss"),
                ("tarball", "hit"),
                ("tarball", "error"),
                ("package", "miss"),
                ("other", "passed"),
                ("other", "error"),
            )
        }
        assert set(requests.values()) == {1.0}, requests
        assert seen("hexcache_requests_total") == 6
        assert seen("hexcache_request_duration_seconds_count") == 6
        size = len(world.upstream.files[TARBALL])
        assert seen("hexcache_bytes_total", direction="served") > 2 * size
        assert seen("hexcache_bytes_total", direction="fetched") > size
        assert seen("hexcache_integrity_failures_total", check="checksum") >= 1
        assert seen("hexcache_store_entries", kind="tarball") == 1
        assert seen("hexcache_store_bytes") > size
        assert seen("hexcache_upstream_up", upstream=f"127.0.0.1:{world.upstream.port}") == 1
        assert (seen("hexcache_in_flight"), seen("hexcache_offline")) == (0, 0)
        assert seen("hexcache_build_info") == 1

    def test_no_package_is_in_a_label(self, world: World, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        for path in (TARBALL, "/packages/alpha", "/repos/acme/packages/secret", "/x?y=z"):
            curl(running.mirror + path)
        values = " ".join(metrics(running)[1].label_values)
        for name in ("gamma", "alpha", "acme", "secret", "y=z"):
            assert name not in values

    def test_an_upstream_that_is_down(self, world: World, hexcache: Callable[..., Running]) -> None:
        running = hexcache(upstream={"give_up": "500ms"})
        world.upstream.stop_listening()
        assert curl(f"{running.mirror}/packages/alpha").status == 504
        seen = metrics(running)[1]
        assert seen("hexcache_upstream_up") == 0
        assert seen("hexcache_upstream_requests_total", code="error") >= 1

    def test_statistics(self, world: World, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        for _ in range(2):
            curl(running.mirror + TARBALL)
        got = json.loads(curl(f"{running.status}/api/statistics").body)
        assert got["requests"]["tarball"] == {"hit": 1, "miss": 1}
        assert got["bytes"]["served"] == 2 * len(world.upstream.files[TARBALL])
        assert (got["offline"], got["store"]["entries"]["tarball"]) == (False, 1)
        assert curl(f"{running.status}/api/statistics", "-X", "POST").status == 405


class TestHistory:
    @staticmethod
    def day(running: Running) -> dict[str, Any]:
        got = json.loads(curl(f"{running.status}/api/statistics").body)
        day: dict[str, Any] = got["history"]["day"]
        return day

    def test_it_survives_a_restart(self, world: World, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        for _ in range(3):
            curl(running.mirror + TARBALL)
        before = self.day(running)
        assert before["outcomes"] == {"miss": 1, "hit": 2}
        assert before["fetched"] >= len(world.upstream.files[TARBALL])
        assert running.stop() == 0
        running.start()
        after = self.day(running)
        for what in ("outcomes", "served", "fetched", "saved_seconds"):
            assert after[what] == before[what]
        curl(running.mirror + TARBALL)
        assert self.day(running)["outcomes"] == {"miss": 1, "hit": 3}

    def test_most_of_it_survives_a_kill(
        self, world: World, hexcache: Callable[..., Running]
    ) -> None:
        running = hexcache()
        curl(running.mirror + TARBALL)
        file = running.directory / "data" / "cache" / "history.json"
        for _ in range(3000):
            if file.exists():
                break
            curl(f"{running.status}/healthz")
        running.kill()
        running.start()
        assert self.day(running)["outcomes"] == {"miss": 1}
        assert "history" not in running.log

    def test_a_damaged_file_is_a_warning(
        self, world: World, hexcache: Callable[..., Running]
    ) -> None:
        running = hexcache()
        curl(running.mirror + TARBALL)
        running.stop()
        (running.directory / "data" / "cache" / "history.json").write_bytes(b'{"format":')
        running.start()
        assert "warning: " in running.log
        assert "the history starts anew" in running.log
        assert self.day(running)["requests"] == 0
        assert curl(running.mirror + TARBALL).status == 200
