"""What was found, said in HTTP: headers, parts of bodies, and errors that help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hexcache.conditional import select
from hexcache.entries import Entry, FileBody, part
from hexcache.messages import Content, Outcome, Reply, Request
from hexcache.resources import Kind, Resource
from hexcache.settings import Settings
from hexcache.spool import Source
from hexcache.store import Store
from hexcache.streams import Growing

_MESSAGE_EVERY = 60.0
_CLIENTS = 1_000
# Whatever set the flag: a setting counts at the start only.
_ONLINE = "turn the offline flag off (where Hexcache runs: `hexcache offline off`)"


@dataclass(frozen=True)
class Found:
    """What to serve and why. `body` is set if it is at hand; the store has it otherwise.
    `registry_entry` vouches for a tarball: its age is the tarball's. `forwarded` is upstream's
    status, None if nobody was asked."""

    entry: Entry
    outcome: Outcome
    detail: str = ""
    body: Content | FileBody | None = None
    registry_entry: Entry | None = None
    forwarded: int | None = None
    stored: bool = True
    # Stale because upstream takes its time, not because it fails.
    slow: bool = False


@dataclass(frozen=True)
class Refused:
    """Why there is nothing to serve. `status` 404, 410, 502 or 504."""

    status: int
    reason: str
    offline: bool = False


class Replies:
    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._warned: dict[str, float] = {}

    async def serve(self, request: Request, resource: Resource, found: Found) -> Reply | None:
        """The reply; None if the stored body is damaged (and by now dropped)."""
        entry = found.entry
        chosen = select(
            request.headers,
            etag=entry.client_etag,
            last_modified=entry.last_modified,
            size=entry.size,
            method=request.method,
        )
        body: Content | FileBody = Content(b"")
        if request.method != "HEAD" and chosen.status in (200, 206):
            stored = found.body or await self._store.read(entry)
            if stored is None:
                return None
            body = part(stored, chosen.start, chosen.stop)
        self._store.touch(entry)
        headers = list(self._describe(request, resource, found))
        if chosen.status == 206:
            headers.append(
                ("Content-Range", f"bytes {chosen.start}-{chosen.stop - 1}/{entry.size}")
            )
        elif chosen.status == 416:
            headers.append(("Content-Range", f"bytes */{entry.size}"))
        return Reply(
            status=chosen.status,
            headers=tuple(headers),
            body=body,
            outcome=found.outcome,
            subject=str(resource),
            kind=resource.kind,
            detail=found.detail,
            length=chosen.length if request.method == "HEAD" else None,
        )

    def stream(
        self, request: Request, resource: Resource, source: Source, body: Growing, joined: bool
    ) -> Reply:
        """The reply to a GET of the whole of what still comes in."""
        chosen = select(
            request.headers,
            etag=source.etag,
            last_modified=source.last_modified,
            size=body.length,
        )
        headers = [
            ("Content-Type", source.content_type or "application/octet-stream"),
            ("ETag", source.etag),
            ("Accept-Ranges", "bytes"),
            (
                "Cache-Status",
                f"hexcache; fwd=miss; fwd-status=200{'; collapsed' if joined else ''}",
            ),
            _cache_control(resource),
        ]
        if source.last_modified:
            headers.append(("Last-Modified", source.last_modified))
        return Reply(
            status=chosen.status,
            headers=tuple(headers),
            body=body if chosen.status == 200 else Content(b""),
            outcome=Outcome.COALESCED if joined else Outcome.MISS,
            subject=str(resource),
            kind=resource.kind,
        )

    def refuse(self, request: Request, resource: Resource | None, refused: Refused) -> Reply:
        """An error that names what is missing and why."""
        subject = str(resource) if resource else request.target
        text = f"hexcache: {subject}: {refused.reason}\n".encode(errors="backslashreplace")
        detail = "offline" if refused.offline else _quoted(refused.reason)
        is_head = request.method == "HEAD"
        return Reply(
            status=refused.status,
            headers=(
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Cache-Control", "no-store"),
                ("Cache-Status", f"hexcache; fwd=uri-miss; detail={detail}"),
            ),
            body=Content(b"" if is_head else text),
            outcome=(
                Outcome.OFFLINE
                if refused.offline
                else Outcome.MISS
                if refused.status in (404, 410)
                else Outcome.ERROR
            ),
            subject=subject,
            kind=resource.kind if resource else None,
            detail=refused.reason,
            length=len(text) if is_head else None,
        )

    def offline(self, path: str | None) -> str:
        """What a client is told that misses something while the offline flag is set; `path` None:
        something that is never stored."""
        if path is None:
            return (
                f"it is passed through, never stored, and Hexcache is offline. To get it, {_ONLINE}"
            )
        listen = self._settings.listen
        if listen.mirror is not None:
            command = f"curl -fsSo /dev/null http://{listen.mirror.reachable}{path}"
        else:
            command = (
                f"curl -fsSo /dev/null --proxy http://{listen.proxy.reachable} --cacert "
                f"{self._settings.data / 'ca' / 'hexcache-ca.pem'} https://repo.hex.pm{path}"
            )
        return (
            f"it is not stored, and Hexcache is offline. To fetch it, {_ONLINE} and run: {command}"
        )

    def _describe(
        self, request: Request, resource: Resource, found: Found
    ) -> list[tuple[str, str]]:
        entry = found.entry
        checked_at = max(
            entry.checked_at, found.registry_entry.checked_at if found.registry_entry else 0
        )
        age = max(int(self._clock() - checked_at), 0)
        headers = [
            ("Content-Type", entry.content_type),
            ("ETag", entry.client_etag),
            ("Accept-Ranges", "bytes"),
            ("Age", str(age)),
            ("Cache-Status", self._cache_status(found, age)),
        ]
        if entry.last_modified:
            headers.append(("Last-Modified", entry.last_modified))
        headers.append(_cache_control(resource))
        # Hex looks at it for registry entries only (lib/hex/http.ex).
        stale = found.outcome is Outcome.STALE and resource.kind.is_registry
        if stale and self._may_warn(request.client):
            text = f"hexcache: {found.detail}; this copy is {in_words(age)} old"
            headers.append(("x-hex-message", f"{_quoted(text)};level=warn"))
        return headers

    def _cache_status(self, found: Found, age: int) -> str:
        """RFC 9211."""
        if found.forwarded is not None:
            why = "stale" if found.forwarded == 304 else "miss"
            parts = [f"fwd={why}", f"fwd-status={found.forwarded}"]
            if found.stored and found.forwarded == 200:
                parts.append("stored")
            if found.outcome is Outcome.COALESCED:
                parts.append("collapsed")
        else:
            parts = ["hit"]
            if found.entry.kind is not Kind.TARBALL:
                parts.append(f"ttl={int(self._settings.cache.registry_fresh) - age}")
        if found.outcome is Outcome.OFFLINE:
            parts.append("detail=offline")
        elif found.detail:
            parts.append(f"detail={_quoted(found.detail)}")
        return "; ".join(["hexcache", *parts])

    def _may_warn(self, client: str) -> bool:
        """Once a minute for each client: mix prints every message it gets."""
        now = self._clock()
        if abs(now - self._warned.get(client, -1e9)) < _MESSAGE_EVERY:
            return False
        while len(self._warned) >= _CLIENTS:
            del self._warned[next(iter(self._warned))]
        self._warned[client] = now
        return True


def _cache_control(resource: Resource) -> tuple[str, str]:
    """Whoever caches behind us has to ask again; an answer costs us next to nothing."""
    immutable = resource.kind is Kind.INSTALL
    return "Cache-Control", "public, max-age=31536000, immutable" if immutable else "no-cache"


def in_words(seconds: int) -> str:
    """A duration as people say it: "3 hours"."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def _quoted(text: str) -> str:
    """A quoted-string that neither Hex nor RFC 8941 stumbles over: printable ASCII."""
    clean = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in text)
    return f'"{clean}"'
