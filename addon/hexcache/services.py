"""What runs beside the proxy's listeners: the status port, the control socket, what keeps lock
files and packages present, and the keeping of the history."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from hexcache.assembly import Parts
from hexcache.errors import HexcacheError, StoreError
from hexcache.jobs.control import Control
from hexcache.jobs.joblist import JOBS
from hexcache.jobs.keeper import Keeper
from hexcache.messages import Reply, Request
from hexcache.monitoring.local import answer
from hexcache.monitoring.observing import Observatory
from hexcache.monitoring.page.routes import Page
from hexcache.monitoring.status import Readiness, Status
from hexcache.storage.library import Library
from hexcache.values import Address

# A process that is killed loses so many seconds of its history.
_SAVE_EVERY = 5.0


class Services:
    """`what_is_missing` says in a few words why the proxy's own listeners don't answer, or nothing
    if they do."""

    def __init__(self, parts: Parts, what_is_missing: Callable[[], str]) -> None:
        self._parts = parts
        self._what_is_missing = what_is_missing
        self._control = Control(parts, JOBS)
        self.keeper = Keeper(parts)
        self._library = Library(parts.settings)
        self._recorder: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._status = Status(
            parts.settings.listen.status,
            parts.authority,
            self._readiness,
            [
                *Observatory(parts).routes(),
                *Page(parts, self._library, self._readiness).routes(),
            ],
            parts.settings.listen.status_names,
        )

    @property
    def status_addresses(self) -> list[Address]:
        """Where the status port really is."""
        return self._status.addresses

    async def local(self, request: Request) -> Reply:
        """What the status port says, or would say if there were one."""
        return await answer(request, self._status.connect)

    async def start(self) -> None:
        """Raises HexcacheError; then nothing is left open."""
        try:
            await self._status.start()
            await self._control.start()
            await self.keeper.start()
        except HexcacheError:
            await self.close()
            raise
        self._recorder = asyncio.create_task(self._keep_history())

    async def close(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._library.close)
            if self._recorder is not None:
                self._closing.set()
                stack.push_async_callback(asyncio.wait, {self._recorder})
            stack.push_async_callback(self._control.close)
            stack.push_async_callback(self.keeper.close)
            stack.push_async_callback(self._status.close)

    async def _keep_history(self) -> None:
        history = self._parts.history
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SAVE_EVERY):
                    await self._closing.wait()
            if (content := history.encoded()) is not None:
                await asyncio.to_thread(history.write, content)

    async def _readiness(self) -> Readiness:
        why, cant_store = self._what_is_missing(), ""
        if not why:
            try:
                await self._parts.store.check_writable()
            except StoreError as error:
                why, cant_store = str(error), error.reason or "its disk can't be written"
        upstream = self._parts.upstream.statistics()
        return Readiness(why, self._parts.engine.offline, upstream, cant_store)
