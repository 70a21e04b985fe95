"""What a cache holds, as packages and releases: read only, and verified again while it is read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Self

from hexcache import resources
from hexcache.errors import VerificationError
from hexcache.registry import Package, Release
from hexcache.resources import Kind, Resource
from hexcache.settings import Settings
from hexcache.storage.entries import Entry
from hexcache.storage.pins import Pins
from hexcache.storage.reading import StoreReader
from hexcache.storage.trust import Trust

logger = logging.getLogger(__name__)

# Decoded registry entries kept in memory.
_DECODED = 2048


class Library:
    """A store seen from outside, as it is at the moment of each call. Any thread may use it. Every
    method raises StoreError where the store can't be read."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        """Raises SettingsError or StoreError."""
        self._settings = settings
        self._clock = clock
        self._trust = Trust.of(settings)
        self._directory = settings.cache_directory
        self._decoded: dict[tuple[str, str], Package] = {}
        self.reader = StoreReader(settings.cache_directory, trust=self._trust.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()

    @property
    def pins(self) -> Pins:
        """What eviction takes last; to be read only."""
        return Pins.load(self._directory)

    def is_intact(self, entry: Entry) -> bool:
        """Whether its body is here, whole and unchanged."""
        with self.reader.body(entry) as body:
            return body is not None

    def is_too_old(self, entry: Entry) -> bool:
        """Whether `cache.max_stale` forbids to serve it while upstream is out of reach. A tarball
        is as good as the registry entry that names it; with the offline flag nothing is."""
        limit = self._settings.cache.max_stale
        if limit is None or self._settings.offline or entry.kind is Kind.INSTALL:
            return False
        if entry.kind is Kind.TARBALL and self._settings.cache.verify:
            return False
        return self._clock() - entry.checked_at > limit

    def entry(self, resource: Resource) -> Entry | None:
        """What is known of a stored resource, its body not looked at."""
        return self.reader.get(resource.key)

    def package(self, name: str) -> Package | None:
        """The newest registry entry of a package; None where none is stored or it can't be
        believed."""
        about = resources.package(name)
        entry = self.entry(about)
        if entry is None:
            return None
        if package := self._decoded.get((name, entry.sha256)):
            return package
        body = self.reader.content(entry)
        if body is None:
            return None
        try:
            package = self._trust.package(about, body)
        except VerificationError as error:
            logger.warning("the stored copy of %s is of no use: %s", about, error)
            return None
        if len(self._decoded) >= _DECODED:
            self._decoded.clear()
        self._decoded[name, entry.sha256] = package
        return package

    def release(self, name: str, version: str) -> Release | None:
        """What the newest registry entry says of a release."""
        package = self.package(name)
        return package.by_version.get(version) if package else None

    def tarball(self, name: str, version: str) -> Entry | None:
        """The stored tarball that a client is served without a question to upstream: the one that
        the newest registry entry names."""
        entry = self.entry(resources.tarball(name, version))
        if entry is None or self._trust.registry is None:
            return entry
        release = self.release(name, version)
        return entry if release and release.outer_checksum == entry.sha256 else None

    def holdings(self, prefix: str = "") -> Iterator[tuple[Resource, Entry]]:
        """Everything that clients can ask for, is stored, and has a key that begins so; in no
        order."""
        for entry in self.reader.entries(prefix):
            if (resource := resources.of_key(entry.key)) is not None:
                yield resource, entry

    def names(self) -> list[str]:
        """The packages of which a registry entry or a tarball is stored, sorted."""
        kinds = (Kind.PACKAGE, Kind.TARBALL, Kind.DOCS)
        return sorted({each.name for each, _ in self.holdings() if each.kind in kinds})
