"""Requests for what isn't cached, handed to upstream and back as they are, nothing stored."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from hexcache import resources
from hexcache.engine.cachestatus import CacheStatus
from hexcache.engine.failures import failure
from hexcache.errors import UpstreamError
from hexcache.messages import Outcome, Reply, Request
from hexcache.network.connections import HOP_BY_HOP, Response
from hexcache.network.upstream import Upstream


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


def _hidden(headers: Mapping[str, str]) -> frozenset[str]:
    """Headers that are about one connection or its framing (RFC 9110 §7.6.1)."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    return HOP_BY_HOP | {"content-length"} | named


async def pass_through(upstream: Upstream, request: Request) -> Reply:
    """Ask upstream what the client asks, its `Authorization` included: the first base URL and
    no mirror, since only that one may see it."""
    base = upstream.bases(resources.origin_of(request.host, request.target))[0]
    if not request.target.startswith("/"):
        return failure(request, 400, "a path is wanted")
    dropped = _hidden(request.headers) | {"host", "expect"}
    headers = [pair for pair in request.headers.pairs if pair[0].lower() not in dropped]
    # RFC 9211 §2.2: the method's doing, or ours.
    done = CacheStatus(forwarded="bypass" if request.method in ("GET", "HEAD") else "method")
    stack = contextlib.AsyncExitStack()
    try:
        response = await stack.enter_async_context(
            upstream.request(request.method, base, request.target, headers, request.body)
        )
    except UpstreamError as error:
        return failure(request, 504, str(error), done=done)
    if not response.framed and request.method != "HEAD" and response.status not in (204, 304):
        # Passed on, a body that broke off would look whole.
        await stack.aclose()
        reason = "upstream sent a body whose end can't be told"
        return failure(request, 502, reason, done=replace(done, status=response.status))
    kept = tuple(
        pair for pair in response.pairs if pair[0].lower() not in _hidden(response.headers)
    )
    reply = Reply(
        status=response.status,
        headers=(*kept, replace(done, status=response.status).header),
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
            bodiless=True,
        )
    return reply
