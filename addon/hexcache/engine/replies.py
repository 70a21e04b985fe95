"""What was found, said in HTTP: headers, parts of bodies, and errors that help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hexcache.engine.cachestatus import CacheStatus, quoted
from hexcache.engine.conditional import select
from hexcache.engine.failures import failure
from hexcache.engine.streams import Growing
from hexcache.freshness import Policy
from hexcache.messages import Content, Outcome, Reply, Request
from hexcache.resources import Kind, Origin, Resource
from hexcache.settings import Settings
from hexcache.storage.entries import Entry, FileBody, part
from hexcache.storage.spool import Source
from hexcache.storage.store import Store

_MESSAGE_EVERY = 60.0
_CLIENTS = 1_000
# Whatever set the flag: a setting counts at the start only.
_ONLINE = "turn the offline flag off (where Hexcache runs: `hexcache offline off`)"


@dataclass(frozen=True)
class Found:
    """What to serve and why. `body` is set if it is at hand; the store has it otherwise.
    `registry_entry` vouches for a tarball: its age is the tarball's. `forwarded` is upstream's
    status, None if nobody was asked, or nobody answered. `signature`: a CSV's, if it isn't
    stored."""

    entry: Entry
    outcome: Outcome
    detail: str = ""
    body: Content | FileBody | None = None
    registry_entry: Entry | None = None
    forwarded: int | None = None
    stored: bool = True
    # There was another copy before.
    replaced: bool = False
    # Stale because upstream takes its time, not because it fails.
    slow: bool = False
    signature: tuple[Entry, Content] | None = None


@dataclass(frozen=True)
class Refused:
    """Why there is nothing to serve. `status` 404, 410, 502, 503 or 504. `asked`: upstream was, and
    `forwarded` is its status, None if it had none. `declined`: the client itself would have nothing
    that isn't stored (RFC 9111 §5.2.1.7)."""

    status: int
    reason: str
    offline: bool = False
    asked: bool = True
    forwarded: int | None = None
    declined: bool = False


class Replies:
    """`trouble` says why an origin can't be asked, "" if it can."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Callable[[], float],
        *,
        policy: Policy,
        trouble: Callable[[Origin], str],
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._trouble = trouble
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
            CacheStatus(forwarded="miss", status=200, collapsed=joined).header,
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
        asked = refused.asked and not refused.offline
        headers = []
        if resource is not None and refused.status >= 500:
            headers = self._message(request, resource, f"{subject}: {refused.reason}")
        if refused.offline:
            outcome = Outcome.OFFLINE
        else:
            is_miss = refused.declined or refused.status in (404, 410)
            outcome = Outcome.MISS if is_miss else Outcome.ERROR
        reply = failure(
            request,
            refused.status,
            refused.reason,
            subject=subject,
            outcome=outcome,
            done=CacheStatus(forwarded="uri-miss" if asked else "", status=refused.forwarded),
            headers=headers,
        )
        return replace(reply, kind=resource.kind if resource else None)

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
            self._cache_status(request, found, age).header,
        ]
        if entry.last_modified:
            headers.append(("Last-Modified", entry.last_modified))
        headers.append(_cache_control(resource))
        trouble = found.detail if found.outcome is Outcome.STALE else self._trouble(resource.origin)
        if trouble:
            text = f"{trouble}; this copy is {in_words(age)} old"
            headers += self._message(request, resource, text)
        return headers

    def _message(self, request: Request, resource: Resource, text: str) -> list[tuple[str, str]]:
        """A line that mix prints. Hex looks for one in answers about the registry only
        (lib/hex/http.ex)."""
        if not resource.kind.is_registry or not self._may_warn(request.client):
            return []
        return [("x-hex-message", f"{quoted(f'hexcache: {text}')};level=warn")]

    def _cache_status(self, request: Request, found: Found, age: int) -> CacheStatus:
        detail = "offline" if found.outcome is Outcome.OFFLINE else found.detail
        if found.forwarded is None:
            fresh_for = self._policy.fresh_for(found.entry.kind)
            ttl = None if fresh_for is None else int(fresh_for) - age
            return CacheStatus(hit=True, ttl=ttl, detail=detail)
        stale = found.outcome is Outcome.STALE
        why = "miss"
        if stale or found.replaced or found.forwarded == 304:
            why = "request" if request.wishes.no_cache else "stale"
        return CacheStatus(
            forwarded=why,
            status=found.forwarded,
            stored=found.stored and found.forwarded == 200 and not stale,
            collapsed=found.outcome is Outcome.COALESCED,
            detail=detail,
        )

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
