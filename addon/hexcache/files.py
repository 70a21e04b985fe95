"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """All of `content` or nothing, even when the power fails. Raises OSError."""
    with whole_file(path, mode) as file:
        file.write(content)


@contextlib.contextmanager
def whole_file(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that gets its name when this ends well; else what was there before stays. Raises
    OSError."""
    # One fixed name, so that a start that was killed leaves at most one, for the next to remove.
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # the umask may have taken some of it
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
