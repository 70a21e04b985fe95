"""Writing, and saying when it doesn't go any more."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import diskcache

from hexcache.errors import StoreError

logger = logging.getLogger(__name__)


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
    """Call it. Raises StoreError for what a disk or a database does."""
    try:
        return function(*args)
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise StoreError(f"the store can't be written: {reason}") from None
