"""The offline flag, where it takes effect: at the door that every request for Hex goes through."""

from __future__ import annotations

import asyncio

from hexcache.errors import OfflineError


class Gate:
    """Open, or closed while the offline flag is set."""

    def __init__(self, *, closed: bool) -> None:
        self._open = asyncio.Event()
        self.closed = closed

    @property
    def closed(self) -> bool:
        return not self._open.is_set()

    @closed.setter
    def closed(self, closed: bool) -> None:
        if closed:
            self._open.clear()
        else:
            self._open.set()

    async def opened(self) -> None:
        """Return when it is open."""
        await self._open.wait()

    def check(self, host: str) -> None:
        """Raises OfflineError unless it is open."""
        if self.closed:
            raise OfflineError(f"{host} is not asked: Hexcache is offline")
