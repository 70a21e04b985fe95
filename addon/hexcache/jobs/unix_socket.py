"""The UNIX socket of a running server: where it is, and how to name it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hexcache.errors import ControlError

# In the data directory.
NAME = "control.sock"
# The type of a job's upload; anything else is JSON.
UPLOAD = "application/x-tar"
# A job says something at least this often, in seconds.
PULSE_SECONDS = 5.0
# sun_path, with its final zero: 108 bytes on Linux, 104 elsewhere.
_LONGEST = 103


@contextlib.contextmanager
def within_reach(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a socket's address, for as long as this lasts. Raises
    ControlError where there is none."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    if not Path("/proc/self/fd").is_dir():
        raise ControlError(f"{path} is too long for a socket: choose a shorter `data`")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
