"""The image and the compose file as they are, for real, on this machine's Docker daemon."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from docker.team import Team
from support.certificates import CertificateAuthority
from support.clients import require_rebar3
from support.docker import BUILD_SECONDS, ROOT, Compose, docker, require_docker, user
from support.repository import HexRepository

OVERRIDE = Path(__file__).with_name("world.yml")
HELD = bytes(range(256)) * 4096


@dataclass(frozen=True)
class World:
    """Hexcache from docker-compose.yml, and Hex in a container beside it. `name` is also the
    image's, and the beginning of the names of its network and volumes."""

    name: str
    directory: Path
    repository: HexRepository
    compose: Compose

    def asked(self, prefix: str = "/") -> int:
        """How many requests for such paths came to Hex since it was started."""
        return self.compose.log("upstream").count(f"GET {prefix}")

    def published(self, port: int) -> str:
        """Where the host finds a port of Hexcache: HOST:PORT."""
        return self.compose("port", "hexcache", str(port)).stdout.strip()

    def hexcache(self, *arguments: str) -> str:
        """What README says that users run inside."""
        return self.compose("exec", "-T", "hexcache", "hexcache", *arguments).stdout.strip()


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """The image's name. Its layers stay in Docker's cache, the name goes."""
    require_docker()
    name = f"hexcache-test-{uuid.uuid4().hex[:8]}"
    docker("build", "--tag", name, ROOT, timeout=BUILD_SECONDS)
    yield name
    docker("image", "rm", "--force", name, check=False)


@pytest.fixture(scope="session")
def world(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_rebar3()
    directory = tmp_path_factory.mktemp("docker")
    CertificateAuthority(directory / "upstream", ("repo.hex.pm", "builds.hex.pm"))
    repository = HexRepository(directory / "repository")
    repository.publish("alpha", "1.0.0", {"beta": "~> 1.0"}, text="alpha one")
    repository.publish("alpha", "1.1.0", {"beta": "~> 1.0"}, text="alpha one point one")
    repository.publish("beta", "1.0.0", text="beta")
    repository.publish("gamma", "0.1.0", text="gamma")
    repository.build()
    held = repository.output / "installs" / "held"
    held.parent.mkdir()
    held.write_bytes(HELD)
    held.with_name("small").write_text("small")
    compose = Compose(
        image,
        (ROOT / "docker-compose.yml", OVERRIDE),
        {"TEST_ID": image, "TEST_DIRECTORY": str(directory), "TEST_USER": user()},
    )
    try:
        compose.up()
        yield World(image, directory, repository, compose)
    finally:
        print(compose("logs", "--no-color", "--tail", "200", check=False).stdout)
        compose.down()


@pytest.fixture
def team(world: World, tmp_path: Path) -> Iterator[Team]:
    """A project of somebody else's, in containers of its own; without a way in until it is told
    one."""
    team = Team(world, tmp_path)
    yield team
    team.compose.down()
