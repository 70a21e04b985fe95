"""A body as it grows, and who reads it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hexcache.storage.spool import Source, Spool

_CHUNK = 64 * 2**10


class Lease:
    """Somebody means to read. Released once, at the latest with the object itself: a client may
    hang up before its body was begun."""

    def __init__(self, returned: Callable[[], None]) -> None:
        self._returned: Callable[[], None] | None = returned

    def release(self) -> None:
        returned, self._returned = self._returned, None
        if returned is not None:
            returned()

    def __del__(self) -> None:
        self.release()


class Progress:
    """A body as it grows, for clients that are sent it meanwhile. It stays readable until
    `close` was called and the last reader is gone."""

    def __init__(self) -> None:
        self._spool: Spool | None = None
        self._changed = asyncio.Event()
        self._readers = 0
        self._closed = False
        self.source: Source | None = None
        self.sha256: str | None = None

    def follow(self, spool: Spool) -> None:
        if self._spool is not None:
            self._spool.close()
        self._spool = spool

    def lease(self) -> Lease:
        """Keeps the body readable until it is released, or forgotten."""
        self._readers += 1
        return Lease(self._returned)

    def _returned(self) -> None:
        self._readers -= 1
        self._let_go()

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self.changed()
        self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._readers and self._spool is not None:
            self._spool.close()

    def changed(self) -> None:
        """More came, or something else is known."""
        if self._spool is not None:
            self.source = self._spool.source or self.source
        self._changed.set()
        self._changed = asyncio.Event()

    def finish(self, sha256: str) -> None:
        """The body is whole, and good."""
        self.sha256 = sha256
        self.changed()

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self._spool.size if self._spool else 0

    def read_at(self, position: int) -> bytes:
        assert self._spool is not None
        return self._spool.read_at(position, min(_CHUNK, self._spool.size - position))

    async def wait(self) -> None:
        """Until something changes."""
        await self._changed.wait()
