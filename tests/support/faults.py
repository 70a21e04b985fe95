"""Every fault that a bad line or a server has: what `support.upstream` lets spoil its answers."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Answer:
    """What is about to be sent; faults change it. `cut` ends the connection after so many bytes of
    the body, `reset` with an RST; `hold` makes the server wait for `release` when so many bytes
    are sent (-1: before the status line)."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None
    reset: bool = False
    hold: int | None = None
    extra: bytes = b""
    silent: bool = False
    drip: bool = False


Fault = Callable[[Answer], None]


def status(code: int, **headers: str) -> Fault:
    """Answer with a status and a small body."""

    def fault(answer: Answer) -> None:
        answer.status, answer.body = code, b"trouble\n"
        answer.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        answer.headers["Content-Length"] = str(len(answer.body))

    return fault


def cut(after: int, *, reset: bool = False) -> Fault:
    """Close (or reset) the connection after so many bytes of the body."""

    def fault(answer: Answer) -> None:
        answer.cut, answer.reset = after, reset

    return fault


def hold(after: int = -1) -> Fault:
    """Wait for `release()` when so many bytes of the body are sent; -1: before anything is."""

    def fault(answer: Answer) -> None:
        answer.hold = after

    return fault


def closed() -> Fault:
    """Close the connection without a word."""

    def fault(answer: Answer) -> None:
        answer.silent = True

    return fault


def corrupt(offset: int = 100) -> Fault:
    """Flip a bit of the body."""

    def fault(answer: Answer) -> None:
        if not answer.body:
            return
        body = bytearray(answer.body)
        body[offset % max(len(body), 1)] ^= 1
        answer.body = bytes(body)

    return fault


def longer(extra: bytes = b"surplus") -> Fault:
    """Send more than Content-Length says."""

    def fault(answer: Answer) -> None:
        answer.extra = extra

    return fault


def replaced(body: bytes, **headers: str) -> Fault:
    """Another body, and headers that are added."""

    def fault(answer: Answer) -> None:
        answer.status, answer.body = 200, body
        answer.headers["Content-Length"] = str(len(body))
        answer.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    return fault


def huge_headers() -> Fault:
    """A header that nobody has room for."""

    def fault(answer: Answer) -> None:
        answer.headers["X-Huge"] = "x" * 100_000

    return fault


@functools.cache
def _bomb() -> bytes:
    compress = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    return b"".join(compress.compress(zeros) for _ in range(200)) + compress.flush()


def bomb() -> Fault:
    """A small gzip file that is 200 MB unpacked."""
    # Made here: while a server makes it, its client runs into a time-out and not into the bomb.
    return replaced(_bomb())


def redirect_loop() -> Fault:
    """Redirect to the same path, for ever."""
    return status(302, Location="?again")


def drip() -> Fault:
    """Send the body a few bytes at a time."""

    def fault(answer: Answer) -> None:
        answer.drip = True

    return fault


def one_after_another(*faults: Fault) -> Fault:
    """The first fault for the first request, and so on; the last one stays."""
    left = list(faults)

    def fault(answer: Answer) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(answer)

    return fault


def without(*names: str) -> Fault:
    """Leave headers out."""

    def fault(answer: Answer) -> None:
        for name in names:
            answer.headers.pop(name, None)

    return fault
