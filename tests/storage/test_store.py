"""The store on a real disk: what goes in comes out whole, or not at all."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import diskcache
import pytest

from hexcache.errors import StoreError
from hexcache.messages import read
from hexcache.resources import Kind
from hexcache.storage.entries import part
from hexcache.storage.store import Store
from support.clock import Clock
from support.entries import body_of, entry_of

# Held in the database, in a file that is hashed in place, in a file that is hashed in a thread.
SIZES = {"small": 1_000, "medium": 50_000, "large": 300_000}
LIMIT = 100 * 2**20
Open = Callable[..., Store]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def stores(directory: Path, clock: Clock) -> AsyncIterator[Open]:
    """Opens the store; a second time, it closes and opens it again."""
    opened: list[Store] = []

    def open_store(**changes: Any) -> Store:
        arguments: dict[str, Any] = {"limit": LIMIT, "clock": clock}
        store = Store.open(directory, **arguments | changes)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await close(store)


async def close(store: Store) -> None:
    """Harmless if it is closed already."""
    if not getattr(store, "closed_by_test", False):
        store.closed_by_test = True  # type: ignore[attr-defined]
        await store.close()


async def content(store: Store, key: str) -> bytes | None:
    """What a client would get; None is a miss."""
    entry = store.get(key)
    body = await store.read(entry) if entry is not None else None
    return None if body is None else await read(body)


def incoming(store: Store, body: bytes, name: str = "x") -> Path:
    """A file as a transfer leaves it."""
    spool = store.spool(name, 2**30)
    spool.write(body)
    done = spool.finish()
    spool.close()
    assert isinstance(done, Path)
    return done


def database(directory: Path) -> Path:
    return directory / "entries" / "cache.db"


def sql(directory: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database(directory))) as connection, connection:
        connection.execute(statement, values)


def plant(directory: Path, **changes: Any) -> None:
    """Put a row into the database, as whoever can write the directory could."""
    row = {"key": "m:planted", "raw": 1, "size": 0, "mode": 1, "filename": None, "value": None}
    row |= {"store_time": 0.0, "access_time": 0.0} | changes
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    sql(directory, f"INSERT INTO Cache ({columns}) VALUES ({marks})", *row.values())


def value_files(directory: Path) -> list[Path]:
    return sorted((directory / "entries").rglob("*.val"))


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


# Damage.


@pytest.mark.parametrize("size", [SIZES["medium"], SIZES["large"]])
@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"\0" + file.read_bytes()[1:]),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: (file.rename(file.parent / "moved"), file.symlink_to(file.parent / "moved")),
    ],
    ids=["changed", "cut off", "longer", "empty", "gone", "a directory", "a link"],
)
@pytest.mark.parametrize("reopen", [False, True])
async def test_a_damaged_file_is_a_miss(
    stores: Open, directory: Path, size: int, damage: Callable[[Path], object], reopen: bool
) -> None:
    store = stores()
    body = body_of("a", size)
    await store.put((entry_of("repo/a", body), body))
    if reopen:
        await close(store)
    (file,) = value_files(directory)
    damage(file)
    if reopen:
        store = stores()
    assert await content(store, "repo/a") is None
    # It is forgotten, and can be put again.
    assert store.get("repo/a") is None
    await store.put((entry_of("repo/a", body), body))
    assert await content(store, "repo/a") == body


async def test_swapped_files_are_misses(stores: Open, directory: Path) -> None:
    store = stores()
    for key in ("repo/a", "repo/b"):
        body = body_of(key, SIZES["large"])
        await store.put((entry_of(key, body), body))
    one, other = value_files(directory)
    spare = directory / "spare"
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    assert await content(store, "repo/a") is None
    assert await content(store, "repo/b") is None
    assert store.statistics()["damaged"] == 2


async def test_a_value_in_the_database_that_was_changed(stores: Open, directory: Path) -> None:
    store = stores()
    await store.put((entry_of("repo/a", b"good"), b"good"))
    sql(directory, "UPDATE Cache SET value = ? WHERE key LIKE 'b:%'", b"evil")
    assert await content(store, "repo/a") is None


async def test_a_good_copy_that_came_meanwhile_is_not_dropped(
    stores: Open, directory: Path
) -> None:
    store = stores()
    old, new = body_of("old", SIZES["large"]), body_of("new", SIZES["large"])
    await store.put((entry_of("repo/a", old), old))
    stale = store.get("repo/a")
    assert stale is not None
    await store.put((entry_of("repo/a", new), new))
    assert await store.read(stale) is None
    assert await content(store, "repo/a") == new


@pytest.mark.parametrize(
    "content_",
    [b"garbage" * 1000, b"", b"SQLite format 3\0" + b"\xff" * 8000],
    ids=["garbage", "empty", "header only"],
)
async def test_a_database_that_is_none_any_more(
    stores: Open, directory: Path, caplog: pytest.LogCaptureFixture, content_: bytes
) -> None:
    store = stores()
    body = body_of("a", SIZES["medium"])
    await store.put((entry_of("repo/a", body), body))
    await close(store)
    for name in ("cache.db-wal", "cache.db-shm"):
        (database(directory).parent / name).unlink(missing_ok=True)
    database(directory).write_bytes(content_)
    with caplog.at_level(logging.WARNING):
        store = stores()
    assert list(store.entries()) == []
    if content_:
        assert "put aside" in caplog.text
        assert str(directory) in caplog.text
    await store.put((entry_of("repo/a", body), body))
    assert await content(store, "repo/a") == body


def put_aside(directory: Path) -> list[Path]:
    return list(directory.glob("entries.damaged-*"))


async def test_what_was_put_aside_goes_again(stores: Open, directory: Path) -> None:
    """It takes up as much room as the store did."""
    for _ in range(2):
        store = stores()
        await close(store)
        database(directory).write_bytes(b"garbage" * 1000)
    await close(stores())
    assert len(put_aside(directory)) == 1
    await close(stores(clock=lambda: time.time() + 8 * 86400))
    assert put_aside(directory) == []


async def test_a_database_that_is_damaged_in_the_middle(stores: Open, directory: Path) -> None:
    store = stores()
    for n in range(200):
        body = body_of(str(n), 10_000)
        await store.put((entry_of(f"repo/{n}", body), body))
    await close(store)
    with database(directory).open("r+b") as file:
        file.seek(database(directory).stat().st_size // 2)
        file.write(b"\xff" * 100_000)
    store = stores()
    for n in range(200):
        assert await content(store, f"repo/{n}") in (None, body_of(str(n), 10_000))
    await store.put((entry_of("repo/x", b"x"), b"x"))
    assert await content(store, "repo/x") == b"x"


# Planted things.


class Bomb:
    """Unpickling it makes a directory."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._trace),)


async def with_a_planted(
    stores: Open, directory: Path, how: Callable[[], None], *, open_already: bool
) -> Store:
    """A store with one good entry, and what `how` plants before or after it is opened."""
    store = stores()
    await store.put((entry_of("repo/good", b"good"), b"good"))
    if open_already:
        how()
        return store
    await close(store)
    how()
    return stores()


@pytest.mark.parametrize("open_already", [False, True])
@pytest.mark.parametrize("place", ["value", "key", "value file", "description"])
async def test_a_planted_pickle_does_not_run(
    stores: Open, directory: Path, tmp_path: Path, place: str, open_already: bool
) -> None:
    trace = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(trace))
    file = "00/11/" + "2" * 28 + ".val"

    def how() -> None:
        if place == "value":
            plant(directory, key="m:planted", mode=4, value=bomb)
        elif place == "key":
            plant(directory, key=bomb, raw=0, value=b"x")
        elif place == "value file":
            (directory / "entries" / file).parent.mkdir(parents=True)
            (directory / "entries" / file).write_bytes(bomb)
            plant(directory, key="m:planted", mode=4, filename=file, size=len(bomb))
        else:
            plant(directory, key="m:planted", value=bomb)

    store = await with_a_planted(stores, directory, how, open_already=open_already)
    assert await content(store, "planted") is None
    assert [entry.key for entry in store.entries()] == ["repo/good"]
    assert await content(store, "repo/good") == b"good"
    await store.delete("planted")
    await close(store)
    store = stores(limit=2**20)
    # An eviction goes through all rows.
    for n in range(15):
        body = body_of(str(n), 100_000)
        await store.put((entry_of(f"repo/{n}", body), body))
    assert not trace.exists()


@pytest.mark.parametrize("open_already", [False, True])
@pytest.mark.parametrize(
    "name",
    ["../../secret", "{}/secret", "../entries/../../secret", "cache.db", "x", b"00/secret", "a\0b"],
)
async def test_a_planted_file_name_leads_nowhere(
    stores: Open, directory: Path, tmp_path: Path, name: str | bytes, open_already: bool
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    if isinstance(name, str):
        name = name.format(tmp_path)
    entry = entry_of("planted", b"secret")
    fields = {
        "kind": "tarball",
        **{name: getattr(entry, name) for name in ("sha256", "size", "etag", "last_modified")},
        "content_type": "x/y",
        **dict.fromkeys(("stored_at", "checked_at", "used_at"), 0.0),
    }

    def how() -> None:
        plant(directory, key="m:planted", value=json.dumps(fields).encode())
        plant(directory, key=entry.body_key, mode=2, filename=name, size=6)

    store = await with_a_planted(stores, directory, how, open_already=open_already)
    assert await content(store, "planted") is None
    await store.put((entry_of("planted", b"mine"), b"mine"))
    await store.delete("planted")
    assert await content(store, "repo/good") == b"good"
    await close(store)
    stores()
    assert secret.read_bytes() == b"secret"


def description(**changes: object) -> bytes:
    entry = entry_of("planted", b"x")
    fields = {
        name: getattr(entry, name)
        for name in ("sha256", "size", "etag", "last_modified", "content_type")
    }
    fields |= dict.fromkeys(("stored_at", "checked_at", "used_at"), 0.0) | {"kind": "tarball"}
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize("open_already", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b"[" * 30_000,
        description(kind="unheard of"),
        description(kind=["tarball"]),
        description(key="repo/other"),
        description(surplus=1),
        description(etag='"a"\r\nSet-Cookie: x'),
        description(etag=None),
        description(content_type="a\nb"),
        description(last_modified=7),
        description(sha256=None),
        description(size="1"),
        description(size=-1),
        description(size=2),
        description(stored_at="now"),
        description(stored_at=None),
        description(checked_at=float("nan")),
        description(checked_at=float("inf")),
        description(used_at=10**400),
        description(asked_at="now"),
        description(base=7),
        description(generation=7),
        "text",
        7,
        None,
    ],
)
async def test_a_planted_description_is_a_miss(
    stores: Open, directory: Path, value: object, open_already: bool
) -> None:
    def how() -> None:
        plant(directory, key="m:planted", value=value)
        plant(directory, key=entry_of("planted", b"x").body_key, value=b"x")

    store = await with_a_planted(stores, directory, how, open_already=open_already)
    assert await content(store, "planted") is None
    assert {entry.key for entry in store.entries()} <= {"repo/good", "planted"}
    assert await content(store, "repo/good") == b"good"
    await store.put((entry_of("planted", b"y"), b"y"))
    assert await content(store, "planted") == b"y"


async def test_a_description_as_it_is_written_is_a_hit(stores: Open, directory: Path) -> None:
    """So that the misses above are misses for their reason."""
    store = stores()
    plant(directory, key="m:planted", value=description())
    plant(directory, key=entry_of("planted", b"x").body_key, value=b"x")
    assert await content(store, "planted") == b"x"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_directory", "{victim}"),
        ("disk_min_file_size", "many"),
        ("disk_directory", "{victim}"),
        ("disk__directory", "{victim}"),
        ("disk_fetch", "x"),
        ("reset", "x"),
        ("_disk", "x"),
        ("count", "many"),
        ("size", "large"),
        ("size", 2**62),
        ("sqlite_nonsense", "x"),
        ("cull_limit", 10),
        ("eviction_policy", "nonsense"),
    ],
)
async def test_planted_settings_of_diskcache(
    stores: Open, directory: Path, tmp_path: Path, key: str, value: object
) -> None:
    """diskcache makes attributes of itself of whatever its Settings table holds."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("years of work")
    if isinstance(value, str):
        value = value.format(victim=victim)
    store = stores()
    body = body_of("a", SIZES["medium"])
    await store.put((entry_of("repo/a", body), body))
    await close(store)
    sql(directory, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", key, value)
    store = stores()
    assert [path.name for path in victim.iterdir()] == ["thesis.txt"]
    assert await content(store, "repo/a") == body
    await store.put((entry_of("repo/b", body), body))
    assert await content(store, "repo/b") == body
    assert store.statistics()["bytes"] < 2**20


async def test_files_that_are_nobody_s_are_tidied_away(stores: Open, directory: Path) -> None:
    store = stores()
    body = body_of("a", SIZES["medium"])
    await store.put((entry_of("repo/a", body), body))
    await close(store)
    stray = directory / "entries" / "ab" / "cd" / ("e" * 28 + ".val")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    store = stores()
    assert not stray.exists()
    assert await content(store, "repo/a") == body


async def test_a_body_that_nobody_names_is_tidied_away(stores: Open, directory: Path) -> None:
    store = stores()
    for key in ("repo/a", "repo/b"):
        body = body_of(key, SIZES["medium"])
        await store.put((entry_of(key, body), body))
    await close(store)
    sql(directory, "DELETE FROM Cache WHERE key = 'm:repo/a'")
    store = stores()
    assert len(value_files(directory)) == 1
    assert await content(store, "repo/b") == body


async def test_old_parts_are_tidied_away_and_young_ones_kept(stores: Open, directory: Path) -> None:
    now = time.time()
    await close(stores(clock=lambda: now))
    partial = directory / "partial"
    for name in ("old.part", "old.json", "young.part", "young.json", "x.done", "stray"):
        (partial / name).write_bytes(b"x")
        week_ago = now - 8 * 86400
        os.utime(partial / name, (week_ago, week_ago) if "old" in name else (now, now))
    (partial / "link.part").symlink_to("/nowhere")
    stores(clock=lambda: now)
    left = {path.name for path in partial.iterdir()}
    assert {"young.part", "young.json"} <= left
    assert not left & {"old.part", "old.json", "x.done", "stray"}


async def test_a_directory_among_the_parts_keeps_nobody_from_starting(
    stores: Open, directory: Path
) -> None:
    await close(stores())
    (directory / "partial" / "planted").mkdir()
    store = stores()
    await store.put((entry_of("repo/a", b"x"), b"x"))


# The directory.


@pytest.fixture(params=[False, True], ids=["new", "old"])
def open_to_all(request: pytest.FixtureRequest, directory: Path) -> Path:
    """The directory, which isn't there yet, or is there and anybody may look into it."""
    if request.param:
        for path in (directory, directory / "entries"):
            path.mkdir(mode=0o755)
    return directory


async def test_nobody_else_can_look_into_it(stores: Open, open_to_all: Path) -> None:
    directory = open_to_all
    old = os.umask(0)
    try:
        store = stores()
        body = body_of("a", SIZES["medium"])
        await store.put((entry_of("repo/a", body), body))
    finally:
        os.umask(old)
    for path in (directory, directory / "entries", directory / "partial"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "lock").stat().st_mode) == 0o600


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


HOLDER = """
import sys, time
from pathlib import Path
from hexcache.storage.store import Store
store = Store.open(Path(sys.argv[1]), limit=2**30, clock=time.time)
print("open", flush=True)
sys.stdin.read()
"""


async def test_it_is_one_process_s(stores: Open, directory: Path) -> None:
    with python(HOLDER, str(directory)) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError) as caught:
            stores()
        assert str(directory) in str(caught.value)
        assert "in use" in str(caught.value)
        holder.stdin.close()
        assert holder.wait(30) == 0
    store = stores()
    await store.put((entry_of("repo/a", b"x"), b"x"))


async def test_a_directory_that_can_not_be_made(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("x")
    for directory in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(StoreError) as caught:
            Store.open(directory, limit=LIMIT, clock=clock)
        assert str(directory) in str(caught.value)
        assert "`data`" in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_a_failed_start_leaves_nothing_open(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "entries").write_text("a file where a directory should be")
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(StoreError):
            Store.open(tmp_path, limit=LIMIT, clock=clock)
    assert len(os.listdir("/dev/fd")) == before


# The limit.


async def fill(store: Store, clock: Clock, names: list[str], kind: Kind = Kind.TARBALL) -> None:
    for name in names:
        clock.advance(1)
        body = body_of(name, 100_000)
        await store.put((entry_of(name, body, kind=kind, at=clock.now), body))


def kept(store: Store) -> set[str]:
    return {entry.key for entry in store.entries()}


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


# What upkeep asks for.


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


# A full disk.


@contextmanager
def disk_full() -> Iterator[None]:
    """No file of this process can be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("size", SIZES.values())
async def test_a_full_disk(stores: Open, directory: Path, size: int, as_file: bool) -> None:
    store = stores()
    old, new = body_of("old", size), body_of("new", size)
    await store.put((entry_of("repo/a", old), old))
    files = value_files(directory)
    body: bytes | Path = new
    if as_file:
        body = directory / "partial" / "x.done"
        body.write_bytes(new)
    with disk_full(), pytest.raises(StoreError, match="can't be written"):
        await store.put((entry_of("repo/a", new), body))
    assert await content(store, "repo/a") == old
    # Nothing is left that takes the room which there isn't.
    assert value_files(directory) == files
    if size > SIZES["small"]:
        await store.put((entry_of("repo/b", new), new))
        assert await content(store, "repo/b") == new
    await close(store)
    assert await content(stores(), "repo/a") == old


async def test_what_is_known_is_known_on_a_full_disk(
    stores: Open, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores()
    await store.put((entry_of("repo/a", b"x"), b"x"))
    entry = store.get("repo/a")
    assert entry is not None
    with disk_full(), caplog.at_level(logging.WARNING):
        await store.update(replace(entry, checked_at=7))
        store.touch(entry)
        with pytest.raises(StoreError):
            await store.flush()
        assert await content(store, "repo/a") == b"x"
    assert "can't be written" in caplog.text
    got = store.get("repo/a")
    assert got is not None
    assert got.checked_at == 7


async def test_it_opens_on_a_full_disk(stores: Open) -> None:
    store = stores()
    bodies = {key: body_of(key, size) for key, size in SIZES.items()}
    for key, body in bodies.items():
        await store.put((entry_of(key, body), body))
    await close(store)
    with disk_full():
        try:
            store = stores()
        except StoreError:
            # Then it says so, and nothing is lost.
            store = None  # type: ignore[assignment]
        else:
            for key, body in bodies.items():
                assert await content(store, key) == body
            await close(store)
    store = stores()
    for key, body in bodies.items():
        assert await content(store, key) == body


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("size", [SIZES["medium"], SIZES["large"]])
async def test_too_many_open_files_cost_no_copy(stores: Open, size: int) -> None:
    store = stores()
    body = body_of("a", size)
    await store.put((entry_of("repo/a", body), body))
    entry = store.get("repo/a")
    assert entry is not None
    with no_descriptors(), pytest.raises(StoreError, match="can't be read"):
        await store.read(entry)
    assert await content(store, "repo/a") == body
    assert store.statistics()["damaged"] == 0


# kill -9.

WRITER = """
import asyncio, hashlib, os, signal, sys, time
from pathlib import Path

import diskcache

from hexcache.resources import Kind
from hexcache.storage.store import Entry, Store

SIZES = {"small": 1_000, "medium": 50_000, "large": 300_000}


def body_of(what, size):
    return (hashlib.sha256(what.encode()).digest() * (size // 32 + 1))[:size]


async def put(store, key, version):
    body = body_of(f"{key} {version}", SIZES[key])
    entry = Entry(
        key=key, kind=Kind.TARBALL, sha256=hashlib.sha256(body).hexdigest(), size=len(body),
        etag="", last_modified="", content_type="x/y", stored_at=0.0, checked_at=0.0, used_at=0.0,
    )
    if key == "large":
        spool = store.spool(key, 2**30)
        spool.write(body)
        body = spool.finish()
        spool.close()
    await store.put((entry, body))


def arm(name, when, count):
    owner, attribute = {"move": (os, "replace"), "set": (diskcache.Cache, "set"),
                        "delete": (diskcache.Cache, "delete")}[name]
    original = getattr(owner, attribute)
    calls = 0

    def wrapped(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **keywords)
        if calls == count and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, wrapped)


async def main():
    store = Store.open(Path(sys.argv[1]), limit=2**30, clock=time.time)
    if sys.argv[2] == "loop":
        for version in range(int(sys.argv[3]), 10**9):
            for key in SIZES:
                await put(store, key, version)
                print(key, version, flush=True)
    for key in SIZES:
        await put(store, key, "old")
    arm(sys.argv[3], sys.argv[4], int(sys.argv[5]))
    await put(store, sys.argv[2], "new")


asyncio.run(main())
"""


def files_of_rows(directory: Path) -> set[str]:
    with closing(sqlite3.connect(database(directory))) as connection:
        rows = connection.execute("SELECT filename FROM Cache WHERE filename IS NOT NULL")
        return {filename for (filename,) in rows}


def assert_no_litter(directory: Path) -> None:
    entries = directory / "entries"
    assert {str(path.relative_to(entries)) for path in value_files(directory)} == files_of_rows(
        directory
    )


@pytest.mark.parametrize(
    ("key", "call", "when", "count"),
    [
        # The body is in place, no row names it.
        ("large", "move", "before", 2),
        ("large", "move", "after", 2),
        # Rows are written, but not committed.
        ("large", "set", "after", 1),
        ("large", "set", "after", 2),
        ("medium", "set", "after", 1),
        ("medium", "set", "after", 2),
        ("small", "set", "after", 1),
        # Committed; the old body is there still.
        ("large", "delete", "before", 1),
        ("medium", "delete", "before", 1),
        ("small", "delete", "before", 1),
        ("large", "delete", "after", 1),
    ],
)
async def test_kill_9_at_a_bad_moment(
    stores: Open, directory: Path, key: str, call: str, when: str, count: int
) -> None:
    with python(WRITER, str(directory), key, call, when, str(count)) as writer:
        assert writer.wait(60) == -signal.SIGKILL
    store = stores()
    assert kept(store) == set(SIZES)
    for name, size in SIZES.items():
        possible = {body_of(f"{name} {version}", size) for version in ("old", "new")}
        assert await content(store, name) in possible
        if name != key:
            assert await content(store, name) == body_of(f"{name} old", size)
    # What was half done takes no room for ever.
    assert_no_litter(directory)
    assert len(value_files(directory)) == 2


async def test_kill_9_at_any_moment(stores: Open, directory: Path) -> None:
    done = dict.fromkeys(SIZES, -1)
    version = 0
    for lines in (1, 5, 20):
        with python(WRITER, str(directory), "loop", str(version)) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                key, _, number = writer.stdout.readline().strip().partition(" ")
                done[key] = int(number)
            writer.kill()
            for line in writer.stdout:
                key, _, number = line.strip().partition(" ")
                done[key] = int(number)
            assert writer.wait(60) == -signal.SIGKILL
        version = max(done.values()) + 2
        store = stores()
        for key, last in done.items():
            got = await content(store, key)
            # What was said to be stored is, or what came after it.
            possible = [body_of(f"{key} {n}", SIZES[key]) for n in (last, last + 1, version - 2)]
            assert got in possible if last >= 0 else got in (None, *possible)
        assert_no_litter(directory)
        await close(store)


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
