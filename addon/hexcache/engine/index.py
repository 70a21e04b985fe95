"""One question instead of many: what /versions says about stored registry entries.

Hex asks for every locked package again on each run. One conditional request for /versions tells
of all of them whether a release came or went; what it can't tell is asked for as before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from hexcache import registry
from hexcache.engine.refresh import Refresher
from hexcache.errors import HexcacheError, UpstreamError
from hexcache.messages import read
from hexcache.registry import Package
from hexcache.resources import VERSIONS
from hexcache.storage.entries import Entry
from hexcache.storage.store import Store

logger = logging.getLogger(__name__)

# hexpm lets a release be replaced within 24 hours of the package's creation, else within one.
MUTABLE_SECONDS = 24 * 3600.0
_ASK_AGAIN = 30.0
_LONGEST_USELESS = 24 * 3600.0


@dataclass(frozen=True)
class _Decoded:
    sha256: str
    checked_at: float
    packages: dict[str, frozenset[str]]


class VersionsIndex:
    """`refresh` brings /versions up to date; it gives None if that takes so long that asking for
    each entry is better, and raises HexcacheError if it can't. `fresh` and `recheck` are the
    settings, `patience` is how long an entry waits for it; all in seconds."""

    def __init__(
        self,
        store: Store,
        refresher: Refresher,
        refresh: Callable[[], Awaitable[Entry | None]],
        *,
        fresh: float,
        recheck: float,
        patience: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._refresher = refresher
        self._refresh = refresh
        self._decoding = asyncio.Lock()
        self._fresh = fresh
        self._recheck = recheck
        self._patience = patience
        self._failures = 0
        self._clock = clock
        self._monotonic = monotonic
        self._decoded: _Decoded | None = None
        self._useless_until = 0.0
        self._refreshing: asyncio.Task[Entry | None] | None = None
        self._started = 0.0

    async def vouched_at(self, entry: Entry, package: Package) -> float | None:
        """When `package`, stored as `entry`, was current as far as /versions knows; None if it
        can't tell."""
        now = self._clock()
        if not 0 <= now - entry.asked_at < self._recheck or now < self._useless_until:
            return None
        # Without a date a release may be new, and then it may be replaced: /versions won't say.
        if any(
            release.published_at is None or now - release.published_at < MUTABLE_SECONDS
            for release in package.releases
        ):
            return None
        versions = await self._versions()
        # None of ours may be gone, and none of theirs may be missing here (a CDN may lag).
        if versions is None or versions.packages.get(package.name) != frozenset(package.by_version):
            return None
        return versions.checked_at

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    async def _versions(self) -> _Decoded | None:
        entry = await self._refresher.stored(VERSIONS)
        if entry is None or not 0 <= self._clock() - entry.checked_at < self._fresh:
            entry = await self._current()
        if entry is None:
            return None
        # One of those who wait decodes it for all.
        async with self._decoding:
            if self._decoded is None or self._decoded.sha256 != entry.sha256:
                self._decoded = await self._decode(entry)
            elif self._decoded.checked_at < entry.checked_at:
                self._decoded = replace(self._decoded, checked_at=entry.checked_at)
        return self._decoded

    async def _decode(self, entry: Entry) -> _Decoded | None:
        body = await self._store.read(entry)
        if body is None:
            return None
        # Verified before it was stored. A few megabytes: not in the event loop.
        versions = await asyncio.to_thread(
            registry.decode_versions, await read(body), None, repository=""
        )
        packages = {name: frozenset(v) for name, v in versions.packages.items()}
        return _Decoded(entry.sha256, entry.checked_at, packages)

    async def _current(self) -> Entry | None:
        """The refreshed entry, if it comes while it is of use: who waits for an entry has to have
        time left to ask for that. The time is spent once, not for each entry anew."""
        if self._refreshing is None or self._refreshing.done():
            self._started = self._monotonic()
            self._refreshing = asyncio.create_task(self._refreshed())
        left = self._started + self._patience - self._monotonic()
        await asyncio.wait({self._refreshing}, timeout=max(left, 0.0))
        return self._refreshing.result() if self._refreshing.done() else None

    async def _refreshed(self) -> Entry | None:
        entry, useless = None, 0.0
        try:
            entry = await self._refresh()
        except UpstreamError as error:
            # The line; who knows when it is back.
            logger.debug("/versions can't be had: %s", error)
            useless = _ASK_AGAIN
        except HexcacheError as error:
            logger.debug("/versions is of no use: %s", error)
        if entry is not None:
            self._failures = 0
            return entry
        # A repository without it, or a line on which a megabyte takes too long to pay, and is in
        # the way of what somebody waits for: tried less and less often.
        if not useless:
            useless = min(self._recheck * 2.0**self._failures, _LONGEST_USELESS)
            self._failures += 1
        self._useless_until = self._clock() + useless
        return None
