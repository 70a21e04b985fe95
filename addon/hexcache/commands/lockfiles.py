"""Lock files named on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hexcache.locks.lockfiles import LockFile, LockKind
from hexcache.locks.locks_on_disk import read


@dataclass(frozen=True)
class Opened:
    path: Path
    lock: LockFile


def read_all(paths: Iterable[Path]) -> list[Opened]:
    """Raises LockFileError for the first that can't be read."""
    return [Opened(path, read(path)) for path in paths]


def looks_like_one(text: str) -> bool:
    """Whether an argument means a file and not a package."""
    return "/" in text or text.endswith((".lock", ".toml")) or os.path.isfile(text)


def found_here() -> list[Path]:
    """Those of the project in the current directory."""
    return [path for kind in LockKind if os.path.isfile(path := Path(kind))]
