"""The job `import`: take what an archive of `hexcache export` claims into the store, as far as it
can be verified.

An archive may come from anybody. What is signed speaks for itself; a tarball is judged by the
newest registry entry that is stored or has just come. What an archive merely says is believed only
where a lie does no harm: no ETag, since with the ETag of a newer body upstream would confirm the
old one for ever; and no date in the future, since nothing would ever be newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hexcache import registry, resources
from hexcache.errors import BundleError, StoreError, VerificationError
from hexcache.jobs.base import Order, Report
from hexcache.messages import read
from hexcache.printing import printable
from hexcache.registry import Package
from hexcache.resources import Kind, Resource
from hexcache.stock.bundle import Bundle, Claim
from hexcache.storage.entries import Entry, FileBody

if TYPE_CHECKING:
    from hexcache.assembly import Core


class Fate(StrEnum):
    """What became of a member."""

    TAKEN = "taken"
    PRESENT = "present"  # the store has the same
    KEPT = "kept"  # what the store has is newer, or as good
    REFUSED = "refused"


@dataclass(frozen=True)
class _Verdict:
    fate: Fate
    why: str = ""


_TAKEN = _Verdict(Fate.TAKEN)
_PRESENT = _Verdict(Fate.PRESENT)
_NOT_NEWER = _Verdict(Fate.KEPT, "it is not newer than what is stored")


@dataclass(frozen=True)
class _Body:
    """Of a claim, hashed; `data` is empty for what is opaque."""

    claim: Claim
    sha256: str
    md5: str
    data: bytes


async def import_bundle(core: Core, order: Order, report: Report) -> None:
    """The archive is the order's upload. Events: {"member", "fate", "why"} for what isn't simply
    taken or present, {"done", "of"} now and then, and at the end the number of members by fate
    and the `bytes` taken. Raises BundleError before anything is changed if the archive isn't
    whole."""
    if order.upload is None:
        raise BundleError("an archive is wanted: hexcache import FILE.tar")
    bundle = await asyncio.to_thread(Bundle.open, order.upload)
    try:
        await _Import(core, bundle, report).run()
    finally:
        bundle.close()


class _Import:
    def __init__(self, core: Core, bundle: Bundle, report: Report) -> None:
        self._core = core
        self._store = core.store
        self._bundle = bundle
        self._report = report
        self._packages: dict[str, Package | None] = {}
        self._counts = dict.fromkeys(Fate, 0)
        self._bytes = 0
        self._taken: set[str] = set()

    async def run(self) -> None:
        claims = {claim.resource.key: claim for claim in self._bundle.claims}
        size, limit = sum(c.size for c in claims.values()), self._core.settings.cache.size_limit
        if size > limit:
            raise BundleError(
                f"it holds {size:,} bytes, cache.size_limit is {limit:,}: not all of it would "
                "stay; raise it"
            )
        for refusal in self._bundle.refused:
            self._note(refusal.name, _Verdict(Fate.REFUSED, refusal.why))
        for done, claim in enumerate(self._bundle.claims, 1):
            if claim.resource.kind is Kind.CSV:
                signature = claims.get(resources.signature_of(claim.resource).key)
                verdict = await self._verdict(partial(self._pair, claim, signature))
                if signature is not None:
                    self._note(signature.resource.path[1:], verdict)
            elif claim.resource.kind is Kind.SIGNATURE:
                if resources.csv_of(claim.resource).key in claims:
                    continue  # it went with its CSV
                verdict = _Verdict(Fate.REFUSED, "the archive doesn't have what it signs")
            else:
                verdict = await self._verdict(partial(self._one, claim))
            self._note(claim.resource.path[1:], verdict)
            self._report({"done": done, "of": len(self._bundle.claims)})
        for claim in self._bundle.claims:
            # What came first may have had to make room for what came last.
            if claim.resource.key in self._taken and not self._core.store.get(claim.resource.key):
                self._counts[Fate.TAKEN] -= 1
                why = "it was taken in, but didn't fit: raise cache.size_limit"
                self._note(claim.resource.path[1:], _Verdict(Fate.REFUSED, why))
        counts = {str(fate): count for fate, count in self._counts.items()}
        self._report({"summary": {**counts, "bytes": self._bytes}})

    def _note(self, name: str, verdict: _Verdict) -> None:
        self._counts[verdict.fate] += 1
        if verdict.why:
            why = printable(verdict.why)
            self._report({"member": name, "fate": str(verdict.fate), "why": why})

    async def _verdict(self, judge: Callable[[], Awaitable[_Verdict]]) -> _Verdict:
        try:
            return await judge()
        except VerificationError as error:
            return _Verdict(Fate.REFUSED, str(error))

    async def _one(self, claim: Claim) -> _Verdict:
        """Raises VerificationError."""
        body = await asyncio.to_thread(self._hashed, claim)
        resource = claim.resource
        stored = await self._intact(claim.resource)
        is_newer = _is_newer(claim, stored)
        match resource.kind:
            case Kind.PACKAGE:
                return await self._package_entry(body, stored)
            case Kind.TARBALL:
                await self._check_tarball(body)
                is_newer = True
            case Kind.INSTALL:
                is_newer = stored is None  # what has a version in its name never changes
            case _:
                await asyncio.to_thread(self._core.trust.check, resource, body.data)
        if stored is not None and stored.sha256 == body.sha256:
            return self._present(stored)
        return await self._put(body) if is_newer else _NOT_NEWER

    async def _package_entry(self, body: _Body, stored: Entry | None) -> _Verdict:
        """An older entry, rightly signed, is what a replay is made of; and a project whose lock
        file names what was here already would fail hard."""
        about = body.claim.resource
        package = await asyncio.to_thread(self._core.trust.package, about, body.data)
        held = await self._package(about)
        if stored is not None and held is not None:
            if stored.sha256 == body.sha256:
                return self._present(stored)
            if not _supersedes(body.claim, package, stored, held):
                return _NOT_NEWER
        before = await self._core.engine.pictures.before(about)
        verdict = await self._put(body)
        self._packages[about.name] = package
        if before is not None:
            await self._core.engine.pictures.keep(about, before)
        return verdict

    async def _check_tarball(self, body: _Body) -> None:
        if self._core.trust.registry is None:
            return
        resource = body.claim.resource
        package = await self._package(resources.package(resource.name))
        if package is None:
            raise VerificationError("checksum", "no registry entry says what it has to be")
        release = package.by_version.get(resource.version)
        if release is None:
            raise VerificationError("checksum", "the newest registry entry has no such release")
        registry.check_tarball(body.sha256, release, f"{resource.name} {resource.version}")

    async def _pair(self, claim: Claim, signature: Claim | None) -> _Verdict:
        """A CSV and what signs it: both or neither. Raises VerificationError."""
        csv, keys = await asyncio.to_thread(self._hashed, claim), self._core.trust.builds
        if signature is None:
            if keys is not None:
                raise VerificationError("pair", "its .signed is missing")
            return await self._put(csv)
        signed = await asyncio.to_thread(self._hashed, signature)
        if keys is not None:
            registry.verify_signed_file(csv.data, signed.data, keys, claim.resource.path)
        stored = await self._intact(claim.resource)
        stored_signature = await self._intact(signature.resource)
        if stored and stored_signature and stored_signature.generation == stored.sha256:
            if stored.sha256 == csv.sha256:
                return self._present(stored, stored_signature)
            if not _is_newer(claim, stored):
                return _NOT_NEWER
        return await self._put(csv, signed)

    def _hashed(self, claim: Claim) -> _Body:
        """Raises VerificationError for what isn't what the archive itself says."""
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        data = bytearray()
        for chunk in self._bundle.chunks(claim):
            sha256.update(chunk)
            md5.update(chunk)
            if not claim.resource.kind.is_opaque:
                data += chunk
        if claim.sha256 and claim.sha256 != sha256.hexdigest():
            raise VerificationError("checksum", "it is damaged: hexcache.json has another SHA-256")
        return _Body(claim, sha256.hexdigest(), md5.hexdigest(), bytes(data))

    async def _intact(self, resource: Resource) -> Entry | None:
        """What is stored of it, if its body is good."""
        entry = self._store.get(resource.key)
        body = await self._store.read(entry) if entry is not None else None
        if isinstance(body, FileBody):
            body.file.close()
        return entry if body is not None else None

    async def _package(self, about: Resource) -> Package | None:
        """The newest registry entry of a package that is stored and can be believed."""
        if about.name not in self._packages:
            self._packages[about.name] = await self._stored_package(about)
        return self._packages[about.name]

    async def _stored_package(self, about: Resource) -> Package | None:
        entry = self._store.get(about.key)
        body = await self._store.read(entry) if entry is not None else None
        if body is None:
            return None
        data = await read(body)
        with contextlib.suppress(VerificationError):
            return await asyncio.to_thread(self._core.trust.package, about, data)
        return None

    def _present(self, *stored: Entry) -> _Verdict:
        for entry in stored:
            self._store.touch(entry)
        return _PRESENT

    async def _put(self, *bodies: _Body) -> _Verdict:
        """Store them together; the first one is the generation of the others."""
        if not all(self._store.takes(body.claim.size) for body in bodies):
            return _Verdict(Fate.REFUSED, "it is too large for cache.size_limit")
        generation = bodies[0].sha256
        items: list[tuple[Entry, bytes | Path]] = []
        for number, body in enumerate(bodies):
            entry = self._entry(body, generation if number else "")
            opaque = body.claim.resource.kind.is_opaque
            data = await asyncio.to_thread(self._spooled, body) if opaque else body.data
            items.append((entry, data))
        try:
            await self._store.put(*items)
        except StoreError:
            for _, data in items:
                if isinstance(data, Path):
                    data.unlink(missing_ok=True)
            raise
        self._bytes += sum(body.claim.size for body in bodies)
        self._taken.update(body.claim.resource.key for body in bodies)
        return _TAKEN

    def _spooled(self, body: _Body) -> bytes | Path:
        """The body again, as the store takes it. Raises HexcacheError."""
        claim = body.claim
        spool = self._store.spool(f"import {claim.resource.key}", claim.size)
        try:
            for chunk in self._bundle.chunks(claim):
                spool.write(chunk)
            if spool.sha256 != body.sha256:
                raise BundleError("the archive changed while it was read")
            done = spool.finish()
        except BaseException:
            spool.discard()
            raise
        spool.close()
        return done

    def _entry(self, body: _Body, generation: str) -> Entry:
        claim, now = body.claim, self._core.clock()
        return Entry(
            key=claim.resource.key,
            kind=claim.resource.kind,
            sha256=body.sha256,
            size=claim.size,
            # hex.pm's ETags are MD5s. Where they aren't, upstream sends the whole again, no more.
            etag=f'"{body.md5}"',
            last_modified=claim.last_modified if _has_passed(claim.last_modified, now) else "",
            content_type=claim.content_type,
            stored_at=now,
            checked_at=min(claim.checked_at, now) if claim.checked_at >= 0 else 0.0,
            used_at=now,
            generation=generation,
        )


def _supersedes(claim: Claim, package: Package, stored: Entry, held: Package) -> bool:
    """What is signed decides, as far as it goes: entries gain releases, and lose one only when it
    is reverted. Dates, which anybody can write, decide between entries with the same releases,
    and may keep an entry out."""
    ours, theirs = held.releases_known(), package.releases_known()
    if theirs < ours or registry.is_older(claim.last_modified, stored.last_modified):
        return False
    return theirs > ours or _is_newer(claim, stored)


def _is_newer(claim: Claim, stored: Entry | None) -> bool:
    """What is stored stays unless there is a reason."""
    return stored is None or registry.is_older(stored.last_modified, claim.last_modified)


def _has_passed(date: str, now: float) -> bool:
    try:
        return parsedate_to_datetime(date).timestamp() <= now
    except (ValueError, TypeError, OverflowError):
        return False
