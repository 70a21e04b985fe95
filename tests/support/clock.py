"""A clock that tests move."""

from __future__ import annotations

import asyncio


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
