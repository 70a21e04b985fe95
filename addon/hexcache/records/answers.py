"""One request, answered: what the log line, the metrics and the history are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from hexcache.messages import Outcome, Reply, Request
from hexcache.printing import printable, shortened

# Clients choose paths, upstreams choose words: neither fills a log or a page.
_LONGEST = 200
_LONGEST_DETAIL = 500
OTHER = "other"
# The check that a stored body fails which isn't what was stored.
STORED = "stored"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`id` names it in the log. `at`: when it was asked, in seconds since the epoch; `seconds`:
    from then until the last byte was handed over; `size`: bytes of the body that were. `kind` is
    a resources.Kind or "other". Every text is printable, short, and holds no secret."""

    id: str
    at: float
    client: str
    method: str
    kind: str
    subject: str
    outcome: Outcome
    status: int
    size: int
    seconds: float
    detail: str = ""

    @classmethod
    def of(
        cls, id_: str, request: Request, reply: Reply, *, at: float, seconds: float, size: int
    ) -> Answer:
        return cls(
            id=id_,
            at=at,
            client=request.client,
            method=short(request.method),
            kind=str(reply.kind) if reply.kind is not None else OTHER,
            subject=short(without_query(reply.subject)),
            outcome=reply.outcome,
            status=reply.status,
            size=size,
            seconds=seconds,
            detail=short(reply.detail, _LONGEST_DETAIL),
        )

    def fields(self) -> dict[str, Any]:
        """As a JSON log line has it."""
        fields: dict[str, Any] = {
            "id": self.id,
            "client": self.client,
            "method": self.method,
            "kind": self.kind,
            "resource": self.subject,
            "outcome": str(self.outcome),
            "status": self.status,
            "bytes": self.size,
            "ms": round(self.seconds * 1000, 1),
        }
        if self.detail:
            fields["detail"] = self.detail
        return fields


class Observer(Protocol):
    """Told of every answer, of every piece of a body that came from upstream, and of what failed a
    check: VerificationError.check or STORED, and what it was."""

    def answered(self, answer: Answer) -> None: ...

    def fetched(self, size: int) -> None: ...

    def refused(self, check: str, subject: str) -> None: ...


def without_query(target: str) -> str:
    """A request target as it may be shown: whoever passes a token in a query didn't mean it for a
    log."""
    path, mark, _ = target.partition("?")
    return f"{path}?…" if mark else path


def short(text: str, longest: int = _LONGEST) -> str:
    """Fit for a log line and a page."""
    return shortened(printable(text), longest)
