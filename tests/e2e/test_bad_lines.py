"""What rebar3 notices of a bad line: nothing, wherever the bytes can be had; otherwise an error,
soon, with the reason."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import NEW, OLD, World
from support.certificates import CertificateAuthority
from support.faults import (
    Fault,
    bomb,
    closed,
    corrupt,
    cut,
    drip,
    hold,
    huge_headers,
    longer,
    redirect_loop,
    replaced,
    status,
)
from support.http import curl
from support.rebar3 import Rebar3Project
from support.running import Running
from support.signing import other_signer
from support.waiting import wait_until

Break = Callable[[World, Running], AbstractContextManager[None]]

LIMITS = {"timeout": "500ms", "stall": "500ms"}
# One try and at most one more: too few failures for the breaker, which would have to find out that
# the line is back.
SHORT = {**LIMITS, "give_up": "500ms"}
# rebar3 itself has no time-out at all.
ENDS_WITHIN = 15.0
STORED = [f"/packages/{name}" for name in OLD] + [
    f"/tarballs/{name}.tar" for name in ("alpha-1.1.0", "beta-1.0.0", "gamma-0.1.0")
]


@dataclass(frozen=True)
class Trouble:
    """`breaks` is in force while it is entered. `reason`: a pattern of what rebar3 is told."""

    name: str
    breaks: Break
    reason: str = ""


def spoils(fault: Fault, times: int | None = None, *, prefix: str = "/") -> Break:
    """`fault` for so many requests to paths that start with `prefix`."""

    @contextlib.contextmanager
    def breaks(world: World, proxy: Running) -> Iterator[None]:
        world.upstream.fault(prefix, fault, times)
        yield
        world.upstream.heal()
        world.upstream.release()

    return breaks


@contextlib.contextmanager
def no_names(world: World, proxy: Running) -> Iterator[None]:
    """No name can be resolved."""
    proxy.stop()
    proxy.start(
        environment={
            "HEXCACHE_UPSTREAM__REPO": "https://hex.invalid",
            "HEXCACHE_UPSTREAM__NAMESERVERS": "127.0.0.1",
        }
    )
    yield
    proxy.stop()
    proxy.start()


def stranger(world: World, proxy: Running) -> AbstractContextManager[None]:
    """Somebody in the middle of the line."""
    return world.upstream.presenting(CertificateAuthority(world.directory / "stranger"))


PASSING = [
    Trouble("first-byte hang", spoils(hold(), 1, prefix="/packages")),
    Trouble("closed", spoils(closed(), 2)),
    Trouble("500", spoils(status(500), 2)),
    Trouble("503", spoils(status(503, Retry_After="1"), 1, prefix="/packages")),
    Trouble("429", spoils(status(429, Retry_After="1"), 1, prefix="/tarballs")),
    Trouble("429 without a word", spoils(status(429), 1, prefix="/packages")),
]

# These have no form that lasts: as long as bytes come, the body arrives in the end.
OVERCOME = [
    Trouble("reset mid-body", spoils(cut(1000, reset=True), 3, prefix="/tarballs")),
    Trouble("truncated", spoils(cut(1000), 3, prefix="/tarballs")),
    Trouble("truncated registry", spoils(cut(100), 3, prefix="/packages")),
    Trouble("stall mid-body", spoils(hold(700), 1, prefix="/tarballs")),
    Trouble("slow drip", spoils(drip())),
    Trouble("extra bytes", spoils(longer(), 2)),
]

LASTING = [
    Trouble("refused", lambda world, _: world.upstream.refusing(), "Connection refused"),
    Trouble("DNS", no_names, "the name can't be resolved"),
    Trouble("TLS", stranger, "its TLS certificate was refused"),
    Trouble(
        "connect hang",
        lambda world, _: world.upstream.not_accepting(),
        "no (answer|connection) in time",
    ),
    Trouble("first-byte hang", spoils(hold()), "no answer in time"),
    Trouble("stall after the headers", spoils(hold(0)), "no answer in time"),
    Trouble("closed", spoils(closed()), "closed without an answer"),
    Trouble("500", spoils(status(500)), "answered 500"),
    Trouble("502", spoils(status(502)), "answered 502"),
    Trouble("503", spoils(status(503)), "answered 503"),
    Trouble("429", spoils(status(429)), "answered 429"),
    Trouble("429 with Retry-After", spoils(status(429, Retry_After="2")), "answered 429"),
    Trouble("redirect loop", spoils(redirect_loop()), "redirects more than 5 times"),
    Trouble("corrupted byte", spoils(corrupt(), prefix="/packages"), "not a gzip|not signed"),
    Trouble(
        "no registry",
        spoils(replaced(b"<html>please log in</html>"), prefix="/packages"),
        "not a gzip file",
    ),
    Trouble(
        "another key",
        spoils(replaced(other_signer().package("alpha")), prefix="/packages"),
        "not signed by the repository's key",
    ),
    Trouble("gzip bomb", spoils(bomb(), prefix="/packages"), "too large|larger|more than"),
    Trouble("huge headers", spoils(huge_headers()), "more than 8190 bytes|headers are too large"),
]


def rebar3(world: World, proxy: Running) -> Rebar3Project:
    return world.rebar3(proxy.bundle, alpha="~> 1.0", gamma="~> 0.1")


def succeeds(project: Rebar3Project, proxy: Running, texts: dict[str, str]) -> None:
    project.wipe(lock=True)
    result = project.get_deps(proxy=proxy.proxy, timeout=ENDS_WITHIN)
    assert result.returncode == 0, result.stdout
    assert project.texts() == texts


def fetch_all(proxy: Running) -> None:
    """What somebody else's project left in the store."""
    for path in STORED:
        assert curl(proxy.mirror + path).status == 200


@pytest.mark.parametrize("trouble", PASSING + OVERCOME, ids=lambda t: t.name)
def test_passing_cold(world: World, hexcache: Callable[..., Running], trouble: Trouble) -> None:
    proxy = hexcache(upstream=LIMITS)
    with trouble.breaks(world, proxy):
        succeeds(rebar3(world, proxy), proxy, OLD)


@pytest.mark.parametrize("trouble", OVERCOME, ids=lambda t: t.name)
def test_passing_with_stored_copies(
    world: World, hexcache: Callable[..., Running], trouble: Trouble
) -> None:
    """The copies are here, and the news comes through all the same."""
    proxy = hexcache(upstream={**LIMITS, "patience": "10s"})
    fetch_all(proxy)
    world.publish_newer()
    with trouble.breaks(world, proxy):
        succeeds(rebar3(world, proxy), proxy, NEW)


@pytest.mark.parametrize("trouble", LASTING, ids=lambda t: t.name)
def test_lasting_cold(world: World, hexcache: Callable[..., Running], trouble: Trouble) -> None:
    proxy = hexcache(upstream=SHORT)
    project = rebar3(world, proxy)
    with trouble.breaks(world, proxy):
        result = project.get_deps(proxy=proxy.proxy, timeout=ENDS_WITHIN)
        assert result.returncode != 0
        assert re.search(trouble.reason, result.stdout), result.stdout
        assert project.fetched() == {}
    until_back(proxy)
    succeeds(project, proxy, OLD)


@pytest.mark.parametrize("trouble", LASTING, ids=lambda t: t.name)
def test_lasting_with_stored_copies(
    world: World, hexcache: Callable[..., Running], trouble: Trouble
) -> None:
    proxy = hexcache(upstream={**SHORT, "patience": "300ms"})
    fetch_all(proxy)
    # An unchanged entry would be a 304, which has no body that could be spoiled.
    world.publish_newer()
    with trouble.breaks(world, proxy):
        succeeds(rebar3(world, proxy), proxy, OLD)
        # What takes longer than the patience is not known yet when the copy is served.
        assert re.search(rf"alpha stale 200 .*({trouble.reason}|upstream is slow)", proxy.log)


def test_a_tarball_corrupted_on_the_way(world: World, hexcache: Callable[..., Running]) -> None:
    """rebar3 shows no more than the status; the log says why."""
    proxy = hexcache(upstream=SHORT)
    project = rebar3(world, proxy)
    with spoils(corrupt(3000), prefix="/tarballs/alpha")(world, proxy):
        result = project.get_deps(proxy=proxy.proxy, timeout=ENDS_WITHIN)
        assert result.returncode != 0
        assert "alpha-1.1.0 failed: status code 502" in result.stdout
        assert "alpha 1.1.0 has SHA-256" in proxy.log
    succeeds(project, proxy, OLD)


@pytest.mark.parametrize("path", ["/packages/beta", "/tarballs/gamma-0.1.0.tar"])
def test_a_body_damaged_on_our_disk(
    world: World, hexcache: Callable[..., Running], path: str
) -> None:
    """It is never served: an error while there is no other, and then fetched anew."""
    proxy = hexcache(upstream=SHORT)
    fetch_all(proxy)
    proxy.stop()
    damage(proxy.directory / "data", world.upstream.files[path])
    proxy.start()
    project = rebar3(world, proxy)
    with world.upstream.refusing():
        result = project.get_deps(proxy=proxy.proxy, timeout=ENDS_WITHIN)
        assert result.returncode != 0
        name = path.split("/")[2].partition("-")[0]
        assert name not in project.fetched()
        assert re.search(f"{name}.* is damaged or gone: dropped", proxy.log)
    world.upstream.requests.clear()
    until_back(proxy)
    succeeds(project, proxy, OLD)
    assert world.upstream.count(path, status=200) == 1
    assert world.upstream.count("/tarballs") <= 1


def damage(directory: Path, body: bytes) -> None:
    """Flip a bit of `body` wherever it lies below `directory`."""
    part = body[len(body) // 2 :][:40]
    found = 0
    for path in directory.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if part in content:
            path.write_bytes(content.replace(part, bytes([part[0] ^ 1]) + part[1:]))
            found += 1
    assert found


def until_back(proxy: Running) -> None:
    """Until its breaker has found out, and what upstream asked for is over."""

    def is_asked() -> bool:
        said = curl(f"{proxy.mirror}/packages/alpha").headers["cache-status"]
        return "fwd-status" in said and "not asked again" not in said

    wait_until("upstream is asked again", is_asked)


def test_an_older_registry(world: World, hexcache: Callable[..., Running]) -> None:
    """Cold nobody can tell that there is a newer one. Once that was seen, a project whose lock
    file names its releases must not fail."""
    older = dict(world.upstream.files)
    proxy = hexcache()
    project = rebar3(world, proxy)
    succeeds(project, proxy, OLD)
    world.publish_newer()
    succeeds(project, proxy, NEW)
    world.upstream.files.clear()
    world.upstream.files.update(older)
    for name in OLD:
        world.upstream.modified[f"/packages/{name}"] = 1.6e9
    project.wipe()
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout
    assert project.texts() == NEW
