"""The whole of it: a real client, a real proxy process, an upstream with TLS, a repository signed
by hex_core."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from support.browser import chromium
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


# Not for the session: as long as playwright is open, no other test of this worker has its own
# event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    made = context.new_page()
    broken: list[str] = []
    made.on("console", lambda message: broken.append(message.text) if _bad(message) else None)
    made.on("pageerror", lambda error: broken.append(str(error)))
    yield made
    context.close()
    assert broken == []


def _bad(message: Any) -> bool:
    # A server that is down, or a page that isn't there, is one of the tests.
    return message.type == "error" and not message.text.startswith("Failed to load resource")


@pytest.fixture
def proxy(world: World, hexcache: Callable[..., Running]) -> Running:
    """It has alpha 1.1.0 and what that needs."""
    running = hexcache()
    for path in (
        "/packages/alpha",
        "/packages/beta",
        "/tarballs/alpha-1.1.0.tar",
        "/tarballs/beta-1.0.0.tar",
        "/tarballs/alpha-1.1.0.tar",
    ):
        get(running, path)
    return running


def get(running: Running, path: str) -> int:
    """Ask at the mirror URL."""
    request = urllib.request.Request(running.mirror + path)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
