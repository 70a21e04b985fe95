"""A look into a store from outside, while another process writes to it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hexcache.errors import StoreError
from hexcache.resources import Kind
from hexcache.storage.entries import Entry
from hexcache.storage.reading import StoreReader
from hexcache.storage.store import Store
from support.clock import Clock
from support.entries import body_of, entry_of

TRUST = "a key"

# Puts what it reads: a key, a size and a text to make the body of; says when it is done.
WRITER = """
import asyncio, sys
from pathlib import Path
from hexcache.storage.store import Store
from support.entries import body_of, entry_of

async def main():
    store = Store.open(Path(sys.argv[1]), limit=2**30, clock=lambda: 5.0, trust="a key")
    print("open", flush=True)
    for line in sys.stdin:
        key, size, what = line.split()
        body = body_of(what, int(size))
        await store.put((entry_of(key, body), body))
        print("put", flush=True)
    await store.close()

asyncio.run(main())
"""


class Writer:
    """Another process that has the store open."""

    def __init__(self, directory: Path) -> None:
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._said("open")

    def put(self, key: str, size: int, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{key} {size} {what}\n")
        self._process.stdin.flush()
        self._said("put")

    def end(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def _said(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"{word}\n"


@pytest.fixture
async def store(directory: Path, clock: Clock) -> AsyncIterator[Store]:
    store = Store.open(directory, limit=2**30, clock=clock, trust=TRUST)
    yield store
    await store.close()


def content(reader: StoreReader, key: str) -> bytes | None:
    entry = reader.get(key)
    return reader.content(entry) if entry else None


def test_beside_a_store_that_another_process_has_open(directory: Path) -> None:
    """What is put is seen at once, in the database and in a file; what is replaced too."""
    writer = Writer(directory)
    with StoreReader(directory, trust=TRUST) as reader:
        assert reader.entries() == []
        for size in (1_000, 300_000):
            writer.put("repo/a", size, f"old{size}")
            entry = reader.get("repo/a")
            assert entry is not None
            with reader.body(entry) as body:
                assert body is not None
                writer.put("repo/a", size, f"new{size}")
                # Who has begun to read it reads it to its end.
                read = body if isinstance(body, bytes) else body.read()
                assert read == body_of(f"old{size}", size)
            assert reader.content(entry) is None, "that body is gone"
            assert content(reader, "repo/a") == body_of(f"new{size}", size)
        assert [each.key for each in reader.entries()] == ["repo/a"]
        writer.end()
        assert content(reader, "repo/a") == body_of("new300000", 300_000)


def test_a_store_that_is_made_after_the_reader(directory: Path) -> None:
    with StoreReader(directory, trust=TRUST) as reader:
        assert reader.get("repo/a") is None
        assert reader.entries() == []
        assert reader.bytes_stored() == 0
        assert not directory.exists(), "who only reads makes nothing"
        writer = Writer(directory)
        writer.put("repo/a", 1_000, "a")
        assert content(reader, "repo/a") == body_of("a", 1_000)
        writer.end()


async def test_what_another_key_vouched_for_is_not_there(store: Store, directory: Path) -> None:
    await store.put((entry_of("repo/a", b"a"), b"a"))
    with StoreReader(directory, trust="another key") as reader:
        assert reader.get("repo/a") is None
        assert reader.entries() == []


@pytest.mark.parametrize("size", [1_000, 300_000])
async def test_a_damaged_body_is_none(store: Store, directory: Path, size: int) -> None:
    body = body_of("a", size)
    await store.put((entry_of("repo/a", body), body))
    with closing(sqlite3.connect(directory / "entries/cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET value = x'00' WHERE key LIKE 'b:%' AND mode = 1")
    for path in (directory / "entries").rglob("*.val"):
        path.write_bytes(b"\0" * size)
    with StoreReader(directory, trust=TRUST) as reader:
        entry = reader.get("repo/a")
        assert entry is not None
        assert reader.content(entry) is None
        for path in (directory / "entries").rglob("*.val"):
            path.unlink()
        assert reader.content(entry) is None


async def test_what_it_takes_is_what_the_store_says(store: Store, directory: Path) -> None:
    for n, size in enumerate((1_000, 20_000, 300_000)):
        body = body_of(str(n), size)
        await store.put((entry_of(f"repo/{n}", body), body))
    with StoreReader(directory, trust=TRUST) as reader:
        assert reader.bytes_stored() == store.statistics()["bytes"] > 321_000


def test_a_database_that_is_none(directory: Path) -> None:
    (directory / "entries").mkdir(parents=True)
    (directory / "entries/cache.db").write_bytes(b"garbage" * 1000)
    with (
        StoreReader(directory, trust=TRUST) as reader,
        pytest.raises(StoreError, match=r"entries is damaged: .*puts it aside"),
    ):
        reader.entries()


@contextmanager
def closed_to_us(directory: Path) -> Iterator[None]:
    """For root no directory is closed: it becomes somebody else meanwhile."""
    was = os.geteuid()
    directory.chmod(0)
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)
        directory.chmod(0o700)


async def test_a_directory_of_another_user(store: Store, directory: Path) -> None:
    """It reads as no empty store: that would be a wrong answer to "is anything missing?"."""
    await store.put((entry_of("repo/a", b"a"), b"a"))
    with (
        closed_to_us(directory),
        pytest.raises(StoreError, match="run this as the user that runs the server"),
    ):
        StoreReader(directory, trust=TRUST)


async def test_a_path_with_every_sign_in_it(tmp_path: Path, clock: Clock) -> None:
    """The database is named by a URI."""
    directory = tmp_path / "a #1?mode=rw&x%20ä"
    store = Store.open(directory, limit=2**30, clock=clock, trust=TRUST)
    await store.put((entry_of("repo/a", b"a"), b"a"))
    with StoreReader(directory, trust=TRUST) as reader:
        assert content(reader, "repo/a") == b"a"
    await store.close()


async def test_nothing_can_be_written(store: Store, directory: Path) -> None:
    body = b"a"
    await store.put((entry_of("repo/a", body), body))
    with StoreReader(directory, trust=TRUST) as reader:
        assert reader._connection is not None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("DELETE FROM Cache")


async def test_a_planted_file_name_leads_nowhere(
    store: Store, directory: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 50_000)
    entry = entry_of("repo/a", secret.read_bytes(), kind=Kind.DOCS)
    await store.put((entry, secret.read_bytes()))
    for name in ("../../secret", str(secret)):
        with closing(sqlite3.connect(directory / "entries/cache.db")) as connection, connection:
            connection.execute("UPDATE Cache SET filename = ? WHERE key LIKE 'b:%'", (name,))
        with StoreReader(directory, trust=TRUST) as reader:
            stored: Entry | None = reader.get("repo/a")
            assert stored is not None
            assert reader.content(stored) is None
