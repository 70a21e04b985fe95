"""A store on a real disk: what it gives, and what lies in its directory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hexcache.messages import read
from hexcache.resources import Kind
from hexcache.storage.store import Store
from support.clock import Clock
from support.entries import body_of, entry_of

# Held in the database, in a file that is hashed in place, in a file that is hashed in a thread.
SIZES = {"small": 1_000, "medium": 50_000, "large": 300_000}
LIMIT = 100 * 2**20
Open = Callable[..., Store]


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


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def fill(store: Store, clock: Clock, names: list[str], kind: Kind = Kind.TARBALL) -> None:
    for name in names:
        clock.advance(1)
        body = body_of(name, 100_000)
        await store.put((entry_of(name, body, kind=kind, at=clock.now), body))


def kept(store: Store) -> set[str]:
    return {entry.key for entry in store.entries()}
