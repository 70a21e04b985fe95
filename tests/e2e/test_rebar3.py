"""What a developer with rebar3 notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.conftest import World
from support.faults import corrupt, status
from support.rebar3 import Rebar3Project
from support.running import Running

ALL = {"alpha", "beta", "gamma"}


def fetches(project: Rebar3Project, hexcache: Running) -> str:
    """Fetch through the proxy; rebar3's output."""
    result = project.get_deps(proxy=hexcache.proxy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(project.fetched()) == ALL
    return result.stdout


def test_cold_then_warm_without_a_tarball_request(
    world: World, hexcache: Callable[..., Running]
) -> None:
    proxy = hexcache()
    project = world.rebar3(proxy.bundle)
    fetches(project, proxy)
    assert "alpha one point one" in project.fetched()["alpha"]
    assert world.upstream.count("/tarballs") == 3

    world.upstream.requests.clear()
    project.wipe(lock=True)
    fetches(project, proxy)
    assert world.upstream.count("/tarballs") == 0
    # Each registry entry was asked for again, and not sent again.
    assert world.upstream.count("/packages", status=200) == 0
    assert world.upstream.count("/packages", status=304) == 3


def test_upstream_dead(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache()
    project = world.rebar3(proxy.bundle)
    fetches(project, proxy)
    world.upstream.stop_listening()
    project.wipe(lock=True)
    fetches(project, proxy)
    assert "alpha stale 200" in proxy.log


def test_upstream_answers_500(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache()
    project = world.rebar3(proxy.bundle)
    fetches(project, proxy)
    world.upstream.fault("/", status(500))
    project.wipe(lock=True)
    fetches(project, proxy)


def test_survives_a_restart_and_then_the_offline_flag(
    world: World, hexcache: Callable[..., Running]
) -> None:
    proxy = hexcache()
    project = world.rebar3(proxy.bundle)
    fetches(project, proxy)
    assert proxy.stop() == 0

    world.upstream.requests.clear()
    proxy.start("--offline")
    assert "OFFLINE" in proxy.banner
    project.wipe(lock=True)
    fetches(project, proxy)
    assert world.upstream.requests == []


def test_offline_misses_are_named(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache("--offline")
    project = world.rebar3(proxy.bundle)
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode != 0
    assert "package alpha offline 504" in proxy.log
    assert world.upstream.requests == []


def test_mirror_needs_no_ca(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache()
    project = world.rebar3(None)
    result = project.get_deps(mirror=proxy.mirror)
    assert result.returncode == 0, result.stdout
    assert set(project.fetched()) == ALL
    project.wipe(lock=True)
    world.upstream.stop_listening()
    result = project.get_deps(mirror=f"{proxy.mirror}/repos/hexpm_mirror")
    assert result.returncode == 0, result.stdout
    assert set(project.fetched()) == ALL


def test_republished_release(world: World, hexcache: Callable[..., Running]) -> None:
    """The same URL, other content: a cache that goes by age serves the old one for a week."""
    proxy = hexcache()
    project = world.rebar3(proxy.bundle, gamma="0.1.0")
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    world.repository.replace("gamma", "0.1.0", text="gamma replaced")
    world.rebuild()
    project.wipe(lock=True)
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout
    assert "gamma replaced" in project.fetched()["gamma"]


def test_release_published_a_moment_ago(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache()
    project = world.rebar3(proxy.bundle, gamma="~> 0.1")
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    world.repository.publish("gamma", "0.2.0", text="gamma two")
    world.rebuild()
    project.write({"gamma": "0.2.0"})
    project.wipe(lock=True)
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout
    assert "gamma two" in project.fetched()["gamma"]


def test_reverted_release_is_gone(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache()
    project = world.rebar3(proxy.bundle, alpha="1.1.0")
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    world.repository.revert("alpha", "1.1.0")
    world.rebuild()
    project.wipe(lock=True)
    assert project.get_deps(proxy=proxy.proxy).returncode != 0


@pytest.mark.parametrize("prefix", ["/packages/alpha", "/tarballs/gamma"])
def test_damaged_on_the_way(world: World, hexcache: Callable[..., Running], prefix: str) -> None:
    """An error, never a damaged body; and once the line is good again, it works."""
    world.upstream.fault(prefix, corrupt())
    proxy = hexcache()
    project = world.rebar3(proxy.bundle)
    assert project.get_deps(proxy=proxy.proxy).returncode != 0
    assert " 502 " in proxy.log
    world.upstream.heal()
    project.wipe(lock=True)
    fetches(project, proxy)


def test_signature_of_another_key(world: World, hexcache: Callable[..., Running]) -> None:
    """The proxy refuses what the client would refuse."""
    proxy = hexcache(upstream={"public_key": None})
    project = world.rebar3(proxy.bundle)
    assert project.get_deps(proxy=proxy.proxy).returncode != 0
    assert "not signed by the repository's key" in proxy.log
