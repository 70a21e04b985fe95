"""Whether a lock file's packages are here: what `check` answers, and what offline clients find."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from hexcache.jobs.warm import Demand, warm
from hexcache.locks import lockfiles
from hexcache.locks.lockfiles import LockFile
from hexcache.settings import CacheSettings, Settings
from hexcache.stock import completeness
from hexcache.storage.library import Library
from support.clock import Clock
from support.engine import Bench, Make
from support.signing import Rel, signer

FOO = Rel("1.0.0", b"foo one", deps=(("bar", "~> 1.0", False), ("baz", "~> 1.0", True)))
BAR = Rel("1.0.0", b"bar one")
BAZ = Rel("1.0.0", b"baz one")


def lock_of(*entries: str) -> LockFile:
    return lockfiles.parse("mix.lock", "%{" + ",\n".join(entries) + "}")


def hex_entry(
    name: str, tarball: bytes, version: str = "1.0.0", repository: str = "hexpm", inner: str = ""
) -> str:
    return (
        f'"{name}": {{:hex, :{name}, "{version}", "{inner or "0" * 64}", [:mix], [], '
        f'"{repository}", "{sha256(tarball).hexdigest()}"}}'
    )


LOCK = lock_of(hex_entry("foo", FOO.tarball), hex_entry("bar", BAR.tarball))


@pytest.fixture
def world(bench: Make) -> Bench:
    made = bench(cache={"registry_fresh": 5})
    made.publish("foo", FOO)
    made.publish("bar", BAR)
    made.publish("baz", BAZ)
    return made


@pytest.fixture
def library(world: Bench, shelf: Settings) -> Iterator[Library]:
    with Library(shelf) as library:
        yield library


def missing(library: Library, lock: LockFile = LOCK, **options: bool) -> dict[str, str]:
    result = completeness.check(library, lock, **options)
    return {gap.subject: gap.why for gap in result.gaps}


async def test_an_empty_store(library: Library) -> None:
    assert missing(library) == {
        "package foo": "not stored",
        "tarball foo-1.0.0": "not stored",
        "package bar": "not stored",
        "tarball bar-1.0.0": "not stored",
    }


async def test_the_entries_of_optional_dependencies_belong_to_it(
    world: Bench, library: Library
) -> None:
    for name in ("foo", "bar"):
        await world.get(f"/packages/{name}")
        await world.get(f"/tarballs/{name}-1.0.0.tar")
    await world.settled()
    await world.store.delete("repo/packages/baz")  # prefetched
    assert missing(library) == {"package baz": "not stored"}
    await world.get("/packages/baz")
    assert missing(library) == {}
    assert completeness.check(library, LOCK).present == 5
    # Not every release has docs.
    result = completeness.check(library, LOCK, docs=True)
    assert result.is_complete
    assert result.skipped == ()
    assert [each.name for each in result.docs_not_stored] == ["foo", "bar"]


async def test_a_tarball_that_the_registry_no_longer_names(world: Bench, library: Library) -> None:
    await world.get("/packages/bar")
    await world.get("/tarballs/bar-1.0.0.tar")
    world.publish("bar", Rel("1.0.0", b"replaced"))
    await world.get("/packages/bar", cache_control="no-cache")
    lock = lock_of(hex_entry("bar", b"replaced"))
    assert missing(library, lock) == {
        "tarball bar-1.0.0": "what is stored is no longer what the registry names"
    }
    # And the project that still has the old one in its lock file is told so.
    old = missing(library, lock_of(hex_entry("bar", BAR.tarball)))
    assert sha256(BAR.tarball).hexdigest() in old["tarball bar-1.0.0"]
    assert sha256(b"replaced").hexdigest() in old["tarball bar-1.0.0"]


async def test_the_inner_checksum_counts_too(world: Bench, library: Library) -> None:
    await world.get("/packages/bar")
    await world.get("/tarballs/bar-1.0.0.tar")
    lock = lock_of(hex_entry("bar", BAR.tarball, inner="f" * 64))
    assert "f" * 64 in missing(library, lock)["tarball bar-1.0.0"]


async def test_a_release_that_the_stored_entry_does_not_know(
    world: Bench, library: Library
) -> None:
    await world.get("/packages/bar")
    lock = lock_of(hex_entry("bar", b"newer", version="2.0.0"))
    assert missing(library, lock) == {
        "tarball bar-2.0.0": "the stored registry entry knows no bar 2.0.0"
    }


async def test_a_body_that_got_lost(world: Bench, library: Library, tmp_path: Path) -> None:
    large = Rel("2.0.0", bytes(100_000))
    world.publish("bar", BAR, large)
    await world.get("/packages/bar")
    await world.get("/tarballs/bar-2.0.0.tar")
    lock = lock_of(hex_entry("bar", large.tarball, version="2.0.0"))
    assert missing(library, lock) == {}
    for path in (tmp_path / "store").rglob("*.val"):
        path.unlink()
    assert missing(library, lock) == {"tarball bar-2.0.0": "not stored"}


async def test_what_hexcache_never_has(library: Library) -> None:
    lock = lock_of(
        hex_entry("secret", b"x", repository="hexpm:acme"),
        '"elm": {:git, "https://example.com/elm.git", "abc", []}',
    )
    result = completeness.check(library, lock)
    assert result.is_complete
    assert [(each.name, each.why) for each in result.skipped] == [
        ("elm", "from git (https://example.com/elm.git), not from Hex"),
        ("secret", "from hexpm:acme, which passes through unstored"),
    ]


@pytest.mark.parametrize(("offline", "complete"), [(False, False), (True, True)])
async def test_what_max_stale_forbids_is_missing(
    world: Bench, shelf: Settings, clock: Clock, offline: bool, complete: bool
) -> None:
    for name in ("foo", "bar"):
        await world.get(f"/packages/{name}")
        await world.get(f"/tarballs/{name}-1.0.0.tar")
    await world.get("/packages/baz")
    settings = shelf.model_copy(
        update={"offline": offline, "cache": CacheSettings(max_stale=3600.0)}
    )
    clock.advance(7200)
    with Library(settings, clock) as strict:
        result = completeness.check(strict, LOCK)
    assert result.is_complete is complete
    assert all("cache.max_stale" in gap.why for gap in result.gaps)


async def test_a_body_that_changed_is_missing(
    world: Bench, library: Library, tmp_path: Path
) -> None:
    """Of the same size: the server would drop it at the first request."""
    large = Rel("2.0.0", bytes(100_000))
    world.publish("bar", BAR, large)
    await world.get("/packages/bar")
    await world.get("/tarballs/bar-2.0.0.tar")
    lock = lock_of(hex_entry("bar", large.tarball, version="2.0.0"))
    assert missing(library, lock) == {}
    for path in (tmp_path / "store").rglob("*.val"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert missing(library, lock) == {"tarball bar-2.0.0": "not stored"}


async def test_tools(world: Bench, library: Library) -> None:
    """Lists, their signatures, and for each list what its readers choose from it."""
    lists = {
        "hex-1.x.csv": (b"2.1.1,aa,1.17.0\n", "1.17.0/hex-2.1.1.ez"),
        "rebar3-1.x.csv": (b"3.22.0,aa,1.14.0\n", "1.14.0/rebar3-3.22.0"),
        "hex.csv": (b"2.3.1,aa,1.18.0,27\n", "1.18.0/hex-2.3.1-otp-27.ez"),
        "rebar.csv": (b"3.24.0,aa,1.18.0,27\n", "1.18.0/rebar3-3.24.0-otp-27"),
    }
    for name, (text, file) in lists.items():
        world.fake.files[f"/installs/{name}"] = text
        world.fake.files[f"/installs/{name}.signed"] = signer().signed_file(text)
        world.fake.files[f"/installs/{file}"] = b"archive"
    everything = completeness.check_tools(library).gaps
    assert len(everything) == 8  # what the lists name isn't known yet
    assert {gap.why for gap in everything} == {"not stored"}

    await world.get("/installs/hex.csv", host="builds.hex.pm")
    result = completeness.check_tools(library)
    gaps = {gap.subject for gap in result.gaps}
    assert len(gaps) == 5
    assert any("hex-2.3.1-otp-27.ez" in gap for gap in gaps)
    # Where there is one generation, there may be no other.
    assert [each.name for each in result.skipped] == ["installs/hex-1.x.csv"]

    summary = await warm(world.core, Demand(label="tools", tools=True), lambda _: None)
    assert summary.failures == []
    result = completeness.check_tools(library)
    assert (result.gaps, result.present) == ((), 12)
