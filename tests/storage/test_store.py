"""The store on a real disk: what goes in comes out whole, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from hexcache.errors import StoreError
from hexcache.messages import read
from hexcache.storage.entries import part
from hexcache.storage.store import Store
from support.clock import Clock
from support.entries import body_of, entry_of
from support.stores import SIZES, Open, close, content, value_files


def incoming(store: Store, body: bytes, name: str = "x") -> Path:
    """A file as a transfer leaves it."""
    spool = store.spool(name, 2**30)
    spool.write(body)
    done = spool.finish()
    spool.close()
    assert isinstance(done, Path)
    return done


# What a store is for.


@pytest.mark.parametrize("size", [*SIZES.values(), 0])
async def test_what_is_put_comes_back(stores: Open, size: int) -> None:
    store = stores()
    body = body_of("a", size)
    entry = entry_of("repo/a", body)
    assert store.get("repo/a") is None
    await store.put((entry, body))
    assert store.get("repo/a") == entry
    assert await content(store, "repo/a") == body
    assert await content(store, "repo/b") is None


@pytest.mark.parametrize("size", [70_000, 300_000])
async def test_a_file_is_moved_in(stores: Open, directory: Path, size: int) -> None:
    store = stores()
    body = body_of("a", size)
    await store.put((entry_of("repo/a", body), incoming(store, body)))
    assert await content(store, "repo/a") == body
    assert list((directory / "partial").iterdir()) == []


@pytest.mark.parametrize("size", SIZES.values())
async def test_it_survives_reopening(stores: Open, size: int) -> None:
    body = body_of("a", size)
    store = stores()
    await store.put((replace(entry_of("repo/a", body), generation="g", base="https://b"), body))
    before = store.get("repo/a")
    await close(store)
    store = stores()
    assert store.get("repo/a") == before
    assert await content(store, "repo/a") == body


@pytest.mark.parametrize("size", SIZES.values())
async def test_a_new_body_replaces_the_old(stores: Open, directory: Path, size: int) -> None:
    store = stores()
    for version in ("one", "two", "two"):
        body = body_of(version, size)
        await store.put((entry_of("repo/a", body), body))
        assert await content(store, "repo/a") == body
    await close(store)
    assert await content(stores(), "repo/a") == body_of("two", size)
    assert len(value_files(directory)) == (size > SIZES["small"])


async def test_keys_have_bodies_of_their_own(stores: Open) -> None:
    store = stores()
    body = body_of("same", SIZES["medium"])
    await store.put((entry_of("repo/a", body), body))
    await store.put((entry_of("repo/b", body), body))
    await store.delete("repo/a")
    assert await content(store, "repo/a") is None
    assert await content(store, "repo/b") == body


async def test_a_body_can_be_sent_while_it_is_replaced(stores: Open) -> None:
    store = stores()
    old, new = body_of("old", 300_000), body_of("new", 300_000)
    await store.put((entry_of("repo/a", old), old))
    entry = store.get("repo/a")
    assert entry is not None
    sending = await store.read(entry)
    assert sending is not None
    await store.put((entry_of("repo/a", new), new))
    assert await read(sending) == old


async def test_a_part_of_a_body(stores: Open) -> None:
    store = stores()
    for key, size in SIZES.items():
        body = body_of(key, size)
        await store.put((entry_of(key, body), body))
        entry = store.get(key)
        assert entry is not None
        whole = await store.read(entry)
        assert whole is not None
        cut = part(part(whole, 100, 900), 50, 60)
        assert cut.length == 10
        assert await read(cut) == body[150:160]


async def test_a_pair_is_put_as_one(stores: Open) -> None:
    store = stores()
    await store.put((entry_of("csv", b"1"), b"1"), (entry_of("signed", b"2"), b"2"))
    assert {entry.key for entry in store.entries()} == {"csv", "signed"}
    # The second can't be had: neither is changed.
    missing = store.spool("x", 9)._path
    with pytest.raises(StoreError):
        await store.put((entry_of("csv", b"3"), b"3"), (entry_of("signed", b"4"), missing))
    assert await content(store, "csv") == b"1"
    await close(store)
    store = stores()
    assert [await content(store, key) for key in ("csv", "signed")] == [b"1", b"2"]


async def test_update_changes_what_is_known(stores: Open, clock: Clock) -> None:
    store = stores()
    body = body_of("a", SIZES["medium"])
    entry = entry_of("repo/a", body)
    await store.put((entry, body))
    clock.advance(60)
    stored = store.get("repo/a")
    assert stored is not None
    await store.update(replace(stored, checked_at=clock.now))
    await close(store)
    store = stores()
    updated = store.get("repo/a")
    assert updated is not None
    assert updated.checked_at == clock.now
    assert await content(store, "repo/a") == body


async def test_delete(stores: Open, directory: Path) -> None:
    store = stores()
    body = body_of("a", SIZES["large"])
    await store.put((entry_of("repo/a", body), body))
    await store.delete("repo/a")
    await store.delete("repo/a")
    await store.delete("repo/never")
    assert store.get("repo/a") is None
    assert list(store.entries()) == []
    await close(store)
    assert list(stores().entries()) == []
    assert value_files(directory) == []


async def test_times_of_use_survive(stores: Open, clock: Clock) -> None:
    store = stores()
    for key in ("repo/a", "repo/b"):
        await store.put((entry_of(key, b"x", at=clock.now), b"x"))
    clock.advance(100)
    entry = store.get("repo/a")
    assert entry is not None
    store.touch(entry)
    used_at = clock.now
    clock.advance(100)
    await close(store)
    store = stores()
    assert {e.key: e.used_at for e in store.entries()} == {
        "repo/a": used_at,
        "repo/b": used_at - 100,
    }


async def test_what_another_key_vouched_for_is_not_there(stores: Open) -> None:
    store = stores(trust="hexpm")
    await store.put((entry_of("repo/a", b"x"), b"x"))
    await close(store)
    store = stores(trust="acme")
    assert store.get("repo/a") is None
    assert list(store.entries()) == []
    await store.put((entry_of("repo/b", b"y"), b"y"))
    assert await content(store, "repo/b") == b"y"
    await close(store)
    store = stores(trust="hexpm")
    assert store.get("repo/b") is None


# Several things at a time.


@pytest.mark.parametrize("same", [True, False])
async def test_times_of_use_do_not_bring_an_old_body_back(stores: Open, same: bool) -> None:
    store = stores()
    old, new = body_of("old", SIZES["medium"]), body_of("new", SIZES["medium"])
    await store.put((entry_of("repo/a", old), old))
    entry = store.get("repo/a")
    assert entry is not None
    store.touch(entry)
    putting = asyncio.ensure_future(store.put((entry_of("repo/a", new), new)))
    await asyncio.sleep(0)
    await asyncio.gather(store.flush(), putting)
    if not same:
        await close(store)
        store = stores()
    assert await content(store, "repo/a") == new


@pytest.mark.parametrize("same", [True, False])
async def test_a_late_update_does_not_bring_an_old_body_back(stores: Open, same: bool) -> None:
    store = stores()
    old, new = body_of("old", SIZES["medium"]), body_of("new", SIZES["medium"])
    await store.put((entry_of("repo/a", old), old))
    entry = store.get("repo/a")
    assert entry is not None
    putting = asyncio.ensure_future(store.put((entry_of("repo/a", new), new)))
    await asyncio.sleep(0)
    await asyncio.gather(store.update(replace(entry, checked_at=99)), putting)
    if not same:
        await close(store)
        store = stores()
    assert await content(store, "repo/a") == new


@pytest.mark.parametrize("same", [True, False])
async def test_a_put_that_nobody_waits_for_any_more(stores: Open, same: bool) -> None:
    store = stores()
    old, new = body_of("old", SIZES["medium"]), body_of("new", SIZES["medium"])
    await store.put((entry_of("repo/a", old), old))
    putting = asyncio.ensure_future(store.put((entry_of("repo/a", new), new)))
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    assert putting.cancelled()
    # This comes after it in the store's thread.
    await store.put((entry_of("repo/b", b"x"), b"x"))
    if not same:
        await close(store)
        store = stores()
    assert await content(store, "repo/a") in (old, new)


async def test_many_at_once(stores: Open) -> None:
    store = stores()
    bodies = {f"repo/{n}": body_of(str(n), 20_000 + n * 3_000) for n in range(20)}
    await asyncio.gather(*(store.put((entry_of(k, b), b)) for k, b in bodies.items()))
    got = await asyncio.gather(*(content(store, key) for key in bodies))
    assert got == list(bodies.values())
