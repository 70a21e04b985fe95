"""Whether a stored entry is what it should be: its bytes, its signature, and what the registry says
of it by now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from hexcache import registry, resources
from hexcache.errors import VerificationError
from hexcache.messages import read
from hexcache.resources import Kind, Resource
from hexcache.storage.entries import Entry, FileBody
from hexcache.storage.store import Store
from hexcache.storage.trust import Trust

_DECODED = 512


class Verdict(Enum):
    GOOD = "as it should be"
    UNVOUCHED = "as it was stored; no registry entry is here that could name it"
    SUPERSEDED = "as it was stored; no registry entry names it any more"
    CHANGED = "replaced or deleted meanwhile"
    BAD = "not what it should be"


@dataclass(frozen=True)
class Finding:
    """`bad` are the entries that `why` is about, if the verdict is BAD."""

    verdict: Verdict
    why: str = ""
    bad: tuple[Entry, ...] = ()


class Inspector:
    """Looks at the entries of a store, which may be in use meanwhile. Every method raises
    StoreError where the store can't be read."""

    def __init__(self, store: Store, trust: Trust) -> None:
        self._store = store
        self._trust = trust
        # Outer checksums by the SHA-256 of a registry entry.
        self._named: dict[str, frozenset[tuple[str, str]]] = {}

    async def look(self, entry: Entry) -> Finding:
        """Hash its body; verify what is signed; ask the registry entries that are here about a
        tarball."""
        resource = resources.subject_of(entry.key)
        if resource is None or resource.kind is not entry.kind:
            return self._bad(entry, "it is described as something else than its name says")
        body = await self._store.read(entry, drop=False)
        if body is None:
            return self._bad(entry, "its bytes are damaged, cut off or gone")
        if not self._trust.has_checks(resource):
            if isinstance(body, FileBody):
                body.file.close()
        else:
            try:
                await asyncio.to_thread(self._trust.check, resource, await read(body))
            except VerificationError as error:
                return self._bad(entry, str(error))
        if resource.kind is Kind.TARBALL:
            return await self.vouched(resource, entry)
        if resource.kind is Kind.CSV:
            return await self._look_at_pair(resource, entry)
        return Finding(Verdict.GOOD)

    async def vouched(self, tarball: Resource, entry: Entry) -> Finding:
        """What the registry entries that are here say of a stored tarball: the newest one, and the
        one before, which clients are shown while the line is down."""
        if self._trust.registry is None:
            return Finding(Verdict.GOOD)
        about = resources.package(tarball.name)
        newest, before = self._store.get(about.key), self._store.get(resources.key_before(about))
        named = [await self._names(about, each) for each in (newest, before) if each is not None]
        known = [each for each in named if each is not None]
        if any((tarball.version, entry.sha256) in each for each in known):
            return Finding(Verdict.GOOD)
        if newest is None or len(known) < len(named):
            return Finding(Verdict.UNVOUCHED)
        return Finding(Verdict.SUPERSEDED)

    async def _names(self, about: Resource, entry: Entry) -> frozenset[tuple[str, str]] | None:
        """What a registry entry names; None if it can't be believed."""
        if entry.sha256 in self._named:
            return self._named[entry.sha256]
        data = await self._content(entry)
        if data is None:
            return None
        try:
            package = await asyncio.to_thread(self._trust.package, about, data)
        except VerificationError:
            return None
        while len(self._named) >= _DECODED:
            del self._named[next(iter(self._named))]
        return self._named.setdefault(entry.sha256, package.releases_known())

    async def _look_at_pair(self, csv: Resource, entry: Entry) -> Finding:
        """A CSV with the signature that came with it. One that lies alone is fetched again before
        anybody gets a signature of it."""
        keys = self._trust.builds
        signature = self._store.get(resources.signature_of(csv).key)
        if keys is None or signature is None or signature.generation != entry.sha256:
            return Finding(Verdict.GOOD)
        content, signed = await self._content(entry), await self._content(signature)
        if content is None or signed is None:
            return Finding(Verdict.GOOD)  # what is damaged is found when its own turn comes
        try:
            registry.verify_signed_file(content, signed, keys, csv.path)
        except VerificationError as error:
            return self._bad(entry, str(error), signature)
        return Finding(Verdict.GOOD)

    async def _content(self, entry: Entry) -> bytes | None:
        body = await self._store.read(entry, drop=False)
        return None if body is None else await read(body)

    def _bad(self, entry: Entry, why: str, *others: Entry) -> Finding:
        current = self._store.get(entry.key)
        if current is None or current.sha256 != entry.sha256:
            return Finding(Verdict.CHANGED)
        return Finding(Verdict.BAD, why, (entry, *others))
