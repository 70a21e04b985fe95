"""One log line for each request, and the same numbers everywhere."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from hexcache.errors import UpstreamError
from hexcache.front.reporting import Reporter
from hexcache.logs import _JsonFormatter
from hexcache.messages import Content, Outcome, Reply, Request
from hexcache.records.telemetry import Telemetry
from hexcache.resources import Kind
from support.clock import Clock

HIT = Reply(
    status=200,
    outcome=Outcome.HIT,
    subject="package foo",
    kind=Kind.PACKAGE,
    body=Content(b"12345"),
)


@dataclass(frozen=True)
class Pieces:
    """A body of unknown length, with an error in the end or without."""

    pieces: tuple[bytes, ...]
    error: UpstreamError | None = None
    length: int | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error:
            raise self.error


def request(target: str = "/packages/foo") -> Request:
    return Request(method="GET", host="repo.hex.pm", target=target, client="10.0.0.1")


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def monotonic() -> Clock:
    return Clock(0.0)


@pytest.fixture
def reporter(telemetry: Telemetry, clock: Clock, monotonic: Clock) -> Reporter:
    return Reporter(telemetry, clock, monotonic)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "hexcache.access")
    return caplog


def test_a_line_and_a_count(
    reporter: Reporter, telemetry: Telemetry, monotonic: Clock, lines: pytest.LogCaptureFixture
) -> None:
    ticket = reporter.begin(request())
    monotonic.advance(0.25)
    ticket.end(HIT, 5)
    assert lines.messages == [f"{ticket.id} 10.0.0.1 package foo hit 200 5 B 250 ms"]
    times = telemetry.requests["package", "hit"]
    assert (times.count, times.total, telemetry.bytes_served) == (1, 0.25, 5)


def test_each_request_has_its_id(reporter: Reporter) -> None:
    assert reporter.begin(request()).id != reporter.begin(request()).id


def test_json_has_the_same(reporter: Reporter, lines: pytest.LogCaptureFixture) -> None:
    ticket = reporter.begin(request())
    ticket.end(HIT, 5)
    (record,) = lines.records
    line = json.loads(_JsonFormatter().format(record))
    assert (line["event"], line["id"], line["kind"]) == ("request", ticket.id, "package")
    assert (line["client"], line["method"], line["status"]) == ("10.0.0.1", "GET", 200)


def test_a_query_is_nobodys_business(reporter: Reporter, lines: pytest.LogCaptureFixture) -> None:
    reply = Reply(status=200, outcome=Outcome.PASSED, subject="/x?token=s3cret")
    reporter.begin(request("/x?token=s3cret")).end(reply, 0)
    del reply
    reporter.begin(request("/y?token=s3cret"))  # and of one that was never answered
    gc.collect()
    assert [m.split()[2] for m in lines.messages] == ["/x?…", "/y?…"]
    assert "s3cret" not in lines.text
    assert "s3cret" not in str([vars(record) for record in lines.records])


def test_what_clients_choose_is_printable_and_short(
    reporter: Reporter, lines: pytest.LogCaptureFixture
) -> None:
    reply = Reply(
        status=502, outcome=Outcome.ERROR, subject="/\x1b[2J\u202e\n" + "x" * 9000, detail="\x9b"
    )
    reporter.begin(request()).end(reply, 0)
    (message,) = lines.messages
    assert message.isprintable()
    assert len(message) < 400
    assert _JsonFormatter().format(lines.records[0]).isprintable()


class TestSending:
    async def test_whole(
        self, reporter: Reporter, telemetry: Telemetry, lines: pytest.LogCaptureFixture
    ) -> None:
        reply = Reply(status=200, outcome=Outcome.MISS, body=Pieces((b"ab", b"", b"c")))
        sending = reporter.begin(request()).sending(reply)
        assert await anext(sending) == b"ab"
        assert (telemetry.in_flight, lines.messages) == (1, [])
        assert [piece async for piece in sending] == [b"c"]
        assert (telemetry.in_flight, telemetry.requests["other", "miss"].count) == (0, 1)
        assert " miss 200 3 B " in lines.text

    async def test_broken_off(
        self, reporter: Reporter, telemetry: Telemetry, lines: pytest.LogCaptureFixture
    ) -> None:
        body = Pieces((b"ab",), UpstreamError("the line is dead"))
        reply = Reply(status=200, outcome=Outcome.MISS, body=body, kind=Kind.TARBALL)
        with pytest.raises(UpstreamError):
            _ = [piece async for piece in reporter.begin(request()).sending(reply)]
        assert telemetry.requests["tarball", "error"].count == 1
        assert "error 200 2 B" in lines.text
        assert "(broken off: the line is dead)" in lines.text

    async def test_hung_up(self, reporter: Reporter, lines: pytest.LogCaptureFixture) -> None:
        sending = reporter.begin(request()).sending(
            Reply(status=200, outcome=Outcome.HIT, body=Pieces((b"ab", b"c")))
        )
        await anext(sending)
        await sending.aclose()
        assert "aborted 200 2 B" in lines.text
        assert lines.text.count("the client hung up") == 1

    async def test_gone_before_it_began(
        self, reporter: Reporter, telemetry: Telemetry, lines: pytest.LogCaptureFixture
    ) -> None:
        sending = reporter.begin(request()).sending(HIT)
        await sending.aclose()
        del sending
        gc.collect()
        assert lines.text.count("the client hung up") == 1
        assert (telemetry.in_flight, telemetry.requests["package", "aborted"].count) == (0, 1)


def test_what_is_about_hexcache_itself_is_not_counted(
    reporter: Reporter, telemetry: Telemetry, lines: pytest.LogCaptureFixture
) -> None:
    reporter.begin(request()).end(Reply(status=200, outcome=Outcome.LOCAL), 100)
    assert (dict(telemetry.requests), telemetry.bytes_served, lines.messages) == ({}, 0, [])
