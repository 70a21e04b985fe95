"""A circuit breaker: after a few failures in a row nobody waits on an upstream any more.

Only the state; whoever owns it does the probing. Times are on a monotonic clock, which is passed
in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# A single failure is an everyday thing on a line that works.
FAILURES = 3
# A line that comes back is noticed within this many seconds, as long as somebody asks.
FIRST_PROBE = 1.0
LONGEST_PROBE = 5.0


@dataclass(frozen=True)
class BreakerState:
    """`since` and `why` are None and "" while the upstream is up."""

    is_open: bool
    failures: int
    since: float | None
    why: str


class Breaker:
    """Closed: the upstream is asked. Open: it isn't, except by one probe at a time, whose interval
    doubles from `FIRST_PROBE` to `LONGEST_PROBE`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._since: float | None = None
        self._why = ""
        self._interval = FIRST_PROBE
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        return self._since is not None

    @property
    def state(self) -> BreakerState:
        return BreakerState(self.is_open, self._failures, self._since, self._why)

    def succeeded(self) -> bool:
        """Note an answer. True if this closed the breaker."""
        was_open = self.is_open
        self._failures, self._since, self._why = 0, None, ""
        self._interval = FIRST_PROBE
        return was_open

    def failed(self, why: str) -> bool:
        """Note a failure. True if this opened the breaker."""
        self._failures += 1
        if self.is_open:
            self._interval = min(self._interval * 2, LONGEST_PROBE)
            self._next_probe = self._clock() + self._interval
            return False
        if self._failures < FAILURES:
            return False
        self._since, self._why = self._clock(), why
        self._next_probe = self._clock() + self._interval
        return True

    @property
    def probe_in(self) -> float:
        """Seconds until the next probe is due."""
        return max(self._next_probe - self._clock(), 0.0)
