"""One piece of work per key, however many wait for it.

A flight belongs to nobody: it goes on when all who waited have hung up, and its result is there
for the next who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hexcache.errors import UpstreamError


class Flight[T]:
    """Work under way. `started` is on the event loop's clock; `joined`: how many came after whoever
    started it."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        loop = asyncio.get_running_loop()
        self.started = loop.time()
        self.joined = 0
        self.task: asyncio.Task[T] = loop.create_task(work)

    @property
    def running_for(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self.started

    @property
    def is_given_up(self) -> bool:
        return self.task.cancelling() > 0

    async def result(self) -> T:
        """The result, or the work's exception; UpstreamError if it was given up. Cancelling the
        waiter leaves the work alone."""
        await asyncio.wait({self.task})
        if self.task.cancelled():
            raise UpstreamError("the fetch was given up")
        return self.task.result()

    def give_up(self) -> None:
        """End it, unless somebody else waits for it too."""
        if not self.joined:
            self.task.cancel()

    async def done_within(self, seconds: float) -> bool:
        """Wait for the end, but not longer than `seconds`."""
        await asyncio.wait({self.task}, timeout=max(seconds, 0))
        return self.task.done()


class Flights[T]:
    """The flights that are under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def all(self) -> dict[str, Flight[T]]:
        """Those of now, by key, in the order of their start."""
        return dict(self._flights)

    def get(self, key: str) -> Flight[T] | None:
        return self._flights.get(key)

    def join(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[Flight[T], bool]:
        """The flight of `key`, started if there is none, and whether it was under way already. One
        that was given up brings nothing any more: the next one starts at its end."""
        before = self._flights.get(key)
        if before is not None and not before.is_given_up:
            before.joined += 1
            return before, True
        flight = Flight(work() if before is None else _after(before, work))
        # Under an eager task factory (mitmproxy's) it may have landed already.
        if not flight.task.done():
            self._flights[key] = flight
        flight.task.add_done_callback(lambda task: self._landed(key, task))
        return flight, False

    def _landed(self, key: str, task: asyncio.Task[T]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        # Whoever waited has been told; with nobody waiting it isn't an unnoticed error either.
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """End what is under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _after[T](before: Flight[T], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # Both would write to the same file.
    await asyncio.wait({before.task})
    return await work()
