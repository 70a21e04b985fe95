"""Lock files as files: reading one, and watching for those that come, change and go."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hexcache.errors import LockFileError, reason_of
from hexcache.locks import lockfiles
from hexcache.locks.lockfiles import LockFile

# When it was written, its size and which file it is: what differs after any change.
type _Mark = tuple[int, int, int]

# How glob.escape writes the characters that mean something to it.
_ESCAPED = re.compile(r"\[([*?[])\]")


def read(path: Path) -> LockFile:
    """Raises LockFileError."""
    try:
        return lockfiles.parse(str(path), path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise LockFileError(f"{path}: not a UTF-8 text: is this a lock file?") from None
    except OSError as error:
        raise LockFileError(f"{path}: {reason_of(error)}") from None


@dataclass(frozen=True)
class Look:
    """`changed`: came or changed since the look before; each change is told once. `present`: all
    that are there."""

    changed: frozenset[Path]
    present: frozenset[Path]


class Watch:
    """The files that absolute glob patterns name. Their paths are without `.` and `..`, so that
    they are the same from wherever they are named."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._told: dict[Path, _Mark] = {}
        self._seen: dict[Path, _Mark] | None = None

    def look(self) -> Look:
        """Blocks while the disk is asked. A change is told when the file has been the same for two
        looks, so that none is read while it is being written."""
        now = self._marks()
        before = now if self._seen is None else self._seen
        changed = {
            path: mark
            for path, mark in now.items()
            if self._told.get(path) != mark and before.get(path) == mark
        }
        self._seen = now
        self._told = {path: mark for path, mark in self._told.items() if path in now} | changed
        return Look(frozenset(changed), frozenset(now))

    def names(self, path: str) -> bool:
        """Whether a file of this path would be one of them. Symbolic links below the first
        wildcard aren't looked through."""
        return os.path.isabs(path) and any(_fits(path, pattern) for pattern in self._patterns)

    def _marks(self) -> dict[Path, _Mark]:
        found: dict[Path, _Mark] = {}
        for pattern in self._patterns:
            for name in glob.iglob(pattern, recursive=True):
                try:
                    status = os.stat(name)
                except OSError:
                    continue  # gone, or a dangling link
                if stat.S_ISREG(status.st_mode):
                    mark = (status.st_mtime_ns, status.st_size, status.st_ino)
                    found[Path(settled(name))] = mark
        return found


def settled(path: str) -> str:
    """The one name of a file, however it is reached; a link to it stays one."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def _fits(path: str, pattern: str) -> bool:
    parts = Path(pattern).parts
    plain = 0
    while plain < len(parts) - 1 and not glob.has_magic(_ESCAPED.sub("", parts[plain])):
        plain += 1
    start = _ESCAPED.sub(r"\1", os.path.join(*parts[:plain])) if plain else os.sep
    first = Path(os.path.realpath(start)).parts
    own = Path(path).parts
    return own[: len(first)] == first and _parts_fit(own[len(first) :], parts[plain:])


def _parts_fit(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_parts_fit(path[skip:], pattern[1:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _parts_fit(path[1:], pattern[1:])
