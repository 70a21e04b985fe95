"""The engine: one `get` that joins store, upstream and the rules between them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from hexcache import freshness, resources
from hexcache.entries import Entry, FileBody
from hexcache.errors import StoreError, UpstreamError, VerificationError
from hexcache.flights import Flight
from hexcache.freshness import Copy, Decision, Network, Policy
from hexcache.index import VersionsIndex
from hexcache.landing import Landings
from hexcache.messages import Content, Outcome, Reply, Request, read
from hexcache.pace import Pace
from hexcache.pairs import Pairs
from hexcache.passing import pass_through
from hexcache.picture import Pictures
from hexcache.prefetch import Prefetcher
from hexcache.progress import Progress
from hexcache.refresh import Fetched, Missing, Refresher, Result
from hexcache.registry import KeyRing, Package, Release
from hexcache.replies import Found, Refused, Replies
from hexcache.resources import VERSIONS, Kind, Resource
from hexcache.settings import Settings
from hexcache.store import Store
from hexcache.transfer import Transfers
from hexcache.upstream import Upstream

logger = logging.getLogger(__name__)

# How often a stored body may turn out to be damaged before we stop looking for a good one.
_TRIES = 3
_REMEMBERED = 10_000


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
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._clock = clock
        pace = pace or Pace()
        cache, patience = settings.cache, settings.upstream.patience
        self._policy = Policy(
            registry_fresh=cache.registry_fresh,
            max_stale=cache.max_stale,
            patience=patience,
            verify=cache.verify,
        )
        give_up = settings.upstream.give_up
        self._refresher = Refresher(
            store,
            Transfers(upstream, store.spool, give_up=give_up, pace=pace),
            keys=keys if cache.verify else None,
            builds_keys=builds_keys if cache.verify else None,
            clock=clock,
        )
        self._index = VersionsIndex(
            store,
            self._refresh_versions,
            fresh=cache.registry_fresh,
            recheck=cache.registry_recheck if cache.verify else 0.0,
            patience=patience / 2,
            clock=clock,
        )
        self._prefetcher = Prefetcher(self._may_prefetch, self._prefetch)
        self._pictures = Pictures(store, self._refresher)
        self._replies = Replies(settings, store, clock)
        self._landings = Landings(upstream, self._replies, pace)
        self._missing: dict[str, float] = {}
        self._pairs = Pairs(clock)

    @property
    def offline(self) -> bool:
        """Nothing is asked of Hex while this is set; a body that is coming in may finish."""
        return self._upstream.gate.closed

    @offline.setter
    def offline(self, offline: bool) -> None:
        self._upstream.gate.closed = offline

    async def close(self) -> None:
        """End the fetches that are under way. The store and upstream are the caller's."""
        await self._prefetcher.close()
        await self._index.close()
        await self._landings.close()

    @property
    def is_busy(self) -> bool:
        """Whether anything is being fetched, for a client or behind."""
        return len(self._landings) > 0 or self._prefetcher.is_busy

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
                if isinstance(found, Reply):
                    return found
                if isinstance(found, Found):
                    reply = await self._replies.serve(request, resource, found)
                    if reply is None:
                        continue
                    if resource.kind is Kind.CSV:
                        await self._remember_pair(resource, found.entry, request)
                    return reply
            except StoreError as error:
                found = Refused(503, str(error))
            except VerificationError as error:
                found = Refused(502, str(error))
            except UpstreamError as error:
                found = Refused(504 if error.status is None else 502, str(error))
            return self._replies.refuse(request, resource, found)
        return self._replies.refuse(
            request, resource, Refused(502, "its stored copy is damaged again and again")
        )

    def _network(self, resource: Resource) -> Network:
        if self.offline:
            return Network.OFFLINE
        return Network.DOWN if self._upstream.is_down(resource.origin) else Network.UP

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
        uncertain = (Outcome.STALE, Outcome.OFFLINE)
        if (
            isinstance(found, Found)
            and resource.kind is Kind.PACKAGE
            and found.outcome in uncertain
            # Who has seen the newest entry fails hard on an older one; slowness is no reason.
            and not found.slow
            and self._policy.verify
        ):
            return replace(found, entry=await self._pictures.consistent(resource, found.entry))
        return found

    async def _find_plain(self, resource: Resource, request: Request) -> Found | Refused | Reply:
        """Whatever ages: registry messages, CSVs, docs, the public key, installs."""
        wishes = request.wishes
        entry = await self._refresher.stored(resource)
        flight = self._landings.get(resource)
        copy = None
        if entry is not None:
            age = self._clock() - entry.checked_at
            copy = Copy(entry.kind, age, flight.running_for if flight else None)
        decision = freshness.decide(copy, self._policy, self._network(resource), wishes)
        if decision is Decision.REFUSE or (entry is None and decision is not Decision.FETCH):
            return self._refused(resource)
        if entry is not None and decision is Decision.SERVE:
            return Found(entry, self._served)
        if entry is not None and decision is Decision.SERVE_STALE:
            return Found(entry, Outcome.STALE, detail=self._upstream.why_down(resource.origin))
        if not wishes.no_cache and self._is_known_missing(resource):
            return Refused(404, "upstream has no such file")
        flight, joined = self._refresh(resource)
        if entry is None or decision is Decision.FETCH:
            return await self._land(resource, flight, joined, request)
        patience = self._policy.patience
        if not await flight.done_within(patience - flight.running_for):
            return Found(entry, Outcome.STALE, detail="upstream is slow", slow=True)
        try:
            return self._judge(resource, await flight.result(), joined)
        except (UpstreamError, VerificationError) as error:
            return Found(entry, Outcome.STALE, detail=str(error))

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
            return await self._find_usable(resource, about, entry, reason) or self._refused(
                resource
            )
        if self._is_known_missing(resource) and not wishes.no_cache:
            return Refused(404, "upstream has no such release")
        try:
            if release is None:
                release = await self._newest_release(resource, about)
                if release is None:
                    self._remember_missing(resource)
                    return Refused(404, f"the registry has no {resource.name} {resource.version}")
                if entry and entry.sha256 == release.outer_checksum:
                    current = self._store.get(about.key)
                    return Found(entry, Outcome.REVALIDATED, registry_entry=current)
            flight, joined = self._fetch_tarball(resource, about, release)
            return await self._land(resource, flight, joined, request)
        except UpstreamError as error:
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
        if not lost and entry.sha256 != await self._pictures.named_before(about, resource.version):
            return None
        return Found(entry, Outcome.OFFLINE if self.offline else Outcome.STALE, detail=reason)

    async def _newest_release(self, resource: Resource, about: Resource) -> Release | None:
        """What the registry says of a tarball as upstream has it now."""
        flight, _ = self._refresh(about, itself=True)
        package = await self._package_of(await self._landings.result(about, flight))
        return package.by_version.get(resource.version) if package else None

    async def _package_of(self, result: Result) -> Package | None:
        if isinstance(result, Missing):
            return None
        return await self._refresher.package(result.entry)

    def _fetch_tarball(
        self, resource: Resource, about: Resource, release: Release
    ) -> tuple[Flight[Result], bool]:
        async def fetch(progress: Progress) -> Result:
            try:
                return await self._refresher.refresh(resource, release, progress)
            except VerificationError as mismatch:
                # Replaced a moment ago: the tarball is new, our registry entry isn't yet.
                newer = await self._newest_release(resource, about)
                if newer is None or newer.outer_checksum == release.outer_checksum:
                    raise mismatch
                return await self._refresher.refresh(resource, newer, progress)

        return self._landings.start(resource, fetch)

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
        if entry is None or entry.generation != found.entry.sha256:
            if self.offline:
                return self._refused(resource)
            flight, joined = self._refresh(csv)
            judged = self._judge(csv, await self._landings.result(csv, flight), joined)
            entry = self._store.get(resource.key)
            if isinstance(judged, Refused):
                return judged
            if entry is None:
                return Refused(404, "upstream has no signature of it")
            found = judged
        return replace(found, entry=entry, body=None)

    async def _remember_pair(self, csv: Resource, entry: Entry, request: Request) -> None:
        signature = self._store.get(resources.signature_of(csv).key)
        if signature is None or signature.generation != entry.sha256:
            return
        if body := await self._store.read(signature):
            self._pairs.remember(request, csv, signature, Content(await read(body)))

    def _refresh(self, resource: Resource, *, itself: bool = False) -> tuple[Flight[Result], bool]:
        """Bring `resource` up to date; `itself`: no index's word will do."""
        if resource.kind is Kind.PACKAGE:
            return self._landings.join(
                resource, lambda: self._refresh_package(resource, itself=itself)
            )

        async def refresh(progress: Progress) -> Result:
            return await self._refresher.refresh(resource, progress=progress)

        return self._landings.start(resource, refresh)

    async def _refresh_package(self, about: Resource, *, itself: bool) -> Result:
        entry = await self._refresher.stored(about)
        package = await self._refresher.package(entry) if entry else None
        if (
            entry is not None
            and package is not None
            and not itself
            and await self._index.vouches_for(entry, package)
        ):
            current = replace(entry, checked_at=self._clock())
            await self._store.update(current)
            return Fetched(current, 304)
        old = await self._pictures.before(about) if self._policy.verify else None
        result = await self._refresher.refresh(about)
        if isinstance(result, Fetched) and result.status == 200:
            if old is not None and old[0].sha256 != result.entry.sha256:
                with contextlib.suppress(StoreError):
                    await self._pictures.keep(about, old)
            if self._settings.prefetch and (package := await self._package_of(result)):
                self._prefetcher.ahead_of(package)
        return result

    async def _refresh_versions(self) -> Entry | None:
        flight, _ = self._refresh(VERSIONS)
        result = await flight.result()
        return result.entry if isinstance(result, Fetched) else None

    def _may_prefetch(self, about: Resource) -> bool:
        if self._network(about) is not Network.UP or self._is_known_missing(about):
            return False
        return self._store.get(about.key) is None and self._landings.get(about) is None

    async def _prefetch(self, about: Resource) -> None:
        flight, joined = self._refresh(about)
        self._judge(about, await flight.result(), joined)

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
        if self._upstream.is_down(resource.origin):
            return Refused(504, self._upstream.why_down(resource.origin))
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
