"""What is fetched, and what with it: one fetch per resource whoever asks, the index before the
entry, the dependencies behind it, the picture before kept.

Nothing here decides what a client is served.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from hexcache.entries import Entry
from hexcache.errors import StoreError, UpstreamError, VerificationError
from hexcache.flights import Flight
from hexcache.index import VersionsIndex
from hexcache.landing import Landings
from hexcache.picture import Pictures
from hexcache.prefetch import Prefetcher
from hexcache.progress import Progress
from hexcache.refresh import Fetched, Missing, Refresher, Result
from hexcache.registry import Package, Release
from hexcache.resources import VERSIONS, Kind, Resource
from hexcache.settings import Settings
from hexcache.store import Store
from hexcache.upstream import Upstream

_TRIES = 3
# For how many times the patience /versions, a megabyte, may be in the way of everything else on a
# slow line. Without it each entry is asked for: a few hundred bytes each.
_WORTH_OF_VERSIONS = 2.5


class Fetches:
    """`wanted` tells whether fetching a registry entry that nobody has asked for makes sense
    now."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        upstream: Upstream,
        refresher: Refresher,
        landings: Landings,
        pictures: Pictures,
        *,
        wanted: Callable[[Resource], bool],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        cache = settings.cache
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._refresher = refresher
        self._landings = landings
        self._pictures = pictures
        self._clock = clock
        self._index = VersionsIndex(
            store,
            self._refresh_versions,
            fresh=cache.registry_fresh,
            recheck=cache.registry_recheck if cache.verify else 0.0,
            patience=settings.upstream.patience / 2,
            clock=clock,
            monotonic=monotonic,
        )
        self._versions_seconds = _WORTH_OF_VERSIONS * settings.upstream.patience
        self._prefetcher = Prefetcher(wanted, self._prefetch)

    async def close(self) -> None:
        """End what is under way."""
        await self._prefetcher.close()
        await self._index.close()
        await self._landings.close()

    @property
    def are_busy(self) -> bool:
        """Whether anything is being fetched, for a client or behind."""
        return len(self._landings) > 0 or self._prefetcher.is_busy

    def refresh(
        self, resource: Resource, *, itself: bool = False, ahead: bool = False
    ) -> tuple[Flight[Result], bool]:
        """Bring `resource` up to date; `itself`: no index's word will do; `ahead`: nobody has
        asked for it."""
        if resource.kind is Kind.PACKAGE:
            return self._landings.join(
                resource, lambda: self._refresh_package(resource, itself, ahead)
            )

        async def refresh(progress: Progress) -> Result:
            return await self._refresher.refresh(resource, progress=progress)

        return self._landings.start(resource, refresh)

    async def _refresh_package(self, about: Resource, itself: bool, ahead: bool) -> Result:
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
        old = await self._pictures.before(about) if self._settings.cache.verify else None
        result = await self._refresher.refresh(about)
        if isinstance(result, Missing):
            return result
        if old is not None and old[0].sha256 != result.entry.sha256:
            with contextlib.suppress(StoreError):
                await self._pictures.keep(about, old)
        # Where the entry hasn't changed, those of its dependencies are looked after as they are
        # asked for; of what nobody asked for, no more than that.
        if self._settings.prefetch and (result.status == 200 or not ahead):
            package = await self._package_of(result)
            if package is not None:
                self._prefetcher.ahead_of(package, asked=not ahead)
        return result

    def tarball(
        self, resource: Resource, about: Resource, release: Release
    ) -> tuple[Flight[Result], bool]:
        """Fetch the tarball of `release`, which is what the registry says of `resource`."""

        async def fetch(progress: Progress) -> Result:
            try:
                return await self._refresher.refresh(resource, release, progress)
            except VerificationError as mismatch:
                # Replaced a moment ago: the tarball is new, our registry entry isn't yet.
                newer = await self.newest_release(resource, about, but=release.outer_checksum)
                if newer is None or newer.outer_checksum == release.outer_checksum:
                    raise mismatch
                return await self._refresher.refresh(resource, newer, progress)

        return self._landings.start(resource, fetch)

    async def newest_release(
        self, resource: Resource, about: Resource, but: str | None = None
    ) -> Release | None:
        """What the registry says of a tarball as upstream has it now; `but` is an outer checksum
        that it isn't."""
        release = None
        for _ in range(_TRIES):
            flight, joined = self.refresh(about, itself=True)
            package = await self._package_of(await self._landings.result(about, flight))
            release = package.by_version.get(resource.version) if package else None
            found = release is not None and release.outer_checksum != but
            # What was under way when we came may have been asked too early, or not at all.
            if found or not joined:
                break
        return release

    async def _package_of(self, result: Result) -> Package | None:
        if isinstance(result, Missing):
            return None
        return await self._refresher.package(result.entry)

    async def _refresh_versions(self) -> Entry | None:
        flight, joined = self.refresh(VERSIONS)
        # Who waits for an entry has to have time left to ask for that.
        if not await self._landings.done_within(
            VERSIONS, flight, self._settings.upstream.patience / 2
        ):
            if self._upstream.is_down(VERSIONS.origin):
                raise UpstreamError(self._upstream.why_down(VERSIONS.origin))
            if not joined:
                flight.give_up()
            return None
        result = await flight.result()
        return result.entry if isinstance(result, Fetched) else None

    async def _prefetch(self, about: Resource) -> None:
        flight, _ = self.refresh(about, ahead=True)
        await flight.result()
