"""A consistent picture while upstream fails.

A new registry entry names a release; if the line breaks before anybody has fetched its tarball,
whoever resolves now picks what can't be had. Then the entry before it, whose tarballs are here,
is the better answer. So the last entry that was of use is kept beside the newest one.
"""

from __future__ import annotations

from dataclasses import replace

from hexcache import resources
from hexcache.engine.refresh import Refresher
from hexcache.messages import Content, read
from hexcache.registry import Package
from hexcache.resources import Resource
from hexcache.storage.entries import Entry
from hexcache.storage.store import Store


class Pictures:
    def __init__(self, store: Store, refresher: Refresher) -> None:
        self._store = store
        self._refresher = refresher
        self._shown_before: set[str] = set()

    async def before(self, about: Resource) -> tuple[Entry, Content] | None:
        """The present registry entry with its body, to `keep` if a newer one comes; None if
        nothing here depends on it."""
        entry = await self._refresher.stored(about)
        if entry is None or not await self._is_backed(about, entry):
            return None
        body = await self._store.read(entry)
        return None if body is None else (entry, Content(await read(body)))

    async def keep(self, about: Resource, old: tuple[Entry, Content]) -> None:
        """`old` was replaced: keep it as the picture before. Raises StoreError."""
        self._shown_before.discard(about.key)
        entry, content = old
        await self._store.put((replace(entry, key=resources.key_before(about)), content.data))

    async def consistent(self, about: Resource, entry: Entry) -> Entry:
        """What to serve of `about` while tarballs can't be fetched: `entry`, or the one before."""
        previous = await self._previous(about)
        self._shown_before.discard(about.key)
        if previous is None or await self._is_backed(about, entry):
            return entry
        if not await self._is_backed(about, previous):
            return entry
        self._shown_before.add(about.key)
        return previous

    def shown_newest(self, about: Resource) -> None:
        """A client got the newest entry: from now on only its tarballs will do."""
        self._shown_before.discard(about.key)

    def shows_the_one_before(self, about: Resource) -> bool:
        """Whether that is what `consistent` gave last."""
        return about.key in self._shown_before

    async def named_before(self, about: Resource, version: str) -> str:
        """The outer checksum that the picture before names for a release, or ""."""
        previous = await self._previous(about)
        package = await self._refresher.package(previous) if previous else None
        release = package.by_version.get(version) if package else None
        return release.outer_checksum if release else ""

    async def _is_backed(self, about: Resource, entry: Entry) -> bool:
        """Whether a tarball is stored of what `entry` has and the picture before hasn't."""
        package = await self._refresher.package(entry)
        if package is None:
            return False
        known = package.releases_known()
        previous = await self._previous(about)
        if previous is not None and previous.sha256 != entry.sha256:
            before: Package | None = await self._refresher.package(previous)
            added = known - (before.releases_known() if before else frozenset())
            if not added:
                return True
            known = added
        return any(self._has_tarball(about.name, *release) for release in known)

    async def _previous(self, about: Resource) -> Entry | None:
        return await self._refresher.stored(about, resources.key_before(about))

    def _has_tarball(self, name: str, version: str, checksum: str) -> bool:
        entry = self._store.get(resources.tarball(name, version).key)
        return entry is not None and entry.sha256 == checksum
