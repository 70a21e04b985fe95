"""What lies beside the entries goes when it is old, and not before."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from hexcache.storage import leftovers as module
from hexcache.storage.leftovers import Sort, leftovers, put_aside
from support.clock import Clock
from support.engine import Make
from support.entries import body_of, entry_of
from support.faults import cut, hold
from support.signing import Rel

DAY = 86400.0


def names(directory: Path, **how: float | bool) -> set[str]:
    found = leftovers(directory, now=time.time(), **how)  # type: ignore[arg-type]
    return {str(each.path.relative_to(directory)) for each in found}


def make(path: Path, *, days: float = 0, content: bytes = b"x") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    at = time.time() - days * DAY
    os.utime(path, (at, at))


def test_an_empty_directory(tmp_path: Path) -> None:
    assert leftovers(tmp_path, now=time.time()) == []
    assert leftovers(tmp_path / "none", now=time.time()) == []


def test_parts_of_downloads(tmp_path: Path) -> None:
    for name, days in {
        "young.part": 6,
        "young.json": 6,
        "old.part": 8,
        "old.json": 8,
        "just-finished.done": 0,
        "forgotten.done": 1,
    }.items():
        make(tmp_path / "partial" / name, days=days)
    old = {"partial/old.part", "partial/old.json"}
    # A server may be about to move a finished one into its place.
    assert names(tmp_path) == old | {"partial/forgotten.done"}
    alone = old | {"partial/forgotten.done", "partial/just-finished.done"}
    assert names(tmp_path, alone=True) == alone
    assert names(tmp_path, keep=0.0) == names(tmp_path), "they are what a transfer goes on with"


def test_the_quarantine_and_databases(tmp_path: Path) -> None:
    make(tmp_path / "quarantine" / "young.body", days=6)
    make(tmp_path / "quarantine" / "old.body", days=8)
    make(tmp_path / "entries.damaged-1" / "cache.db", days=8, content=b"12345")
    assert names(tmp_path) == {"quarantine/old.body"}, "it was put aside just now"
    assert names(tmp_path, keep=0.0) == {
        "quarantine/young.body",
        "quarantine/old.body",
        "entries.damaged-1",
    }
    later = leftovers(tmp_path, now=time.time() + 8 * DAY)
    assert {each.sort: each.size for each in later if each.sort is Sort.DATABASE} == {
        Sort.DATABASE: 5
    }
    for each in later:
        each.remove()
    assert not list((tmp_path / "quarantine").iterdir())
    assert not (tmp_path / "entries.damaged-1").exists()
    for each in later:
        each.remove()  # harmless


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    make(elsewhere / "file")
    store = tmp_path / "store"
    store.mkdir()
    (store / "entries.damaged-1").symlink_to(elsewhere)
    (store / "quarantine").mkdir()
    (store / "quarantine" / "x.body").symlink_to(elsewhere / "file")
    for each in leftovers(store, now=time.time() + 8 * DAY, keep=0.0):
        each.remove()
    assert (elsewhere / "file").exists()
    assert not (store / "quarantine" / "x.body").is_symlink()


def test_the_quarantine_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that damages everything mustn't be filled a second time."""
    monkeypatch.setattr(module, "_QUARANTINE_BYTES", 30_000)
    for n in range(5):
        body = body_of(str(n), 10_000)
        put_aside(tmp_path, entry_of(f"repo/{n}", body), body, "damaged", now=1.0)
    quarantine = tmp_path / "quarantine"
    # The descriptions count too.
    assert len(list(quarantine.glob("*.body"))) == 2
    keys = {json.loads(path.read_text())["key"] for path in quarantine.glob("*.json")}
    assert keys == {f"repo/{n}" for n in range(5)}, "what was there is known all the same"


def age(directory: Path, clock: Clock) -> None:
    """The clock of files is the machine's: as if they had been written now."""
    for path in directory.iterdir():
        os.utime(path, (clock(), clock()))


async def test_parts_go_while_it_runs(bench: Make, clock: Clock) -> None:
    made = bench(upstream={"give_up": 1})
    made.fake.ignore_range = True
    for n in range(3):
        made.publish(f"p{n}", Rel("1.0.0", body_of(str(n), 120_000)))
        made.fake.fault(f"/tarballs/p{n}", cut(90_000))
        assert (await made.get(f"/tarballs/p{n}-1.0.0.tar")).status == 504
    await made.settled()
    age(made.partial, clock)
    for days in (1, 5):
        clock.advance(days * DAY)
        await made.store.flush()
        assert len(list(made.partial.iterdir())) == 6, "a transfer may go on with them"
    clock.advance(1.5 * DAY)
    await made.store.flush()
    assert list(made.partial.iterdir()) == []


async def test_what_a_transfer_uses_stays(bench: Make, clock: Clock) -> None:
    """However long it has been waiting for the rest."""
    made = bench()
    body = body_of("foo", 120_000)
    made.publish("foo", Rel("1.0.0", body))
    made.fake.fault("/tarballs", hold(90_000))
    client = asyncio.create_task(made.get("/tarballs/foo-1.0.0.tar"))
    await asyncio.to_thread(made.fake.wait_until_holding)
    async with asyncio.timeout(20):
        while not list(made.partial.glob("*.part")):
            await asyncio.sleep(0.001)
    age(made.partial, clock)
    clock.advance(8 * DAY)
    await made.store.flush()
    assert await made.store.remove_leftovers() == []
    made.fake.release()
    assert (await client).body == body
    assert list(made.partial.iterdir()) == []


async def test_what_a_transfer_is_about_to_take_up_stays(bench: Make, clock: Clock) -> None:
    store = bench().store
    spool = store.spool("foo", 1000)
    for path in spool.paths:
        path.write_bytes(b"x")
    age(store.directory / "partial", clock)
    clock.advance(8 * DAY)
    assert await store.remove_leftovers() == []
    spool.load()  # its description is none
    for path in spool.paths:
        path.write_bytes(b"x")
    age(store.directory / "partial", Clock(0.0))
    assert len(await store.remove_leftovers(dry=True)) == 2
    assert len(await store.remove_leftovers()) == 2
    assert await store.remove_leftovers() == []
