"""Entries and bodies on disk.

Two rows in diskcache make an entry: `m:KEY` describes it, `b:KEY@SHA256` is its body. The body is
written first, so that what is described is there; a body that lost its description after a
`kill -9` is cleaned up at the next start. Every body is hashed before it is handed out: what is
damaged, cut off or planted is a miss, and its entry is dropped.

Reads of small things are done in place (microseconds); writes and large reads in one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from hexcache.errors import StoreError
from hexcache.messages import Content
from hexcache.storage.disk import Adopted, SafeDisk
from hexcache.storage.entries import Entry, FileBody
from hexcache.storage.leftovers import (
    KEEP_SECONDS,
    PARTIAL,
    Leftover,
    Sort,
    leftovers,
    put_aside,
)
from hexcache.storage.opening import Opened, open_directory
from hexcache.storage.pins import Pins
from hexcache.storage.rows import Rows
from hexcache.storage.spool import Spool, Spools
from hexcache.storage.sweeping import Swept, expendable
from hexcache.storage.writing import Probe, Writing, guarded

logger = logging.getLogger(__name__)

# Hashing this much takes less time than handing it to a thread.
_HASH_IN_PLACE = 128 * 2**10
# How far below the limit an eviction goes, so that not every write evicts.
_EVICT_TO = 0.95
# Descriptions kept in memory, about 1 kB each.
_REMEMBERED = 50_000
# How often what is left over is looked for.
_TIDY_EVERY = 86400.0


class Store:
    """The store in one directory, for one process at a time."""

    def __init__(
        self,
        directory: Path,
        opened: Opened,
        *,
        limit: int,
        clock: Callable[[], float],
        trust: str,
        on_damage: Callable[[Entry], None],
    ) -> None:
        self._cache, self._lock, self.loss = opened  # the loss until somebody has told it
        self._trust = trust
        self._directory = directory
        self._rows = Rows(self._cache, trust)
        self._limit = limit
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="hexcache-store")
        self._entries: dict[str, Entry] = {}
        self._used: dict[str, float] = {}
        self.pins = Pins.load(directory)
        self._spools = Spools(directory / PARTIAL)
        self._tidied_at = clock()
        self._writing = Writing()
        self._probe = Probe(directory / PARTIAL / "probe", clock)
        self._on_damage = on_damage
        self.evictions = 0
        self.damaged = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        limit: int,
        clock: Callable[[], float],
        trust: str = "",
        put_aside: bool = True,
        on_damage: Callable[[Entry], None] = lambda _: None,
    ) -> Store:
        """See `open_directory`. `trust` names what vouches for what is stored; entries that were
        stored under another trust are as if they weren't there. `on_damage` hears of bodies that
        aren't what was stored. Raises StoreError."""
        opened = open_directory(directory, now=clock(), put_aside=put_aside)
        return cls(directory, opened, limit=limit, clock=clock, trust=trust, on_damage=on_damage)

    async def close(self) -> None:
        """Write what is only in memory and let go of the directory."""
        with contextlib.suppress(StoreError):
            await self.flush()
        await self._in_thread(self._cache.close)
        self._executor.shutdown()
        self._cache.close()
        os.close(self._lock)

    def get(self, key: str) -> Entry | None:
        """The entry of `key`, without a look at its body; None if there is none, or if the store
        can't be read just now."""
        if entry := self._entries.get(key):
            return entry
        entry = self._rows.stored(key)
        if entry is not None:
            if len(self._entries) >= _REMEMBERED:
                self._entries.clear()
            self._entries[key] = entry
        return entry

    async def read(self, entry: Entry, *, drop: bool = True) -> Content | FileBody | None:
        """The body of `entry`, hashed and found good; None if it isn't, and then the entry is gone,
        unless `drop` is False. Raises StoreError if it can't be read for a reason that isn't its
        own."""
        value = self._rows.read(entry.body_key)
        if isinstance(value, bytes):
            if entry.describes(value):
                return Content(value)
        elif value is not None:
            good = False
            try:
                if entry.size <= _HASH_IN_PLACE:
                    good = entry.describes(value)
                else:
                    loop = asyncio.get_running_loop()
                    good = await loop.run_in_executor(None, entry.describes, value)
            except OSError as error:
                raise StoreError(f"the store can't be read: {error.strerror}") from None
            finally:
                if not good:
                    value.close()
            if good:
                return FileBody(value, 0, entry.size)
        if drop:
            self._count_damage(entry)
            logger.warning("the stored copy of %s is damaged or gone: dropped", entry.key)
            with contextlib.suppress(StoreError):
                await self.discard(entry)
        return None

    async def put(self, *items: tuple[Entry, bytes | Path]) -> None:
        """Store entries with their bodies, all of them or none; a Path is moved in. Raises
        StoreError, and then what was stored before still is."""
        items = tuple((replace(entry, trust=self._trust), body) for entry, body in items)
        with self._writing.noted():
            await self._in_thread(self._put, items)
        if await self._in_thread(self._cache.volume) > self._limit:
            await self._in_thread(self._sweep, [entry.key for entry, _ in items])

    async def update(self, *entries: Entry) -> None:
        """Change what is known of stored bodies (never their `sha256`). In memory at once, on disk
        as far as the disk lets us: losing it costs a question to upstream, no more."""
        for entry in entries:
            current = self._entries.get(entry.key)
            if current is None or current.sha256 == entry.sha256:
                self._entries[entry.key] = entry
        with contextlib.suppress(StoreError), self._writing.noted():
            await self._in_thread(self._write_update, entries)

    def touch(self, entry: Entry) -> None:
        """Note that a client got it; written by `flush`."""
        self._used[entry.key] = self._clock()

    async def flush(self) -> None:
        """Write the times of last use, and once a day remove what is left over."""
        now = self._clock()
        if not 0 <= now - self._tidied_at < _TIDY_EVERY:
            self._tidied_at = now
            await self.remove_leftovers()
        used, self._used = self._used, {}
        entries = [
            replace(entry, used_at=max(used_at, entry.used_at))
            for key, used_at in used.items()
            if (entry := self.get(key)) is not None
        ]
        for entry in entries:
            self._entries[entry.key] = entry
        await self._in_thread(self._write_used, entries)

    async def delete(self, key: str) -> None:
        entry = self.get(key)
        self._entries.pop(key, None)
        await self._in_thread(self._rows.delete, [f"m:{key}", *([entry.body_key] if entry else ())])

    async def discard(self, *entries: Entry) -> None:
        """Delete entries. Where there is another body by now, that stays."""
        await self._in_thread(self._discard, entries)

    async def quarantine(self, entry: Entry, why: str) -> None:
        """The same for one that isn't what it should be: it is kept, out of everybody's way."""
        await self._in_thread(self._quarantine, entry, why)
        self._count_damage(entry)

    async def sweep(self, unwanted: Collection[Entry] = (), *, dry: bool = False) -> Swept:
        """Delete `unwanted` entries, what can't be read or is of another trust, and if it is still
        too much, what was used least recently. `dry`: only tell, as far as it can be foreseen."""
        return await self._in_thread(self._sweep, (), unwanted, dry)

    async def remove_leftovers(
        self, *, keep: float = KEEP_SECONDS, dry: bool = False
    ) -> list[Leftover]:
        """Remove what nobody will take up again, and tell what it was; see `leftovers`. `dry`: only
        tell. Raises StoreError."""
        look = functools.partial(leftovers, self._directory, now=self._clock(), keep=keep)
        found = []
        for each in await self._in_thread(look):
            # A transfer that begins claims its part here, in the event loop: so it is looked for,
            # and removed, without a turn for others in between.
            if each.path in self._spools.used:
                continue
            found.append(each)
            if dry:
                continue
            if each.sort is Sort.PART:
                each.remove()
            else:
                await self._in_thread(each.remove)
        return found

    async def snapshot(self) -> list[Entry]:
        """Every entry as the disk has it, in no order. Raises StoreError."""
        return await self._in_thread(lambda: self._rows.entries(self._rows.keys()))

    def entries(self) -> Iterator[Entry]:
        """Every entry, in no order."""
        for row in self._rows.all_keys():
            if row.startswith("m:") and (entry := self.get(row[2:])) is not None:
                yield entry

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._directory

    def takes(self, size: int) -> bool:
        """Whether a body of `size` bytes may be put: it mustn't drive out everything else."""
        return size <= max(self._limit // 2, 2**20)

    def spool(self, name: str, limit: int) -> Spool:
        """A place to collect a body of at most `limit` bytes, which `put` takes later. The same
        `name` finds again what was left half done."""
        return self._spools.make(name, limit)

    async def check_writable(self) -> None:
        """Write something. Raises StoreError if that fails. Asked again soon, it only repeats what
        it found."""
        await self._probe.check(self._in_thread)

    def statistics(self) -> dict[str, int]:
        """`bytes` on disk, `limit`, `evictions` and `damaged` since the start."""
        return {
            "bytes": int(self._cache.volume()),
            "limit": self._limit,
            "evictions": self.evictions,
            "damaged": self.damaged,
        }

    def _count_damage(self, entry: Entry) -> None:
        self.damaged += 1
        self._on_damage(entry)

    # What follows runs in the store's thread, except the reads.

    async def _in_thread[T](self, function: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        # A client that hangs up must not leave a write half awaited.
        return await asyncio.shield(loop.run_in_executor(self._executor, guarded, function, *args))

    def _put(self, items: Iterable[tuple[Entry, bytes | Path]]) -> None:
        items = list(items)
        old = [entry for item, _ in items if (entry := self._rows.stored(item.key)) is not None]
        disk: SafeDisk = self._cache.disk
        disk.created.clear()
        try:
            with self._cache.transact():
                for entry, body in items:
                    value = Adopted(body) if isinstance(body, Path) else body
                    self._cache.set(entry.body_key, value)
                self._rows.describe([entry for entry, _ in items])
        except BaseException:
            # The rows were rolled back; their files are nobody's.
            disk.forget_created()
            raise
        # Here, and not by whoever waits: it may have stopped waiting.
        for entry, _ in items:
            self._entries[entry.key] = entry
            self._used.pop(entry.key, None)
        kept = {entry.body_key for entry, _ in items}
        self._rows.delete([entry.body_key for entry in old if entry.body_key not in kept])

    def _write_update(self, entries: Iterable[Entry]) -> None:
        """Meanwhile there may be another body: then what is known of the old one is of no use."""
        self._rows.describe(
            entry for entry in entries if _same(entry, self._rows.stored(entry.key))
        )

    def _write_used(self, entries: Iterable[Entry]) -> None:
        """Only the time of last use: meanwhile there may be another body."""
        current = []
        for entry in entries:
            stored = self._rows.stored(entry.key)
            if stored is not None and _same(entry, stored):
                current.append(replace(stored, used_at=entry.used_at))
        self._rows.describe(current)

    def _discard(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            stored = self._rows.stored(entry.key)
            if stored is None or _same(entry, stored):
                self._rows.delete([f"m:{entry.key}", entry.body_key])
                self._entries.pop(entry.key, None)

    def _quarantine(self, entry: Entry, why: str) -> None:
        body = self._rows.read(entry.body_key)
        try:
            put_aside(self._directory, entry, body, why, now=self._clock())
        except OSError as error:
            logger.warning("%s can't be kept in quarantine: %s", entry.key, error)
        finally:
            if body is not None and not isinstance(body, bytes):
                body.close()
        self._discard([entry])

    def _sweep(
        self, spare: Collection[str] = (), unwanted: Collection[Entry] = (), dry: bool = False
    ) -> Swept:
        """`spare` are keys that stay in any case."""
        used, pinned = dict(self._used), self.pins.keys
        rows = self._rows.all_keys()
        try:
            entries = {entry.key: entry for entry in self._rows.entries(rows)}
            good = {row for e in entries.values() for row in (f"m:{e.key}", e.body_key)}
            # Of another trust, or unreadable: of no use to anybody.
            useless = [row for row in rows if row not in good]
            freed = sum(map(self._rows.size_of, useless))
        except StoreError as error:
            # Too large for a while is better than rid of what couldn't be read just now.
            logger.warning("nothing is evicted: %s", error)
            return Swept()
        present = (entries.get(entry.key) for entry in unwanted)
        gone = [e for e, there in zip(unwanted, present, strict=True) if _same(e, there)]
        freed += sum(entry.size for entry in gone)
        if not dry:
            self._rows.delete(useless)
            self._discard(gone)
        for key in (*spare, *(entry.key for entry in gone)):
            entries.pop(key, None)
        evicted: list[Entry] = []
        volume = self._cache.volume() - (freed if dry else 0)
        goal = self._limit * (_EVICT_TO if volume > self._limit else 1)
        while volume > goal:
            chosen = expendable(entries.values(), excess=volume - goal, pinned=pinned, used=used)
            for entry in chosen:
                del entries[entry.key]
            evicted += chosen
            if dry or not chosen:
                break
            self._discard(chosen)
            self.evictions += len(chosen)
            volume = self._cache.volume()
        freed += sum(entry.size for entry in evicted)
        return Swept(tuple(gone), len(useless), tuple(evicted), freed)


def _same(entry: Entry, other: Entry | None) -> bool:
    """Whether they have the same body."""
    return other is not None and entry.sha256 == other.sha256
