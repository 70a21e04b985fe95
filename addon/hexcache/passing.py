"""Requests for what isn't cached, handed to upstream and back as they are, nothing stored."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hexcache import resources
from hexcache.errors import UpstreamError
from hexcache.messages import Content, Outcome, Reply, Request
from hexcache.upstream import HOP_BY_HOP, Response, Upstream

# Ours to set: they describe the connection or the framing, not the message.
_OURS = HOP_BY_HOP | {"host", "content-length", "expect"}


@dataclass(frozen=True)
class _Passing:
    """The body of an upstream response, which is let go of at its end."""

    response: Response
    stack: contextlib.AsyncExitStack

    @property
    def length(self) -> int | None:
        return self.response.length

    async def chunks(self) -> AsyncIterator[bytes]:
        async with self.stack:
            async for chunk in self.response.chunks():
                yield chunk


async def pass_through(upstream: Upstream, request: Request) -> Reply:
    """Ask upstream what the client asks, its `Authorization` included: the first base URL and
    no mirror, since only that one may see it."""
    base = upstream.bases(resources.origin_of(request.host, request.target))[0]
    connection = {name.strip().lower() for name in request.headers.get("connection", "").split(",")}
    dropped = _OURS | connection
    headers = [pair for pair in request.headers.pairs if pair[0].lower() not in dropped]
    stack = contextlib.AsyncExitStack()
    try:
        response = await stack.enter_async_context(
            upstream.request(request.method, base + request.target, headers, request.body)
        )
    except UpstreamError as error:
        return Reply(
            status=504,
            headers=(("Content-Type", "text/plain; charset=utf-8"),),
            body=Content(f"hexcache: {error}\n".encode()),
            outcome=Outcome.ERROR,
            subject=request.target,
            detail=str(error),
        )
    kept = tuple(
        pair for pair in response.pairs if pair[0].lower() not in HOP_BY_HOP | {"content-length"}
    )
    reply = Reply(
        status=response.status,
        headers=(*kept, ("Cache-Status", "hexcache; fwd=bypass")),
        body=_Passing(response, stack),
        outcome=Outcome.PASSED,
        subject=request.target,
    )
    if request.method == "HEAD" or response.status in (204, 304):
        await stack.aclose()
        return Reply(
            status=reply.status,
            headers=reply.headers,
            outcome=reply.outcome,
            subject=reply.subject,
            length=response.length,
        )
    return reply
