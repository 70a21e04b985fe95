"""What a real server keeps present by itself: watched lock files, warm.packages and PACKAGES."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from e2e.conftest import NEW, OLD, World
from support.locks import rebar_lock
from support.rebar3 import Rebar3Project
from support.running import Running, run_hexcache
from support.waiting import wait_until

NEWEST = {"alpha": "1.1.0", "beta": "1.0.0", "gamma": "0.1.0"}


def until(holds: Callable[[], bool]) -> None:
    wait_until("what the server does by itself", holds, seconds=40)


def pinned(proxy: Running) -> set[str]:
    pins = proxy.directory / "data/cache/pins.json"
    return set(json.loads(pins.read_text())["groups"]) if pins.exists() else set()


def complete(proxy: Running, lock: Path) -> bool:
    return run_hexcache("check", str(lock), config=proxy.config).returncode == 0


def test_a_lock_file_that_appears_changes_breaks_and_goes(
    world: World, hexcache: Callable[..., Running]
) -> None:
    proxy = hexcache(warm={"lockfiles": ["../projects/*/rebar.lock"]})
    lock = world.directory / "projects/shop/rebar.lock"
    lock.parent.mkdir(parents=True)
    rebar_lock(lock, world.repository, {"gamma": "0.1.0"})
    until(lambda: f"{lock}: 2 files fetched" in proxy.log)
    assert complete(proxy, lock)
    assert pinned(proxy) == {str(lock)}

    rebar_lock(lock, world.repository, NEWEST)
    until(lambda: f"{lock}: 4 files fetched" in proxy.log)
    assert complete(proxy, lock)

    # A server that begins finds it, and that everything is here.
    assert proxy.stop() == 0
    proxy.start()
    until(lambda: proxy.log.count(f"{lock}: 0 files fetched") == 1)
    lock.write_text("<<<<<<< HEAD\n")
    until(lambda: "a merge conflict" in proxy.log)
    assert proxy.log.count("a merge conflict") == 1
    assert pinned(proxy) == {str(lock)}

    lock.unlink()
    until(lambda: pinned(proxy) == set())
    assert "Traceback" not in proxy.log


def test_packages_of_the_environment_are_there_on_the_train(world: World) -> None:
    environment = {"PACKAGES": "alpha-1.0.0 gamma"}
    project = Rebar3Project(
        world.directory / "train",
        {"alpha": "1.0.0"},
        public_key=world.repository.public_key,
        ca_file=None,
    )
    proxy = Running(world.directory / "hexcache", world.settings(), environment=environment)
    with proxy:
        until(lambda: "warm.packages: " in proxy.log)
        assert world.upstream.count("/tarballs/alpha-1.1.0") == 0
        world.upstream.stop_listening()
        project.trust(proxy.bundle)
        result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout + result.stderr
    # beta needs gamma as an option only, which rebar3 takes all the same.
    assert project.texts() == {"alpha": "alpha one", "beta": OLD["beta"], "gamma": OLD["gamma"]}


def test_a_newer_release_is_fetched_before_anybody_asks(
    world: World, hexcache: Callable[..., Running]
) -> None:
    proxy = hexcache(warm={"packages": ["alpha", "gamma"], "every": "2s"})
    until(lambda: "warm.packages: 6 files fetched" in proxy.log)
    world.publish_newer()
    wait_until(
        "the server has done it",
        lambda: world.upstream.count("/tarballs/alpha-1.2.0", status=200) == 1,
    )
    wait_until(
        "the server has done it",
        lambda: world.upstream.count("/tarballs/beta-1.1.0", status=200) == 1,
    )
    wait_until(
        "the server has done it",
        lambda: world.upstream.count("/tarballs/gamma-0.2.0", status=200) == 1,
    )
    world.upstream.stop_listening()
    project = world.rebar3(proxy.bundle, alpha="1.2.0")
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.texts()["alpha"] == NEW["alpha"]


def test_offline_it_waits(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(warm={"packages": ["gamma"], "every": "1s"}, offline=True)
    assert run_hexcache("offline", "status", config=proxy.config).returncode == 0
    assert world.upstream.requests == []
    assert run_hexcache("offline", "off", config=proxy.config).returncode == 0
    until(lambda: "warm.packages: 2 files fetched" in proxy.log)


def test_packages_that_are_none_stop_the_start(world: World) -> None:
    proxy = Running(
        world.directory / "hexcache",
        world.settings(warm={"packages": ["phoenix-1.5.6"]}),
    )
    done = run_hexcache("serve", config=proxy.config)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "warm.packages: 'phoenix-1.5.6' names no package: write a name, NAME@VERSION" in line
