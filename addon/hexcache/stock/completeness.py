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

_NO_LIST = (
    "not stored: {readers} ask for it, and get nothing; `hexcache warm --tools` fetches it, or "
    "says that upstream has none"
)


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
    """`found` is what is here. `skipped` is what Hexcache never has, or upstream may not have.
    `docs_not_stored` are releases whose documentation was looked for: not every release has any, so
    these are no gaps."""

    found: tuple[tuple[Resource, Entry], ...]
    gaps: tuple[Gap, ...]
    skipped: tuple[Skipped, ...]
    docs_not_stored: tuple[LockedRelease, ...] = ()

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
        entry, why = self._look_up(resource)
        if entry is None:
            self.gaps.setdefault(str(resource), Gap(str(resource), why, line))
        return entry

    def at_docs(self, resource: Resource) -> bool:
        """Whether a client would get what is no gap if it isn't here."""
        return self._look_up(resource)[0] is not None

    def _look_up(self, resource: Resource) -> tuple[Entry | None, str]:
        """Or why a client wouldn't get it."""
        if (entry := self.found.get(resource)) is not None:
            return entry, ""
        library = self.library
        entry, why = library.entry(resource), "not stored"
        if entry is not None and library.is_too_old(entry):
            why = "older than cache.max_stale: raise that, or set the offline flag"
        elif entry is not None and library.is_intact(entry):
            if resource.kind is not Kind.PACKAGE or library.package(resource.name) is not None:
                self.found[resource] = entry
                return entry, ""
            why = "the stored copy can't be believed"
        return None, why

    def completeness(
        self, skipped: Iterable[Skipped], docs_not_stored: Iterable[LockedRelease] = ()
    ) -> Completeness:
        found, gaps = tuple(self.found.items()), tuple(self.gaps.values())
        return Completeness(found, gaps, tuple(skipped), tuple(docs_not_stored))


def check(library: Library, lock: LockFile, *, docs: bool = False) -> Completeness:
    """Look at everything that a client with this lock file asks for. Raises StoreError."""
    look = _Look(library)
    undocumented: list[LockedRelease] = []
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
        if docs and not look.at_docs(resources.docs(locked.name, locked.version)):
            undocumented.append(locked)
    return look.completeness(skipped(lock), undocumented)


def check_tools(library: Library) -> Completeness:
    """Look at what `mix local.hex` and `mix local.rebar` ask for, whatever the Elixir. A list that
    isn't stored is skipped, by name, where the tool's list of the other generation is stored: not
    every upstream has both. Raises StoreError."""
    look = _Look(library)
    without: list[Skipped] = []
    for generations in tools.GENERATIONS:
        known = [csv for csv in generations if library.entry(csv) is not None]
        for csv in known or generations:
            _look_at_list(look, csv)
        for csv in generations if known else ():
            if csv not in known:
                without.append(Skipped(str(csv), _NO_LIST.format(readers=tools.readers_of(csv))))
    return look.completeness(without)


def _look_at_list(look: _Look, csv: Resource) -> None:
    entry = look.at(csv, 0)
    look.at(resources.signature_of(csv), 0)
    body = look.library.reader.content(entry) if entry else None
    for resource in tools.files_of(csv, body.decode("utf-8", "replace")) if body else ():
        look.at(resource, 0)


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


def disagreement(locked: LockedRelease, release: Release, *, asked: bool = False) -> str:
    """Why a client with this lock file would refuse the release, and what to do; empty if it
    wouldn't. `asked`: the release is as upstream says now, not just as it was stored."""
    for what, ours, theirs in (
        ("outer", locked.outer_checksum, release.outer_checksum),
        ("inner", locked.inner_checksum, release.inner_checksum),
    ):
        if ours and theirs and ours != theirs:
            why = "the release was published anew, or the lock file was changed"
            mend = "update the dependency"
            if not asked:
                mend = f"`hexcache warm` asks what the registry says now; if this stays, {mend}"
            return (
                f"the lock file's {what} checksum is {ours}, the registry's {theirs}: {why}; {mend}"
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
