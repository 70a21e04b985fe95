"""Lock files, as commands are given them."""

from __future__ import annotations

from pathlib import Path

import click

from hexcache import lockfiles
from hexcache.errors import LockFileError
from hexcache.lockfiles import LockFile
from hexcache.printing import printable


def read_lock(path: Path) -> LockFile:
    """Raises LockFileError. Says on standard error what of it isn't from Hex."""
    name = printable(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LockFileError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LockFileError(f"{name}: it is no UTF-8 text; is this a lock file?") from None
    lock = lockfiles.parse(str(path), text)
    for skipped in lock.skipped:
        click.echo(f"{name}: {skipped.name} is {skipped.why}: skipped", err=True)
    return lock
