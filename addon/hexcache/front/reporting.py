"""Each request is told of once: one log line, and the same to whoever counts."""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from hexcache.errors import HexcacheError, UpstreamError
from hexcache.messages import Outcome, Reply, Request
from hexcache.records.answers import Answer
from hexcache.records.telemetry import Telemetry

logger = logging.getLogger("hexcache.access")

_HUNG_UP = "the client hung up"


class Reporter:
    """One per process. `clock`: seconds since the epoch."""

    def __init__(
        self,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.telemetry = telemetry
        self._clock = clock
        self._monotonic = monotonic
        # Two runs in one log don't share ids.
        self._run = secrets.token_hex(2)
        self._numbers = itertools.count(1)

    def begin(self, request: Request) -> Ticket:
        """A request has come."""
        return Ticket(self, request, f"{self._run}-{next(self._numbers)}", *self._now())

    def _now(self) -> tuple[float, float]:
        return self._clock(), self._monotonic()

    def report(self, ticket: Ticket, reply: Reply, size: int) -> None:
        answer = Answer.of(
            ticket.id,
            ticket.request,
            reply,
            at=ticket.at,
            seconds=self._monotonic() - ticket.started,
            size=size,
        )
        if answer.outcome is not Outcome.LOCAL:
            self.telemetry.answered(answer)
        _log(answer)


class Ticket:
    """A request on its way to its answer. It ends once, by `end` or at the end of `sending`; one
    that is forgotten, because the client went before anything was sent, ends with itself."""

    def __init__(
        self, reporter: Reporter, request: Request, id_: str, at: float, started: float
    ) -> None:
        self._reporter: Reporter | None = reporter
        self.request = request
        self.id = id_
        self.at = at
        self.started = started
        self._reply: Reply | None = None

    def end(self, reply: Reply, size: int) -> None:
        """`size` bytes of its body were handed over."""
        reporter, self._reporter = self._reporter, None
        if reporter is not None:
            reporter.report(self, reply, size)

    def sending(self, reply: Reply) -> AsyncGenerator[bytes]:
        """The body, counted as in flight until it has been handed over, and told of then."""
        self._reply = reply
        return self._sending(reply)

    async def _sending(self, reply: Reply) -> AsyncGenerator[bytes]:
        sent, why = 0, _HUNG_UP
        assert self._reporter is not None
        try:
            with self._reporter.telemetry.answering():
                async for chunk in reply.body.chunks():
                    # An empty piece would be taken for the end.
                    if chunk:
                        sent += len(chunk)
                        yield chunk
            if reply.content_length not in (None, sent):
                raise UpstreamError("the body is shorter than was announced")
            why = ""
        except HexcacheError as error:
            why = str(error)
            raise
        finally:
            self.end(_broken(reply, why) if why else reply, sent)

    def __del__(self) -> None:
        if self._reporter is None:
            return
        with contextlib.suppress(Exception):  # at the end of the process much is gone
            nothing = Reply(status=0, outcome=Outcome.ABORTED, subject=self.request.target)
            self.end(_broken(self._reply or nothing, _HUNG_UP), 0)


def _broken(reply: Reply, why: str) -> Reply:
    # A build that was cancelled is nobody's failure.
    outcome = Outcome.ABORTED if why is _HUNG_UP else Outcome.ERROR
    return replace(reply, outcome=outcome, detail=f"broken off: {why}")


def _log(answer: Answer) -> None:
    level = logging.INFO
    if answer.outcome is Outcome.ERROR:
        level = logging.WARNING
    elif answer.outcome is Outcome.LOCAL:
        level = logging.DEBUG  # a page that refreshes itself
    if logger.isEnabledFor(level):
        logger.log(
            level,
            "%s %s %s %s %d %d B %.0f ms%s",
            answer.id,
            answer.client,
            answer.subject,
            answer.outcome,
            answer.status,
            answer.size,
            answer.seconds * 1000,
            f" ({answer.detail})" if answer.detail else "",
            extra={"fields": answer.fields()},
        )
