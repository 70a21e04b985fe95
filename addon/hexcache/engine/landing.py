"""Fetches under way, and how clients wait for them: for the end, for upstream to be found down, or
not at all, because the body is sent as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hexcache.engine.flights import Flight, Flights
from hexcache.engine.refresh import Result
from hexcache.engine.replies import Replies
from hexcache.engine.streams import Growing
from hexcache.errors import UpstreamError
from hexcache.messages import Reply, Request
from hexcache.network.pace import Pace
from hexcache.network.progress import Progress
from hexcache.network.upstream import Upstream
from hexcache.resources import Kind, Resource, of_key

# A fetch that takes longer is sent while it comes in; before, an error can still be a clean one.
_STREAM_AFTER = 0.25
_STREAMED = (Kind.TARBALL, Kind.DOCS, Kind.INSTALL, Kind.BUILD)


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """A fetch under way: `size` bytes of `total` (None: not known yet) are here, `seconds` after
    its start. Of a small file, which comes in one piece, `size` stays 0."""

    subject: str
    size: int
    total: int | None
    seconds: float


class Landings:
    """The fetches of an engine."""

    def __init__(self, upstream: Upstream, replies: Replies, pace: Pace) -> None:
        self._upstream = upstream
        self._replies = replies
        self._pace = pace
        self._flights: Flights[Result] = Flights()
        self._progress: dict[str, Progress] = {}

    async def close(self) -> None:
        await self._flights.close()

    def __len__(self) -> int:
        return len(self._flights)

    def under_way(self) -> list[Fetch]:
        """What is being fetched now, the oldest first."""
        found = []
        for key, flight in self._flights.all().items():
            progress, resource = self._progress.get(key), of_key(key)
            source = progress.source if progress else None
            found.append(
                Fetch(
                    subject=str(resource) if resource else key,
                    size=progress.size if progress else 0,
                    total=source.total if source else None,
                    seconds=flight.running_for,
                )
            )
        return found

    def get(self, resource: Resource) -> Flight[Result] | None:
        """The fetch of `resource` that is under way."""
        return self._flights.get(resource.key)

    def join(
        self, resource: Resource, work: Callable[[], Coroutine[Any, Any, Result]]
    ) -> tuple[Flight[Result], bool]:
        """See Flights.join."""
        return self._flights.join(resource.key, work)

    def start(
        self, resource: Resource, work: Callable[[Progress], Awaitable[Result]]
    ) -> tuple[Flight[Result], bool]:
        """The same for a body that clients may be sent as it comes."""

        async def fetch() -> Result:
            progress = self._progress[resource.key] = Progress()
            try:
                return await work(progress)
            finally:
                del self._progress[resource.key]
                # Who reads finds out in the next turn of the loop that the flight has landed.
                asyncio.get_running_loop().call_soon(progress.close)

        return self._flights.join(resource.key, fetch)

    async def result(self, resource: Resource, flight: Flight[Result]) -> Result:
        """The flight's result. If upstream is found to be down, whoever waits is told so
        (UpstreamError); the flight goes on, and the next who asks may find its result."""
        if not await flight.done_within(0):
            async with self._until_down(resource) as down:
                await _first(flight.task, down)
            if not flight.task.done():
                raise UpstreamError(self._upstream.why_down(resource.origin))
        return await flight.result()

    async def done_within(self, resource: Resource, flight: Flight[Result], seconds: float) -> bool:
        """Whether the flight lands in time. False, at once, if upstream is found to be down."""
        if not await flight.done_within(0):
            async with self._until_down(resource, 0) as down:
                await _first(flight.task, down, seconds=seconds)
        return flight.task.done()

    async def stream(
        self, request: Request, resource: Resource, flight: Flight[Result], joined: bool
    ) -> Reply | None:
        """A reply that grows; None if the fetch ended soon, or what it brings can't be sent as it
        comes. Raises UpstreamError if upstream is found to be down."""
        wants_all = request.method == "GET" and "range" not in request.headers
        if not wants_all or resource.kind not in _STREAMED:
            return None
        if await flight.done_within(_STREAM_AFTER):
            return None
        progress = self._progress.get(resource.key)
        if progress is None:
            return None
        while progress.source is None and not flight.task.done():
            await self._progressed(resource, flight, progress)
        source = progress.source
        # rebar3 takes a tarball without an ETag for a failed download.
        if source is None or source.total is None or not source.etag or flight.task.done():
            return None
        body = Growing(progress, flight, source.total, progress.lease())
        return self._replies.stream(request, resource, source, body, joined)

    async def _progressed(
        self, resource: Resource, flight: Flight[Result], progress: Progress
    ) -> None:
        async with self._until_down(resource) as down:
            changed = asyncio.ensure_future(progress.wait())
            await _first(changed, flight.task, down)
            changed.cancel()
            if down.done() and progress.source is None and not flight.task.done():
                raise UpstreamError(self._upstream.why_down(resource.origin))

    @contextlib.asynccontextmanager
    async def _until_down(
        self, resource: Resource, grace: float | None = None
    ) -> AsyncIterator[asyncio.Future[None]]:
        grace = self._pace.down_grace if grace is None else grace
        down = asyncio.ensure_future(self._upstream.down_for(resource.origin, grace))
        try:
            yield down
        finally:
            down.cancel()


async def _first(*futures: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Until one of them is done, or the time is over."""
    timeout = None if seconds is None else max(seconds, 0.0)
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
