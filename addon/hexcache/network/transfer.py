"""Bring one body over whatever line there is: retried, resumed, from whichever mirror has it.

A transfer ends with a verified body, with upstream's word that there is nothing new or no such
thing, or with an error when for `give_up` seconds not a byte has come.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hexcache.errors import OfflineError, UpstreamError, VerificationError
from hexcache.labels import host_of
from hexcache.network.connections import Response
from hexcache.network.pace import Pace
from hexcache.network.pauses import retry_after
from hexcache.network.progress import Progress
from hexcache.network.upstream import Upstream
from hexcache.records.telemetry import Telemetry
from hexcache.resources import Origin, Resource
from hexcache.storage.spool import Source, Spool

logger = logging.getLogger(__name__)

# A client has a copy to live with: how long, and how often in a row without a byte, a new one is
# tried for.
_GIVE_UP_WITH_COPY = 20.0
_TRIES_WITH_COPY = 3
_GONE = (404, 410)
_RETRIED = (408, 425, 429)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:(\d{1,18})|\*)")


@dataclass(frozen=True)
class Download:
    """A body that came whole and was found good. `base` is who sent it; a Path is the
    receiver's."""

    body: bytes | Path
    sha256: str
    size: int
    base: str
    etag: str
    last_modified: str
    content_type: str

    def read(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else self.body.read_bytes()

    def discard(self) -> None:
        if isinstance(self.body, Path):
            self.body.unlink(missing_ok=True)


@dataclass(frozen=True)
class Word:
    """An answer without a body, from `base`: the status 304, 404 or 410."""

    status: int
    base: str
    last_modified: str


@dataclass(frozen=True)
class Order:
    """What is wanted. `headers` are the validators of the copy that we have (`has_copy`), if any.
    `checksum`: the SHA-256 that the body must have, where it is known beforehand; with it, parts
    from different mirrors fit together. `verify` raises VerificationError. `self_evident`: damage
    would be noticed by `verify`, even where HTTP doesn't tell the body's end."""

    resource: Resource
    headers: Mapping[str, str]
    has_copy: bool
    checksum: str | None
    self_evident: bool
    limit: int
    verify: Callable[[Download], Awaitable[None]]


class Transfers:
    """`spool` gives the place where a body is collected, by name and largest size."""

    def __init__(
        self,
        upstream: Upstream,
        spool: Callable[[str, int], Spool],
        *,
        give_up: float,
        pace: Pace,
        telemetry: Telemetry,
    ) -> None:
        self._upstream = upstream
        self._spool = spool
        self._give_up = give_up
        self._pace = pace
        self._telemetry = telemetry

    async def run(self, order: Order, progress: Progress | None = None) -> Download | Word:
        """Raises UpstreamError, or VerificationError if nobody has a good one."""
        spool = self._spool(order.resource.key, order.limit)
        await _loaded(spool)
        if progress is None:
            progress, own = Progress(), True
        else:
            own = False
        progress.follow(spool)
        run = _Run(
            order, spool, progress, self._upstream, self._give_up, self._pace, self._telemetry
        )
        try:
            result = await run.run()
            if isinstance(result, Word):
                spool.discard()
            return result
        finally:
            # After a failure, what has come stays for the next time.
            if own:
                progress.close()


class _Run:
    """One transfer under way."""

    def __init__(
        self,
        order: Order,
        spool: Spool,
        progress: Progress,
        upstream: Upstream,
        give_up: float,
        pace: Pace,
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._order = order
        self._spool = spool
        self._progress = progress
        self._upstream = upstream
        self._give_up = min(give_up, _GIVE_UP_WITH_COPY) if order.has_copy else give_up
        self._pace = pace
        self._deadline = pace.monotonic() + self._give_up
        self._excluded: dict[str, UpstreamError | VerificationError] = {}
        self._not_before: dict[str, float] = {}
        self._resumed = False
        # Who has had its second chance, and how far the body has come at most.
        self._granted: set[str] = set()
        self._furthest = spool.size

    async def run(self) -> Download | Word:
        origin = self._order.resource.origin
        round_ = 0
        while True:
            failure: UpstreamError | None = None
            for base in self._candidates():
                try:
                    return await self._ask(base)
                except VerificationError as error:
                    self._refuse(base, error)
                except OfflineError:
                    raise
                except UpstreamError as error:
                    logger.debug("%s from %s: %s", self._order.resource, host_of(base), error)
                    failure = failure or error
                    if not _is_passing(error):
                        self._excluded[base] = error
                    self._not_before[base] = self._pace.monotonic() + self._pace.delay(
                        round_ + 1, error.retry_after
                    )
                if self._spool.size > self._furthest:
                    # Slow is not dead: what counts is the time without a byte. Bytes that came
                    # before, and were thrown away, are no progress.
                    self._furthest = self._spool.size
                    self._deadline = self._pace.monotonic() + self._give_up
                    round_ = 0
            if len(self._excluded) == len(set(self._upstream.bases(origin))):
                raise self._worst()
            round_ += 1
            if self._order.has_copy and failure is not None and round_ >= _TRIES_WITH_COPY:
                raise failure
            await self._pause(failure)

    def _refuse(self, base: str, error: VerificationError) -> None:
        self._telemetry.refused(error.check, str(self._order.resource))
        logger.error("%s from %s is refused: %s", self._order.resource, host_of(base), error)
        # Put together from parts, it may be the joint that is wrong: once more, whole.
        if self._resumed and base not in self._granted:
            self._granted.add(base)
            self._furthest = 0
        else:
            self._excluded[base] = error
        self._spool.restart()
        self._resumed = False

    def _eligible(self) -> list[str]:
        """Who is up, and may have it."""
        healthy = self._upstream.healthy(self._order.resource.origin)
        return [base for base in healthy if base not in self._excluded]

    def _candidates(self) -> list[str]:
        """Who may be asked now: each has its own pace, or its own Retry-After."""
        now = self._pace.monotonic()
        return [base for base in self._eligible() if self._next_turn(base) <= now]

    def _next_turn(self, base: str) -> float:
        told = self._upstream.paused_until(base, self._order.resource.path)
        return max(self._not_before.get(base, 0.0), told)

    async def _pause(self, failure: UpstreamError | None) -> None:
        origin = self._order.resource.origin
        now = self._pace.monotonic()
        left = self._deadline - now
        eligible = self._eligible()
        if not eligible:
            # Who is up has had its say, and who is down may stay so: nobody is kept waiting.
            if left <= 0 or self._order.has_copy or self._excluded:
                raise failure or self._last_word(origin)
            # Somebody probes already: a second opinion costs more than it brings.
            await self._upstream.wait_for_change(left)
            return
        delay = min(map(self._next_turn, eligible)) - now
        if delay > left:
            raise failure or self._last_word(origin)
        if delay > 0:
            # What somebody else was told holds for many: they don't all come back together.
            await self._pace.sleep(delay if failure else delay + self._pace.random())

    def _last_word(self, origin: Origin) -> UpstreamError | VerificationError:
        if self._excluded:
            return self._worst()
        pause = self._upstream.pause(origin, self._order.resource.path)
        return pause or UpstreamError(self._upstream.why_down(origin))

    def _worst(self) -> UpstreamError | VerificationError:
        """Of several reasons the one that is worth telling: what was wrong, rather than absent."""
        errors = list(self._excluded.values())
        return next((e for e in errors if isinstance(e, VerificationError)), errors[0])

    async def _ask(self, base: str) -> Download | Word:
        order, spool = self._order, self._spool
        headers = dict(order.headers)
        start = spool.size if self._may_resume(base) else 0
        if start:
            headers = {"Range": f"bytes={start}-"}
            source = spool.source
            # A weak tag never matches (RFC 9110 §13.1.5); with a checksum none is needed.
            if source is not None and source.base == base and source.is_resumable:
                headers["If-Range"] = source.etag
        async with self._upstream.get(base, order.resource.path, headers) as response:
            word = Word(response.status, base, _header(response, "last-modified"))
            if response.status == 304 and order.headers:
                return word
            if response.status in _GONE:
                if base == self._upstream.bases(order.resource.origin)[0]:
                    return word
                # A mirror that doesn't have it proves nothing.
                raise UpstreamError(f"{host_of(base)} has no such file", status=response.status)
            if response.status == 416 and start:
                spool.restart()
                raise UpstreamError(f"{host_of(base)} can't continue the body", status=503)
            if response.status not in (200, 206):
                raise UpstreamError(
                    f"{host_of(base)} answered {response.status}",
                    status=response.status,
                    retry_after=retry_after(response),
                )
            await self._receive(base, response, start)
        return await self._verified(base)

    def _may_resume(self, base: str) -> bool:
        source = self._spool.source
        if not self._spool.size or source is None:
            return False
        if source.base == base:
            return source.is_resumable or self._order.checksum is not None
        return self._order.checksum is not None

    async def _receive(self, base: str, response: Response, start: int) -> None:
        spool = self._spool
        total = response.length
        if response.status == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if not start or match is None or int(match[1]) != start:
                spool.restart()
                raise UpstreamError(
                    f"{host_of(base)} sent another part than was asked for", status=503
                )
            total = int(match[2]) if match[2] else None
            if not self._fits(response, total):
                spool.restart()
                raise UpstreamError(f"{host_of(base)} continued another body", status=503)
            self._resumed = True
        elif spool.size:
            spool.restart()
            self._resumed = False
        spool.begin(
            Source(
                base=base,
                etag=_header(response, "etag"),
                total=total,
                last_modified=_header(response, "last-modified"),
                content_type=_header(response, "content-type"),
            )
        )
        self._progress.changed()
        async for chunk in response.chunks():
            self._upstream.heard(base)
            spool.write(chunk)
            self._progress.changed()
        if total is not None and spool.size != total:
            raise UpstreamError(f"{host_of(base)}: the body was cut off")
        if not response.framed and not self._order.self_evident:
            spool.restart()
            raise UpstreamError(
                f"{host_of(base)}: the body's end can't be told from a broken connection"
            )

    def _fits(self, response: Response, total: int | None) -> bool:
        """Whether a part continues what we have. A server may ignore If-Range; with a checksum the
        whole is looked at in the end, without one nobody would notice."""
        source = self._spool.source
        if self._order.checksum is not None or source is None:
            return self._order.checksum is not None
        same_length = total is None or source.total is None or total == source.total
        return same_length and _header(response, "etag") == source.etag

    async def _verified(self, base: str) -> Download:
        spool = self._spool
        source = spool.source
        assert source is not None
        try:
            body = spool.finish()
        except OSError as error:
            raise UpstreamError(f"{self._order.resource} can't be kept: {error}") from None
        download = Download(
            body=body,
            sha256=spool.sha256,
            size=spool.size,
            base=base,
            etag=source.etag,
            last_modified=source.last_modified,
            content_type=source.content_type or "application/octet-stream",
        )
        try:
            await self._order.verify(download)
        except BaseException:
            download.discard()
            raise
        self._progress.finish(download.sha256)
        return download


async def _loaded(spool: Spool) -> None:
    """Take up what an earlier transfer left. Cancelled, it leaves nothing open."""
    loading = asyncio.ensure_future(asyncio.to_thread(spool.load))
    try:
        await asyncio.shield(loading)
    except asyncio.CancelledError:
        loading.add_done_callback(lambda _: spool.close())
        raise


def _is_passing(error: UpstreamError) -> bool:
    """Whether the next try may go better. A 404 isn't an error here; 401 and 403 are final."""
    if error.final:
        return False
    return error.status is None or error.status >= 500 or error.status in _RETRIED


def _header(response: Response, name: str) -> str:
    """A header that can go out to clients as it is."""
    value = response.headers.get(name, "")
    return value if value.isascii() and value.isprintable() else ""
