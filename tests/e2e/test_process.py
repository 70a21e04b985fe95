"""The process: how it is started, what it logs, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import World
from support.faults import hold
from support.http import curl
from support.running import Running, free_ports

ADDON = Path(__file__).parents[2] / "addon" / "main.py"


def test_ipv6_and_variables_of_an_orchestrator(world: World) -> None:
    port, _ = free_ports(2)
    running = Running(
        world.directory / "v6",
        world.settings(listen={"proxy": f"[::1]:{port}", "mirror": "off"}),
        environment={"HEXCACHE_PORT": "tcp://10.0.0.1:80", "HEXCACHE_SERVICE_HOST": "10.0.0.1"},
    )
    with running:
        got = curl("http://repo.hex.pm/names", proxy=f"http://[::1]:{port}")
        assert got.status == 200


def test_kill_9_and_again(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(cache={"registry_fresh": "1h"})
    urls = [f"{proxy.mirror}/tarballs/{n}.tar" for n in ("alpha-1.1.0", "gamma-0.1.0")]
    assert curl(urls[0]).status == 200
    # In the middle of the second download.
    world.upstream.fault("/tarballs/gamma", hold(1000), times=1)
    client = subprocess.Popen(["curl", "-s", "--noproxy", "*", urls[1]], stdout=subprocess.PIPE)
    world.upstream.wait_until_holding()
    proxy.kill()
    world.upstream.release()
    client.communicate()

    world.upstream.requests.clear()
    proxy.start()
    for url in urls:
        assert curl(url).body == world.upstream.files[url.removeprefix(proxy.mirror)]
    assert world.upstream.count("/tarballs/alpha") == 0
    assert world.upstream.count("/tarballs/gamma") == 1


def test_sigterm_finishes_what_is_being_sent(
    world: World, hexcache: Callable[..., Running]
) -> None:
    world.upstream.fault("/tarballs/gamma", hold(1000), times=1)
    proxy = hexcache()
    url = f"{proxy.mirror}/tarballs/gamma-0.1.0.tar"
    client = subprocess.Popen(["curl", "-s", "--noproxy", "*", url], stdout=subprocess.PIPE)
    world.upstream.wait_until_holding()
    os.kill(proxy.pid, signal.SIGTERM)
    while _listens(proxy.proxy_port):
        pass
    world.upstream.release()
    body, _ = client.communicate(timeout=30)
    assert body == world.upstream.files["/tarballs/gamma-0.1.0.tar"]
    assert proxy.wait() == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_no_verification_is_loud(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(cache={"verify": False})
    proxy.stop()
    assert "warning: cache.verify is false: NOTHING THAT COMES FROM UPSTREAM" in proxy.log


def test_json_log(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(log={"format": "json"})
    curl(f"{proxy.mirror}/packages/alpha")
    proxy.stop()
    lines = [json.loads(line) for line in proxy.log.splitlines()]
    (request,) = [line for line in lines if line.get("event") == "request"]
    assert request["resource"] == "package alpha"
    assert request["outcome"] == "miss"
    assert request["bytes"] == len(world.upstream.files["/packages/alpha"])
    assert request["client"] == "127.0.0.1"


def test_mitmdump_script(world: World) -> None:
    mitmdump = shutil.which("mitmdump", path=str(Path(sys.executable).parent))
    assert mitmdump is not None
    running = Running(
        world.directory / "mitmdump", world.settings(), command=(mitmdump, "-s", str(ADDON))
    )
    with running:
        project = world.rebar3(running.bundle)
        result = project.get_deps(proxy=running.proxy)
        assert result.returncode == 0, result.stdout
        assert set(project.fetched()) == {"alpha", "beta", "gamma"}
        assert running.stop() == 0


def _refused_start(directory: Path, content: str) -> subprocess.CompletedProcess[str]:
    config = directory / "wrong.yaml"
    config.write_text(content)
    return subprocess.run(
        [sys.executable, "-m", "hexcache", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=directory,
    )


def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path) -> None:
    result = _refused_start(tmp_path, "cache:\n  registry_frech: 5s\n")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "wrong.yaml: cache.registry_frech is not a setting" in result.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "{mirror: '127.0.0.1:1', tls: '127.0.0.1:1', status: '127.0.0.1:1'}",
            "listen.mirror and listen.tls are both 127.0.0.1:1",
        ),
        ("{proxy: '192.0.2.1:1', mirror: off, status: off}", "192.0.2.1:1"),
        ("{proxy: '127.0.0.1:0', mirror: off, status: '[fe80::1%nowhere]:1'}", "listen.status"),
    ],
)
def test_where_nobody_can_listen_is_told_in_one_line(
    tmp_path: Path, content: str, told: str
) -> None:
    result = _refused_start(tmp_path, f"listen: {content}\n")
    assert result.returncode == 1
    assert told in result.stderr
    assert "Unknown error" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_taken_port_and_a_taken_directory_are_told(
    hexcache: Callable[..., Running], tmp_path: Path
) -> None:
    proxy = hexcache()
    taken = _refused_start(
        tmp_path, f'listen: {{proxy: "127.0.0.1:{proxy.proxy_port}", mirror: "off"}}\n'
    )
    assert taken.returncode == 1
    assert f"127.0.0.1:{proxy.proxy_port}" in taken.stderr
    assert taken.stderr.count("\n") == 1
    (port,) = free_ports(1)
    data = proxy.directory / "data"
    busy = _refused_start(tmp_path, f'listen: {{proxy: "127.0.0.1:{port}"}}\ndata: {data}\n')
    assert busy.returncode == 1
    assert "in use by another Hexcache" in busy.stderr
