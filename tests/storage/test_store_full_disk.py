"""A full disk, and no more open files: the store says so, and nothing is lost."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hexcache.errors import StoreError
from support.entries import body_of, entry_of
from support.stores import SIZES, Open, close, content, value_files


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


async def test_it_is_said_once_and_once_that_it_is_over(
    stores: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with each request that would have been stored."""
    store = stores()
    await store.put((entry_of("repo/a", b"x"), b"x"))
    entry = store.get("repo/a")
    assert entry is not None
    with caplog.at_level(logging.INFO):
        with disk_full():
            for key in ("repo/b", "repo/c", "repo/d"):
                with pytest.raises(StoreError):
                    await store.put((entry_of(key, b"x"), b"x"))
                await store.update(replace(entry, checked_at=7))
        for _ in range(3):
            await store.put((entry_of("repo/b", b"x"), b"x"))
    assert [record.message.split(":")[0].split(";")[0] for record in caplog.records] == [
        "the store can't be written",
        "the store can be written again",
    ]
