"""What is damaged on the disk is a miss, and never a wrong byte."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.entries import body_of, entry_of
from support.stores import SIZES, Open, close, content, database, sql, value_files


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


async def test_damage_is_told(stores: Open, directory: Path) -> None:
    told: list[str] = []
    store = stores(on_damage=lambda entry: told.append(entry.key))
    for key in ("repo/a", "repo/b"):
        entry = entry_of(key, body_of(key, SIZES["large"]))
        await store.put((entry, body_of(key, SIZES["large"])))
        if key == "repo/a":
            value_files(directory)[0].write_bytes(b"x")
            assert await content(store, key) is None
        else:
            await store.quarantine(entry, "it isn't what it was")
    assert told == ["repo/a", "repo/b"]
    assert store.damaged == 2


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
