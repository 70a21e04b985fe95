"""What is fetched, and what with it: one fetch per resource whoever asks, the index before the
entry, the dependencies behind it, the picture before kept.

Nothing here decides what a client is served.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from hexcache.engine.absences import Absences
from hexcache.engine.flights import Flight
from hexcache.engine.index import VersionsIndex
from hexcache.engine.landing import Landings
from hexcache.engine.picture import Pictures
from hexcache.engine.prefetch import Prefetcher
from hexcache.engine.refresh import Fetched, Missing, Refresher, Result
from hexcache.errors import StoreError, UpstreamError, VerificationError
from hexcache.network.progress import Progress
from hexcache.network.upstream import Upstream
from hexcache.registry import Package, Release
from hexcache.resources import VERSIONS, Kind, Resource
from hexcache.settings import Settings
from hexcache.storage.entries import Entry
from hexcache.storage.store import Store

_TRIES = 3
# So many rounds ahead stored entries are asked about; new ones to the end.
_ROUNDS = 2
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
        absences: Absences,
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
        self._absences = absences
        self._index = VersionsIndex(
            store,
            refresher,
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
        self, resource: Resource, *, itself: bool = False, ahead: int = 0
    ) -> tuple[Flight[Result], bool]:
        """Bring `resource` up to date; `itself`: no index's word will do; `ahead`: of a client's
        question, in rounds."""
        if resource.kind is Kind.PACKAGE:
            return self._landings.join(
                resource, lambda: self._refresh_package(resource, itself, ahead)
            )

        async def refresh(progress: Progress) -> Result:
            return await self._refresher.refresh(resource, progress=progress)

        return self._landings.start(resource, refresh)

    async def _refresh_package(self, about: Resource, itself: bool, ahead: int) -> Result:
        entry = await self._refresher.stored(about)
        package = await self._refresher.package(entry) if entry else None
        if (
            entry is not None
            and package is not None
            and not itself
            and (vouched_at := await self._index.vouched_at(entry, package)) is not None
        ):
            current = replace(entry, checked_at=max(entry.checked_at, vouched_at))
            await self._store.update(current)
            return Fetched(current, 304)
        if package is not None and ahead < _ROUNDS:
            # It says already what is asked for next.
            self._look_ahead(package, ahead)
        old = await self._pictures.before(about) if self._settings.cache.verify else None
        result = await self._refresher.refresh(about)
        if isinstance(result, Missing):
            return result
        if old is not None and old[0].sha256 != result.entry.sha256:
            with contextlib.suppress(StoreError):
                await self._pictures.keep(about, old)
        if result.status == 200 and (newer := await self._package_of(result)) is not None:
            self._look_ahead(newer, ahead)
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
        flight, _ = self.refresh(VERSIONS)
        if not await self._landings.done_within(VERSIONS, flight, self._versions_seconds):
            if self._upstream.is_down(VERSIONS.origin):
                raise UpstreamError(self._upstream.why_down(VERSIONS.origin))
            flight.give_up()
            return None
        result = await flight.result()
        return result.entry if isinstance(result, Fetched) and result.stored else None

    def _look_ahead(self, package: Package, ahead: int) -> None:
        if self._settings.prefetch:
            self._prefetcher.ahead_of(package, ahead)

    async def _prefetch(self, about: Resource, ahead: int) -> None:
        flight, _ = self.refresh(about, ahead=ahead)
        if isinstance(await flight.result(), Missing):
            self._absences.add(about)
