"""The engine: one `get` that joins store, upstream and the rules between them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from hexcache import freshness, resources
from hexcache.errors import UpstreamError, VerificationError
from hexcache.flights import Flight, Flights
from hexcache.freshness import Copy, Decision, Network, Policy, Wishes
from hexcache.messages import Content, Outcome, Reply, Request, read
from hexcache.passing import pass_through
from hexcache.refresh import Missing, Refresher, Result
from hexcache.registry import KeyRing, Package, Release
from hexcache.replies import Found, Refused, Replies
from hexcache.resources import Kind, Resource
from hexcache.settings import Settings
from hexcache.store import Entry, FileBody, Store
from hexcache.upstream import Upstream

logger = logging.getLogger(__name__)

# How often a stored body may turn out to be damaged before we stop looking for a good one.
_TRIES = 3
_REMEMBERED = 10_000
# A client that got a CSV asks for its signature next, within seconds.
_PAIR_SECONDS = 60.0
_PAIRS = 1_000


@dataclass(frozen=True)
class _Pair:
    """The signature that belongs to the CSV which a client got last."""

    csv_key: str
    signature: Entry
    body: Content
    at: float


class Engine:
    """Answers requests for Hex. `clock`: seconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        upstream: Upstream,
        *,
        keys: KeyRing,
        builds_keys: KeyRing,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._clock = clock
        self._policy = Policy(
            registry_fresh=settings.cache.registry_fresh,
            max_stale=settings.cache.max_stale,
            patience=settings.upstream.patience,
            verify=settings.cache.verify,
        )
        self._refresher = Refresher(
            store,
            upstream,
            keys=keys if settings.cache.verify else None,
            builds_keys=builds_keys if settings.cache.verify else None,
            clock=clock,
        )
        self._replies = Replies(settings, store, clock)
        self._flights: Flights[Result] = Flights()
        self._missing: dict[str, float] = {}
        self._pairs: dict[str, _Pair] = {}
        self.offline = settings.offline

    async def close(self) -> None:
        """End the fetches that are under way. The store and upstream are the caller's."""
        await self._flights.close()

    async def get(self, request: Request) -> Reply:
        """Answer a request. Never raises for anything that a client or upstream did."""
        resource = None
        if request.method in ("GET", "HEAD"):
            resource = resources.parse(request.host, request.target)
        if resource is None:
            if self.offline:
                reason = "it is passed through, never stored, and Hexcache is offline"
                return self._replies.refuse(request, None, Refused(504, reason, offline=True))
            return await pass_through(self._upstream, request)
        for _ in range(_TRIES):
            try:
                found = await self._find(resource, request)
            except VerificationError as error:
                logger.error("%s is refused: %s", resource, error)
                found = Refused(502, str(error))
            except UpstreamError as error:
                found = Refused(504 if error.status is None else 502, str(error))
            if isinstance(found, Refused):
                return self._replies.refuse(request, resource, found)
            reply = await self._replies.serve(request, resource, found)
            if reply is not None:
                if resource.kind is Kind.CSV:
                    await self._remember_pair(resource, found.entry, request.client)
                return reply
        return self._replies.refuse(
            request, resource, Refused(502, "its stored copy is damaged again and again")
        )

    @property
    def _network(self) -> Network:
        return Network.OFFLINE if self.offline else Network.UP

    @property
    def _served(self) -> Outcome:
        """What serving from the store without a question is called."""
        return Outcome.OFFLINE if self.offline else Outcome.HIT

    async def _find(self, resource: Resource, request: Request) -> Found | Refused:
        if resource.kind is Kind.TARBALL and self._policy.verify:
            return await self._find_tarball(resource, request.wishes)
        if resource.kind is Kind.SIGNATURE:
            return await self._find_signature(resource, request)
        return await self._find_plain(resource, request.wishes)

    async def _find_plain(self, resource: Resource, wishes: Wishes) -> Found | Refused:
        """Whatever ages: registry messages, CSVs, docs, the public key, installs."""
        entry = self._store.get(resource.key)
        flight = self._flights.get(resource.key)
        copy = None
        if entry is not None:
            age = self._clock() - entry.checked_at
            copy = Copy(entry.kind, age, flight.running_for if flight else None)
        decision = freshness.decide(copy, self._policy, self._network, wishes)
        if decision is Decision.REFUSE or (entry is None and decision is not Decision.FETCH):
            return self._refused(resource)
        if entry is not None and decision is Decision.SERVE:
            return Found(entry, self._served)
        if entry is not None and decision is Decision.SERVE_STALE:
            return Found(entry, Outcome.STALE, detail="upstream can't be asked")
        if not wishes.no_cache and self._is_known_missing(resource):
            return Refused(404, "upstream has no such file")
        flight, joined = self._refresh(resource)
        if entry is None or decision is Decision.FETCH:
            return self._judge(resource, await flight.result(), joined)
        patience = self._settings.upstream.patience
        if not await flight.done_within(patience - flight.running_for):
            return Found(entry, Outcome.STALE, detail="upstream is slow")
        try:
            return self._judge(resource, await flight.result(), joined)
        except (UpstreamError, VerificationError) as error:
            if isinstance(error, VerificationError):
                logger.error("%s is refused, the stored copy is served: %s", resource, error)
            return Found(entry, Outcome.STALE, detail=str(error))

    async def _find_tarball(self, resource: Resource, wishes: Wishes) -> Found | Refused:
        """hexpm lets owners replace a release under the same URL: only the newest verified
        registry entry that we hold can tell whether a stored tarball is still the right one."""
        entry = self._store.get(resource.key)
        about = resources.package(resource.name)
        registry_entry = self._store.get(about.key)
        package = await self._refresher.package(registry_entry) if registry_entry else None
        release = package.by_version.get(resource.version) if package else None
        if entry and release and entry.sha256 == release.outer_checksum:
            return Found(entry, self._served, registry_entry=registry_entry)
        # A tarball whose registry entry was lost was verified when it came.
        usable = entry if package is None else None
        if self.offline or wishes.only_if_cached:
            return Found(usable, Outcome.OFFLINE) if usable else self._refused(resource)
        if self._is_known_missing(resource) and not wishes.no_cache:
            return Refused(404, "upstream has no such release")
        if release is None:
            try:
                package = await self._newest(about)
            except (UpstreamError, VerificationError) as error:
                if usable:
                    return Found(usable, Outcome.STALE, detail=str(error))
                raise
            release = package.by_version.get(resource.version) if package else None
            if release is None:
                self._remember_missing(resource)
                return Refused(404, f"the registry has no {resource.name} {resource.version}")
            if entry and entry.sha256 == release.outer_checksum:
                return Found(entry, Outcome.REVALIDATED, registry_entry=self._store.get(about.key))
        named = release
        flight, joined = self._flights.join(
            resource.key, lambda: self._fetch_tarball(resource, about, named)
        )
        return self._judge(resource, await flight.result(), joined)

    async def _fetch_tarball(self, resource: Resource, about: Resource, release: Release) -> Result:
        try:
            return await self._refresher.refresh(resource, release)
        except VerificationError as mismatch:
            # Replaced a moment ago: the tarball is new, our registry entry isn't yet.
            package = await self._newest(about)
            newer = package.by_version.get(resource.version) if package else None
            if newer is None or newer.outer_checksum == release.outer_checksum:
                raise mismatch
            return await self._refresher.refresh(resource, newer)

    async def _newest(self, about: Resource) -> Package | None:
        """The registry entry as upstream has it now; None if there is no such package."""
        flight, _ = self._refresh(about)
        result = await flight.result()
        if isinstance(result, Missing):
            return None
        return await self._refresher.package(result.entry)

    async def _find_signature(self, resource: Resource, request: Request) -> Found | Refused:
        """A `.signed` always belongs to the CSV that this client got."""
        csv = resources.csv_of(resource)
        pair = self._pairs.get(request.client)
        if pair and pair.csv_key == csv.key and self._clock() - pair.at < _PAIR_SECONDS:
            return Found(pair.signature, self._served, body=pair.body)
        found = await self._find_plain(csv, request.wishes)
        if isinstance(found, Refused):
            return found
        entry = self._store.get(resource.key)
        if entry is not None and entry.generation == found.entry.sha256:
            return replace(found, entry=entry, body=None)
        if self.offline:
            return self._refused(resource)
        flight, joined = self._refresh(csv)
        judged = self._judge(csv, await flight.result(), joined)
        entry = self._store.get(resource.key)
        if isinstance(judged, Refused) or entry is None:
            return judged if isinstance(judged, Refused) else self._refused(resource)
        return replace(judged, entry=entry, body=None)

    async def _remember_pair(self, csv: Resource, entry: Entry, client: str) -> None:
        signature = self._store.get(resources.signature_of(csv).key)
        if signature is None or signature.generation != entry.sha256:
            return
        if body := await self._store.read(signature):
            while len(self._pairs) >= _PAIRS:
                del self._pairs[next(iter(self._pairs))]
            content = Content(await read(body))
            self._pairs[client] = _Pair(csv.key, signature, content, self._clock())

    def _refresh(self, resource: Resource) -> tuple[Flight[Result], bool]:
        return self._flights.join(resource.key, lambda: self._refresher.refresh(resource))

    def _judge(self, resource: Resource, result: Result, joined: bool) -> Found | Refused:
        if isinstance(result, Missing):
            self._remember_missing(resource)
            return Refused(result.status, "upstream has no such file")
        self._missing.pop(resource.key, None)
        if joined:
            outcome = Outcome.COALESCED
        else:
            outcome = Outcome.REVALIDATED if result.status == 304 else Outcome.MISS
        return Found(
            result.entry,
            outcome,
            body=None if isinstance(result.body, FileBody) else result.body,
            forwarded=result.status,
            stored=result.stored,
        )

    def _refused(self, resource: Resource) -> Refused:
        if self.offline:
            return Refused(504, self._replies.offline(resource.path), offline=True)
        return Refused(504, "it is not stored, and upstream may not be asked")

    def _is_known_missing(self, resource: Resource) -> bool:
        at = self._missing.get(resource.key)
        if at is None:
            return False
        if 0 <= self._clock() - at < self._settings.cache.missing_fresh:
            return True
        del self._missing[resource.key]
        return False

    def _remember_missing(self, resource: Resource) -> None:
        while len(self._missing) >= _REMEMBERED:
            del self._missing[next(iter(self._missing))]
        self._missing[resource.key] = self._clock()
