"""The rows of a store's database: `m:KEY` describes an entry, `b:KEY@SHA256` is its body."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable
from typing import Any

import diskcache

from hexcache.errors import StoreError
from hexcache.storage.entries import Entry

logger = logging.getLogger(__name__)


class Rows:
    """Entries of another trust than `trust` are as if they weren't there."""

    def __init__(self, cache: diskcache.Cache, trust: str) -> None:
        self._cache = cache
        self._trust = trust

    def keys(self) -> list[str]:
        """Of every row. Raises StoreError."""
        try:
            return [key for key in self._cache if isinstance(key, str)]
        except (sqlite3.Error, diskcache.Timeout) as error:
            raise StoreError(f"the store can't be read: {error}") from None

    def all_keys(self) -> list[str]:
        """Of every row; none if they can't be read just now."""
        with contextlib.suppress(StoreError):
            return self.keys()
        return []

    def read(self, key: str) -> Any:
        """A row's value: bytes, an open file, or None. Raises StoreError."""
        try:
            return self._cache.get(key, read=True)
        except (sqlite3.Error, diskcache.Timeout) as error:
            raise StoreError(f"the store can't be read: {error}") from None

    def size_of(self, key: str) -> int:
        """Bytes of a row's value, 0 where there is none. Raises StoreError."""
        value = self.read(key)
        if value is None or isinstance(value, bytes):
            return len(value or b"")
        with value:
            return os.fstat(value.fileno()).st_size

    def load(self, key: str) -> Entry | None:
        """The entry of `key`. Raises StoreError where None would be a guess."""
        entry = self._decode(self.read(f"m:{key}"), key)
        return entry if entry is not None and entry.trust == self._trust else None

    def stored(self, key: str) -> Entry | None:
        """The same; None, with a warning, if it can't be read just now."""
        try:
            return self.load(key)
        except StoreError as error:
            logger.warning("%s", error)
            return None

    def entries(self, rows: Iterable[str]) -> list[Entry]:
        """The entries that these rows describe. Raises StoreError."""
        found = (self.load(row[2:]) for row in rows if row.startswith("m:"))
        return [entry for entry in found if entry is not None]

    def describe(self, entries: Iterable[Entry]) -> None:
        """Write what is known of bodies, all of it or nothing."""
        entries = list(entries)
        if not entries:
            return
        with self._cache.transact():
            for entry in entries:
                self._cache.set(f"m:{entry.key}", entry.encode())

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._cache.delete(key)

    def _decode(self, value: Any, key: str) -> Entry | None:
        if not isinstance(value, bytes):
            if value is not None:
                value.close()
            return None
        return Entry.decode(key, value)
