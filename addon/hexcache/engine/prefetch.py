"""Registry ahead of the question: the entries of a package's dependencies.

A client resolves in rounds: it learns from each entry what to ask for next. Over a line of 200 ms
6 to 9 rounds take longer than everything else, unless the answers are here already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hexcache import resources
from hexcache.errors import HexcacheError
from hexcache.registry import Package
from hexcache.resources import PUBLIC_REPOSITORY, Resource

logger = logging.getLogger(__name__)

_RECENT_RELEASES = 5
_PENDING = 64
# Entries that are fetched ahead of one that somebody asked for: more than any application has.
_AHEAD = 256
_AT_ONCE = 4


class Prefetcher:
    """`wanted` tells whether fetching an entry makes sense now; `fetch` does it. It is told how
    many rounds ahead of a client's question the entry is."""

    def __init__(
        self,
        wanted: Callable[[Resource], bool],
        fetch: Callable[[Resource, int], Awaitable[object]],
    ) -> None:
        self._wanted = wanted
        self._fetch = fetch
        self._pending: dict[Resource, int] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._left = 0

    def ahead_of(self, package: Package, rounds: int) -> None:
        """Fetch, behind, what a client that got `package` asks for next. `package` itself was
        fetched so many rounds ahead; 0: somebody did ask for it."""
        if not rounds:
            self._left = _AHEAD
        for release in reversed(package.releases[-_RECENT_RELEASES:]):
            for dependency in release.dependencies:
                if dependency.repository not in ("", PUBLIC_REPOSITORY):
                    continue
                # Hex asks for optional dependencies too.
                resource = resources.package(dependency.package)
                room = len(self._pending) < _PENDING
                if room and resource not in self._pending and self._wanted(resource):
                    self._pending[resource] = rounds + 1
        while len(self._workers) < min(_AT_ONCE, len(self._pending)):
            task = asyncio.create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
            if task.done():  # under an eager task factory
                self._workers.discard(task)

    @property
    def is_busy(self) -> bool:
        return bool(self._workers)

    async def close(self) -> None:
        self._pending.clear()
        for task in self._workers:
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        # An eager task would take everything before a second worker exists.
        await asyncio.sleep(0)
        while self._pending:
            resource = next(iter(self._pending))
            rounds = self._pending.pop(resource)
            if self._left <= 0 or not self._wanted(resource):
                continue
            self._left -= 1
            try:
                await self._fetch(resource, rounds)
            except HexcacheError as error:
                logger.debug("prefetch of %s: %s", resource, error)
