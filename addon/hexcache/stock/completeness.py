"""What of a lock file is here: `hexcache check`, and what `hexcache warm` has to bring.

Pure but for the Library: nothing is fetched, and the answer is what a client would find that asks
while upstream is out of reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hexcache import resources
from hexcache.locks.lockfiles import PUBLIC_REPOSITORY, LockedRelease, LockFile, Skipped
from hexcache.registry import Release
from hexcache.resources import Kind, Resource
from hexcache.stock import tools
from hexcache.storage.entries import Entry
from hexcache.storage.library import Library

_NO_DOCS = "not stored; not every release has any"


@dataclass(frozen=True)
class Gap:
    """Something that a client would ask for and not get. `subject` names it, `line` is the lock
    file's, from 1; 0 where there is none. `is_disagreement`: a client with this lock file refuses
    what the registry names (see `disagreement`), so that fetching it is of no use."""

    subject: str
    why: str
    line: int
    is_disagreement: bool = False


@dataclass(frozen=True)
class Completeness:
    """`found` is what is here. `skipped` is what Hexcache never has."""

    found: tuple[tuple[Resource, Entry], ...]
    gaps: tuple[Gap, ...]
    skipped: tuple[Skipped, ...]

    @property
    def present(self) -> int:
        return len(self.found)

    @property
    def is_complete(self) -> bool:
        return not self.gaps


class _Look:
    """Looks at what a client would ask for, each resource once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.gaps: dict[str, Gap] = {}
        self.found: dict[Resource, Entry] = {}

    def at(self, resource: Resource, line: int) -> Entry | None:
        """Its entry if a client would get it; else that is a gap."""
        if (entry := self.found.get(resource)) is not None:
            return entry
        library = self.library
        entry, why = library.entry(resource), "not stored"
        if entry is not None and library.is_too_old(entry):
            why = "older than cache.max_stale: raise that, or set the offline flag"
        elif entry is not None and library.is_intact(entry):
            if resource.kind is not Kind.PACKAGE or library.package(resource.name) is not None:
                self.found[resource] = entry
                return entry
            why = "the stored copy can't be believed"
        self.gaps.setdefault(str(resource), Gap(str(resource), why, line))
        return None

    def completeness(self, skipped: Iterable[Skipped]) -> Completeness:
        return Completeness(tuple(self.found.items()), tuple(self.gaps.values()), tuple(skipped))


def check(library: Library, lock: LockFile, *, docs: bool = False) -> Completeness:
    """Look at everything that a client with this lock file asks for. Raises StoreError."""
    look = _Look(library)
    without: list[Skipped] = []
    for locked in public(lock):
        look.at(resources.package(locked.name), locked.line)
        release = library.release(locked.name, locked.version)
        for gap in _look_at_release(library, locked, release):
            look.gaps.setdefault(gap.subject, gap)
        tarball = resources.tarball(locked.name, locked.version)
        if str(tarball) not in look.gaps:
            look.at(tarball, locked.line)
        for name in asked_about(release):
            look.at(resources.package(name), locked.line)
        entry = library.entry(resources.docs(locked.name, locked.version)) if docs else None
        if entry is not None:
            look.at(resources.docs(locked.name, locked.version), locked.line)
        elif docs:
            without.append(Skipped(f"docs of {locked.name} {locked.version}", _NO_DOCS))
    return look.completeness((*skipped(lock), *without))


def check_tools(library: Library) -> Completeness:
    """Look at what `mix local.hex` and `mix local.rebar` ask for, whatever the Elixir. Raises
    StoreError."""
    look = _Look(library)
    for csv in tools.CSVS:
        entry = look.at(csv, 0)
        look.at(resources.signature_of(csv), 0)
        body = library.reader.content(entry) if entry else None
        for resource in tools.files_of(csv, body.decode("utf-8", "replace")) if body else ():
            look.at(resource, 0)
    return look.completeness(())


def public(lock: LockFile) -> Iterator[LockedRelease]:
    """The releases of the public repository: only these are ever stored."""
    return (each for each in lock.releases if each.repository == PUBLIC_REPOSITORY)


def skipped(lock: LockFile) -> Iterator[Skipped]:
    """What Hexcache never has: what isn't from Hex, and other repositories' releases."""
    yield from lock.skipped
    for each in lock.releases:
        if each.repository != PUBLIC_REPOSITORY:
            yield Skipped(each.name, f"from {each.repository}, which passes through unstored")


def asked_about(release: Release | None) -> Iterator[str]:
    """The packages whose registry entries a client asks for because of this release: those of its
    dependencies, optional ones too (Hex.Registry.Server prefetches them all)."""
    for dependency in release.dependencies if release else ():
        if dependency.repository in ("", PUBLIC_REPOSITORY):
            yield dependency.package


def disagreement(locked: LockedRelease, release: Release) -> str:
    """Why a client with this lock file would refuse the release; empty if it wouldn't."""
    for what, ours, theirs in (
        ("outer", locked.outer_checksum, release.outer_checksum),
        ("inner", locked.inner_checksum, release.inner_checksum),
    ):
        if ours and theirs and ours != theirs:
            return (
                f"the lock file's {what} checksum is {ours}, the registry's {theirs}: the release "
                "was published anew, or the lock file was changed; update the dependency"
            )
    return ""


def _look_at_release(
    library: Library, locked: LockedRelease, release: Release | None
) -> Iterator[Gap]:
    """What is wrong with a tarball, beside its not being stored."""
    tarball = resources.tarball(locked.name, locked.version)
    if release is None:
        if library.package(locked.name) is not None:
            why = f"the stored registry entry knows no {locked.name} {locked.version}"
            yield Gap(str(tarball), why, locked.line)
        return
    if why := disagreement(locked, release):
        yield Gap(str(tarball), why, locked.line, is_disagreement=True)
    elif library.entry(tarball) and not library.tarball(locked.name, locked.version):
        why = "what is stored is no longer what the registry names"
        yield Gap(str(tarball), why, locked.line)
