"""What is stored, package by package: what commands and the status page show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from hexcache import resources
from hexcache.errors import RequirementError
from hexcache.registry import Package, Release
from hexcache.resources import Kind, Resource
from hexcache.storage.entries import Entry
from hexcache.storage.library import Library
from hexcache.versions.requirements import Version

_OF_PACKAGES = (Kind.PACKAGE, Kind.TARBALL, Kind.DOCS)


class Copy(StrEnum):
    STORED = "stored"
    OUTDATED = "outdated"  # the newest registry entry names another one, or none
    UNVOUCHED = "unvouched"  # no registry entry is here that could name it
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class StoredRelease:
    """A release of which the tarball or the docs are stored. `bytes` is what they take, `used_at`
    when a client last got one of them, None if nobody has since they were stored, `release` what
    the newest registry entry says."""

    version: str
    tarball: Copy
    docs: bool
    bytes: int
    used_at: float | None
    pinned: bool
    release: Release | None


@dataclass(frozen=True, kw_only=True)
class StoredPackage:
    """`entry` is the newest registry entry, None where none is stored; `package` is it decoded,
    None where it can't be believed. `releases`: newest first; `used_at` as of a release; `keys` are
    the store's, of all that is stored."""

    name: str
    entry: Entry | None
    package: Package | None
    releases: tuple[StoredRelease, ...]
    bytes: int
    used_at: float | None
    pinned: bool
    keys: frozenset[str]

    @property
    def retired(self) -> tuple[StoredRelease, ...]:
        return tuple(each for each in self.releases if each.release and each.release.retired)

    @property
    def with_advisories(self) -> tuple[StoredRelease, ...]:
        return tuple(each for each in self.releases if each.release and each.release.advisories)

    @property
    def outdated(self) -> tuple[StoredRelease, ...]:
        return tuple(each for each in self.releases if each.tarball is Copy.OUTDATED)

    @property
    def tarballs(self) -> int:
        """How many releases have a tarball here."""
        return sum(each.tarball is not Copy.MISSING for each in self.releases)

    def stored(self, version: str) -> StoredRelease | None:
        return next((each for each in self.releases if each.version == version), None)


@dataclass(frozen=True)
class Amount:
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """`bytes` is what the disk has, `kinds` counts entries and their bodies; a registry entry
    before the newest one is of the kind "before". `oldest` and `newest` are when an entry was
    stored, None where there are none."""

    bytes: int
    limit: int
    kinds: dict[str, Amount]
    packages: int
    releases: int
    pinned: int
    oldest: float | None
    newest: float | None


def inventory(library: Library, pattern: str = "*") -> list[StoredPackage]:
    """The packages of which anything is stored and whose name fits `pattern`, a glob; by name.
    Raises StoreError."""
    by_name: dict[str, list[tuple[Resource, Entry]]] = {}
    for resource, entry in library.holdings():
        if resource.kind in _OF_PACKAGES and fnmatchcase(resource.name, pattern):
            by_name.setdefault(resource.name, []).append((resource, entry))
    pinned = library.pins.keys
    return [_package(library, name, by_name[name], pinned) for name in sorted(by_name)]


def amounts(library: Library) -> dict[str, tuple[int, int]]:
    """By the name of each package of which anything is stored, sorted: releases with a tarball,
    and bytes. No registry entry is looked into. Raises StoreError."""
    found: dict[str, tuple[int, int]] = {}
    for resource, entry in library.holdings():
        if resource.kind in _OF_PACKAGES:
            releases, size = found.get(resource.name, (0, 0))
            is_tarball = resource.kind is Kind.TARBALL
            found[resource.name] = (releases + is_tarball, size + entry.size)
    return dict(sorted(found.items()))


def stored_package(library: Library, name: str) -> StoredPackage | None:
    """What is stored of one package; None where nothing is. Raises StoreError."""
    # With what may follow the name in a URL: the first dash ends it.
    found = (resources.package(name), resources.tarball(name, ""), resources.docs(name, ""))
    held = [
        (resource, entry)
        for prefix in {each.key.partition(f"/{name}-")[0] + f"/{name}-" for each in found[1:]}
        for resource, entry in library.holdings(prefix)
        if resource.name == name
    ]
    held += [each for each in library.holdings(found[0].key) if each[0] == found[0]]
    return _package(library, name, held, library.pins.keys) if held else None


def statistics(library: Library, *, limit: int) -> Statistics:
    """What there is of each kind. Raises StoreError."""
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    names, releases, times, here = set(), 0, [], set()
    for entry in library.reader.entries():
        resource = resources.of_key(entry.key)
        kind = "before" if resource is None else str(resource.kind)
        files[kind] += 1
        sizes[kind] += entry.size
        times.append(entry.stored_at)
        here.add(entry.key)
        if resource is not None and resource.kind in _OF_PACKAGES:
            names.add(resource.name)
            releases += resource.kind is Kind.TARBALL
    return Statistics(
        bytes=library.reader.bytes_stored(),
        limit=limit,
        kinds={kind: Amount(files[kind], sizes[kind]) for kind in sorted(files)},
        packages=len(names),
        releases=releases,
        pinned=len(here & library.pins.keys),
        oldest=min(times, default=None),
        newest=max(times, default=None),
    )


def newest_first(versions: Iterable[str]) -> list[str]:
    """By Hex's order of versions; what is no version comes last."""

    def order(text: str) -> tuple[bool, Version | str]:
        try:
            return True, Version.parse(text)
        except RequirementError:
            return False, text

    return sorted(versions, key=order, reverse=True)


def _package(
    library: Library, name: str, held: list[tuple[Resource, Entry]], pinned: frozenset[str]
) -> StoredPackage:
    about = next((entry for resource, entry in held if resource.kind is Kind.PACKAGE), None)
    package = library.package(name) if about is not None else None
    by_version: dict[str, dict[Kind, Entry]] = {}
    for resource, entry in held:
        if resource.kind is not Kind.PACKAGE:
            by_version.setdefault(resource.version, {})[resource.kind] = entry
    return StoredPackage(
        name=name,
        entry=about,
        package=package,
        releases=tuple(
            _release(library, name, version, by_version[version], package, pinned)
            for version in newest_first(by_version)
        ),
        bytes=sum(entry.size for _, entry in held),
        used_at=_used_at(entry for _, entry in held),
        pinned=any(entry.key in pinned for _, entry in held),
        keys=frozenset(entry.key for _, entry in held),
    )


def _used_at(entries: Iterable[Entry]) -> float | None:
    """To be the last that is evicted, what is stored begins as used."""
    return max((e.used_at for e in entries if e.used_at > e.stored_at), default=None)


def _release(
    library: Library,
    name: str,
    version: str,
    files: dict[Kind, Entry],
    package: Package | None,
    pinned: frozenset[str],
) -> StoredRelease:
    if Kind.TARBALL not in files:
        tarball = Copy.MISSING
    elif library.tarball(name, version) is not None:
        tarball = Copy.STORED
    else:
        tarball = Copy.OUTDATED if package is not None else Copy.UNVOUCHED
    return StoredRelease(
        version=version,
        tarball=tarball,
        docs=Kind.DOCS in files,
        bytes=sum(entry.size for entry in files.values()),
        used_at=_used_at(files.values()),
        pinned=any(entry.key in pinned for entry in files.values()),
        release=package.by_version.get(version) if package else None,
    )
