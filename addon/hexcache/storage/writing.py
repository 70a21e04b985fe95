"""Whether the disk takes what is written, and what is said where it doesn't."""

from __future__ import annotations

import contextlib
import errno
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache

from hexcache.errors import StoreError, reason_of

logger = logging.getLogger(__name__)

# How often whoever asks may make the disk work, in seconds.
_PROBE_EVERY = 1.0


class Probe:
    """Writes a file at `path` to see whether that can be done. `clock`: in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._asked_at = -_PROBE_EVERY
        self._problem: StoreError | None = None

    async def check(self, in_thread: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Raises StoreError. Asked again soon, it only repeats what it found."""
        now = self._clock()
        if not 0 <= now - self._asked_at < _PROBE_EVERY:
            self._asked_at, self._problem = now, None
            try:
                await in_thread(self._write)
            except StoreError as error:
                self._problem = error
        if self._problem is not None:
            raise StoreError(str(self._problem), reason=self._problem.reason)

    def _write(self) -> None:
        # A page: an empty file can be had on a full disk.
        self._path.write_bytes(bytes(4096))
        self._path.unlink()


class Writing:
    """One line in the log when the disk is full, and one when there is room again: what is in
    between happens with each request."""

    def __init__(self) -> None:
        self._fails = False

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Around something that writes."""
        try:
            yield
        except StoreError as error:
            if not self._fails:
                self._fails = True
                logger.warning("%s; clients get what is stored, the rest is not kept", error)
            raise
        if self._fails:
            self._fails = False
            logger.warning("the store can be written again")


def guarded[T](function: Callable[..., T], *args: Any) -> T:
    """What it returns; StoreError for what the disk or the database refuses."""
    try:
        return function(*args)
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else reason_of(error)
        raise StoreError(f"the store can't be written: {reason}", reason=reason) from None
