"""What is stored, as ls, show and stats tell it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hexcache.proto import registry_pb2 as pb
from hexcache.settings import Settings
from hexcache.stock.inventory import (
    Amount,
    Copy,
    inventory,
    newest_first,
    statistics,
    stored_package,
)
from hexcache.storage.library import Library
from support.clock import Clock
from support.engine import Bench, Make
from support.signing import Rel, signer

OLD = Rel("1.2.0", b"old" * 100, retired=(2, "use 1.10"), advisories=(0,))
NEW = Rel("1.10.0", b"new" * 1000)
ADVISORY = pb.SecurityAdvisory(id="GHSA-1", summary="bad", html_url="https://a", severity=3)


@pytest.fixture
def world(bench: Make) -> Bench:
    made = bench(cache={"registry_fresh": 5}, prefetch=False)
    made.publish("foo", OLD, NEW)
    made.fake.files["/packages/foo"] = signer().package("foo", [OLD, NEW], advisories=[ADVISORY])
    made.fake.files["/docs/foo-1.10.0.tar.gz"] = b"docs"
    made.publish("bar", Rel("0.1.0", b"bar"))
    made.fake.files["/names"] = signer().names(["foo", "bar"])
    return made


@pytest.fixture
def library(world: Bench, shelf: Settings) -> Iterator[Library]:
    with Library(shelf) as library:
        yield library


async def test_an_empty_store(library: Library) -> None:
    assert inventory(library) == []
    assert stored_package(library, "foo") is None
    found = statistics(library, limit=10)
    assert (found.packages, found.releases, found.kinds) == (0, 0, {})
    assert (found.oldest, found.newest) == (None, None)


async def test_packages_with_what_is_stored_of_them(
    world: Bench, library: Library, clock: Clock
) -> None:
    for path in ("/tarballs/foo-1.2.0.tar", "/tarballs/foo-1.10.0.tar"):
        await world.get(path)
    clock.advance(100)
    await world.get("/docs/foo-1.10.0.tar.gz")
    await world.get("/packages/bar")
    clock.advance(100)
    await world.get("/docs/foo-1.10.0.tar.gz")
    await world.store.flush()
    world.store.pins.pin("mix.lock", ["repo/tarballs/foo-1.2.0.tar"], at=clock.now)
    bar, foo = inventory(library)
    assert (bar.name, bar.releases, bar.tarballs, bar.pinned) == ("bar", (), 0, False)
    new, old = foo.releases
    assert (new.version, new.tarball, new.docs, new.pinned) == ("1.10.0", Copy.STORED, True, False)
    assert (old.version, old.tarball, old.docs, old.pinned) == ("1.2.0", Copy.STORED, False, True)
    assert (new.bytes, old.bytes) == (3004, 300)
    assert foo.entry is not None
    assert foo.bytes == 3304 + foo.entry.size
    assert (foo.used_at, foo.pinned, foo.tarballs) == (clock.now, True, 2)
    assert (new.used_at, old.used_at, bar.used_at) == (clock.now, None, None)
    assert (foo.retired, foo.with_advisories, foo.outdated) == ((old,), (old,), ())
    assert old.release is not None
    assert old.release.retired is not None
    assert old.release.retired.reason_name == "security"
    assert old.release.advisories[0].severity_name == "high"
    assert foo.stored("1.10.0") == new
    assert foo.stored("9.9.9") is None
    assert stored_package(library, "foo") == foo


async def test_a_pattern_is_of_the_name(world: Bench, library: Library) -> None:
    for name in ("foo", "bar"):
        await world.get(f"/packages/{name}")
    assert [package.name for package in inventory(library)] == ["bar", "foo"]
    assert [package.name for package in inventory(library, "f*")] == ["foo"]
    assert [package.name for package in inventory(library, "F*")] == []
    assert [package.name for package in inventory(library, "fo")] == []


async def test_a_replaced_and_a_reverted_release_are_outdated(
    world: Bench, library: Library, clock: Clock
) -> None:
    for path in ("/tarballs/foo-1.2.0.tar", "/tarballs/foo-1.10.0.tar"):
        await world.get(path)
    clock.advance(100)
    world.publish("foo", replace(NEW, tarball=b"newer"), Rel("2.0.0", b"x"))
    await world.get("/packages/foo")
    (foo,) = inventory(library)
    assert [each.version for each in foo.outdated] == ["1.10.0", "1.2.0"]
    await world.get("/tarballs/foo-1.10.0.tar")
    (foo,) = inventory(library)
    assert [each.version for each in foo.outdated] == ["1.2.0"]


async def test_a_tarball_without_a_registry_entry(world: Bench, library: Library) -> None:
    await world.get("/tarballs/foo-1.10.0.tar")
    await world.store.delete("repo/packages/foo")
    (foo,) = inventory(library)
    assert (foo.entry, foo.package) == (None, None)
    assert [each.tarball for each in foo.releases] == [Copy.UNVOUCHED]
    assert foo.outdated == ()


async def test_only_docs(world: Bench, library: Library) -> None:
    await world.get("/docs/foo-1.10.0.tar.gz")
    (foo,) = inventory(library)
    assert [(each.tarball, each.docs) for each in foo.releases] == [(Copy.MISSING, True)]
    assert foo.tarballs == 0


async def test_statistics(world: Bench, library: Library, clock: Clock) -> None:
    first = clock.now
    await world.get("/tarballs/foo-1.10.0.tar")
    clock.advance(100)
    world.publish("foo", NEW, Rel("2.0.0", b"x"))
    await world.get("/packages/foo")
    await world.get("/names")
    world.store.pins.pin(
        "mix.lock", ["repo/tarballs/foo-1.10.0.tar", "repo/packages/missing"], at=1.0
    )
    found = statistics(library, limit=10**9)
    # The entry before the newest one is kept, beside it.
    assert {kind: amount.files for kind, amount in found.kinds.items()} == {
        "before": 1,
        "names": 1,
        "package": 1,
        "tarball": 1,
    }
    assert found.kinds["tarball"] == Amount(1, 3000)
    assert (found.packages, found.releases, found.pinned) == (1, 1, 1)
    assert (found.oldest, found.newest) == (first, clock.now)
    assert (found.bytes, found.limit) == (world.store.statistics()["bytes"], 10**9)


def test_versions_stand_in_hex_s_order() -> None:
    versions = ["1.9.0", "zebra", "2.0.0-rc.1", "1.10.0", "2.0.0", "2.0.0-rc.10", "1.0"]
    assert newest_first(versions) == [
        "2.0.0",
        "2.0.0-rc.10",
        "2.0.0-rc.1",
        "1.10.0",
        "1.9.0",
        "zebra",
        "1.0",
    ]
