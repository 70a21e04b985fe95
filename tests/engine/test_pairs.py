"""Installs: files that never change, and pairs of one generation."""

from __future__ import annotations

import pytest

from hexcache.errors import StoreError
from support.clock import Clock
from support.engine import Bench, Make
from support.signing import other_signer


def fill(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be stored any more."""

    async def put(*items: object) -> None:
        raise StoreError("the store can't be written: no space left on device")

    monkeypatch.setattr(made.store, "put", put)


class TestInstalls:
    CSV = "/installs/hex-1.x.csv"
    SIGNED = "/installs/hex-1.x.csv.signed"

    async def test_versioned_files_never_change(self, foo: Bench, clock: Clock) -> None:
        url = "/installs/1.17.0/hex-2.1.1.ez"
        foo.fake.files[url] = b"archive"
        await foo.get(url, host="builds.hex.pm")
        clock.advance(1e9)
        assert (await foo.get(url)).outcome == "hit"
        assert foo.fake.count() == 1

    async def test_a_pair_is_of_one_generation(self, foo: Bench, clock: Clock) -> None:
        foo.publish_csv(b"2.1.0,aa,1.17.0\n")
        first = (await foo.get(self.CSV)).body, (await foo.get(self.SIGNED)).body
        assert first == (foo.fake.files[self.CSV], foo.fake.files[self.SIGNED])
        assert foo.fake.count() == 2
        clock.advance(6)
        # This client has the first CSV; another one brings in the second.
        assert (await foo.get(self.CSV)).outcome == "revalidated"
        foo.publish_csv(b"2.2.0,bb,1.17.0\n")
        clock.advance(6)
        other = await foo.get(self.CSV, client="10.0.0.9")
        assert other.body == b"2.2.0,bb,1.17.0\n"
        assert (await foo.get(self.SIGNED)).body == first[1]
        second = await foo.get(self.SIGNED, client="10.0.0.9")
        assert second.body == foo.fake.files[self.SIGNED]

    async def test_upstream_changes_between_the_two(self, foo: Bench, clock: Clock) -> None:
        foo.publish_csv(b"one")
        await foo.get(self.CSV)
        foo.fake.files[self.CSV] = b"two"  # its signature isn't there yet
        clock.advance(6)
        got = await foo.get(self.CSV)
        assert (got.body, got.outcome) == (b"one", "stale")
        foo.publish_csv(b"two")
        clock.advance(6)
        assert (await foo.get(self.CSV)).body == b"two"

    async def test_clients_behind_one_address(self, foo: Bench, clock: Clock) -> None:
        foo.publish_csv(b"one")
        await foo.get(self.CSV, connection="a")
        first = foo.fake.files[self.SIGNED]
        foo.publish_csv(b"two")
        clock.advance(6)
        await foo.get(self.CSV, connection="b")
        assert (await foo.get(self.SIGNED, connection="a")).body == first
        assert (await foo.get(self.SIGNED, connection="b")).body == foo.fake.files[self.SIGNED]

    async def test_a_large_pair_leaves_nothing_behind(self, foo: Bench) -> None:
        foo.publish_csv(b"1.0.0,aa,1.17.0\n" * 10_000)
        assert (await foo.get(self.CSV)).body == foo.fake.files[self.CSV]
        assert list(foo.partial.iterdir()) == []

    async def test_unverified_without_a_signature(self, bench: Make) -> None:
        made = bench(cache={"verify": False})
        made.fake.files[self.CSV] = b"one"
        assert (await made.get(self.CSV)).body == b"one"
        assert (await made.get(self.SIGNED)).status == 404

    async def test_signature_first(self, foo: Bench) -> None:
        foo.publish_csv(b"one")
        assert (await foo.get(self.SIGNED)).body == foo.fake.files[self.SIGNED]

    async def test_signature_missing_or_wrong(self, foo: Bench) -> None:
        foo.publish_csv(b"one")
        foo.fake.files[self.SIGNED] = other_signer().signed_file(b"one")
        assert (await foo.get(self.CSV)).status == 502
        assert (await foo.get(self.SIGNED)).status == 502
        del foo.fake.files[self.SIGNED]
        assert (await foo.get(self.CSV)).status == 502
        del foo.fake.files[self.CSV]
        assert (await foo.get(self.CSV)).status == 404
        assert (await foo.get(self.SIGNED)).status == 404

    async def test_damaged_half_is_fetched_again(self, foo: Bench) -> None:
        foo.publish_csv(b"one")
        await foo.get(self.CSV)
        await foo.store.delete(f"builds{self.SIGNED}")
        assert (await foo.get(self.SIGNED, client="x")).body == foo.fake.files[self.SIGNED]

    async def test_a_full_disk(
        self, foo: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Served from memory, and both from one generation."""
        foo.publish_csv(b"one")
        fill(foo, monkeypatch)
        assert (await foo.get(self.SIGNED)).body == foo.fake.files[self.SIGNED]
        got = await foo.get(self.CSV)
        assert (got.status, got.body, got.outcome) == (200, b"one", "miss")
        assert "stored" not in got.headers["cache-status"]
        first = foo.fake.files[self.SIGNED]
        foo.publish_csv(b"two")
        assert (await foo.get(self.CSV, client="10.0.0.9")).body == b"two"
        assert (await foo.get(self.SIGNED)).body == first
        second = await foo.get(self.SIGNED, client="10.0.0.9")
        assert second.body == foo.fake.files[self.SIGNED]
        monkeypatch.undo()
        assert (await foo.get(self.CSV)).body == b"two"
        assert (await foo.get(self.CSV)).outcome == "hit"

    async def test_a_full_disk_and_an_older_pair(
        self, foo: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        foo.publish_csv(b"one")
        await foo.get(self.CSV)
        first = foo.fake.files[self.SIGNED]
        foo.publish_csv(b"two")
        clock.advance(6)
        fill(foo, monkeypatch)
        assert (await foo.get(self.CSV, client="10.0.0.9")).body == b"two"
        # Nobody else has to have what is not stored: but no half of one with half of the other.
        assert (await foo.get(self.SIGNED)).body == first
        second = await foo.get(self.SIGNED, client="10.0.0.9")
        assert second.body == foo.fake.files[self.SIGNED]
        foo.fake.stop_listening()
        clock.advance(61)
        assert (await foo.get(self.CSV)).body == b"one"
        assert (await foo.get(self.SIGNED)).body == first

    async def test_other_files_are_revalidated(self, foo: Bench, clock: Clock) -> None:
        for url in ("/builds/elixir/builds.txt", "/docs/foo-1.0.0.tar.gz"):
            foo.fake.files[url] = b"one"
            assert (await foo.get(url)).outcome == "miss"
            clock.advance(6)
            assert (await foo.get(url)).outcome == "revalidated"
            foo.fake.files[url] = b"two"
            clock.advance(6)
            assert (await foo.get(url)).body == b"two"

    async def test_a_body_without_an_end_is_not_stored(self, foo: Bench) -> None:
        url = "/docs/foo-1.0.0.tar.gz"
        foo.fake.files[url] = b"docs" * 100

        def endless(answer: object) -> None:
            del answer.headers["Content-Length"]  # type: ignore[attr-defined]
            answer.cut = 100  # type: ignore[attr-defined]

        foo.fake.fault(url, endless)
        assert (await foo.get(url)).status == 504
