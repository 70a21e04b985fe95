"""The limit holds, and what was used least recently goes first."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import diskcache
import pytest

from hexcache.resources import Kind
from support.clock import Clock
from support.entries import body_of, entry_of
from support.stores import SIZES, Open, close, content, fill, kept, value_files


async def test_the_limit_holds(stores: Open, directory: Path, clock: Clock) -> None:
    store = stores(limit=2_000_000)
    for n in range(40):
        await fill(store, clock, [f"t{n}"])
        assert store.statistics()["bytes"] <= 2_000_000
        assert await content(store, f"t{n}") == body_of(f"t{n}", 100_000)
    assert sum(path.stat().st_size for path in value_files(directory)) <= 2_000_000
    assert len(kept(store)) >= 15
    assert store.statistics()["evictions"] == 40 - len(kept(store))
    assert store.statistics()["limit"] == 2_000_000


async def test_the_least_recently_used_goes_first(stores: Open, clock: Clock) -> None:
    store = stores(limit=2_000_000)
    await fill(store, clock, [f"t{n}" for n in range(15)])
    clock.advance(10)
    for name in ("t0", "t3"):
        entry = store.get(name)
        assert entry is not None
        store.touch(entry)
    await fill(store, clock, [f"u{n}" for n in range(8)])
    left = kept(store)
    assert {"t0", "t3"} | {f"u{n}" for n in range(8)} <= left
    gone = {f"t{n}" for n in range(15)} - left
    assert gone
    # Exactly the oldest of the others.
    others = [f"t{n}" for n in range(15) if n not in (0, 3)]
    assert gone == set(others[: len(gone)])


async def test_times_of_use_count_after_a_restart_too(stores: Open, clock: Clock) -> None:
    store = stores(limit=2_000_000)
    await fill(store, clock, [f"t{n}" for n in range(15)])
    clock.advance(10)
    entry = store.get("t0")
    assert entry is not None
    store.touch(entry)
    await close(store)
    store = stores(limit=2_000_000)
    await fill(store, clock, [f"u{n}" for n in range(8)])
    assert "t0" in kept(store)
    assert "t1" not in kept(store)


async def test_registry_entries_go_last(stores: Open, clock: Clock) -> None:
    store = stores(limit=2_000_000)
    await fill(store, clock, [f"p{n}" for n in range(5)], Kind.PACKAGE)
    await fill(store, clock, ["n"], Kind.NAMES)
    await fill(store, clock, ["v"], Kind.VERSIONS)
    await fill(store, clock, [f"t{n}" for n in range(30)])
    assert {f"p{n}" for n in range(5)} | {"n", "v"} <= kept(store)
    # With nothing else left, they go as well, the oldest first.
    await fill(store, clock, [f"q{n}" for n in range(25)], Kind.PACKAGE)
    left = kept(store)
    assert not any(name.startswith("t") for name in left)
    assert "p0" not in left
    assert "q24" in left
    assert store.statistics()["bytes"] <= 2_000_000


async def test_what_was_just_put_stays(stores: Open, clock: Clock) -> None:
    store = stores(limit=2_000_000)
    await fill(store, clock, [f"p{n}" for n in range(18)], Kind.PACKAGE)
    # The only tarball, and by its time of use the oldest of all.
    body = body_of("t", 500_000)
    await store.put((entry_of("t", body, at=0), body))
    assert await content(store, "t") == body
    assert store.statistics()["bytes"] <= 2_000_000


async def test_small_entries_count(stores: Open, clock: Clock) -> None:
    store = stores(limit=2**20)
    for n in range(300):
        clock.advance(1)
        body = body_of(str(n), 10_000)
        await store.put((entry_of(str(n), body, at=clock.now), body))
    assert store.statistics()["bytes"] <= 2**20
    assert await content(store, "299") == body
    assert await content(store, "0") is None


async def test_what_is_too_large_to_be_put(stores: Open) -> None:
    store = stores(limit=10 * 2**20)
    assert store.takes(5 * 2**20)
    assert not store.takes(5 * 2**20 + 1)


async def test_what_is_pinned_goes_last(stores: Open, clock: Clock) -> None:
    store = stores(limit=2_000_000)
    store.pins.pin("mix.lock", ["t0", "p0", "t-that-never-came"], at=clock.now)
    await fill(store, clock, ["t0"])
    await fill(store, clock, ["p0", "p1"], Kind.PACKAGE)
    await fill(store, clock, [f"t{n}" for n in range(1, 40)])
    await fill(store, clock, [f"q{n}" for n in range(40)], Kind.PACKAGE)
    left = kept(store)
    # Used least recently of all, and yet here, while other registry entries are gone.
    assert {"t0", "p0"} <= left
    assert "p1" not in left
    assert not any(name.startswith("t") for name in left - {"t0"})
    store.pins.unpin(["mix.lock"])
    await fill(store, clock, ["u0", "u1", "u2"])
    assert "t0" not in kept(store)
    assert "p0" in kept(store), "of what isn't pinned registry entries go last"


async def test_a_damaged_file_of_pins_pins_nothing(
    stores: Open, directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await close(stores())
    (directory / "pins.json").write_bytes(b"\xff not json")
    store = stores(limit=2_000_000)
    assert "nothing is pinned" in caplog.text
    await fill(store, clock, [f"t{n}" for n in range(40)])
    assert "t39" in kept(store)


async def test_a_passing_read_error_while_evicting_deletes_nothing(
    stores: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be read just now isn't worthless."""
    store = stores()
    body = body_of("a", SIZES["medium"])
    await store.put((entry_of("repo/a", body), body))
    get = diskcache.Cache.get

    def busy(self: diskcache.Cache, key: str, **options: object) -> object:
        if key == "m:repo/a":
            raise sqlite3.OperationalError("disk I/O error")
        return get(self, key, **options)

    monkeypatch.setattr(diskcache.Cache, "get", busy)
    monkeypatch.setattr(store, "_limit", 1)
    await store.put((entry_of("repo/b", b"b"), b"b"))
    monkeypatch.undo()
    await close(store)
    store = stores()
    assert await content(store, "repo/a") == body
    assert await content(store, "repo/b") == b"b"
