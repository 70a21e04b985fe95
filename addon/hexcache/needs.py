"""What lock files need of a store, and what of it isn't there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hexcache import resources
from hexcache.entries import Entry
from hexcache.library import Library
from hexcache.lockfiles import LockedRelease
from hexcache.registry import Release
from hexcache.resources import PUBLIC_REPOSITORY, Resource


@dataclass(frozen=True)
class Missing:
    """`what` and `why` are fit for a user's eyes, once made printable."""

    what: str
    why: str


@dataclass(frozen=True)
class Needs:
    """What is stored of it, and what isn't, nothing twice."""

    stored: tuple[tuple[Resource, Entry], ...]
    missing: tuple[Missing, ...]


def needs_of(library: Library, releases: Iterable[LockedRelease]) -> Needs:
    """The tarballs of `releases`, their registry entries, and the registry entries of their
    dependencies, which Hex asks for too while it resolves, optional ones included."""
    stored: dict[str, tuple[Resource, Entry]] = {}
    missing: dict[str, Missing] = {}

    def miss(what: str, why: str) -> None:
        missing.setdefault(what, Missing(what, why))

    def take(resource: Resource, entry: Entry | None, why: str) -> None:
        if entry is None:
            miss(str(resource), why)
        else:
            stored[resource.key] = resource, entry

    def take_registry_entry(name: str, why: str) -> None:
        about = resources.package(name)
        take(about, library.entry(about) if library.package(name) else None, why)

    for locked in releases:
        if locked.repository != PUBLIC_REPOSITORY:
            miss(
                f"{locked.name} {locked.version}",
                f"it is of the repository {locked.repository}, which is never stored",
            )
            continue
        tarball = resources.tarball(locked.name, locked.version)
        take_registry_entry(locked.name, "its registry entry is not stored")
        release = library.release(locked.name, locked.version)
        if problem := disagreement(locked, release):
            miss(str(tarball), problem)
            continue
        take(tarball, library.tarball(locked.name, locked.version), "it is not stored")
        for dependency in release.dependencies if release else ():
            if dependency.repository in ("", PUBLIC_REPOSITORY):
                take_registry_entry(
                    dependency.package, f"{locked.name} {locked.version} depends on it"
                )
    return Needs(tuple(stored.values()), tuple(missing.values()))


def disagreement(locked: LockedRelease, release: Release | None) -> str:
    """Why the registry's word is not what the lock file has; empty if it is."""
    if release is None:
        return "no stored registry entry has it"
    for what, ours, theirs in (
        ("outer", locked.outer_checksum, release.outer_checksum),
        ("inner", locked.inner_checksum, release.inner_checksum),
    ):
        if ours and theirs and ours != theirs:
            return f"the lock has the {what} checksum {ours}, the registry {theirs}"
    return ""
