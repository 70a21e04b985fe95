"""Waiting, as something that tests can take in hand."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 15.0
# A server that says "come back in an hour" is asked earlier all the same: clients wait.
LONGEST_RETRY_AFTER = 30.0


@dataclass(frozen=True)
class Pace:
    """`monotonic` and `sleep` are in seconds; `random` gives 0 to 1."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    # Who waits for a fetch is let go when upstream has been down for so long.
    down_grace: float = 2.0

    def delay(self, round_: int, retry_after: float | None = None) -> float:
        """Seconds to wait before round `round_` (from 1 on): doubling, with jitter of a half, so
        that clients who failed together don't come back together; not before `retry_after`."""
        longest = min(_FIRST_DELAY * 2.0 ** min(round_ - 1, 10), _LONGEST_DELAY)
        delay = longest * (0.5 + self.random() / 2)
        return max(delay, min(retry_after or 0.0, LONGEST_RETRY_AFTER))
