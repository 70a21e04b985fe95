"""The whole of it: a real client, a real proxy process, an upstream with TLS, a repository signed
by hex_core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.certificates import CertificateAuthority
from support.clients import require_rebar3
from support.rebar3 import Rebar3Project
from support.repository import HexRepository
from support.running import Running
from support.upstream import Upstream

# What the modules say of the newest releases at first, and after `publish_newer`.
OLD = {"alpha": "alpha one point one", "beta": "beta", "gamma": "gamma"}
NEW = {"alpha": "alpha newer", "beta": "beta newer", "gamma": "gamma newer"}


@dataclass
class World:
    """Everything around Hexcache. `settings` are what it needs to live here."""

    directory: Path
    authority: CertificateAuthority
    repository: HexRepository
    upstream: Upstream
    newer: dict[str, bytes]

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Sections are merged with what the world needs."""
        base: dict[str, Any] = {
            "cache": {"registry_fresh": 0, "missing_fresh": 0},
            "upstream": {
                "repo": [self.upstream.url],
                "builds": [self.upstream.url],
                "ca_file": str(self.authority.ca_file),
                "public_key": str(self.repository.public_key_file),
            },
        }
        for section, content in changes.items():
            merge = isinstance(content, dict)
            base[section] = {**base.get(section, {}), **content} if merge else content
        return base

    def rebar3(self, ca_file: Path | None, **deps: str) -> Rebar3Project:
        return Rebar3Project(
            self.directory / "rebar3",
            deps or {"alpha": "~> 1.0", "gamma": "0.1.0"},
            public_key=self.repository.public_key,
            ca_file=ca_file,
        )

    def publish_newer(self) -> None:
        """A release of each package, and so another body of each registry entry."""
        self.upstream.files.update(self.newer)

    def rebuild(self) -> None:
        """Publish what the repository has by now."""
        self.upstream.files.clear()
        self.upstream.files.update(self.repository.build())


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> HexRepository:
    """What every world begins with."""
    require_rebar3()
    repository = HexRepository(tmp_path_factory.mktemp("repository"))
    repository.publish("alpha", "1.0.0", {"beta": "~> 1.0"}, text="alpha one")
    repository.publish("alpha", "1.1.0", {"beta": "~> 1.0"}, text=OLD["alpha"])
    repository.publish("beta", "1.0.0", {"gamma": "~> 0.1"}, optional=("gamma",), text=OLD["beta"])
    repository.publish("beta", "1.2.0-rc.1", text="beta rc")
    repository.publish("gamma", "0.1.0", text=OLD["gamma"])
    repository.retire("alpha", "1.0.0", "security", "use 1.1")
    repository.build()
    return repository


@pytest.fixture(scope="session")
def newer(built: HexRepository, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    repository = built.copied(tmp_path_factory.mktemp("newer"))
    repository.publish("alpha", "1.2.0", {"beta": "~> 1.0"}, text=NEW["alpha"])
    repository.publish("beta", "1.1.0", {"gamma": "~> 0.1"}, text=NEW["beta"])
    repository.publish("gamma", "0.2.0", text=NEW["gamma"])
    return repository.build()


@contextmanager
def living_world(
    directory: Path,
    built: HexRepository,
    newer: dict[str, bytes],
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[World]:
    """A world of `built`, whose upstream is at `host` in the caller's network namespace."""
    authority = CertificateAuthority(directory / "upstream", ("localhost", host))
    repository = built.copied(directory / "repository")
    with Upstream(authority, host, port) as upstream:
        upstream.files.update(repository.files())
        yield World(directory, authority, repository, upstream, newer)


@pytest.fixture
def world(tmp_path: Path, built: HexRepository, newer: dict[str, bytes]) -> Iterator[World]:
    with living_world(tmp_path, built, newer) as world:
        yield world


@pytest.fixture
def hexcache(world: World) -> Iterator[Callable[..., Running]]:
    """Starts proxies that end with the test."""
    started: list[Running] = []

    def start(*arguments: str, **changes: Any) -> Running:
        running = Running(
            world.directory / f"hexcache{len(started)}",
            world.settings(**changes),
            arguments=arguments,
        )
        started.append(running)
        return running.__enter__()

    yield start
    for running in started:
        running.__exit__(None, None, None)
        print(running.log)
