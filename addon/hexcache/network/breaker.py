"""What is known of one upstream from how it answered: a circuit breaker, and for how long it has
been silent.

Only the state; whoever owns it asks and probes. Times are on a monotonic clock, which is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# A single failure is an everyday thing on a line that works.
FAILURES = 3
# No route, no name, no TLS: that is about the line, not about one file, and seldom passes alone.
_UNREACHABLE_WEIGHT = 2
# A line that comes back is noticed within this many seconds, as long as somebody asks.
FIRST_PROBE = 1.0
LONGEST_PROBE = 5.0
# So many paths are remembered for probes.
_PATHS = 8
_EVERYBODY_HAS = "/public_key"
# An old failure says nothing of now.
_SILENCE_FORGOTTEN = 5.0


@dataclass(frozen=True)
class BreakerState:
    """`since` and `why` are None and "" while the upstream is up."""

    is_open: bool
    failures: int
    since: float | None
    why: str


class Breaker:
    """Closed: the upstream is asked. Open: it isn't, except by one probe at a time, whose interval
    doubles from `FIRST_PROBE` to `LONGEST_PROBE`.

    It opens after `FAILURES` failures in a row. If the upstream could be reached, a second opinion
    is asked for first: files that can't be had are no reason to give up the others.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._weight = 0
        self._failed_paths: dict[str, None] = {}
        self._good_path = ""
        self._turn = -1
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

    def succeeded(self, path: str = "") -> bool:
        """Note an answer. True if this closed the breaker."""
        was_open = self.is_open
        self._good_path = path or self._good_path
        self._failures, self._weight, self._since, self._why = 0, 0, None, ""
        self._failed_paths.clear()
        self._interval = FIRST_PROBE
        return was_open

    def failed(
        self, why: str, path: str = "", *, unreachable: bool = False, opinion: bool = False
    ) -> bool:
        """Note a failure of `path`. `unreachable`: there wasn't even a connection; `opinion`: it
        was asked for as a second opinion. True if this opened the breaker."""
        self._failures += 1
        if self.is_open:
            self._interval = min(self._interval * 2, LONGEST_PROBE)
            self._next_probe = self._clock() + self._interval
            return False
        self._weight += _UNREACHABLE_WEIGHT if unreachable else 1
        if len(self._failed_paths) < _PATHS:
            self._failed_paths[path] = None
        if self._weight < FAILURES or not (unreachable or opinion):
            return False
        self._since, self._why = self._clock(), why
        self._next_probe = self._clock() + self._interval
        return True

    @property
    def probe_in(self) -> float:
        """Seconds until the next probe is due."""
        return max(self._next_probe - self._clock(), 0.0)

    @property
    def is_doubtful(self) -> bool:
        """Whether a second opinion is wanted."""
        return not self.is_open and self._weight >= FAILURES

    @property
    def another_path(self) -> str:
        """One that it hasn't failed at lately, and will have if it is up."""
        good = self._good_path
        return good if good and good not in self._failed_paths else _EVERYBODY_HAS

    def probe_path(self) -> str:
        """What to ask the upstream for next: what it had last, and in turn what it failed at. Its
        front page may be up while its files are not."""
        paths = [self.another_path, *self._failed_paths]
        self._turn += 1
        return paths[self._turn % len(paths)]


class Silence:
    """For how long an upstream has left questions without any answer.

    Patience is spent once for all clients: who comes while the upstream is silent already doesn't
    wait as if nobody had waited before.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None
        self._open = 0
        self._ended_at = 0.0

    def asked(self) -> None:
        """A question goes out: `answered` or `ended` follows."""
        if self._since is None or self.seconds == 0:
            self._since = self._clock()
        self._open += 1

    def answered(self) -> None:
        """Of whatever kind. Older questions that are still open prove nothing any more."""
        self._open -= 1
        self._since = None

    def ended(self) -> None:
        """A question had no answer, or nobody waits for it any more."""
        self._open -= 1
        self._ended_at = self._clock()

    @property
    def seconds(self) -> float:
        """Since the first question that was asked after the last answer; 0 if there is none, or
        if that is long over."""
        if self._since is None:
            return 0.0
        now = self._clock()
        if not self._open and now - self._ended_at > _SILENCE_FORGOTTEN:
            return 0.0
        return now - self._since
