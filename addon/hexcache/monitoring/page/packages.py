"""What is stored, as the page shows it: a list to search, and a package's own page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hexcache.labels import label_of
from hexcache.monitoring.page import words
from hexcache.registry import Advisory, Release
from hexcache.stock.inventory import (
    Copy,
    StoredPackage,
    StoredRelease,
    amounts,
    newest_first,
    stored_package,
)
from hexcache.storage.library import Library

# So many before somebody asks for all.
_SHOWN = 200
# Of one package in the list.
_VERSIONS = 5

_COPIES = {
    Copy.STORED: ("stored", "good"),
    Copy.OUTDATED: ("outdated", "warn"),
    Copy.UNVOUCHED: ("stored, without a registry entry", "warn"),
    Copy.MISSING: ("not stored", ""),
}
# By Advisory.severity; bad where it isn't said.
_SEVERITIES: dict[int | None, str] = {0: "", 1: "", 2: "warn", 3: "bad", 4: "worst"}


@dataclass(frozen=True)
class Badge:
    text: str
    colour: str


@dataclass(frozen=True)
class Row:
    name: str
    versions: str
    badges: tuple[Badge, ...]
    size: str
    registry_age: words.Moment
    used: words.Moment


@dataclass(frozen=True)
class ReleaseRow:
    version: str
    stored: str
    colour: str
    badges: tuple[Badge, ...]
    retired: str
    published: words.Moment | None
    dependencies: str
    checksum: str


@dataclass(frozen=True)
class AdvisoryLine:
    """`link` is empty where it leads nowhere on the web."""

    id: str
    severity: str
    colour: str
    summary: str
    link: str


@dataclass(frozen=True)
class PackagePage:
    name: str
    about: str
    advisories: tuple[AdvisoryLine, ...]
    releases: tuple[ReleaseRow, ...]


def packages_view(
    library: Library, query: str, every: bool, clock: Callable[[], float] = time.time
) -> dict[str, Any]:
    """The values of the template. `query` is a part of a name. Raises StoreError."""
    now = clock()
    every_name = amounts(library)
    found = {name: each for name, each in every_name.items() if query.lower() in name.lower()}
    # Looking into a registry entry takes a moment: only into those that are shown.
    names = list(found) if every else list(found)[:_SHOWN]
    shown = [each for name in names if (each := stored_package(library, name))]
    size = words.size(sum(size for _, size in found.values()))
    releases = sum(releases for releases, _ in found.values())
    what = f" with {query!r} in their names" if query else ""
    summary = (
        f"{words.counted(len(found), 'package')}{what}, "
        f"{words.counted(releases, 'release')}, {size}."
    )
    return {
        "query": query,
        "packages": [_row(each, now) for each in shown],
        "summary": summary if found or query else "Nothing is stored yet.",
        "total": len(found),
        "more": len(found) > len(names),
    }


def package_view(
    library: Library, name: str, clock: Callable[[], float] = time.time
) -> PackagePage | None:
    """None where nothing is stored of it. Raises StoreError."""
    stored = stored_package(library, name)
    if stored is None:
        return None
    named = stored.package.by_version if stored.package else {}
    versions = newest_first({*named, *(each.version for each in stored.releases)})
    return PackagePage(
        name=stored.name,
        about=_about(stored, clock()),
        advisories=tuple(_advisories(named.values())),
        releases=tuple(
            _release(version, named.get(version), stored.stored(version)) for version in versions
        ),
    )


def _row(package: StoredPackage, now: float) -> Row:
    versions = [each.version for each in package.releases if each.tarball is not Copy.MISSING]
    shown = ", ".join(versions[:_VERSIONS]) or "none"
    if len(versions) > _VERSIONS:
        shown += f" and {len(versions) - _VERSIONS} more"
    return Row(
        name=package.name,
        versions=shown,
        badges=tuple(_badges_of_package(package)),
        size=words.size(package.bytes),
        registry_age=(
            words.since(package.entry.checked_at, now) if package.entry else words.NOT_STORED
        ),
        used=words.since(package.used_at, now, "not yet"),
    )


def _badges_of_package(package: StoredPackage) -> Iterator[Badge]:
    if package.with_advisories:
        yield Badge("advisory", "bad")
    if package.retired:
        yield Badge("retired", "warn")
    if package.outdated:
        yield Badge("outdated", "warn")
    if package.pinned:
        yield Badge("pinned", "")


def _about(package: StoredPackage, now: float) -> str:
    if package.entry is None:
        return f"No registry entry is stored. {words.size(package.bytes)} in all."
    source = label_of(package.entry.base) or "unknown"
    believed = "" if package.package else " It can't be believed: run hexcache verify."
    checked, used_at = package.entry.checked_at, package.used_at
    current = words.ago(now - checked) if checked else "at a time that isn't known"
    used = f"last used {words.ago(now - used_at)}" if used_at else "not used yet"
    return (
        f"Registry entry from {source}, current {current}. "
        f"{words.size(package.bytes)} in all, {used}.{believed}"
    )


def _advisories(releases: Any) -> Iterator[AdvisoryLine]:
    seen: dict[str, Advisory] = {}
    for release in releases:
        for advisory in release.advisories:
            seen.setdefault(advisory.id, advisory)
    for advisory in sorted(seen.values(), key=lambda each: -(each.severity or 0)):
        yield AdvisoryLine(
            id=advisory.id,
            severity=advisory.severity_name or "advisory",
            colour=_SEVERITIES.get(advisory.severity, "bad"),
            summary=advisory.summary,
            link=_web_link(advisory.html_url),
        )


def _web_link(url: str) -> str:
    """Only what a browser opens as a page: a registry may say javascript:."""
    try:
        return url if urlsplit(url).scheme in ("http", "https") else ""
    except ValueError:
        return ""


def _release(version: str, release: Release | None, stored: StoredRelease | None) -> ReleaseRow:
    text, colour = _COPIES[stored.tarball if stored else Copy.MISSING]
    retired = release.retired if release else None
    return ReleaseRow(
        version=version,
        stored=text,
        colour=colour,
        badges=tuple(_badges(release, stored)),
        retired=": ".join(filter(None, (retired.reason_name, retired.message))) if retired else "",
        published=words.day(release.published_at) if release else None,
        dependencies=", ".join(
            f"{each.package} {each.requirement}{' (optional)' if each.optional else ''}"
            for each in (release.dependencies if release else ())
        ),
        checksum=release.outer_checksum if release else "",
    )


def _badges(release: Release | None, stored: StoredRelease | None) -> Iterator[Badge]:
    if stored and stored.docs:
        yield Badge("docs", "good")
    if release and release.advisories:
        yield Badge("advisory", "bad")
    if release and release.retired:
        yield Badge("retired", "warn")
    if stored and stored.pinned:
        yield Badge("pinned", "")
