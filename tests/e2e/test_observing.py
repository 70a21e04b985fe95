"""What can be seen from outside: metrics, numbers, log lines, headers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from e2e.conftest import World
from support.commands import run
from support.faults import replaced
from support.http import curl
from support.prometheus import Scrape, check
from support.running import Running
from support.structured import cache_status

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


class TestLocalHost:
    """http://hexcache.local/ through the proxy."""

    URL = "http://hexcache.local"

    @pytest.mark.parametrize("listen", [{}, {"status": "off"}], ids=["status", "no status"])
    def test_the_ca_and_health(
        self, hexcache: Callable[..., Running], listen: dict[str, str]
    ) -> None:
        running = hexcache(listen=listen)
        for path in (running.ca, running.bundle):
            got = curl(f"{self.URL}/{path.name}", proxy=running.proxy)
            assert (got.status, got.body) == (200, path.read_bytes())
            assert got.headers["x-content-type-options"] == "nosniff"
        assert curl(f"{self.URL}/healthz", proxy=running.proxy).body == b"ok\n"
        assert json.loads(curl(f"{self.URL}/readyz", proxy=running.proxy).body)["ready"] is True
        text = curl(f"{self.URL}/metrics", proxy=running.proxy).body.decode()
        assert check("metrics", text=text) == ""
        assert curl(f"{self.URL}/mitmproxy-ca.pem", proxy=running.proxy).status == 404
        outside = curl(f"{self.URL}/../mitmproxy-ca.pem", "--path-as-is", proxy=running.proxy)
        assert outside.status in (400, 404)
        assert curl("http://HEXCACHE.local./healthz", proxy=running.proxy).status == 200

    def test_the_same_as_at_the_port(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        for path in ("/healthz", "/hexcache-ca.pem", "/nowhere"):
            there = curl(running.status + path)
            here = curl(self.URL + path, proxy=running.proxy)
            assert (here.status, here.body) == (there.status, there.body)
            for name in ("content-type", "content-security-policy", "cache-control"):
                assert here.headers[name] == there.headers[name]

    def test_head(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        got = curl(f"{self.URL}/hexcache-ca.pem", "--head", proxy=running.proxy)
        length = str(len(running.ca.read_bytes()))
        assert (got.status, got.body, got.headers["content-length"]) == (200, b"", length)

    def test_nothing_changes_by_it(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            got = curl(f"{self.URL}/healthz", "-X", method, "-d", "x", proxy=running.proxy)
            assert (got.status, got.headers["allow"]) == (405, "GET, HEAD"), method

    def test_only_through_the_proxy(self, world: World, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        got = curl(f"{running.mirror}/healthz", "-H", "Host: hexcache.local")
        assert got.status == 404
        assert world.upstream.requests[-1].path == "/healthz", (
            "the mirror is Hex, whatever it hears"
        )

    def test_it_is_no_request_for_hex(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        for _ in range(3):
            curl(f"{self.URL}/healthz", proxy=running.proxy)
        assert metrics(running)[1]("hexcache_requests_total") == 0
        assert "healthz" not in running.log


SECRETS = ("k3y", "c00kie", "pr0xypw", "t0ken", "basepw", "urlpw")


class TestLog:
    @pytest.mark.parametrize("form", ["text", "json"])
    def test_no_secret_ever(
        self, world: World, hexcache: Callable[..., Running], form: str
    ) -> None:
        """Real requests that carry them, the most talkative log."""
        base = world.upstream.url.replace("//", "//somebody:basepw@")
        running = hexcache(
            log={"format": form, "level": "debug"}, upstream={"repo": [base], "give_up": "500ms"}
        )
        world.upstream.files["/repos/acme/names"] = b"private"
        carried = (
            *("-H", "Authorization: Bearer k3y"),
            *("-H", "Cookie: session=c00kie"),
            *("--proxy-user", "me:pr0xypw"),
        )
        paths = (TARBALL, "/packages/alpha", "/repos/acme/names", "/x?token=t0ken")
        for _ in range(2):
            for path in paths:
                for url in (f"https://repo.hex.pm{path}", f"http://me:urlpw@repo.hex.pm{path}"):
                    curl(url, *carried, proxy=running.proxy, ca=running.ca)
            world.upstream.stop_listening()
        curl("http://elsewhere.example/?token=t0ken", *carried, proxy=running.proxy)
        curl("http://hexcache.local/healthz?token=t0ken", *carried, proxy=running.proxy)
        seen = "".join(
            curl(running.status + path).body.decode() for path in ("/metrics", "/api/statistics")
        )
        assert running.stop() == 0
        seen += running.log
        seen += (running.directory / "data" / "cache" / "history.json").read_text()
        assert "/x?…" in running.log
        for secret in SECRETS:
            assert secret not in seen

    def test_one_line_for_each_request_and_each_change(
        self, world: World, hexcache: Callable[..., Running]
    ) -> None:
        running = hexcache(log={"format": "json"}, upstream={"give_up": "500ms"})
        run("offline", "on", config=running.config)
        run("offline", "on", config=running.config)
        run("offline", "off", config=running.config)
        for _ in range(3):
            curl(running.mirror + TARBALL)
        world.upstream.stop_listening()
        for _ in range(3):
            curl(f"{running.mirror}/packages/alpha")
        world.upstream.start_listening()
        for _ in range(3000):
            if curl(f"{running.mirror}/packages/alpha").status == 200:
                break
        assert running.stop() == 0
        lines = [json.loads(line) for line in running.log.splitlines()]
        requests = [line for line in lines if line.get("event") == "request"]
        assert [r["outcome"] for r in requests[:3]] == ["miss", "hit", "hit"]
        assert len({r["id"] for r in requests}) == len(requests)
        assert {"id", "client", "method", "kind", "resource", "outcome", "status", "ms"} <= set(
            requests[0]
        )
        changes = [line for line in lines if line.get("event") == "upstream"]
        label = f"127.0.0.1:{world.upstream.port}"
        assert [(c["upstream"], c["up"]) for c in changes] == [(label, False), (label, True)]
        flags = [line["offline"] for line in lines if line.get("event") == "offline"]
        assert flags == [True, False]
        assert all("message" in line for line in lines if line.get("event") != "request")

    def test_who_hung_up_has_a_line(self, world: World, hexcache: Callable[..., Running]) -> None:
        world.upstream.files["/docs/alpha-1.0.0.tar.gz"] = bytes(8_000_000)
        running = hexcache()
        url = f"{running.mirror}/docs/alpha-1.0.0.tar.gz"
        assert curl(url).status == 200
        host, port = running.mirror.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b"GET /docs/alpha-1.0.0.tar.gz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000)
        for _ in range(3000):
            if metrics(running)[1]("hexcache_requests_total", outcome="aborted"):
                break
        assert running.log.count("the client hung up") == 1
        assert metrics(running)[1]("hexcache_in_flight") == 0


class TestHeaders:
    """Cache-Status and Age as they arrive; test_cachestatus has the rest."""

    def test_each_answer_has_a_proper_one(
        self, world: World, hexcache: Callable[..., Running]
    ) -> None:
        running = hexcache(cache={"registry_fresh": "1h"}, upstream={"give_up": "500ms"})
        said = {}
        for name, path in (
            ("miss", TARBALL),
            ("hit", TARBALL),
            ("package", "/packages/gamma"),
            ("absent", "/packages/absent"),
            ("passed", "/repos/acme/names"),
        ):
            got = curl(running.mirror + path)
            said[name] = cache_status(got.headers["cache-status"])
            assert ("age" in got.headers) == (name in ("miss", "hit", "package")), name
        assert said["miss"] == {"fwd": "miss", "fwd-status": 200, "stored": True}
        assert said["hit"] == {"hit": True}
        assert 3590 < int(said["package"]["ttl"]) <= 3600
        assert said["absent"]["fwd-status"] == said["passed"]["fwd-status"] == 404
        world.upstream.stop_listening()
        for path in ("/packages/beta", "/repos/acme/names"):
            got = curl(running.mirror + path)
            assert got.status == 504
            assert "Connection refused" in str(cache_status(got.headers["cache-status"])["detail"])
        refused = curl("http://elsewhere.example/", proxy=running.proxy)
        assert "not one of Hex" in str(cache_status(refused.headers["cache-status"])["detail"])
