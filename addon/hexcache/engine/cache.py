"""The engine: one `get` that joins store, upstream and the rules between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from hexcache import freshness, resources
from hexcache.engine.absences import Absences
from hexcache.engine.fetches import Fetches
from hexcache.engine.flights import Flight
from hexcache.engine.landing import Fetch, Landings
from hexcache.engine.pairs import Pairs
from hexcache.engine.passing import pass_through
from hexcache.engine.picture import Pictures
from hexcache.engine.refresh import Missing, Refresher, Result
from hexcache.engine.replies import Found, Refused, Replies
from hexcache.errors import StoreError, UpstreamError, VerificationError
from hexcache.freshness import Copy, Decision, Network, Policy
from hexcache.messages import Headers, Outcome, Reply, Request
from hexcache.network.pace import Pace
from hexcache.network.transfer import Transfers
from hexcache.network.upstream import Upstream
from hexcache.records.telemetry import Telemetry
from hexcache.registry import Package
from hexcache.resources import BUILDS_HOST, REPO_HOST, Kind, Origin, Resource
from hexcache.settings import Settings
from hexcache.storage.entries import Entry, Unstored
from hexcache.storage.store import Store
from hexcache.storage.trust import Trust

logger = logging.getLogger(__name__)

# How often something may turn out to be of no use before we stop looking for better.
_TRIES = 3


class Engine:
    """Answers requests for Hex. `clock`: seconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        upstream: Upstream,
        *,
        trust: Trust,
        clock: Callable[[], float],
        pace: Pace | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._clock = clock
        pace = pace or Pace()
        telemetry = telemetry or Telemetry()
        cache = settings.cache
        self._policy = Policy(
            registry_fresh=cache.registry_fresh,
            max_stale=cache.max_stale,
            patience=settings.upstream.patience,
            verify=cache.verify,
        )
        give_up = settings.upstream.give_up
        self._refresher = Refresher(
            store,
            Transfers(upstream, store.spool, give_up=give_up, pace=pace, telemetry=telemetry),
            keys=trust.registry,
            builds_keys=trust.builds,
            bases=upstream.bases,
            clock=clock,
            telemetry=telemetry,
        )
        self.pictures = Pictures(store, self._refresher)
        self._replies = Replies(
            settings, store, clock, policy=self._policy, trouble=upstream.trouble
        )
        self._landings = Landings(upstream, self._replies, pace)
        self._absences = Absences(cache.missing_fresh, clock)
        self._fetches = Fetches(
            settings,
            store,
            upstream,
            self._refresher,
            self._landings,
            self.pictures,
            self._absences,
            wanted=self._may_prefetch,
            clock=clock,
            monotonic=pace.monotonic,
        )
        self._pairs = Pairs(store, clock)

    @property
    def offline(self) -> bool:
        """Nothing is asked of Hex while this is set; a body that is coming in may finish."""
        return self._upstream.gate.closed

    @offline.setter
    def offline(self, offline: bool) -> None:
        self._upstream.gate.closed = offline

    async def close(self) -> None:
        """End the fetches that are under way. The store and upstream are the caller's."""
        await self._fetches.close()

    @property
    def is_busy(self) -> bool:
        """Whether anything is being fetched, for a client or behind."""
        return self._fetches.are_busy

    def fetches(self) -> list[Fetch]:
        """What is being fetched now, for a client or behind, the oldest first."""
        return self._landings.under_way()

    async def get(self, request: Request) -> Reply:
        """Answer a request. Never raises for anything that a client or upstream did."""
        resource = None
        if request.method in ("GET", "HEAD"):
            resource = resources.parse(request.host, request.target)
        if resource is None:
            if self.offline:
                reason = self._replies.offline(None)
                return self._replies.refuse(request, None, Refused(504, reason, offline=True))
            return await pass_through(self._upstream, request)
        for _ in range(_TRIES):
            try:
                found = await self._look_up(resource, request)
                if isinstance(found, Reply):
                    return found
                if isinstance(found, Found):
                    reply = await self._replies.serve(request, resource, found)
                    if reply is None:
                        continue
                    if resource.kind is Kind.CSV:
                        await self._pairs.remember(request, resource, found)
                    return reply
            except StoreError as error:
                found = Refused(503, str(error), asked=False)
            return self._replies.refuse(request, resource, found)
        return self._replies.refuse(
            request, resource, Refused(502, "its stored copy is damaged again and again")
        )

    async def ensure(self, resource: Resource, *, itself: bool = False) -> Found | Refused:
        """Have `resource` in the store as if a client had asked for it, its body left alone;
        `itself`: upstream is asked about this very thing, however long it takes. Never raises for
        anything that upstream did."""
        wishes = Headers((("cache-control", "no-cache"),)) if itself else Headers()
        host = BUILDS_HOST if resource.origin is Origin.BUILDS else REPO_HOST
        request = Request(method="HEAD", host=host, target=resource.path, headers=wishes)
        try:
            found = await self._look_up(resource, request)
        except StoreError as error:
            return Refused(503, str(error), asked=False)
        assert not isinstance(found, Reply), "only a GET is answered while its body comes in"
        if itself and isinstance(found, Found) and found.slow:
            return await self._landed(resource, found)
        return found

    async def package(self, entry: Entry) -> Package | None:
        """The decoded registry entry that `ensure` found; None if its body is damaged. Raises
        StoreError."""
        return await self._refresher.package(entry)

    async def _landed(self, resource: Resource, found: Found) -> Found | Refused:
        """What comes of the fetch that `found` was not to wait for."""
        flight = self._landings.get(resource)
        if flight is None:
            return found
        try:
            return self._judge(resource, await self._landings.result(resource, flight), joined=True)
        except (UpstreamError, VerificationError) as error:
            return replace(found, detail=str(error), slow=False)

    async def until_reachable(self, resource: Resource, seconds: float) -> bool:
        """Whether upstream may be asked for it, after waiting that long for its return."""
        if self.offline:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._upstream.is_down(resource.origin):
                    await self._upstream.wait_for_change(seconds)
        return not self._upstream.is_down(resource.origin)

    async def _look_up(self, resource: Resource, request: Request) -> Found | Refused | Reply:
        """Raises StoreError."""
        try:
            return await self._find(resource, request)
        except VerificationError as error:
            return Refused(502, str(error), forwarded=200)
        except UpstreamError as error:
            answered = error.status is not None or error.final
            return Refused(502 if answered else 504, str(error), forwarded=error.status)

    def _network(self, resource: Resource) -> Network:
        if self.offline:
            return Network.OFFLINE
        return Network.DOWN if self._upstream.is_down(resource.origin) else Network.UP

    def _pause(self, resource: Resource) -> UpstreamError | None:
        return self._upstream.pause(resource.origin, resource.path)

    @property
    def _served(self) -> Outcome:
        """What serving from the store without a question is called."""
        return Outcome.OFFLINE if self.offline else Outcome.HIT

    async def _find(self, resource: Resource, request: Request) -> Found | Refused | Reply:
        if resource.kind is Kind.TARBALL and self._policy.verify:
            return await self._find_tarball(resource, request)
        if resource.kind is Kind.SIGNATURE:
            return await self._find_signature(resource, request)
        found = await self._find_plain(resource, request)
        if (
            isinstance(found, Found)
            and resource.kind is Kind.PACKAGE
            and self._policy.verify
            # Who has seen the newest entry fails hard on an older one; slowness is no reason.
            and not found.slow
            and (found.outcome is Outcome.STALE or self._network(resource) is not Network.UP)
        ):
            return replace(found, entry=await self.pictures.consistent(resource, found.entry))
        if isinstance(found, Found) and resource.kind is Kind.PACKAGE:
            self.pictures.shown_newest(resource)
        return found

    async def _find_plain(self, resource: Resource, request: Request) -> Found | Refused | Reply:
        """Whatever ages: registry messages, CSVs, docs, the public key, installs."""
        wishes = request.wishes
        entry = await self._refresher.stored(resource)
        flight = self._landings.get(resource)
        # Patience is spent once: not by each client, and not for each entry, anew.
        spent = max(
            flight.running_for if flight else 0.0, self._upstream.silent_for(resource.origin)
        )
        copy = None
        if entry is not None:
            copy = Copy(entry.kind, self._clock() - entry.checked_at, spent)
        network, pause = self._network(resource), None
        if network is Network.UP and (pause := self._pause(resource)):
            network = Network.PAUSED
        decision = freshness.decide(copy, self._policy, network, wishes)
        if decision is Decision.REFUSE or (entry is None and decision is not Decision.FETCH):
            return self._refused(resource)
        if entry is not None and decision is Decision.SERVE:
            return Found(entry, self._served)
        if entry is not None and decision is Decision.SERVE_STALE:
            down = self._upstream.is_down(resource.origin)
            why = self._upstream.why_down(resource.origin) if down else "upstream was not asked"
            detail = str(pause or why)
            return Found(entry, Outcome.STALE, detail=detail, slow=not (down or pause))
        if not wishes.no_cache and resource in self._absences:
            return Refused(404, "upstream has no such file", asked=False)
        flight, joined = self._fetches.refresh(resource, itself=wishes.no_cache)
        if entry is None or decision is Decision.FETCH:
            return await self._land(resource, flight, joined, request)
        if not await self._landings.done_within(resource, flight, self._policy.patience - spent):
            slow = not self._upstream.is_down(resource.origin)
            why = "upstream is slow" if slow else self._upstream.why_down(resource.origin)
            return Found(entry, Outcome.STALE, detail=why, slow=slow)
        try:
            return self._judge(resource, await flight.result(), joined)
        except UpstreamError as error:
            return Found(entry, Outcome.STALE, detail=str(error), forwarded=error.status)
        except VerificationError as error:
            return Found(entry, Outcome.STALE, detail=str(error), forwarded=200)

    async def _find_tarball(self, resource: Resource, request: Request) -> Found | Refused | Reply:
        """hexpm lets owners replace a release under the same URL: only the newest verified
        registry entry that we hold can tell whether a stored tarball is still the right one."""
        wishes = request.wishes
        entry = self._store.get(resource.key)
        about = resources.package(resource.name)
        registry_entry = await self._refresher.stored(about)
        package = await self._refresher.package(registry_entry) if registry_entry else None
        release = package.by_version.get(resource.version) if package else None
        if entry and release and entry.sha256 == release.outer_checksum:
            return Found(entry, self._served, registry_entry=registry_entry)
        network = self._network(resource)
        if network is not Network.UP or wishes.only_if_cached:
            reason = "" if self.offline else self._upstream.why_down(resource.origin)
            usable = await self._find_usable(resource, about, entry, reason)
            return usable or self._refused(resource)
        if resource in self._absences and not wishes.no_cache:
            return Refused(404, "upstream has no such release", asked=False)
        try:
            if release is None:
                release = await self._fetches.newest_release(resource, about)
                if release is None:
                    self._absences.add(resource)
                    reason = f"the registry has no {resource.name} {resource.version}"
                    return Refused(404, reason, asked=False)
                if entry and entry.sha256 == release.outer_checksum:
                    current = self._store.get(about.key)
                    return Found(entry, Outcome.REVALIDATED, registry_entry=current)
            flight, joined = self._fetches.tarball(resource, about, release)
            return await self._land(resource, flight, joined, request)
        except (UpstreamError, VerificationError) as error:
            found = await self._find_usable(resource, about, entry, str(error))
            if found is None:
                raise
            return found

    async def _find_usable(
        self, resource: Resource, about: Resource, entry: Entry | None, reason: str
    ) -> Found | None:
        """A stored tarball that the newest registry entry doesn't name, while nothing better can
        be had: that entry was lost, or clients are being sent the one before."""
        if entry is None:
            return None
        lost = self._store.get(about.key) is None
        up = self._network(resource) is Network.UP
        if not lost and up and not self.pictures.shows_the_one_before(about):
            return None
        if not lost and entry.sha256 != await self.pictures.named_before(about, resource.version):
            return None
        return Found(entry, Outcome.OFFLINE if self.offline else Outcome.STALE, detail=reason)

    async def _find_signature(
        self, resource: Resource, request: Request
    ) -> Found | Refused | Reply:
        """A `.signed` always belongs to the CSV that this client got."""
        csv = resources.csv_of(resource)
        if pair := self._pairs.get(request, csv):
            return Found(pair[0], self._served, body=pair[1])
        found = await self._find_plain(csv, request)
        if not isinstance(found, Found):
            return found
        entry = self._store.get(resource.key)
        if not found.signature and (entry is None or entry.generation != found.entry.sha256):
            if self.offline or request.wishes.only_if_cached:
                return self._refused(resource)
            flight, joined = self._fetches.refresh(csv)
            judged = self._judge(csv, await self._landings.result(csv, flight), joined)
            if isinstance(judged, Refused):
                return judged
            found, entry = judged, self._store.get(resource.key)
        if found.signature:
            return replace(found, entry=found.signature[0], body=found.signature[1])
        if entry is None:
            return Refused(404, "upstream has no signature of it")
        return replace(found, entry=entry, body=None)

    def _may_prefetch(self, about: Resource) -> bool:
        if self._network(about) is not Network.UP or about in self._absences:
            return False
        if self._landings.get(about) is not None or self._pause(about):
            return False
        entry = self._store.get(about.key)
        if entry is not None and not self._policy.registry_fresh:
            return False  # whoever asks for it asks again
        age = 0.0 if entry is None else self._clock() - entry.checked_at
        return entry is None or not freshness.is_fresh(Copy(about.kind, age), self._policy)

    async def _land(
        self, resource: Resource, flight: Flight[Result], joined: bool, request: Request
    ) -> Found | Refused | Reply:
        """Wait for a fetch that nobody can be served without, or send it as it comes."""
        reply = await self._landings.stream(request, resource, flight, joined)
        if reply is not None:
            return reply
        return self._judge(resource, await self._landings.result(resource, flight), joined)

    def _judge(self, resource: Resource, result: Result, joined: bool) -> Found | Refused:
        if isinstance(result, Missing):
            self._absences.add(resource)
            return Refused(result.status, "upstream has no such file", forwarded=result.status)
        self._absences.discard(resource)
        if joined:
            outcome = Outcome.COALESCED
        else:
            outcome = Outcome.REVALIDATED if result.status == 304 else Outcome.MISS
        return Found(
            result.entry,
            outcome,
            body=result.body.body() if isinstance(result.body, Unstored) else result.body,
            forwarded=result.status,
            stored=result.stored,
            replaced=result.replaced,
            signature=result.signature,
        )

    def _refused(self, resource: Resource) -> Refused:
        if self.offline:
            return Refused(504, self._replies.offline(resource.path), offline=True)
        if self._upstream.is_down(resource.origin):
            return Refused(504, self._upstream.why_down(resource.origin), asked=False)
        return Refused(
            504, "it is not stored, and the client wants nothing else", asked=False, declined=True
        )
