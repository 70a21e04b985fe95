"""Who asked to be left alone: `Retry-After` (RFC 9110 §10.2.3), kept for everybody who would ask.

A 429 is about the client, and that is all of us. A 503 may be about one file (the CDN can't get it
from its origin), so only that waits: held back, others would be missed for nothing, and an upstream
that is down as a whole is the breaker's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hexcache.errors import UpstreamError
from hexcache.labels import host_of
from hexcache.network.connections import Response
from hexcache.network.pace import LONGEST_RETRY_AFTER

_EVERYTHING = ""


@dataclass(frozen=True)
class _Pause:
    until: float
    status: int


class Pauses:
    """`clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By base URL and path.
        self._pauses: dict[tuple[str, str], _Pause] = {}

    def note(self, base: str, path: str, response: Response) -> None:
        """What `base` answered when it was asked for `path`."""
        seconds = retry_after(response)
        if response.status not in (429, 503) or not seconds:
            return
        now = self._clock()
        self._pauses = {what: each for what, each in self._pauses.items() if each.until > now}
        # Whom we were redirected to may be somebody else.
        about_us = response.status == 429 and response.location == base + path
        what = (base, _EVERYTHING if about_us else path)
        until = now + min(seconds, LONGEST_RETRY_AFTER)
        if until > self.until(base, what[1]):
            self._pauses[what] = _Pause(until, response.status)

    def until(self, base: str, path: str) -> float:
        """When `base` may be asked for `path` again; 0 if nothing is known of it."""
        pause = self._longest(base, path)
        return pause.until if pause else 0.0

    def why(self, base: str, path: str) -> UpstreamError | None:
        """What there is to say while `base` may not be asked for `path`; None if it may."""
        pause, now = self._longest(base, path), self._clock()
        if pause is None or pause.until <= now:
            return None
        text = f"{host_of(base)} answered {pause.status}: not asked again for"
        return UpstreamError(f"{text} {math.ceil(pause.until - now)} s", status=pause.status)

    def _longest(self, base: str, path: str) -> _Pause | None:
        found = (self._pauses.get((base, what)) for what in (_EVERYTHING, path))
        return max(filter(None, found), key=lambda pause: pause.until, default=None)


def retry_after(response: Response) -> float | None:
    """Seconds; a date is taken for "not said"."""
    value = response.headers.get("retry-after", "").strip()
    return float(value) if value.isdecimal() and len(value) < 7 else None
