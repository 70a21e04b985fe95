"""What upkeep asks of the store: to discard, to put aside, to sweep."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from support.clock import Clock
from support.entries import body_of, entry_of
from support.stores import SIZES, Open, close, content, fill, kept, plant, value_files


async def test_what_is_discarded_is_what_was_meant(stores: Open) -> None:
    """Meanwhile a good copy may have come."""
    store = stores()
    old, new = entry_of("repo/a", b"old"), entry_of("repo/a", b"new")
    await store.put((old, b"old"))
    await store.put((new, b"new"))
    await store.discard(old)
    assert await content(store, "repo/a") == b"new"
    await store.discard(new)
    assert store.get("repo/a") is None
    await store.discard(new)  # harmless


@pytest.mark.parametrize("size", SIZES.values())
async def test_the_quarantine_keeps_what_was_there(
    stores: Open, directory: Path, clock: Clock, size: int
) -> None:
    store = stores()
    body = body_of("a", size)
    entry = entry_of("repo/a", body)
    await store.put((entry, body))
    for path in value_files(directory):
        path.write_bytes(b"damaged")
    await store.quarantine(entry, "it is damaged")
    assert store.get("repo/a") is None
    assert value_files(directory) == []
    quarantine = directory / "quarantine"
    (about,) = quarantine.glob("*.json")
    said = json.loads(about.read_text())
    assert (said["key"], said["why"], said["size"]) == ("repo/a", "it is damaged", size)
    assert said["quarantined_at"] == clock.now
    kept_body = about.with_suffix(".body").read_bytes()
    assert kept_body == (body if size == SIZES["small"] else b"damaged")
    assert [stat.S_IMODE(p.stat().st_mode) for p in quarantine.iterdir()] == [0o600] * 2
    assert stat.S_IMODE(quarantine.stat().st_mode) == 0o700
    assert store.statistics()["damaged"] == 1
    # It is fetched again.
    await store.put((entry, body))
    assert await content(store, "repo/a") == body


async def test_a_full_disk_keeps_nothing_in_quarantine(stores: Open, directory: Path) -> None:
    """What is damaged is out of the way all the same."""
    store = stores()
    body = body_of("a", SIZES["large"])
    entry = entry_of("repo/a", body)
    await store.put((entry, body))
    (directory / "quarantine").write_bytes(b"in the way of a directory")
    await store.quarantine(entry, "it is damaged")
    assert store.get("repo/a") is None


async def test_sweeping_takes_what_nobody_can_use(stores: Open, directory: Path) -> None:
    store = stores(trust="an old key")
    body = body_of("a", SIZES["large"])
    await store.put((entry_of("repo/old", body), body))
    await close(store)
    store = stores(trust="a new key")
    plant(directory, key="m:planted", value=b"{}", mode=1)
    await store.put((entry_of("repo/good", body), body))
    told = await store.sweep(dry=True)
    assert (told.useless, told.evicted) == (3, ())
    assert len(value_files(directory)) == 2, "it was only told"
    assert await store.sweep() == told
    assert told.bytes > SIZES["large"]
    assert len(value_files(directory)) == 1
    assert await content(store, "repo/good") == body
    assert (await store.sweep()).bytes == 0


async def test_sweeping_brings_it_below_the_limit(
    stores: Open, directory: Path, clock: Clock
) -> None:
    """A limit that was lowered holds from then on."""
    store = stores()
    await fill(store, clock, [f"t{n}" for n in range(30)])
    await close(store)
    store = stores(limit=2_000_000)
    told = await store.sweep(dry=True)
    assert store.statistics()["bytes"] > 3_000_000
    assert store.statistics()["evictions"] == 0
    swept = await store.sweep()
    assert [entry.key for entry in swept.evicted][:3] == ["t0", "t1", "t2"]
    assert abs(len(told.evicted) - len(swept.evicted)) <= 1
    assert 1_500_000 < store.statistics()["bytes"] <= 2_000_000
    assert store.statistics()["evictions"] == len(swept.evicted)
    assert (await store.sweep()).evicted == ()


async def test_what_is_unwanted_goes_whenever_it_was_used(stores: Open, clock: Clock) -> None:
    store = stores()
    await fill(store, clock, ["t0", "t1"])
    unwanted, replaced = store.get("t1"), store.get("t0")
    assert unwanted is not None
    assert replaced is not None
    await store.put((entry_of("t0", b"newer"), b"newer"))
    swept = await store.sweep([unwanted, replaced, entry_of("t9", b"unknown")])
    assert [entry.key for entry in swept.unwanted] == ["t1"]
    assert kept(store) == {"t0"}


async def test_a_snapshot_is_what_is_stored(stores: Open, clock: Clock) -> None:
    store = stores()
    await fill(store, clock, ["t0", "t1"])
    assert {entry.key: entry for entry in await store.snapshot()} == {
        key: store.get(key) for key in ("t0", "t1")
    }
