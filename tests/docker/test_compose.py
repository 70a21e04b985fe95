"""`docker compose up -d`: what it makes, and what a user may do to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from docker.conftest import World
from docker.team import Team
from support.docker import ROOT, Compose, docker, inspect, readme_block, require_docker
from support.http import curl

ALL = {"alpha", "beta", "gamma"}
# Hexcache knows the package, but nobody has asked for this release.
NEVER_ASKED = "https://repo.hex.pm/tarballs/alpha-1.0.0.tar"


def joined(team: Team) -> Team:
    team.join(readme_block("**Transparent**", "yaml"))
    return team


@contextmanager
def without_upstream(world: World) -> Iterator[None]:
    """Hex is gone, in the way that a cable is: not even its name is left."""
    world.compose("kill", "upstream")
    try:
        yield
    finally:
        world.compose.up("upstream")


def fetch(team: Team, url: str) -> subprocess.CompletedProcess[str]:
    """Exit status 22 where the answer is an error."""
    ca = "/hexcache-ca/hexcache-ca.pem"
    return team.run("curl", "-fsS", "-o", "/dev/null", "--cacert", ca, url, check=False)


def test_the_names_of_hex_are_the_fronts(world: World) -> None:
    networks = inspect(world.compose.container("hexcache"))["NetworkSettings"]["Networks"]
    assert list(networks) == [f"{world.name}_back"]
    assert not {"repo.hex.pm", "builds.hex.pm"} & set(networks[f"{world.name}_back"]["Aliases"])
    front = inspect(world.compose.container("hexcache-front"))["NetworkSettings"]["Networks"]
    aliases = set(front[f"{world.name}-hexnet"]["Aliases"])
    assert {"repo.hex.pm", "builds.hex.pm", "hexcache"} <= aliases
    assert "repo.hex.pm" not in front[f"{world.name}_back"]["Aliases"]


def test_both_are_locked_in(world: World) -> None:
    for service in ("hexcache", "hexcache-front"):
        container = inspect(world.compose.container(service))
        assert container["State"]["Health"]["Status"] == "healthy"
        assert container["Config"]["User"] not in ("", "0", "root"), service
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert host["SecurityOpt"] == ["no-new-privileges"], service


def test_the_hosts_ports_are_the_hosts_alone(world: World) -> None:
    for port in (8080, 4000, 8081):
        assert world.published(port).startswith("127.0.0.1:")
    status = f"http://{world.published(8081)}"
    assert curl(f"{status}/healthz").status == 200
    assert curl(f"{status}/readyz").status == 200
    assert curl(f"http://{world.published(4000)}/names").status == 200
    got = curl(f"{status}/hexcache-ca.pem")
    assert b"BEGIN CERTIFICATE" in got.body
    ca = world.directory / "ca.pem"
    ca.write_bytes(got.body)
    proxy = f"http://{world.published(8080)}"
    assert curl("https://repo.hex.pm/names", proxy=proxy, ca=ca).status == 200


def test_the_cas_volume_holds_no_key(world: World) -> None:
    def look(*command: str) -> str:
        volume = f"{world.name}-ca:/ca:ro"
        return docker("run", "--rm", "-v", volume, "elixir:1.18-slim", *command).stdout

    assert set(look("ls", "-A", "/ca").split()) == {"hexcache-ca.pem", "ca-bundle.pem"}
    everything = look("sh", "-c", "cat /ca/*")
    assert everything.count("BEGIN CERTIFICATE") > 100
    assert "PRIVATE" not in everything
    assert look("stat", "-c", "%a", "/ca/hexcache-ca.pem", "/ca/ca-bundle.pem").split() == [
        "644",
        "644",
    ]


def test_all_the_fronts_ports(world: World, team: Team) -> None:
    joined(team)
    for url in (
        "https://repo.hex.pm/names",
        "https://builds.hex.pm/installs/small",
        "http://hexcache:4000/names",
        "http://hexcache:8081/ca-bundle.pem",
    ):
        assert fetch(team, url).returncode == 0, url
    through = ("-x", "http://hexcache:8080", "--cacert", "/hexcache-ca/hexcache-ca.pem")
    team.run("curl", "-fsS", "-o", "/dev/null", *through, "https://repo.hex.pm/names")
    # Its certificate is for Hex only, whatever a client says that it wants.
    wrong = team.run(
        *("curl", "-sS", "--cacert", "/hexcache-ca/hexcache-ca.pem"),
        *("--connect-to", "example.com:443:repo.hex.pm:443", "https://example.com/"),
        check=False,
    )
    assert wrong.returncode in (35, 60), wrong.stderr


def test_made_anew_and_the_line_cut(world: World, team: Team) -> None:
    joined(team)
    assert team.rebar3() == ALL
    ca = curl(f"http://{world.published(8081)}/hexcache-ca.pem").body
    before = world.compose.container("hexcache")
    with without_upstream(world):
        assert team.rebar3() == ALL
        world.compose.up("--force-recreate", "--no-deps", "hexcache")
        assert world.compose.container("hexcache") != before
        # The front, which was not made anew, finds it where it is now.
        assert team.rebar3() == ALL
        assert curl(f"http://{world.published(8081)}/hexcache-ca.pem").body == ca
        # All of it, as after a reboot.
        world.compose("stop")
        world.compose.up("--no-deps", "hexcache", "hexcache-front")
        assert team.rebar3() == ALL


def test_offline_while_it_runs(world: World, team: Team) -> None:
    joined(team)
    assert team.rebar3() == ALL
    assert world.hexcache("offline", "status") == "online"
    world.hexcache("offline", "on")
    try:
        assert world.hexcache("offline", "status") == "offline"
        asked = world.asked()
        assert team.rebar3() == ALL
        missing = fetch(team, NEVER_ASKED)
        assert missing.returncode == 22
        assert "504" in missing.stderr
        assert world.asked() == asked
    finally:
        world.hexcache("offline", "off")
    assert fetch(team, NEVER_ASKED).returncode == 0


@pytest.mark.parametrize(
    ("file", "shell", "wanted"),
    [("1", None, "1"), ("1", "0", "0"), ("0", "1", "1"), ("", "1", "1"), ("1", "", "1")],
)
@pytest.mark.parametrize("service", ["hexcache", "hexcache-gateway"])
def test_offline_by_shell_or_by_file(
    tmp_path: Path, service: str, file: str, shell: str | None, wanted: str
) -> None:
    """The shell's word goes before that of hexcache.env, but none is no word."""
    require_docker()
    settings, override = tmp_path / "hexcache.env", tmp_path / "settings.yml"
    settings.write_text(f"HEXCACHE_OFFLINE={file}\n" if file else "")
    services = {service: {"env_file": [str(settings)]}}
    override.write_text(yaml.safe_dump({"services": services}))
    environment = {} if shell is None else {"HEXCACHE_OFFLINE": shell}
    compose = Compose("unstarted", (ROOT / "docker-compose.yml", override), environment)
    config = compose("--profile", "gateway", "config", "--format", "json").stdout
    got = yaml.safe_load(config)["services"][service]["environment"]
    assert got["HEXCACHE_OFFLINE"] == wanted


def test_offline_from_the_start(world: World, team: Team) -> None:
    joined(team)
    assert team.rebar3() == ALL
    asked = world.asked()
    world.compose.up("hexcache", HEXCACHE_OFFLINE="1")
    try:
        assert world.hexcache("offline", "status") == "offline"
        assert team.rebar3() == ALL
        assert world.asked() == asked
    finally:
        world.compose.up("hexcache")
    assert world.hexcache("offline", "status") == "online"
