"""README's lines for `docker build`, with the real clients in the build."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from docker.conftest import World
from docker.team import Team
from support.docker import BUILD_SECONDS, docker, readme_block, skip_without_hex
from support.http import curl

MIRROR = "### In docker build"
PROXY = "**The proxy in a build**"
ALL = {"alpha", "beta", "gamma"}
# rebar3's, where there are both, and mix's.
LOOK = "cd /project; ls _build/default/lib 2>/dev/null || ls deps"


@dataclass(frozen=True)
class Project:
    """A directory with a Dockerfile; `build` returns what the image has fetched."""

    directory: Path
    image: str

    def build(self, client: str, lines: str, *options: str) -> set[str]:
        command = {"rebar3": "rebar3 get-deps", "mix": "mix deps.get"}[client]
        assert "mix deps.get" in lines
        (self.directory / "Dockerfile").write_text(
            "FROM elixir:1.18-slim\nENV MIX_REBAR3=/usr/bin/rebar3\n"
            "WORKDIR /project\nCOPY . .\nRUN cp -r home/. /root/\n"
            + lines.replace("mix deps.get", command)
        )
        build = ("build", "--no-cache", "--network", "host", "--tag", self.image)
        docker(*build, *options, self.directory, timeout=BUILD_SECONDS)
        return set(self.run("sh", "-c", LOOK).stdout.split()) - {"project", "probe"}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return docker("run", "--rm", self.image, *command, check=check)


@pytest.fixture(params=["rebar3", "mix"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(world: World, team: Team, client: str) -> Iterator[Project]:
    """The team's project and home, as a build context."""
    if client == "mix":
        team.install_hex(skip_without_hex())
    team.rebar3_project.trust(None)
    shutil.rmtree(team.home / "project")
    shutil.copytree(team.home, team.project / "home")
    image = f"{world.name}-build-{uuid.uuid4().hex[:6]}"
    yield Project(team.project, image)
    docker("image", "rm", "--force", image, check=False)


def test_by_mirror_url(world: World, project: Project, client: str) -> None:
    lines = readme_block(MIRROR, "dockerfile")
    mirror = f"http://{world.published(4000)}"
    arguments = [f"--build-arg={name}={mirror}" for name in ("HEX_MIRROR", "HEX_CDN")]
    assert project.build(client, lines, *arguments) == ALL


def test_by_proxy(world: World, team: Team, project: Project, client: str, tmp_path: Path) -> None:
    lines = readme_block(PROXY, "dockerfile")
    bundle, config = tmp_path / "ca-bundle.pem", tmp_path / "rebar.config"
    bundle.write_bytes(curl(f"http://{world.published(8081)}/ca-bundle.pem").body)
    team.rebar3_project.trust(Path("/hexcache-ca/ca-bundle.pem"))
    shutil.copy(team.home / ".config" / "rebar3" / "rebar.config", config)
    proxy = f"http://{world.published(8080)}"
    arguments = [
        *(f"--build-arg={name}={proxy}" for name in ("HTTPS_PROXY", "https_proxy")),
        *("--secret", f"id=hexcache-ca,src={bundle}"),
        *("--secret", f"id=rebar.config,src={config}"),
    ]
    assert project.build(client, lines, *arguments) == ALL
    assert project.run("test", "-s", "/hexcache-ca/ca-bundle.pem", check=False).returncode == 1
    environment = project.run("env").stdout.lower()
    assert "_proxy=" not in environment
    assert "cacerts" not in environment
