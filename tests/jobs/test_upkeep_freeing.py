"""rm and gc, with a real engine: what goes, and what they leave alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hexcache.errors import StoreError
from hexcache.jobs import upkeep
from hexcache.resources import Kind
from support.clock import Clock
from support.engine import CONTENT, Bench, Make
from support.entries import body_of
from support.signing import Rel
from support.upkeep import ONE, TWO, freed, of, plant, run, summary, supersede

DAY = 86400.0


# rm


def left(bench: Bench) -> set[str]:
    return {entry.key for entry in bench.store.entries()}


async def test_a_package_goes_with_all_that_belongs_to_it(full: Bench, clock: Clock) -> None:
    clock.advance(100)
    full.publish("foo", ONE, TWO, Rel("3.0.0", b"three"))
    await full.get("/packages/foo")  # the entry before is kept beside it
    await full.get("/tarballs/foo-2.0.0.tar")
    full.store.pins.pin("mix.lock", ["repo/packages/foo", "repo/packages/bar"], at=1.0)
    before = left(full)
    gone = {key for key in before if "foo" in key}
    assert len(gone) == 5
    events = await run(upkeep.remove, full, what=["foo"])
    assert left(full) == before - gone
    (event,) = of(events, "removed")
    assert (event["what"], event["files"], event["pins"]) == ("foo", 5, 1)
    assert event["bytes"] == summary(events)["bytes"] > 130_000
    assert full.store.pins.keys == {"repo/packages/bar"}
    assert (await full.get("/tarballs/foo-1.0.0.tar")).outcome == "miss"


async def test_a_release_goes_alone(full: Bench) -> None:
    await full.get("/tarballs/foo-2.0.0.tar")
    await full.get("/tarballs/bar-0.1.0.tar")
    full.store.pins.pin("a", ["repo/tarballs/foo-1.0.0.tar"], at=1.0)
    before = left(full)
    (event,) = of(await run(upkeep.remove, full, what=["foo@1.0.0"]), "removed")
    assert before - left(full) == {"repo/tarballs/foo-1.0.0.tar", "repo/docs/foo-1.0.0.tar.gz"}
    assert (event["files"], event["pins"]) == (2, 1)
    assert full.store.pins.groups == {}


async def test_the_unknown_are_told_and_the_others_done(full: Bench) -> None:
    full.store.pins.pin("a", ["repo/tarballs/later-1.0.0.tar"], at=1.0)
    what = ["none", "foo@9.9.9", "bar", "later", "foo@", "@", "fo", "names"]
    events = await run(upkeep.remove, full, what=what)
    assert {event["what"] for event in of(events, "removed")} == {"bar", "later"}
    unknown = {event["what"] for event in of(events, "unknown")}
    assert unknown == {"none", "foo@9.9.9", "foo@", "@", "fo", "names"}
    assert summary(events)["unknown"] == len(unknown)
    assert "repo/names" in left(full)
    assert "repo/packages/bar" not in left(full)


async def test_twice_the_same(full: Bench) -> None:
    events = await run(upkeep.remove, full, what=["bar", "bar", "foo@1.0.0", "foo"])
    assert [event["what"] for event in of(events, "removed")] == ["bar", "foo@1.0.0", "foo"]
    assert of(events, "unknown") == []


async def test_pins_that_can_not_be_written(full: Bench) -> None:
    full.store.pins.pin("a", ["repo/packages/foo"], at=1.0)
    (full.store.directory / ".pins.json.new").mkdir()
    with pytest.raises(StoreError, match="pins can't be written"):
        await run(upkeep.remove, full, what=["foo"])


# gc


async def test_nothing_is_freed_of_what_is_of_use(full: Bench) -> None:
    before = left(full)
    for dry in (True, False):
        events = await run(upkeep.collect, full, dry=dry)
        assert (freed(events), summary(events)["bytes"]) == ({}, 0)
    assert left(full) == before


async def test_superseded_tarballs_go(full: Bench, clock: Clock) -> None:
    await supersede(full, clock)
    told = await run(upkeep.collect, full, dry=True)
    assert freed(told) == {"superseded tarballs": 1}
    assert summary(told)["bytes"] == len(CONTENT)
    before = left(full)
    assert "repo/tarballs/foo-1.0.0.tar" in before
    assert await run(upkeep.collect, full) == told
    assert before - left(full) == {"repo/tarballs/foo-1.0.0.tar"}


async def test_what_is_above_the_limit_goes_pinned_last(bench: Make, clock: Clock) -> None:
    small = bench(cache={"size_limit": 2_000_000, "registry_fresh": 5})
    for n in range(16):
        clock.advance(1)
        await plant(small, f"repo/docs/foo-1.0.{n}.tar.gz", Kind.DOCS, body_of(str(n), 100_000))
    await small.close()
    small = bench(cache={"size_limit": 1_100_000, "registry_fresh": 5})
    small.store.pins.pin("mix.lock", ["repo/docs/foo-1.0.0.tar.gz"], at=1.0)
    told = await run(upkeep.collect, small, dry=True)
    assert len(left(small)) == 16
    events = await run(upkeep.collect, small)
    assert abs(freed(events)["evicted files"] - freed(told)["evicted files"]) <= 1
    assert small.store.statistics()["bytes"] <= 1_100_000
    assert "repo/docs/foo-1.0.0.tar.gz" in left(small)
    assert "repo/docs/foo-1.0.1.tar.gz" not in left(small)


def old_file(path: Path, days: float) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 1000)
    os.utime(path, times=(time.time() - days * DAY,) * 2)


async def test_what_lies_beside_goes_when_it_is_old(full: Bench, clock: Clock) -> None:
    clock.now = time.time()
    directory = full.store.directory
    for name, days in {
        "partial/old.part": 8.0,
        "partial/young.part": 1.0,
        "quarantine/old.body": 8.0,
        "quarantine/young.body": 1.0,
    }.items():
        old_file(directory / name, days)
    old_file(directory / "entries.damaged-1" / "cache.db", 1.0)
    told = await run(upkeep.collect, full, dry=True)
    assert freed(told) == {"parts of downloads": 1, "files in quarantine": 1}
    assert (directory / "quarantine/old.body").exists()
    assert await run(upkeep.collect, full) == told
    assert summary(told)["bytes"] == 2000
    assert freed(await run(upkeep.collect, full)) == {}
    everything = await run(upkeep.collect, full, put_aside=True)
    assert freed(everything) == {"files in quarantine": 1, "damaged databases": 1}
    assert not (directory / "entries.damaged-1").exists()
    assert (directory / "partial/young.part").exists(), "a transfer may go on with it"


async def test_empty_pins_go(full: Bench) -> None:
    full.store.pins.pin("empty", [], at=1.0)
    full.store.pins.pin("mix.lock", ["repo/packages/gone"], at=1.0)
    assert freed(await run(upkeep.collect, full, dry=True)) == {"empty pins": 1}
    assert freed(await run(upkeep.collect, full)) == {"empty pins": 1}
    assert set(full.store.pins.groups) == {"mix.lock"}, "its lock file may be in a container"
