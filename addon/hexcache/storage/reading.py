"""A look into a store from outside: read only, also while a server has it open."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import quote

from diskcache.core import DBNAME

from hexcache.errors import StoreError
from hexcache.storage.disk import SafeDisk
from hexcache.storage.entries import Entry
from hexcache.storage.opening import ENTRIES, damage

# For how long a writer may keep us waiting, in seconds.
_BUSY_SECONDS = 10.0


class StoreReader:
    """Entries and bodies as they are at the moment of each call. A directory without a store reads
    as an empty one. `trust` as for Store: entries of another one aren't there. Any thread may use
    it."""

    def __init__(self, directory: Path, *, trust: str) -> None:
        """Raises StoreError."""
        self._trust = trust
        self._where = directory / ENTRIES
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._disk: Any = None
        self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def get(self, key: str) -> Entry | None:
        """The entry of `key`, without a look at its body. Raises StoreError."""
        for mode, filename, value in self._rows("key = ?", f"m:{key}"):
            return self._entry(key, mode, filename, value)
        return None

    def entries(self, prefix: str = "") -> list[Entry]:
        """Every entry whose key begins so, in no order. Raises StoreError."""
        # "\U0010ffff" is behind whatever a key goes on with.
        rows = self._rows(
            "key >= ? AND key < ?",
            f"m:{prefix}",
            f"m:{prefix}\U0010ffff",
            columns="key, mode, filename, value",
        )
        found = (self._entry(key[2:], *rest) for key, *rest in rows)
        return [entry for entry in found if entry is not None]

    def kinds(self) -> dict[str, int]:
        """How many entries there are of each kind. Raises StoreError."""
        # In the database's own words: other threads go on meanwhile.
        fields = "CASE WHEN json_valid(CAST(value AS TEXT)) THEN CAST(value AS TEXT) END"
        rows = self._rows(
            "key >= 'm:' AND key < 'm;' AND key NOT LIKE '%#%' "
            f"AND json_extract({fields}, '$.trust') = ? GROUP BY 1",
            self._trust,
            columns=f"json_extract({fields}, '$.kind'), count(*)",
        )
        return {str(kind): int(count) for kind, count in rows}

    def bytes_stored(self) -> int:
        """Bytes on the disk, as `cache.size_limit` counts them. Raises StoreError."""
        size = "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)"
        rows = self._rows("1", columns=f"{size} + coalesce(sum(size), 0)")
        return int(rows[0][0] or 0) if rows else 0

    @contextlib.contextmanager
    def body(self, entry: Entry) -> Iterator[BinaryIO | bytes | None]:
        """The body of `entry`, hashed and found good, at its beginning; None if it isn't there or
        isn't good. Raises StoreError where that can't be told."""
        value: BinaryIO | bytes | None = None
        for mode, filename, raw in self._rows("key = ?", entry.body_key):
            with contextlib.suppress(OSError):  # gone meanwhile, or nothing that we have written
                value = self._disk.fetch(mode, filename, raw, True)
        try:
            try:
                good = value is not None and entry.describes(value)
                if good and not isinstance(value, bytes) and value is not None:
                    value.seek(0)
            except OSError as error:
                raise StoreError(f"the store can't be read: {error.strerror}") from None
            yield value if good else None
        finally:
            if value is not None and not isinstance(value, bytes):
                value.close()

    def content(self, entry: Entry) -> bytes | None:
        """The same, in memory."""
        with self.body(entry) as body:
            return body if body is None or isinstance(body, bytes) else body.read()

    def _connect(self) -> None:
        database = self._where / DBNAME
        try:
            try:
                database.stat()
            except (FileNotFoundError, NotADirectoryError):
                return
            # A reader, too, would make an index of the journal. Where it can't, and no writer has
            # made a journal, the database is all there is.
            alone = not _allowed(self._where, os.W_OK) and not _journal(self._where).exists()
            self._connection = sqlite3.connect(
                f"file:{quote(str(database.absolute()))}?mode=ro{'&immutable=1' * alone}",
                uri=True,
                timeout=_BUSY_SECONDS,
                check_same_thread=False,
            )
            self._disk = SafeDisk(str(self._where))
        except (OSError, sqlite3.Error) as error:
            raise StoreError(_unreadable(self._where, error)) from None

    def _rows(
        self, condition: str, *arguments: str, columns: str = "mode, filename, value"
    ) -> list[Any]:
        with self._lock:
            if self._connection is None:
                self._connect()  # there may be one by now
            if self._connection is None:
                return []
            query = f"SELECT {columns} FROM Cache WHERE raw = 1 AND {condition}"  # noqa: S608
            try:
                return self._connection.execute(query, arguments).fetchall()
            except sqlite3.Error as error:
                raise StoreError(_unreadable(self._where, error)) from None

    def _entry(self, key: str, mode: Any, filename: Any, value: Any) -> Entry | None:
        with contextlib.suppress(OSError):
            row = self._disk.fetch(mode, filename, value, False)
            entry = Entry.decode(key, row)
            return entry if entry is not None and entry.trust == self._trust else None
        return None


def _journal(where: Path) -> Path:
    """The write-ahead log, which is there while a writer has the database open, and after a
    `kill -9` (https://sqlite.org/wal.html#read_only_databases)."""
    return where / f"{DBNAME}-wal"


def _allowed(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _unreadable(where: Path, error: OSError | sqlite3.Error) -> str:
    # The low byte is the kind (https://sqlite.org/rescode.html).
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, sqlite3.Error) and code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damage(where, error)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and (
        _allowed(_journal(where), os.R_OK) and not _allowed(where, os.W_OK)
    ):
        return (
            f"{where} can't be read: a writer that was killed left its journal, and the directory "
            "can't be written; make it writable"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return f"{where} can't be read: {reason}; run this as the user that runs the server, or as root"
