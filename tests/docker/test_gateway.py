"""Gateway mode as compose starts it: on the host, with the host's packet filter before it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from support import clients
from support.docker import ROOT, Compose
from support.http import curl
from support.repository import HexRepository
from support.running import free_ports
from support.upstream import Upstream

# Nobody is there; the packet filter changes that for the ports below.
NOWHERE = "127.0.0.99"


@contextmanager
def redirected(port: int) -> Iterator[None]:
    """Connections to NOWHERE come to `port`: README's rule, for this machine's own connections."""
    rule = ["OUTPUT", "-d", NOWHERE, "-p", "tcp", "-m", "multiport", "--dports", "80,443"]
    rule += ["-j", "REDIRECT", "--to-ports", str(port)]
    iptables = shutil.which("iptables") or "iptables"
    subprocess.run([iptables, "-w", "-t", "nat", "-A", *rule], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run([iptables, "-w", "-t", "nat", "-D", *rule], check=True, timeout=30)


def test_redirected_connections_are_answered(image: str, tmp_path: Path) -> None:
    clients.require_rebar3()
    if os.geteuid() != 0:
        pytest.skip("root is needed to redirect connections")
    clients.require("iptables", install="apt-get install iptables")
    repository = HexRepository(tmp_path / "repository")
    repository.publish("gamma", "0.1.0", text="gamma")
    proxy, status, port = free_ports(3)
    name = f"{image}-gateway"
    with Upstream() as upstream:
        upstream.files.update(repository.build())
        environment = {
            "HEXCACHE_LISTEN__PROXY": f"127.0.0.1:{proxy}",
            "HEXCACHE_LISTEN__MIRROR": "off",
            "HEXCACHE_LISTEN__STATUS": f"127.0.0.1:{status}",
            "HEXCACHE_LISTEN__TRANSPARENT": f"127.0.0.1:{port}",
            "HEXCACHE_UPSTREAM__REPO": upstream.url,
            "HEXCACHE_UPSTREAM__BUILDS": upstream.url,
            "HEXCACHE_UPSTREAM__PUBLIC_KEY": "/repository/public_key",
        }
        service = {
            "image": image,
            "restart": "no",
            "environment": environment,
            "volumes": [f"{repository.output}:/repository:ro"],
        }
        volumes = {f"hexcache-{which}": {"name": f"{name}-{which}"} for which in ("data", "ca")}
        override = tmp_path / "gateway.yml"
        override.write_text(
            yaml.safe_dump({"services": {"hexcache-gateway": service}, "volumes": volumes})
        )
        compose = Compose(name, (ROOT / "docker-compose.yml", override), {})
        try:
            compose.up("hexcache-gateway")
            ca = tmp_path / "ca.pem"
            ca.write_bytes(curl(f"http://127.0.0.1:{status}/hexcache-ca.pem").body)
            path = "/tarballs/gamma-0.1.0.tar"
            with redirected(port):
                there = ("--resolve", f"repo.hex.pm:443:{NOWHERE}")
                got = curl(f"https://repo.hex.pm{path}", *there, ca=ca)
            assert (got.status, got.body) == (200, upstream.files[path])
        finally:
            print(compose("logs", "--no-color", "--tail", "50", check=False).stdout)
            compose("--profile", "gateway", "down", "--volumes", "--timeout", "5", check=False)
