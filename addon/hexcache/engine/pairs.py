"""Which signature belongs to the CSV that a client got.

A client asks for a CSV and then for its `.signed`. Both come from one generation, even if another
client brought in a newer one in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hexcache import resources
from hexcache.engine.replies import Found
from hexcache.messages import Content, Request, read
from hexcache.resources import Resource
from hexcache.storage.entries import Entry
from hexcache.storage.store import Store

# The second request follows within seconds.
_SECONDS = 60.0
_REMEMBERED = 1_000


@dataclass(frozen=True)
class _Pair:
    csv_key: str
    signature: Entry
    body: Content
    at: float


class Pairs:
    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._pairs: dict[str, _Pair] = {}

    async def remember(self, request: Request, csv: Resource, found: Found) -> None:
        """This client gets `found` of `csv`. Raises StoreError.

        Behind a forwarder all clients have one address, and a new connection for the second
        request has another identity: both are noted, the connection is believed first.
        """
        signed_by = found.signature or await self._stored(csv, found.entry)
        if signed_by is None:
            return
        pair = _Pair(csv.key, *signed_by, self._clock())
        for who in filter(None, (request.connection, request.client)):
            while len(self._pairs) >= _REMEMBERED:
                del self._pairs[next(iter(self._pairs))]
            self._pairs[who] = pair

    def get(self, request: Request, csv: Resource) -> tuple[Entry, Content] | None:
        """The signature that belongs to what this client got of `csv`, if it got it just now."""
        pair = self._pairs.get(request.connection) or self._pairs.get(request.client)
        if pair is None or pair.csv_key != csv.key or self._clock() - pair.at >= _SECONDS:
            return None
        return pair.signature, pair.body

    async def _stored(self, csv: Resource, entry: Entry) -> tuple[Entry, Content] | None:
        signature = self._store.get(resources.signature_of(csv).key)
        if signature is None or signature.generation != entry.sha256:
            return None
        body = await self._store.read(signature)
        return None if body is None else (signature, Content(await read(body)))
