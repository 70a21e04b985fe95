"""For what is in another process or a container, and tells nobody."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Asked until it is so, or the deadline is over."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)  # nothing else could be waited for
