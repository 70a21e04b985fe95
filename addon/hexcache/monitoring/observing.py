"""What can be looked at from outside: metrics for Prometheus, numbers as JSON."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from aiohttp import web

from hexcache import __version__
from hexcache.assembly import Parts
from hexcache.errors import StoreError
from hexcache.records.metrics import CONTENT_TYPE, Gauges, exposition
from hexcache.resources import Kind
from hexcache.storage.reading import StoreReader

# How old a count of the entries may be, in seconds: it reads all of their descriptions.
_COUNTED_FOR = 15.0


class Observatory:
    """Looks at a running Hexcache when asked, and changes nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._counting = asyncio.Lock()
        self._counts: dict[str, int] = {}
        self._counted_at = -_COUNTED_FOR

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self._metrics),
            web.get("/api/statistics", self._statistics),
        ]

    async def statistics(self) -> dict[str, Any]:
        """What Telemetry.statistics says, and how it is now: `version`, `offline`, `upstream` (see
        Upstream.statistics), `fetching` (see landing.Fetch), `store` (see Store.statistics, and
        `entries` by kind), `history` (see History.statistics)."""
        parts = self._parts
        return {
            "version": __version__,
            **parts.telemetry.statistics(),
            "offline": parts.engine.offline,
            "upstream": parts.upstream.statistics(),
            "fetching": [asdict(fetch) for fetch in parts.engine.fetches()],
            "store": {**parts.store.statistics(), "entries": await self._entries()},
            "history": parts.history.statistics(),
        }

    async def gauges(self) -> Gauges:
        parts = self._parts
        store = parts.store.statistics()
        return Gauges(
            store_bytes=store["bytes"],
            store_limit=store["limit"],
            evictions=store["evictions"],
            damaged=store["damaged"],
            entries=await self._entries(),
            upstream={name: bool(s["up"]) for name, s in parts.upstream.statistics().items()},
            offline=parts.engine.offline,
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        # It takes a while, and numbers of two moments do no harm.
        body = await asyncio.to_thread(exposition, self._parts.telemetry, await self.gauges())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _statistics(self, _: web.Request) -> web.Response:
        return web.json_response(await self.statistics())

    async def _entries(self) -> dict[str, int]:
        """Entries by kind, each kind named; as they were last if the store can't be read."""
        async with self._counting:
            now = self._parts.clock()
            if not 0 <= now - self._counted_at < _COUNTED_FOR:
                try:
                    found = await asyncio.to_thread(self._count)
                    self._counts = {str(kind): found.get(str(kind), 0) for kind in Kind}
                except StoreError:
                    # It is the writing of which /readyz and the log tell.
                    pass
                self._counted_at = now
        return self._counts

    def _count(self) -> dict[str, int]:
        parts = self._parts
        directory, trust = parts.settings.cache_directory, parts.trust.name
        with StoreReader(directory, trust=trust) as reader:
            return reader.kinds()
