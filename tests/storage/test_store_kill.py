"""kill -9 while something is put: all of it is there, or nothing, and no litter."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import body_of
from support.stores import SIZES, Open, close, content, database, kept, python, value_files

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
