"""What is kept, what isn't, and what is believed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from support.engine import CONTENT, URL, Bench, Make
from support.signing import Rel, other_signer
from support.upstream import Upstream


class TestDamage:
    def _files(self, store: Path) -> list[Path]:
        return [path for path in store.rglob("*.val")]

    async def test_a_damaged_copy_is_fetched_anew(self, foo: Bench, tmp_path: Path) -> None:
        await foo.get(URL)
        (path,) = self._files(tmp_path)
        path.write_bytes(path.read_bytes()[:-1] + b"X")
        got = await foo.get(URL)
        assert (got.status, got.body, got.outcome) == (200, CONTENT, "miss")
        (path,) = self._files(tmp_path)
        os.truncate(path, 100)
        assert (await foo.get(URL)).body == CONTENT

    async def test_a_damaged_copy_without_upstream_is_an_error(
        self, foo: Bench, tmp_path: Path
    ) -> None:
        await foo.get(URL)
        (path,) = self._files(tmp_path)
        path.write_bytes(b"planted")
        foo.fake.stop_listening()
        assert (await foo.get(URL)).status == 504

    async def test_served_though_the_disk_is_full(
        self, foo: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        monkeypatch.setattr("diskcache.Disk._write", full)
        got = await foo.get(URL)
        assert (got.status, got.body) == (200, CONTENT)
        assert "stored" not in got.headers["cache-status"]
        monkeypatch.undo()
        assert (await foo.get(URL)).outcome == "miss"

    async def test_too_large_for_the_store_is_served_all_the_same(self, bench: Make) -> None:
        made = bench(cache={"size_limit": "1MiB"})
        large = b"large" * 300_000
        made.publish("foo", Rel("1.0.0", large))
        for _ in range(2):
            assert (await made.get(URL)).body == large
        assert made.fake.count("/tarballs") == 2
        assert list(made.partial.iterdir()) == []

    async def test_too_many_open_files_lose_nothing(
        self, foo: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await foo.get(URL)

        def exhausted(*_: object) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("hexcache.storage.disk.os.open", exhausted)
        got = await foo.get(URL)
        assert (got.status, b"Too many open files" in got.body) == (503, True)
        monkeypatch.undo()
        assert (await foo.get(URL)).outcome == "hit"


class TestTrust:
    async def test_what_was_stored_unverified_is_nothing_to_a_verifier(
        self, bench: Make, upstream: Upstream
    ) -> None:
        careless = bench(cache={"verify": False})
        upstream.files["/packages/foo"] = other_signer().package("foo", [Rel("1.0.0", b"evil")])
        upstream.files[URL] = b"evil"
        assert (await careless.get(URL)).body == b"evil"
        await careless.get("/packages/foo")
        await careless.close()
        careful = bench()
        assert (await careful.get("/packages/foo")).status == 502
        assert (await careful.get(URL)).status == 502
        upstream.stop_listening()
        assert (await careful.get(URL)).status == 504

    async def test_a_planted_entry_is_dropped(self, bench: Make, foo: Bench) -> None:
        """Whoever can write the directory can make size and hash agree, but no signature."""
        await foo.get("/packages/foo")
        entry = foo.store.get("repo/packages/foo")
        assert entry is not None
        planted = other_signer().package("foo", [Rel("6.6.6", b"")])
        digest = hashlib.sha256(planted).hexdigest()
        await foo.store.put((replace(entry, sha256=digest, size=len(planted)), planted))
        await foo.close()
        again = bench()
        assert (await again.get("/packages/foo")).body == again.fake.files["/packages/foo"]
        assert (await again.get("/packages/foo")).body != planted
