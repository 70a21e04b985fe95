"""What lies in a store's directory beside its entries: parts of downloads, databases that were put
aside, and the quarantine, where what failed verification waits for somebody who wants to look."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from hexcache.files import write_whole
from hexcache.storage.entries import Entry

PARTIAL = "partial"
DAMAGED = "entries.damaged-"
QUARANTINE = "quarantine"
# For how long something half done, or put aside, is worth keeping.
KEEP_SECONDS = 7 * 86400.0
# Between its last byte and its place in the store a file lies there for a moment.
_FINISHED_SECONDS = 3600.0
# What a damaged disk may make us keep; beyond it only what is said of a body stays.
_QUARANTINE_BYTES = 2**30


class Sort(StrEnum):
    PART = "parts of downloads"
    DATABASE = "damaged databases"
    QUARANTINE = "files in quarantine"


@dataclass(frozen=True)
class Leftover:
    path: Path
    sort: Sort
    size: int
    changed_at: float

    def remove(self) -> None:
        """What can't go hurts nobody."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                self.path.unlink()


def leftovers(
    directory: Path, *, now: float, keep: float = KEEP_SECONDS, alone: bool = False
) -> list[Leftover]:
    """What nobody will take up again: parts that are a week old, what was put aside more than
    `keep` seconds ago. `alone`: no transfer is under way, so that a file without a future is one
    at any age."""
    found = []
    for each in _all(directory):
        if each.sort is Sort.PART and each.path.suffix not in (".part", ".json"):
            oldest = 0.0 if alone else _FINISHED_SECONDS
        else:
            oldest = KEEP_SECONDS if each.sort is Sort.PART else keep
        if not oldest or each.changed_at < now - oldest:
            found.append(each)
    return found


def put_aside(
    directory: Path, entry: Entry, body: BinaryIO | bytes | None, why: str, *, now: float
) -> None:
    """Copy a body, as it is, to the quarantine of the store in `directory`, with a JSON file that
    says what it was. Raises OSError."""
    folder = directory / QUARANTINE
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{int(now)}-{secrets.token_hex(4)}"
    about = {
        "key": entry.key,
        "why": why,
        "sha256": entry.sha256,
        "size": entry.size,
        "base": entry.base,
        "stored_at": entry.stored_at,
        "quarantined_at": now,
    }
    write_whole(folder / f"{name}.json", json.dumps(about, indent=2).encode(), 0o600)
    if body is None:
        return
    size = len(body) if isinstance(body, bytes) else os.fstat(body.fileno()).st_size
    if size + sum(each.size for each in _quarantined(directory)) > _QUARANTINE_BYTES:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(folder / f"{name}.body", flags, 0o600), "wb") as kept:
        if isinstance(body, bytes):
            kept.write(body)
        else:
            body.seek(0)
            shutil.copyfileobj(body, kept)


def _all(directory: Path) -> Iterator[Leftover]:
    yield from _files(directory / PARTIAL, Sort.PART)
    yield from _quarantined(directory)
    for path in directory.glob(f"{DAMAGED}*"):
        with contextlib.suppress(OSError):
            if not path.is_symlink():
                size = sum(each.lstat().st_size for each in path.rglob("*"))
                # Its content is as old as it was; the move was noted here.
                yield Leftover(path, Sort.DATABASE, size, path.lstat().st_ctime)


def _quarantined(directory: Path) -> Iterator[Leftover]:
    return _files(directory / QUARANTINE, Sort.QUARANTINE)


def _files(folder: Path, sort: Sort) -> Iterator[Leftover]:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                status = path.lstat()
                yield Leftover(path, sort, status.st_size, status.st_mtime)
