"""http://hexcache.local/ through the proxy itself: what the status port has, by the same handlers.

Who may use the proxy needs no other way to the CA's certificate, and nobody has to know where the
status port is, or whether there is one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from hexcache.engine.failures import failure
from hexcache.messages import Content, Outcome, Reply, Request
from hexcache.network.connections import HOP_BY_HOP
from hexcache.resources import LOCAL_HOST

_SECONDS = 30.0
_MOST_HEADERS = 2**16
# What is no business of a page that only shows something, beside what is of one connection.
_DROPPED = HOP_BY_HOP | {"host", "content-length", "expect", "authorization", "cookie"}


async def answer(request: Request, connect: Callable[[socket.socket], Awaitable[None]]) -> Reply:
    """What the status application says to `request`. `connect` makes it serve a connected
    socket."""
    if request.method not in ("GET", "HEAD") and not _only_asks(request):
        reason = f"nothing is changed at http://{LOCAL_HOST}/"
        allow = (("Allow", "GET, HEAD"),)
        return failure(request, 405, reason, outcome=Outcome.LOCAL, headers=allow)
    try:
        async with asyncio.timeout(_SECONDS):
            return await _asked(request, connect)
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return failure(request, 503, "the status page gave no answer", outcome=Outcome.LOCAL)


async def _asked(request: Request, connect: Callable[[socket.socket], Awaitable[None]]) -> Reply:
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        theirs.setblocking(False)
        await connect(theirs)
        reader, writer = await asyncio.open_connection(sock=ours, limit=_MOST_HEADERS)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    try:
        writer.write(_head(request) + request.body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        body = await reader.read()
    finally:
        writer.transport.abort()
    headers = [(name, value.strip()) for name, _, value in (h.partition(":") for h in head[1:-2])]
    length = next((int(v) for name, v in headers if name.lower() == "content-length"), None)
    hidden = HOP_BY_HOP | {"content-length"}
    is_head = request.method == "HEAD"
    return Reply(
        status=int(head[0].split(" ")[1]),
        headers=tuple(pair for pair in headers if pair[0].lower() not in hidden),
        body=Content(body),
        outcome=Outcome.LOCAL,
        subject=f"http://{LOCAL_HOST}{request.target}",
        length=length if is_head else None,
        bodiless=is_head,
    )


def _head(request: Request) -> bytes:
    """By HTTP/1.0: the end of the answer is the end of the connection."""
    lines = [f"{request.method} {request.target} HTTP/1.0", f"Host: {LOCAL_HOST}"]
    lines += [f"{name}: {value}" for name, value in request.headers.pairs if _kept(name)]
    if request.body:
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape")


def _only_asks(request: Request) -> bool:
    # A lock file is sent along to ask what of it is missing.
    return request.method == "POST" and request.target == "/check"


def _kept(name: str) -> bool:
    return name.lower() not in _DROPPED
