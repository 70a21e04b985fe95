"""Clocks that tests move."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class Clock:
    """Seconds since the epoch."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """Takes no time but its own."""
        self.now += seconds
        await asyncio.sleep(0)


class Waiting:
    """A monotonic clock, and sleeps that end when a test says that time has passed."""

    def __init__(self) -> None:
        self.now = 0.0
        # Of each sleep: when it ends, and how long it is.
        self._sleepers: list[tuple[float, float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    def sleepers(self, seconds: float | None = None) -> int:
        """How many wait now, or how many of those that wait for so long."""
        return sum(
            not future.done() and seconds in (None, length) for _, length, future in self._sleepers
        )

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        """Those whose time has come go on in the next turns of the loop."""
        self.now += seconds
        for at, _, future in self._sleepers:
            if at <= self.now and not future.done():
                future.set_result(None)
        self._sleepers = [each for each in self._sleepers if not each[2].done()]


class Calendar:
    """A clock of dates, which tests set; it starts at the real time, which the clients go by."""

    def __init__(self) -> None:
        self.time = self.start = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def set(self, **since_start: float) -> None:
        self.time = self.start + timedelta(**since_start)
