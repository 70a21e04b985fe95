"""Every fault that a line or a server can have, on a cold cache and with a stored copy."""

from __future__ import annotations

import contextlib
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.clock import Clock
from support.engine import Got, Make
from support.signing import Rel, other_signer
from support.upstream import (
    Answer,
    CertificateAuthority,
    Fault,
    Upstream,
    closed,
    corrupt,
    cut,
    drip,
    hold,
    longer,
    replaced,
    status,
)

OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"
LIMITS = {"timeout": 0.2, "stall": 0.2}


def huge_headers(answer: Answer) -> None:
    answer.headers["X-Huge"] = "x" * 100_000


def bomb(answer: Answer) -> None:
    compress = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    packed = b"".join(compress.compress(zeros) for _ in range(200)) + compress.flush()
    replaced(packed)(answer)


@dataclass(frozen=True)
class Trouble:
    """`fault` for so many requests (None: until it is healed). `wins`: the bytes can be had."""

    name: str
    fault: Fault
    times: int | None = None
    wins: bool = False


TROUBLES = [
    Trouble("first-byte hang, once", hold(), 1, wins=True),
    Trouble("stall mid-body, once", hold(50), 1, wins=True),
    Trouble("reset mid-body, again and again", cut(200, reset=True), 5, wins=True),
    Trouble("truncated, again and again", cut(200), 5, wins=True),
    Trouble("slow drip", drip(), wins=True),
    Trouble("extra bytes", longer(), 1),
    Trouble("corrupted byte", corrupt()),
    Trouble("closed", closed()),
    Trouble("closed, twice", closed(), 2, wins=True),
    Trouble("500", status(500)),
    Trouble("500, twice", status(500), 2, wins=True),
    Trouble("502", status(502)),
    Trouble("503", status(503)),
    Trouble("429", status(429)),
    Trouble("429, with Retry-After, twice", status(429, Retry_After="7"), 2, wins=True),
    Trouble("403", status(403)),
    Trouble("wrong signature", replaced(other_signer().package("foo"))),
    Trouble("gzip bomb", bomb),
    Trouble("huge headers", huge_headers),
]


def check_error(got: Got) -> None:
    assert got.status in (502, 504), got
    assert got.outcome == "error"
    assert got.body.startswith(b"hexcache: ")
    assert got.body.count(b"\n") == 1


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: t.name)
@pytest.mark.parametrize("path", [PACKAGE, TARBALL])
async def test_cold(bench: Make, trouble: Trouble, path: str) -> None:
    made = bench(upstream=LIMITS)
    made.publish("foo", Rel("1.0.0", NEW))
    made.fake.fault(path, trouble.fault, trouble.times)
    got = await made.get(path)
    if trouble.wins:
        assert (got.status, got.body) == (200, made.fake.files[path])
    elif got.status != 200 or got.body != made.fake.files[path]:
        check_error(got)
    made.fake.heal()
    made.fake.release()
    await made.until_up()
    await made.settled()
    assert (await made.get(path)).body == made.fake.files[path]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: t.name)
async def test_with_a_stored_copy(bench: Make, clock: Clock, trouble: Trouble) -> None:
    made = bench(upstream=LIMITS)
    made.publish("foo", Rel("1.0.0", OLD))
    old = await made.get(PACKAGE)
    assert (await made.get(TARBALL)).body == OLD
    made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
    made.fake.fault("/packages", trouble.fault, trouble.times)
    clock.advance(6)
    got = await made.get(PACKAGE)
    assert got.status == 200
    if trouble.wins:
        assert got.body == made.fake.files[PACKAGE]
    else:
        assert got.body in (old.body, made.fake.files[PACKAGE])
    # The tarball is good as long as the entry that we hold names it.
    assert (await made.get(TARBALL)).body == OLD
    made.fake.heal()
    made.fake.release()
    await made.until_up()
    await made.settled()
    clock.advance(6)
    assert (await made.get(PACKAGE)).body == made.fake.files[PACKAGE]
    assert (await made.get("/tarballs/foo-1.1.0.tar")).body == NEW


@contextlib.contextmanager
def never_accepting() -> Iterator[str]:
    """A port that takes no more connections: a SYN isn't answered."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.asynccontextmanager
async def unreachable(kind: str, directory: Path) -> AsyncIterator[dict[str, Any]]:
    """`upstream` settings with which nothing can be had."""
    with contextlib.ExitStack() as stack:
        match kind:
            case "refused":
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    url = f"http://127.0.0.1:{probe.getsockname()[1]}"
                yield {"repo": [url]}
            case "connect hang":
                yield {"repo": [stack.enter_context(never_accepting())], "timeout": 0.1}
            case "TLS":
                fake = stack.enter_context(Upstream(CertificateAuthority(directory)))
                yield {"repo": [fake.url]}
            case "DNS":
                yield {"repo": ["http://hex.invalid"], "nameservers": ["127.0.0.1"], "timeout": 1}


REASONS = {
    "refused": "no connection: Connection refused",
    "connect hang": "no answer in time",
    "TLS": "its TLS certificate was refused",
    "DNS": "the name can't be resolved",
}


@pytest.mark.parametrize("kind", REASONS)
async def test_unreachable(bench: Make, clock: Clock, tmp_path: Path, kind: str) -> None:
    """Cold it is an error that says why; with a copy it is the copy."""
    good = bench()
    good.publish("foo", Rel("1.0.0", OLD))
    body = (await good.get(PACKAGE)).body
    await good.get(TARBALL)
    await good.close()
    clock.advance(3600)
    async with unreachable(kind, tmp_path / "tls") as upstream:
        made = bench(upstream=upstream)
        assert (await made.get(PACKAGE)).body == body
        assert (await made.get(TARBALL)).body == OLD
        cold = await made.get("/packages/bar")
        check_error(cold)
        assert REASONS[kind] in cold.body.decode()
        await made.close()


async def test_redirect_loop(bench: Make) -> None:
    made = bench()
    made.fake.redirects["/installs/hex.ez"] = (302, f"{made.fake.url}/installs/hex.ez")
    got = await made.get("/installs/hex.ez")
    check_error(got)
    assert b"redirects more than" in got.body


@pytest.mark.parametrize("where", ["http://localhost:9/x", "http://10.0.0.1/x", "ftp://a.b/c"])
async def test_redirects_dont_lead_into_the_network_around_us(bench: Make, where: str) -> None:
    made = bench()
    made.fake.redirects["/installs/hex.ez"] = (302, where)
    got = await made.get("/installs/hex.ez")
    check_error(got)
    assert b"redirects to" in got.body
