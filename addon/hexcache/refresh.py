"""Bring one resource up to date: ask upstream, verify what comes, store it.

Nothing here knows of clients. What fails verification is never stored; what was stored before
stays as it was until something better has been verified.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hexcache import registry, resources
from hexcache.errors import StoreError, UpstreamError, VerificationError
from hexcache.messages import Content, read
from hexcache.registry import KeyRing, Package, Release
from hexcache.resources import Kind, Resource
from hexcache.store import Entry, FileBody, Store
from hexcache.upstream import Response, Upstream

logger = logging.getLogger(__name__)

_DECODED = 512
# The largest body of what is looked at in memory, and of what isn't.
_MAX_MESSAGE = 64 * 2**20
_MAX_BODY = 4 * 2**30


@dataclass(frozen=True)
class Fetched:
    """A current, verified copy. `body` is set if it is at hand or couldn't be stored; otherwise
    the store has it. `status`: what upstream said, 200 or 304."""

    entry: Entry
    status: int
    body: Content | FileBody | None = None
    stored: bool = True


@dataclass(frozen=True)
class Missing:
    """Upstream says that there is no such thing."""

    status: int = 404


Result = Fetched | Missing


@dataclass(frozen=True)
class _Download:
    """A body that came whole, not yet looked at."""

    body: bytes | Path
    sha256: str
    size: int
    etag: str
    last_modified: str
    content_type: str


class Refresher:
    """`keys=None` turns verification off (`cache.verify: false`)."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        *,
        keys: KeyRing | None,
        builds_keys: KeyRing | None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._keys = keys
        self._builds_keys = builds_keys
        self._clock = clock
        self._decoded: dict[str, Package] = {}

    async def refresh(self, resource: Resource, release: Release | None = None) -> Result:
        """Ask upstream for `resource`; `release` is what the registry says of a tarball. Raises
        UpstreamError (no answer) or VerificationError (a wrong one)."""
        if resource.kind is Kind.CSV:
            return await self._refresh_pair(resource)
        entry = self._store.get(resource.key)
        if release is not None and entry and entry.sha256 != release.outer_checksum:
            # Its ETag would get us a 304 for what is no longer good.
            entry = None
        answer = await self._ask(resource, entry)
        if isinstance(answer, int):
            if answer == 304 and entry is not None:
                return await self._still_good(entry)
            return Missing(answer)
        try:
            await self._verify(resource, answer, release)
        except VerificationError:
            _discard(answer)
            raise
        return await self._keep(self._entry(resource, answer), answer)

    async def package(self, entry: Entry) -> Package | None:
        """The decoded registry entry; None if its body is damaged."""
        package = self._decoded.get(entry.sha256)
        if package is None:
            body = await self._store.read(entry)
            if body is None:
                return None
            package = self._decode(await read(body), None)
            self._remember(entry.sha256, package)
        return package

    async def _refresh_pair(self, csv: Resource) -> Result:
        """A CSV and its `.signed` change together: both come from one generation or not at all."""
        signature = resources.signature_of(csv)
        old, old_signature = self._store.get(csv.key), self._store.get(signature.key)
        whole = old and old_signature and old_signature.generation == old.sha256
        answer = await self._ask(csv, old if whole else None)
        if isinstance(answer, int):
            if answer == 304 and old and old_signature:
                now = self._clock()
                current = replace(old, checked_at=now)
                await self._store.update(current, replace(old_signature, checked_at=now))
                return Fetched(current, 304)
            return Missing(answer)
        signed = await self._ask(signature, None)
        try:
            if isinstance(signed, int):
                raise VerificationError("pair", f"{csv.path}.signed is missing ({signed})")
            content, signature_content = _bytes(answer), _bytes(signed)
            if self._builds_keys is not None:
                registry.verify_signed_file(content, signature_content, self._builds_keys, csv.path)
        except VerificationError:
            _discard(answer)
            if not isinstance(signed, int):
                _discard(signed)
            raise
        entry = self._entry(csv, answer)
        signature_entry = replace(self._entry(signature, signed), generation=entry.sha256)
        try:
            await self._store.put((entry, content), (signature_entry, signature_content))
        except StoreError as error:
            # Half of a pair is worse than none: the next who asks fetches both again.
            raise UpstreamError(f"{csv} can't be stored: {error}") from None
        return Fetched(entry, 200, Content(content))

    async def _ask(self, resource: Resource, entry: Entry | None) -> _Download | int:
        """The whole body, or the status 304, 404 or 410. Tries the mirrors in order."""
        headers = {}
        if entry is not None and entry.etag:
            headers["If-None-Match"] = entry.etag
        elif entry is not None and entry.last_modified:
            headers["If-Modified-Since"] = entry.last_modified
        failure: UpstreamError | None = None
        for base in self._upstream.bases(resource.origin):
            try:
                async with self._upstream.get(base, resource.path, headers) as response:
                    if response.status == 200:
                        return await self._download(resource, response)
                    if response.status in (404, 410) or (response.status == 304 and headers):
                        return response.status
                    raise UpstreamError(
                        f"{base} answered {response.status}", status=response.status
                    )
            except UpstreamError as error:
                failure = error
                logger.debug("%s from %s: %s", resource, base, error)
        assert failure is not None
        raise failure

    async def _download(self, resource: Resource, response: Response) -> _Download:
        unseen = (Kind.TARBALL, Kind.DOCS, Kind.INSTALL, Kind.BUILD)
        spool = self._store.spool(_MAX_BODY if resource.kind in unseen else _MAX_MESSAGE)
        try:
            async for chunk in response.chunks():
                spool.write(chunk)
            if response.length is not None and spool.size != response.length:
                raise UpstreamError(f"{response.location}: the body was cut off")
            if not response.framed and not self._is_verified(resource):
                raise UpstreamError(
                    f"{response.location}: the body's end can't be told from a broken connection"
                )
            return _Download(
                body=spool.finish(),
                sha256=spool.sha256,
                size=spool.size,
                etag=_header(response, "etag"),
                last_modified=_header(response, "last-modified"),
                content_type=_header(response, "content-type") or "application/octet-stream",
            )
        except OSError as error:
            raise UpstreamError(f"{resource} can't be kept while it comes in: {error}") from None
        finally:
            spool.discard()

    def _is_verified(self, resource: Resource) -> bool:
        """Whether a damaged body would be noticed by looking at it."""
        by_looks = resource.kind.is_registry or resource.kind in (
            Kind.TARBALL,
            Kind.PUBLIC_KEY,
            Kind.CSV,
            Kind.SIGNATURE,
        )
        return by_looks and self._keys is not None

    async def _verify(
        self, resource: Resource, download: _Download, release: Release | None
    ) -> None:
        if self._keys is None:
            return
        match resource.kind:
            case Kind.PACKAGE:
                self._remember(download.sha256, self._decode(_bytes(download), resource))
            case Kind.NAMES:
                registry.decode_names(_bytes(download), self._keys, repository=resource.repository)
            case Kind.VERSIONS:
                registry.decode_versions(
                    _bytes(download), self._keys, repository=resource.repository
                )
            case Kind.PUBLIC_KEY:
                self._keys.check_key(_bytes(download))
            case Kind.TARBALL:
                assert release is not None
                registry.check_tarball(
                    download.sha256, release, f"{resource.name} {resource.version}"
                )

    def _decode(self, body: bytes, resource: Resource | None) -> Package:
        """What comes from the store was verified before it went in."""
        return registry.decode_package(
            body,
            self._keys if resource is not None else None,
            repository=resource.repository if resource else "",
            name=resource.name if resource else None,
        )

    def _remember(self, sha256: str, package: Package) -> None:
        while len(self._decoded) >= _DECODED:
            del self._decoded[next(iter(self._decoded))]
        self._decoded[sha256] = package

    async def _still_good(self, entry: Entry) -> Fetched:
        current = replace(entry, checked_at=self._clock())
        await self._store.update(current)
        return Fetched(current, 304)

    def _entry(self, resource: Resource, download: _Download) -> Entry:
        now = self._clock()
        return Entry(
            key=resource.key,
            kind=resource.kind,
            sha256=download.sha256,
            size=download.size,
            # rebar3 takes a tarball without an ETag for a failed download.
            etag=download.etag or f'"{download.sha256[:32]}"',
            last_modified=download.last_modified,
            content_type=download.content_type,
            stored_at=now,
            checked_at=now,
            used_at=now,
        )

    async def _keep(self, entry: Entry, download: _Download) -> Fetched:
        """Store it; if the disk is full, the clients who wait get it all the same."""
        body = download.body
        if isinstance(body, bytes):
            content = Content(body)
            try:
                await self._store.put((entry, body))
            except StoreError as error:
                logger.warning("%s is served, but not stored: %s", entry.key, error)
                return Fetched(entry, 200, content, stored=False)
            return Fetched(entry, 200, content)
        descriptor = os.open(body, os.O_RDONLY)
        try:
            await self._store.put((entry, body))
        except StoreError as error:
            logger.warning("%s is served, but not stored: %s", entry.key, error)
            data = os.pread(descriptor, entry.size, 0)
            body.unlink(missing_ok=True)
            return Fetched(entry, 200, Content(data), stored=False)
        finally:
            os.close(descriptor)
        return Fetched(entry, 200)


def _bytes(download: _Download) -> bytes:
    return download.body if isinstance(download.body, bytes) else download.body.read_bytes()


def _discard(download: _Download) -> None:
    if isinstance(download.body, Path):
        download.body.unlink(missing_ok=True)


def _header(response: Response, name: str) -> str:
    """A header that can go out to clients as it is."""
    value = response.headers.get(name, "")
    return value if value.isascii() and value.isprintable() else ""
