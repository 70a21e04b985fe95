"""Bodies and what a store knows of them."""

from __future__ import annotations

import hashlib

from hexcache.resources import Kind
from hexcache.storage.entries import Entry


def body_of(what: str, size: int) -> bytes:
    """Any bytes, always the same for the same `what`."""
    return (hashlib.sha256(what.encode()).digest() * (size // 32 + 1))[:size]


def entry_of(key: str, body: bytes, *, kind: Kind = Kind.TARBALL, at: float = 0.0) -> Entry:
    return Entry(
        key=key,
        kind=kind,
        sha256=hashlib.sha256(body).hexdigest(),
        size=len(body),
        etag='"tag"',
        last_modified="Tue, 14 Nov 2023 22:13:20 GMT",
        content_type="application/octet-stream",
        stored_at=at,
        checked_at=at,
        used_at=at,
    )
