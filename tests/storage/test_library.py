"""A store seen as packages and releases, and what in it is believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hexcache import resources
from hexcache.errors import SettingsError
from hexcache.resources import Kind
from hexcache.settings import CacheSettings, Settings, UpstreamSettings
from hexcache.storage.entries import Entry
from hexcache.storage.library import Library
from hexcache.storage.store import Store
from hexcache.storage.trust import Trust
from support.clock import Clock
from support.entries import entry_of
from support.signing import Rel, other_signer, signer

ONE, TWO = Rel("1.0.0", b"one"), Rel("2.0.0", b"two")


@pytest.fixture
async def store(shelf: Settings, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    store = Store.open(tmp_path / "store", limit=2**30, clock=clock, trust=Trust.of(shelf).name)
    yield store
    await store.close()


async def put_package(store: Store, name: str, body: bytes) -> None:
    entry = entry_of(resources.package(name).key, body, kind=Kind.PACKAGE)
    await store.put((entry, body))


async def put_tarball(store: Store, rel: Rel, name: str = "foo") -> Entry:
    entry = entry_of(resources.tarball(name, rel.version).key, rel.tarball)
    await store.put((entry, rel.tarball))
    return entry


async def test_packages_and_releases(store: Store, shelf: Settings) -> None:
    await put_package(store, "foo", signer().package("foo", [ONE, TWO]))
    await put_tarball(store, ONE)
    with Library(shelf) as library:
        package = library.package("foo")
        assert package is not None
        assert [release.version for release in package.releases] == ["1.0.0", "2.0.0"]
        release = library.release("foo", "1.0.0")
        assert release is not None
        assert release.outer_checksum == ONE.outer_checksum.hex()
        assert library.release("foo", "3.0.0") is None
        assert library.release("bar", "1.0.0") is None
        tarball = library.tarball("foo", "1.0.0")
        assert tarball is not None
        assert tarball.sha256 == ONE.outer_checksum.hex()
        assert library.tarball("foo", "2.0.0") is None


async def test_what_changes_is_seen(store: Store, shelf: Settings) -> None:
    with Library(shelf) as library:
        assert library.package("foo") is None
        for releases in ([ONE], [ONE, TWO], [ONE]):
            await put_package(store, "foo", signer().package("foo", releases))
            package = library.package("foo")
            assert package is not None
            assert len(package.releases) == len(releases)
        store.pins.pin("mix.lock", ["repo/packages/foo"], at=1.0)
        assert library.pins.keys == {"repo/packages/foo"}


async def test_a_tarball_is_good_as_long_as_the_registry_names_it(
    store: Store, shelf: Settings
) -> None:
    await put_tarball(store, ONE)
    with Library(shelf) as library:
        assert library.tarball("foo", "1.0.0") is None, "nothing vouches for it"
        await put_package(store, "foo", signer().package("foo", [replace(ONE, tarball=b"other")]))
        assert library.tarball("foo", "1.0.0") is None
        await put_package(store, "foo", signer().package("foo", [ONE]))
        assert library.tarball("foo", "1.0.0") is not None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda: other_signer().package("foo", [ONE]), id="another key"),
        pytest.param(lambda: signer().package("bar", [ONE]), id="another package"),
        pytest.param(lambda: signer().package("foo", [ONE], "acme"), id="another repository"),
        pytest.param(lambda: b"garbage", id="garbage"),
    ],
)
async def test_what_was_planted_is_not_believed(
    store: Store,
    shelf: Settings,
    caplog: pytest.LogCaptureFixture,
    body: object,
) -> None:
    """Whoever can write the directory can put a body there that hashes well."""
    assert callable(body)
    await put_package(store, "foo", body())
    await put_tarball(store, ONE)
    with Library(shelf) as library:
        assert library.entry(resources.package("foo")) is not None
        assert library.package("foo") is None
        assert library.tarball("foo", "1.0.0") is None
    assert "the stored copy of package foo is of no use" in caplog.text


async def test_another_key_sees_another_store(
    store: Store, shelf: Settings, tmp_path: Path
) -> None:
    await put_package(store, "foo", signer().package("foo", [ONE]))
    other = tmp_path / "other.pem"
    other.write_text(other_signer().public_key)
    settings = shelf.model_copy(update={"upstream": UpstreamSettings(public_key=other)})
    with Library(settings) as library:
        assert library.package("foo") is None
        assert library.names() == []


async def test_without_verification_everything_is_taken(
    shelf: Settings, tmp_path: Path, clock: Clock
) -> None:
    settings = shelf.model_copy(update={"cache": CacheSettings(verify=False)})
    name = Trust.of(settings).name
    store = Store.open(tmp_path / "store", limit=2**30, clock=clock, trust=name)
    await put_package(store, "foo", other_signer().package("foo", [ONE]))
    await put_tarball(store, TWO)
    with Library(settings) as library:
        assert library.package("foo") is not None
        assert library.tarball("foo", "2.0.0") is not None
    await store.close()


async def test_what_clients_can_ask_for(store: Store, shelf: Settings) -> None:
    await put_package(store, "foo", signer().package("foo", [ONE]))
    await put_tarball(store, ONE, "bar")
    before = signer().package("foo", [])
    key = resources.key_before(resources.package("foo"))
    await store.put((entry_of(key, before, kind=Kind.PACKAGE), before))
    await store.put((entry_of("repo/names", b"n", kind=Kind.NAMES), b"n"))
    with Library(shelf) as library:
        assert {str(resource) for resource, _ in library.holdings()} == {
            "package foo",
            "tarball bar-1.0.0",
            "names",
        }
        assert library.names() == ["bar", "foo"]


def test_a_key_that_is_none(shelf: Settings, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(SettingsError, match=r"upstream\.public_key"):
        Library(shelf)
