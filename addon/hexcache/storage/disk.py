"""diskcache's storage format with everything taken out that runs code or leaves the directory.

diskcache unpickles what it reads (CVE-2025-69872) and opens whatever file name its database
holds. Here keys are text, values are bytes, files have names that diskcache itself would have
made, and anything else is refused as if it weren't there.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW, UNKNOWN

from hexcache.errors import StoreError

_FILE_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")


@dataclass(frozen=True)
class Adopted:
    """A value that is a file on the store's file system already: it is moved in, not copied."""

    path: Path


class RefusedValueError(OSError):
    """A row that this class would never have written. diskcache takes an OSError for "not
    there"."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EINVAL, f"refused: {what}")


class SafeDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Keys are str; values are bytes or Adopted, and are read back as bytes or as a file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Files made since somebody cleared it, for whoever rolls a transaction back.
        self.created: list[str] = []

    def forget_created(self) -> None:
        """Remove those files."""
        for filename in self.created:
            self.remove(filename)
        self.created.clear()

    def filename(self, key: Any = UNKNOWN, value: Any = UNKNOWN) -> tuple[str, str]:
        filename, full_path = super().filename(key, value)
        self.created.append(filename)
        return filename, full_path

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError("keys are str")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        # A planted key is pickled; none of ours is empty, so nothing answers to this one.
        return key if raw and type(key) is str else ""

    def store(
        self, value: Any, read: bool, key: Any = UNKNOWN
    ) -> tuple[int, int, str | None, sqlite3.Binary | None]:
        if type(value) is Adopted:
            return self._adopt(value.path)
        if type(value) is not bytes or read:
            raise TypeError("values are bytes or Adopted")
        return super().store(value, False, key=key)  # type: ignore[no-any-return]  # as above

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes | BinaryIO:
        if mode == MODE_RAW and filename is None and type(value) is bytes:
            return value
        if mode == MODE_BINARY and value is None:
            file = self._open(filename)
            if read:
                return file
            with file:
                return file.read()
        raise RefusedValueError("a value that is neither bytes nor a file")

    def remove(self, file_path: str) -> None:
        if type(file_path) is str and _FILE_NAME.fullmatch(file_path):
            super().remove(file_path)

    def _adopt(self, path: Path) -> tuple[int, int, str | None, sqlite3.Binary | None]:
        size = path.stat().st_size
        if size < self.min_file_size:
            data = path.read_bytes()
            path.unlink()
            return 0, MODE_RAW, None, sqlite3.Binary(data)
        filename, full_path = self.filename()
        os.makedirs(os.path.dirname(full_path), exist_ok=True)
        os.replace(path, full_path)
        return size, MODE_BINARY, filename, None

    def _open(self, filename: Any) -> BinaryIO:
        if type(filename) is not str or not _FILE_NAME.fullmatch(filename):
            raise RefusedValueError(f"a file name {filename!r}")
        # O_NOFOLLOW: a planted symbolic link must not lead out of the directory.
        path = os.path.join(self._directory, filename)
        try:
            # O_NONBLOCK: a planted pipe must not hold us up.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
                raise
            # Too many open files, say: the value is as good as before.
            raise StoreError(f"the store can't be read: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise RefusedValueError("something that is no file")
        return os.fdopen(fd, "rb")
