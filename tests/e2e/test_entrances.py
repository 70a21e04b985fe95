"""The other ways in, and what tells how it is: TLS, health, the control socket."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable

import pytest

from e2e.conftest import World
from support.http import Got, curl
from support.running import Running, free_ports, run_hexcache

TARBALL = "/tarballs/gamma-0.1.0.tar"


def command(running: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_hexcache(*arguments, config=running.config)


def ready(running: Running) -> Got:
    return curl(f"{running.status}/readyz")


class TestTls:
    @pytest.fixture
    def entrance(self, hexcache: Callable[..., Running]) -> tuple[Running, int]:
        (port,) = free_ports(1)
        return hexcache(listen={"tls": f"127.0.0.1:{port}"}), port

    @staticmethod
    def get(entrance: tuple[Running, int], url: str, *arguments: str) -> Got:
        running, port = entrance
        host = url.split("/")[2]
        return curl(url, "--connect-to", f"{host}:443:127.0.0.1:{port}", *arguments, ca=running.ca)

    def test_it_is_both_hosts(self, world: World, entrance: tuple[Running, int]) -> None:
        body, signed = world.repository.signed_csv("1.0.0,abc,1.0.0\n")
        world.upstream.files["/installs/hex-1.x.csv"] = body
        world.upstream.files["/installs/hex-1.x.csv.signed"] = signed
        tarball = self.get(entrance, f"https://repo.hex.pm{TARBALL}")
        assert (tarball.status, tarball.body) == (200, world.upstream.files[TARBALL])
        csv = self.get(entrance, "https://builds.hex.pm/installs/hex-1.x.csv")
        assert (csv.status, csv.body) == (200, body)

    def test_it_is_nobody_else(self, world: World, entrance: tuple[Running, int]) -> None:
        assert self.get(entrance, "https://example.com/").error == 60
        insecure = self.get(entrance, "https://example.com/", "--insecure")
        assert (insecure.status, b"not one of Hex's hosts" in insecure.body) == (421, True)
        assert world.upstream.requests == []

    def test_plain_http_is_told_so(self, entrance: tuple[Running, int]) -> None:
        got = curl(f"http://127.0.0.1:{entrance[1]}/names")
        assert (got.status, b"https only" in got.body) == (400, True)


class TestHealth:
    def test_well(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        assert (curl(f"{running.status}/healthz").status, ready(running).status) == (200, 200)
        report = json.loads(ready(running).body)
        assert (report["ready"], report["degraded"], report["offline"]) == (True, False, False)
        assert command(running, "health").returncode == 0

    def test_an_upstream_that_is_down_is_degraded(
        self, world: World, hexcache: Callable[..., Running]
    ) -> None:
        running = hexcache(upstream={"give_up": "500ms"})
        world.upstream.stop_listening()
        assert curl(f"{running.mirror}/packages/alpha").status == 504
        got = ready(running)
        report = json.loads(got.body)
        assert (got.status, report["ready"], report["degraded"]) == (200, True, True)
        (state,) = report["upstream"].values()
        assert "Connection refused" in state["why"]

    def test_certificates_and_no_key(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        for path in (running.ca, running.bundle):
            got = curl(f"{running.status}/{path.name}")
            assert (got.status, got.body) == (200, path.read_bytes())
            assert b"PRIVATE KEY" not in got.body
            assert got.headers["x-content-type-options"] == "nosniff"
        for other in ("/mitmproxy-ca.pem", "/../mitmproxy-ca.pem", "/ca"):
            assert curl(running.status + other, "--path-as-is").status == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_nothing_changes_by_it(self, hexcache: Callable[..., Running], method: str) -> None:
        running = hexcache()
        for path in ("/healthz", "/readyz", "/offline"):
            assert curl(running.status + path, "--request", method).status in (404, 405)

    def test_a_taken_port_stops_the_start(
        self, world: World, hexcache: Callable[..., Running]
    ) -> None:
        first = hexcache()
        port = first.status.rpartition(":")[2]
        with pytest.raises(RuntimeError, match=r"listen\.status: can't listen on") as caught:
            hexcache(listen={"status": f"127.0.0.1:{port}"})
        assert "Traceback" not in str(caught.value)

    def test_asking_is_cheap(self) -> None:
        """Docker does it every 30 s for as long as Hexcache runs."""
        look = (
            "import sys, hexcache.cli, hexcache.commands.serving; "
            "print({'mitmproxy', 'cryptography'} & {*sys.modules})"
        )
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True)
        assert done.stdout == b"set()\n"

    def test_off(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache(listen={"status": "off"})
        assert "Status page:" not in running.banner
        assert command(running, "health").returncode == 0
        running.stop()
        gone = command(running, "health")
        assert gone.returncode == 1
        assert gone.stderr.count("\n") == 1


class TestOffline:
    def test_at_run_time(self, world: World, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        assert curl(f"{running.mirror}{TARBALL}").status == 200
        assert command(running, "offline", "status").stdout == "online\n"
        assert command(running, "offline", "on").stdout == "offline\n"
        world.upstream.requests.clear()
        assert curl(f"{running.mirror}{TARBALL}").body == world.upstream.files[TARBALL]
        for path in ("/tarballs/beta-1.0.0.tar", "/repos/acme/names"):
            assert curl(running.mirror + path).status == 504
        assert json.loads(ready(running).body)["offline"] is True
        assert world.upstream.requests == []
        assert command(running, "offline", "off").stdout == "online\n"
        assert curl(f"{running.mirror}/tarballs/beta-1.0.0.tar").status == 200
        assert "online again" in running.log

    def test_no_probe_leaves(self, world: World, hexcache: Callable[..., Running]) -> None:
        """Upstream was down when the flag was set; what wants it back waits for the flag."""
        running = hexcache(upstream={"give_up": "500ms"})
        world.upstream.stop_listening()
        assert curl(f"{running.mirror}/packages/alpha").status == 504
        assert command(running, "offline", "on").returncode == 0
        world.upstream.start_listening()
        world.upstream.requests.clear()
        # Longer than a probe's first interval.
        assert command(running, "offline", "status").stdout == "offline\n"
        assert command(running, "offline", "status").stdout == "offline\n"
        assert world.upstream.requests == []
        assert command(running, "offline", "off").returncode == 0
        for _ in range(3000):
            if curl(f"{running.mirror}/packages/alpha").status == 200:
                break
        assert world.upstream.count("/packages/alpha") >= 1

    def test_the_socket_is_its_owners(self, hexcache: Callable[..., Running]) -> None:
        running = hexcache()
        socket = running.directory / "data" / "control.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        # What a killed one left is in nobody's way.
        running.kill()
        assert socket.exists()
        nobody = command(running, "offline", "on")
        assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
        assert "no Hexcache runs" in nobody.stderr
        running.start()
        assert command(running, "offline", "status").stdout == "online\n"
        assert running.stop() == 0
        assert not socket.exists()


def test_the_ca_is_published_without_its_key(
    world: World, hexcache: Callable[..., Running]
) -> None:
    directory = world.directory / "published"
    running = hexcache(publish_ca=str(directory))
    assert {path.name for path in directory.iterdir()} == {"hexcache-ca.pem", "ca-bundle.pem"}
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert b"PRIVATE KEY" not in path.read_bytes()
    got = curl("https://repo.hex.pm/names", proxy=running.proxy, ca=directory / "hexcache-ca.pem")
    assert got.status == 200
