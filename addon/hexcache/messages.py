"""Requests to the engine and its replies: plain HTTP semantics, no server's types.

A reply's body is a stream of chunks, so that a large one never has to be in memory; `Content` is
for those that are there already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hexcache.freshness import Wishes
from hexcache.resources import Kind


class Outcome(StrEnum):
    """How a request was answered; the word in the log and in metrics."""

    HIT = "hit"
    MISS = "miss"
    REVALIDATED = "revalidated"
    STALE = "stale"
    COALESCED = "coalesced"
    OFFLINE = "offline"
    PASSED = "passed"
    LOCAL = "local"  # about Hexcache itself: not counted
    ERROR = "error"
    ABORTED = "aborted"  # the client hung up before its end


class Headers(Mapping[str, str]):
    """A few HTTP headers: keys in lower case, repeated ones joined (RFC 9110 §5.2)."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        self._joined: dict[str, str] = {}
        for name, value in self._pairs:
            name = name.lower()
            old = self._joined.get(name)
            self._joined[name] = value if old is None else f"{old}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._joined[name.lower()]

    def __iter__(self):  # type: ignore[no-untyped-def]  # Mapping's own signature
        return iter(self._joined)

    def __len__(self) -> int:
        return len(self._joined)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """As they came: order, case and repetitions kept."""
        return self._pairs


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asks. `host` is the Hex host it means, `target` path and query as they came,
    `client` an address for the log, `connection` names the connection that it came on."""

    method: str
    host: str
    target: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    client: str = ""
    connection: str = ""

    @property
    def wishes(self) -> Wishes:
        directives = {
            part.strip().lower() for part in self.headers.get("cache-control", "").split(",")
        }
        return Wishes("no-cache" in directives, "only-if-cached" in directives)


class Body(Protocol):
    """`length` in bytes, None if it isn't known before the end. `chunks` may be called once; it
    raises UpstreamError or VerificationError if the rest can't be had, and then the
    connection to the client must be broken off: what was sent is not whole."""

    @property
    def length(self) -> int | None: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True)
class Content:
    """A body that is in memory."""

    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.data:
            yield self.data


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`headers` has no Content-Length and no Transfer-Encoding: they follow from `body`.
    `length` overrules the body's for HEAD. `subject` is what the log calls the resource, `kind` is
    None for what isn't one."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = field(default_factory=lambda: Content(b""))
    outcome: Outcome
    subject: str = ""
    kind: Kind | None = None
    detail: str = ""
    length: int | None = None
    # No body belongs to it, and where `length` is None nothing is known of one.
    bodiless: bool = False

    @property
    def content_length(self) -> int | None:
        if self.length is not None or self.bodiless:
            return self.length
        return self.body.length


async def read(body: Body) -> bytes:
    """All of a body, in memory."""
    if isinstance(body, Content):
        return body.data
    return b"".join([chunk async for chunk in body.chunks()])
