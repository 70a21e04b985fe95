"""What upstream said it doesn't have, believed for a short while."""

from __future__ import annotations

from collections.abc import Callable

from hexcache.resources import Resource

_REMEMBERED = 10_000


class Absences:
    """`fresh`: for how many seconds a 404 is believed."""

    def __init__(self, fresh: float, clock: Callable[[], float]) -> None:
        self._fresh = fresh
        self._clock = clock
        self._since: dict[str, float] = {}

    def __contains__(self, resource: Resource) -> bool:
        at = self._since.get(resource.key)
        if at is None:
            return False
        if 0 <= self._clock() - at < self._fresh:
            return True
        del self._since[resource.key]
        return False

    def add(self, resource: Resource) -> None:
        while len(self._since) >= _REMEMBERED:
            del self._since[next(iter(self._since))]
        self._since[resource.key] = self._clock()

    def discard(self, resource: Resource) -> None:
        self._since.pop(resource.key, None)
