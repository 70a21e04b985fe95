"""Every fault that a line or a server can have, on a cold cache and with a stored copy."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hexcache.errors import UpstreamError
from hexcache.messages import Headers
from support.certificates import CertificateAuthority
from support.clock import Clock
from support.engine import Bench, Got, Make
from support.faults import (
    Fault,
    bomb,
    closed,
    corrupt,
    cut,
    drip,
    hold,
    huge_headers,
    longer,
    redirect_loop,
    replaced,
    status,
)
from support.signing import Rel, other_signer
from support.upstream import Upstream

OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"
LIMITS = {"timeout": 0.2, "stall": 0.2, "give_up": 5}
NOT_GOOD = "not a gzip file|not signed|no registry message|SHA-256|can't be decoded|damaged"


@dataclass(frozen=True)
class Trouble:
    """`fault` for so many requests (None: until it is healed). `reason`: a pattern of what a
    client is told that can't be served; none: the bytes can be had, and it is; `either`: one or
    the other."""

    name: str
    fault: Fault
    times: int | None = None
    reason: str = ""
    either: bool = False


TROUBLES = [
    Trouble("first-byte hang, once", hold(), 1),
    Trouble("first-byte hang", hold(), reason="no answer in time"),
    Trouble("stall mid-body, once", hold(50), 1),
    Trouble("stall after the headers", hold(0), reason="no answer in time"),
    Trouble("reset mid-body, again and again", cut(200, reset=True), 5),
    Trouble("reset", cut(0, reset=True), reason="closed|broke off|reset"),
    Trouble("truncated, again and again", cut(200), 5),
    Trouble("slow drip", drip()),
    Trouble("extra bytes, once", longer(), 1),
    # Whether they are noticed depends on whether they come in one piece with the body.
    Trouble("extra bytes", longer(), reason="Bad status line|no proper HTTP", either=True),
    Trouble("corrupted byte", corrupt(), reason=NOT_GOOD),
    Trouble("closed", closed(), reason="closed without an answer"),
    Trouble("closed, twice", closed(), 2),
    Trouble("500", status(500), reason="answered 500"),
    Trouble("500, twice", status(500), 2),
    Trouble("502", status(502), reason="answered 502"),
    Trouble("503", status(503), reason="answered 503"),
    Trouble("503, with Retry-After, twice", status(503, Retry_After="2"), 2),
    Trouble("429", status(429), reason="answered 429"),
    Trouble("429, with Retry-After", status(429, Retry_After="7"), reason="answered 429"),
    Trouble("429, with Retry-After, twice", status(429, Retry_After="2"), 2),
    Trouble("429, twice", status(429), 2),
    Trouble("403", status(403), reason="answered 403"),
    Trouble("redirect loop", redirect_loop(), reason="redirects more than 5 times"),
    Trouble("wrong signature", replaced(other_signer().package("foo")), reason=NOT_GOOD),
    Trouble("gzip bomb", bomb(), reason="unpacks|larger|too large|SHA-256"),
    Trouble("huge headers", huge_headers(), reason="more than 8190 bytes|headers are too large"),
]


def check(trouble: Trouble, got: Got, body: bytes) -> None:
    """The whole of it, or the reason why not."""
    if got.body != body and trouble.reason:
        check_error(got, trouble.reason)
    else:
        assert got.status == 200
        assert got.body == body
        assert trouble.either or not trouble.reason


def check_error(got: Got, reason: str) -> None:
    assert got.status in (502, 504), got
    assert got.outcome == "error"
    assert got.body.startswith(b"hexcache: ")
    assert got.body.count(b"\n") == 1
    assert re.search(reason, got.body.decode())


async def ask(made: Bench, path: str) -> Got:
    """A large body is sent as it comes: then the end of the connection is all that can be told,
    and the reason stands in the log."""
    try:
        return await made.get(path)
    except UpstreamError as error:
        return Got(504, f"hexcache: {error}\n".encode(), Headers(()), "error", str(error))


async def healed(made: Bench) -> None:
    made.fake.heal()
    made.fake.release()
    await made.until_up()
    await made.settled()
    made.time.advance(8)  # each Retry-After is over; less than the patience


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: t.name)
@pytest.mark.parametrize("path", [PACKAGE, TARBALL])
async def test_cold(bench: Make, trouble: Trouble, path: str) -> None:
    made = bench(upstream=LIMITS)
    made.publish("foo", Rel("1.0.0", NEW))
    made.fake.fault(path, trouble.fault, trouble.times)
    check(trouble, await ask(made, path), made.fake.files[path])
    await healed(made)
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
    stale = got.body == old.body
    assert stale or got.body == made.fake.files[PACKAGE]
    assert trouble.either or stale == bool(trouble.reason)
    # The tarball is good as long as the entry that we hold names it.
    assert (await made.get(TARBALL)).body == OLD
    await healed(made)
    clock.advance(6)
    assert (await made.get(PACKAGE)).body == made.fake.files[PACKAGE]
    assert (await made.get("/tarballs/foo-1.1.0.tar")).body == NEW


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: t.name)
async def test_with_a_stored_tarball_that_was_replaced(
    bench: Make, clock: Clock, trouble: Trouble
) -> None:
    """The entry is new, the line breaks before the tarball: the old one under the same URL is no
    answer to who has seen the new entry."""
    made = bench(upstream=LIMITS)
    made.publish("foo", Rel("1.0.0", OLD))
    assert (await made.get(TARBALL)).body == OLD
    made.publish("foo", Rel("1.0.0", NEW))
    made.fake.fault("/tarballs", trouble.fault, trouble.times)
    clock.advance(6)
    assert (await made.get(PACKAGE)).body == made.fake.files[PACKAGE]
    check(trouble, await ask(made, TARBALL), NEW)
    await healed(made)
    assert (await made.get(TARBALL)).body == NEW


@contextlib.contextmanager
def unresolvable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No name can be resolved."""
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        patch.setattr(socket, "getaddrinfo", fail)
        yield


REASONS = {
    "refused": "no connection: Connection refused",
    "connect hang": "no answer in time",
    "TLS": "its TLS certificate was refused",
    "DNS": "the name can't be resolved",
}


@pytest.mark.parametrize("kind", REASONS)
async def test_unreachable(
    bench: Make, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Cold it is an error that says why, with a copy it is the copy, and then what there is."""
    authority = CertificateAuthority(tmp_path / "own")
    with Upstream(authority) as fake:
        settings: dict[str, Any] = {
            "repo": [fake.url.replace("127.0.0.1", "localhost")],
            "ca_file": authority.ca_file,
            "timeout": 0.2,
            "give_up": 5,
        }
        breaks: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
            "refused": fake.refusing,
            "connect hang": fake.not_accepting,
            "TLS": lambda: fake.presenting(CertificateAuthority(tmp_path / "stranger")),
            "DNS": lambda: unresolvable(monkeypatch),
        }
        before = bench(upstream=settings)
        before.fake = fake
        before.publish("foo", Rel("1.0.0", OLD))
        old = await before.get(PACKAGE)
        assert (await before.get(TARBALL)).body == OLD
        # A new process has resolved no name yet and keeps no connection.
        await before.close()
        made = bench(upstream=settings)
        made.fake = fake
        made.publish("foo", Rel("1.0.0", NEW))
        made.publish("bar", Rel("1.0.0", NEW))
        clock.advance(3600)
        with breaks[kind]():
            assert (await made.get(PACKAGE)).body == old.body
            assert (await made.get(TARBALL)).body == OLD
            for path in ("/packages/bar", "/tarballs/bar-1.0.0.tar"):
                check_error(await made.get(path), REASONS[kind])
        await healed(made)
        for path in ("/packages/bar", "/tarballs/bar-1.0.0.tar", PACKAGE, TARBALL):
            assert (await made.get(path)).body == fake.files[path]
        await made.close()


async def test_a_nameserver_that_does_not_answer(bench: Make) -> None:
    made = bench(
        upstream={"repo": ["http://hex.invalid"], "nameservers": ["127.0.0.1"], "timeout": 1}
    )
    check_error(await made.get(PACKAGE), REASONS["DNS"])


async def test_an_older_registry(bench: Make, clock: Clock) -> None:
    """Cold nothing can tell; afterwards what was seen is not taken back."""
    made = bench(upstream=LIMITS)
    made.publish("foo", Rel("1.0.0", OLD))
    older = dict(made.fake.files)
    assert (await made.get(PACKAGE)).body == older[PACKAGE]
    made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
    newer = made.fake.files[PACKAGE]
    made.fake.modified[PACKAGE] = 1.7e9 + 60
    clock.advance(6)
    assert (await made.get(PACKAGE)).body == newer
    made.fake.files.update(older)
    made.fake.modified[PACKAGE] = 1.7e9
    clock.advance(6)
    assert (await made.get(PACKAGE)).body == newer
    assert (await made.get("/tarballs/foo-1.1.0.tar")).body == NEW


@pytest.mark.parametrize("where", ["http://localhost:9/x", "http://10.0.0.1/x", "ftp://a.b/c"])
async def test_redirects_dont_lead_into_the_network_around_us(bench: Make, where: str) -> None:
    made = bench()
    made.fake.redirects["/installs/hex.ez"] = (302, where)
    got = await made.get("/installs/hex.ez")
    check_error(got, "redirects to")
