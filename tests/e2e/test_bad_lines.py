"""What rebar3 notices of a bad line: nothing, wherever the bytes can be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import World
from support.running import Running
from support.upstream import (
    CertificateAuthority,
    Fault,
    closed,
    corrupt,
    cut,
    drip,
    hold,
    longer,
    replaced,
    status,
)

ALL = {"alpha", "beta", "gamma"}
LIMITS = {"timeout": "500ms", "stall": "500ms"}


@dataclass(frozen=True)
class Trouble:
    """`fault` for so many requests to paths that start with `prefix`."""

    name: str
    prefix: str
    fault: Fault
    times: int | None


PASSING = [
    Trouble("reset mid-body", "/tarballs", cut(1000, reset=True), 6),
    Trouble("truncated", "/tarballs", cut(1000), 6),
    Trouble("truncated registry", "/packages", cut(100), 3),
    Trouble("first-byte hang", "/packages", hold(), 1),
    Trouble("stall mid-body", "/tarballs", hold(700), 1),
    Trouble("slow drip", "/", drip(), None),
    Trouble("closed", "/", closed(), 2),
    Trouble("500", "/", status(500), 2),
    Trouble("503", "/packages", status(503, Retry_After="1"), 1),
    Trouble("429", "/tarballs", status(429, Retry_After="1"), 1),
    Trouble("429 without a word", "/packages", status(429), 1),
]

LASTING = [
    Trouble("reset", "/", cut(0, reset=True), None),
    Trouble("closed", "/", closed(), None),
    Trouble("500", "/", status(500), None),
    Trouble("429", "/", status(429), None),
    Trouble("corrupted", "/packages", corrupt(), None),
    Trouble("not signed", "/packages", replaced(b"<html>please log in</html>"), None),
    Trouble("extra bytes", "/packages", longer(), None),
    Trouble("first-byte hang", "/packages", hold(), None),
]


@pytest.mark.parametrize("trouble", PASSING, ids=lambda t: t.name)
def test_cold(world: World, hexcache: Callable[..., Running], trouble: Trouble) -> None:
    proxy = hexcache(upstream=LIMITS)
    world.upstream.fault(trouble.prefix, trouble.fault, trouble.times)
    project = world.rebar3(proxy.bundle)
    result = project.get_deps(proxy=proxy.proxy)
    world.upstream.release()
    assert result.returncode == 0, result.stdout
    assert set(project.fetched()) == ALL
    assert "alpha one point one" in project.fetched()["alpha"]


@pytest.mark.parametrize("trouble", LASTING, ids=lambda t: t.name)
def test_with_stored_copies(
    world: World, hexcache: Callable[..., Running], trouble: Trouble
) -> None:
    proxy = hexcache(upstream={**LIMITS, "patience": "300ms"})
    project = world.rebar3(proxy.bundle)
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    world.upstream.fault(trouble.prefix, trouble.fault, trouble.times)
    project.wipe(lock=True)
    result = project.get_deps(proxy=proxy.proxy)
    world.upstream.release()
    assert result.returncode == 0, result.stdout
    assert set(project.fetched()) == ALL


def test_an_upstream_that_is_not_trusted(
    world: World, hexcache: Callable[..., Running], tmp_path: Path
) -> None:
    """Somebody in the middle of the line: what is stored is served, and nothing else."""
    proxy = hexcache()
    project = world.rebar3(proxy.bundle)
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    proxy.stop()
    stranger = CertificateAuthority(tmp_path / "stranger").ca_file
    proxy.start(environment={"HEXCACHE_UPSTREAM__CA_FILE": str(stranger)})
    project.wipe(lock=True)
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    assert "TLS certificate was refused" in proxy.log


def test_an_older_registry(world: World, hexcache: Callable[..., Running]) -> None:
    """A project whose lock file names what was seen before must not fail."""
    older = dict(world.upstream.files)
    world.repository.publish("gamma", "0.2.0", text="gamma two")
    world.rebuild()
    proxy = hexcache()
    project = world.rebar3(proxy.bundle, gamma="~> 0.1")
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    world.upstream.files.update(older)
    world.upstream.modified["/packages/gamma"] = 1.6e9
    project.wipe()
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout
    assert "gamma two" in project.fetched()["gamma"]
