"""Bring one resource up to date: ask upstream, verify what comes, store it.

Nothing here knows of clients. What fails verification is never stored; what was stored before
stays as it was until something better has been verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hexcache import registry, resources
from hexcache.engine.succession import is_older
from hexcache.errors import StoreError, UpstreamError, VerificationError
from hexcache.labels import host_of
from hexcache.messages import Content, read
from hexcache.network.progress import Progress
from hexcache.network.transfer import Download, Order, Transfers, Word
from hexcache.records.telemetry import Telemetry
from hexcache.registry import KeyRing, Package, Release
from hexcache.resources import Kind, Origin, Resource
from hexcache.storage.entries import Entry, Unstored
from hexcache.storage.store import Store

logger = logging.getLogger(__name__)

_DECODED = 512
_TRUSTED = 50_000
_DECODED_IN_PLACE = 32 * 2**10
_UNSIGNED = (Kind.DOCS, Kind.INSTALL, Kind.BUILD)


@dataclass(frozen=True)
class Fetched:
    """A current, verified copy. `body` is set if it is at hand or couldn't be stored; otherwise
    the store has it. `status`: what upstream said, 200 or 304; `replaced`: there was another copy
    before. `signature`: of a CSV, where it couldn't be stored either."""

    entry: Entry
    status: int
    body: Content | Unstored | None = None
    stored: bool = True
    replaced: bool = False
    signature: tuple[Entry, Content] | None = None


@dataclass(frozen=True)
class Missing:
    """Upstream says that there is no such thing."""

    status: int = 404


Result = Fetched | Missing


class Refresher:
    """`keys=None` turns verification off (`cache.verify: false`). `bases`: the base URLs in their
    order."""

    def __init__(
        self,
        store: Store,
        transfers: Transfers,
        *,
        keys: KeyRing | None,
        builds_keys: KeyRing | None,
        bases: Callable[[Origin], Sequence[str]],
        clock: Callable[[], float],
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._store = store
        self._transfers = transfers
        self._keys = keys
        self._builds_keys = builds_keys
        self._bases = bases
        self._clock = clock
        self._decoded: dict[str, Package] = {}
        self._trusted: set[tuple[str, str]] = set()

    async def refresh(
        self,
        resource: Resource,
        release: Release | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Ask upstream for `resource`; `release` is what the registry says of a tarball. Raises
        UpstreamError (no answer) or VerificationError (a wrong one)."""
        if resource.kind is Kind.CSV:
            return await self._refresh_pair(resource)
        entry = await self.stored(resource)
        replaced = entry is not None
        if release is not None and entry and entry.sha256 != release.outer_checksum:
            # Its ETag would get us a 304 for what is no longer good.
            entry = None
        answer = await self._ask(resource, entry, release, progress)
        if isinstance(answer, Word):
            if answer.status == 304 and entry is not None:
                return await self._still_good(entry, answer, self._bases(resource.origin))
            return Missing(answer.status)
        fetched = await self._keep(self._entry(resource, answer), answer)
        return replace(fetched, replaced=replaced)

    async def stored(self, resource: Resource, key: str | None = None) -> Entry | None:
        """What the store has of `resource`, as a rule under its own key. A registry message's
        signature is checked once more when a process meets it first: whoever can write the
        directory may have put it there."""
        entry = self._store.get(key or resource.key)
        if (
            entry is None
            or self._keys is None
            or not resource.kind.is_registry
            or (resource.key, entry.sha256) in self._trusted
        ):
            return entry
        body = await self._store.read(entry)
        if body is None:
            return None
        try:
            data = await read(body)
            if resource.kind is Kind.PACKAGE:
                # Signed, and of another package: that would be believed too.
                self._remember(entry.sha256, self._decode(data, resource, self._keys))
            else:
                registry.check_signature(data, self._keys, str(resource))
        except VerificationError as error:
            self._telemetry.refused(error.check, str(resource))
            logger.error("the stored copy of %s is dropped: %s", resource, error)
            await self._store.delete(entry.key)
            return None
        self._trust(resource, entry.sha256)
        return entry

    def _decode(self, data: bytes, about: Resource, keys: KeyRing) -> Package:
        return registry.decode_package(data, keys, repository=about.repository, name=about.name)

    def _trust(self, resource: Resource, sha256: str) -> None:
        if len(self._trusted) >= _TRUSTED:
            self._trusted.clear()
        self._trusted.add((resource.key, sha256))

    async def package(self, entry: Entry) -> Package | None:
        """The decoded registry entry; None if its body is damaged."""
        package = self._decoded.get(entry.sha256)
        if package is None:
            body = await self._store.read(entry)
            if body is None:
                return None
            # It was verified before it was stored.
            package = registry.decode_package(await read(body), None, repository="", name=None)
            self._remember(entry.sha256, package)
        return package

    async def _refresh_pair(self, csv: Resource) -> Result:
        """A CSV and its `.signed` change together: both come from one generation or not at all."""
        signature = resources.signature_of(csv)
        old, old_signature = self._store.get(csv.key), self._store.get(signature.key)
        whole = old and old_signature and old_signature.generation == old.sha256
        answer = await self._ask(csv, old if whole else None)
        if isinstance(answer, Word):
            if answer.status == 304 and old and old_signature:
                now = self._clock()
                current = replace(old, checked_at=now)
                await self._store.update(current, replace(old_signature, checked_at=now))
                return Fetched(current, 304)
            return Missing(answer.status)
        content = answer.read()
        answer.discard()
        signed = await self._ask(signature, None)
        if isinstance(signed, Word) and self._builds_keys is None:
            return await self._keep(self._entry(csv, answer), replace(answer, body=content))
        if isinstance(signed, Word):
            with self._counted(csv):
                raise VerificationError("pair", f"{csv.path}.signed is missing ({signed.status})")
        signature_content = signed.read()
        signed.discard()
        if self._builds_keys is not None:
            with self._counted(csv):
                registry.verify_signed_file(content, signature_content, self._builds_keys, csv.path)
        entry = self._entry(csv, answer)
        signature_entry = replace(self._entry(signature, signed), generation=entry.sha256)
        fetched = Fetched(entry, 200, Content(content), replaced=old is not None)
        try:
            await self._store.put((entry, content), (signature_entry, signature_content))
        except StoreError:
            # Half of a pair is worse than none: whoever gets the one gets the other with it.
            signed_by = (signature_entry, Content(signature_content))
            return replace(fetched, stored=False, signature=signed_by)
        return fetched

    @contextlib.contextmanager
    def _counted(self, csv: Resource) -> Iterator[None]:
        try:
            yield
        except VerificationError as error:
            self._telemetry.refused(error.check, str(csv))
            raise

    async def _ask(
        self,
        resource: Resource,
        entry: Entry | None,
        release: Release | None = None,
        progress: Progress | None = None,
    ) -> Download | Word:
        headers = {}
        if entry is not None and entry.etag:
            headers["If-None-Match"] = entry.etag
        elif (
            entry is not None
            and entry.last_modified
            and entry.base == self._bases(resource.origin)[0]
        ):
            # By another's date the first would be asked the wrong thing: what it has may have been
            # written before a mirror copied what was there before that.
            headers["If-Modified-Since"] = entry.last_modified

        async def verify(download: Download) -> None:
            if self._keys is not None:
                await self._verify(resource, entry, download, release, self._keys)

        order = Order(
            resource=resource,
            headers=headers,
            has_copy=entry is not None,
            checksum=release.outer_checksum or None if release else None,
            self_evident=self._keys is not None and resource.kind not in _UNSIGNED,
            limit=resource.kind.largest,
            verify=verify,
        )
        return await self._transfers.run(order, progress)

    async def _verify(
        self,
        resource: Resource,
        entry: Entry | None,
        download: Download,
        release: Release | None,
        keys: KeyRing,
    ) -> None:
        repository = resource.repository
        match resource.kind:
            case Kind.PACKAGE:
                package = await _aside(
                    download, lambda: self._decode(download.read(), resource, keys)
                )
                bases = self._bases(resource.origin)
                await self._refuse_older(entry, download, package, bases)
                self._remember(download.sha256, package)
            case Kind.NAMES:
                await _aside(
                    download,
                    lambda: registry.decode_names(download.read(), keys, repository=repository),
                )
                _refuse_dated(entry, download)
            case Kind.VERSIONS:
                await _aside(
                    download,
                    lambda: registry.decode_versions(download.read(), keys, repository=repository),
                )
                _refuse_dated(entry, download)
            case Kind.PUBLIC_KEY:
                keys.check_key(download.read())
            case Kind.TARBALL:
                assert release is not None
                registry.check_tarball(
                    download.sha256, release, f"{resource.name} {resource.version}"
                )
        self._trust(resource, download.sha256)

    async def _refuse_older(
        self, entry: Entry | None, download: Download, package: Package, bases: Sequence[str]
    ) -> None:
        """A mirror that lags, or a replay: signed, and yet not what there is. A project whose lock
        file names what we have seen already would fail hard."""
        held = await self.package(entry) if entry else None
        if entry is None or held is None or entry.sha256 == download.sha256:
            return
        if is_older(download, package, entry, held, bases=bases, now=self._clock()):
            raise _older(download)

    def _remember(self, sha256: str, package: Package) -> None:
        while len(self._decoded) >= _DECODED:
            del self._decoded[next(iter(self._decoded))]
        self._decoded[sha256] = package

    async def _still_good(self, entry: Entry, word: Word, bases: Sequence[str]) -> Fetched:
        now = self._clock()
        current = replace(entry, checked_at=now, asked_at=now)
        # The first counts for more than a mirror, and anybody for more than who is asked no longer.
        # The date has to be of who is named: without one (a 304 needs none) nothing changes.
        takes_over = word.base == bases[0] or entry.base not in bases
        if takes_over and word.base != entry.base and word.last_modified:
            current = replace(current, base=word.base, last_modified=word.last_modified)
        await self._store.update(current)
        return Fetched(current, 304)

    def _entry(self, resource: Resource, download: Download) -> Entry:
        now = self._clock()
        return Entry(
            key=resource.key,
            kind=resource.kind,
            sha256=download.sha256,
            size=download.size,
            etag=download.etag,
            last_modified=download.last_modified,
            content_type=download.content_type,
            stored_at=now,
            checked_at=now,
            used_at=now,
            base=download.base,
            asked_at=now,
        )

    async def _keep(self, entry: Entry, download: Download) -> Fetched:
        """Store it; if the disk is full, the clients who wait get it all the same."""
        body = download.body
        try:
            unstored = Unstored(body) if isinstance(body, Path) else Content(body)
        except OSError as error:
            download.discard()
            raise UpstreamError(f"{entry.key} can't be read back: {error.strerror}") from None
        if not self._store.takes(download.size):
            logger.warning("%s is not stored: it is too large for cache.size_limit", entry.key)
            download.discard()
            return Fetched(entry, 200, unstored, stored=False)
        try:
            await self._store.put((entry, body))
        except StoreError:
            download.discard()
            return Fetched(entry, 200, unstored, stored=False)
        return Fetched(entry, 200, unstored if isinstance(unstored, Content) else None)


async def _aside[T](download: Download, work: Callable[[], T]) -> T:
    """Do `work` on a body; in a thread if it is a large one, which may be a bomb."""
    return work() if download.size <= _DECODED_IN_PLACE else await asyncio.to_thread(work)


def _older(download: Download) -> VerificationError:
    host = host_of(download.base)
    return VerificationError("older", f"{host} has an older registry entry than was seen already")


def _refuse_dated(entry: Entry | None, download: Download) -> None:
    """The same for an index, which changes with every release of anything: by its date. Mirrors
    copy that; where they don't, a mirror's older index is a question too many, no more."""
    if entry is not None and registry.is_older(download.last_modified, entry.last_modified):
        raise _older(download)
