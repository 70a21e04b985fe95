"""What is counted, in one place: the engine, the upstream client and the proxy report here.

Plain numbers, changed in the event loop only: a request costs a few microseconds. `metrics` says
them to Prometheus.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from hexcache.errors import OfflineError, UpstreamError
from hexcache.records.answers import STORED, Answer, Observer

# Upper limits in seconds: a hit takes one millisecond, a release over a bad line a minute.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
# What VerificationError.check may say, so that each is there, as a 0, before it happens.
CHECKS = (
    "gzip",
    "message",
    "signature",
    "repository",
    "name",
    "checksum",
    "key",
    "older",
    "pair",
)


class Distribution:
    """Durations: how many, how long together, and how many up to each of BUCKETS."""

    __slots__ = ("_counts", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._counts = [0] * (len(BUCKETS) + 1)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self._counts[bisect_left(BUCKETS, seconds)] += 1

    def cumulative(self) -> list[tuple[str, int]]:
        """As Prometheus wants it: limit and how many weren't above it, "+Inf" last."""
        limits = [*(str(float(limit)) for limit in BUCKETS), "+Inf"]
        below = 0
        result = []
        for limit, count in zip(limits, self._counts, strict=True):
            below += count
            result.append((limit, below))
        return result


class Telemetry:
    """One per process. `monotonic` is in seconds. Nothing here remembers a package's name."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self._observers: list[Observer] = []
        # By kind and outcome.
        self.requests: defaultdict[tuple[str, str], Distribution] = defaultdict(Distribution)
        # By upstream: until an answer began, and by upstream and code.
        self.questions: defaultdict[str, Distribution] = defaultdict(Distribution)
        self.codes: Counter[tuple[str, str]] = Counter()
        self.refusals: Counter[str] = Counter(dict.fromkeys(CHECKS, 0))
        self.bytes_served = 0
        self.bytes_fetched = 0
        self.in_flight = 0

    def tell(self, observer: Observer) -> None:
        """From now on `observer` hears of what is reported here."""
        self._observers.append(observer)

    def answered(self, answer: Answer) -> None:
        """A client got an answer, whatever it was."""
        self.requests[answer.kind, answer.outcome].add(answer.seconds)
        self.bytes_served += answer.size
        for observer in self._observers:
            observer.answered(answer)

    def fetched(self, size: int) -> None:
        """So many bytes of a body came from upstream."""
        self.bytes_fetched += size
        for observer in self._observers:
            observer.fetched(size)

    def refused(self, check: str, subject: str) -> None:
        """What came as `subject` failed a check (VerificationError.check)."""
        self.refusals[check] += 1
        for observer in self._observers:
            observer.refused(check, subject)

    def damaged(self, subject: str) -> None:
        """A stored body isn't what was stored: the store counts these."""
        for observer in self._observers:
            observer.refused(STORED, subject)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """While something is being found or sent for a client."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @contextlib.contextmanager
    def question(self, upstream: str) -> Iterator[Callable[[int], None]]:
        """While `upstream`, a label, is asked for something: call what this gives with the status
        when the answer begins. Without one the code is "error", or "cancelled" if nobody wanted
        it any more. What the offline flag kept from leaving was no question."""
        started = self._monotonic()
        codes: list[str] = []

        def answered(status: int | str) -> None:
            if not codes:
                codes.append(str(status))
                self.codes[upstream, codes[0]] += 1
                self.questions[upstream].add(self._monotonic() - started)

        try:
            yield answered
        except OfflineError:
            raise
        except UpstreamError:
            answered("error")
            raise
        except BaseException:
            answered("cancelled")
            raise

    def statistics(self) -> dict[str, Any]:
        """Since the start, ready for JSON: `uptime` in seconds, `requests` by kind and outcome,
        `bytes`, `upstream` requests by upstream and code, `integrity_failures` by check,
        `in_flight`."""
        requests: dict[str, dict[str, int]] = {}
        for (kind, outcome), times in sorted(self.requests.items()):
            requests.setdefault(kind, {})[str(outcome)] = times.count
        codes: dict[str, dict[str, int]] = {}
        for (upstream, code), count in sorted(self.codes.items()):
            codes.setdefault(upstream, {})[code] = count
        return {
            "uptime": round(self._monotonic() - self._started, 3),
            "requests": requests,
            "bytes": {"served": self.bytes_served, "fetched": self.bytes_fetched},
            "upstream_requests": codes,
            "integrity_failures": dict(self.refusals),
            "in_flight": self.in_flight,
        }
