"""Where a body is collected while it comes in: hashed as it goes, in a file or in memory."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from hexcache.errors import UpstreamError

# Below this a body is not worth a file.
_IN_MEMORY = 64 * 2**10
# What is collected in memory if the disk is full; a larger body is given up.
_IN_MEMORY_WITHOUT_DISK = 64 * 2**20


class Spool:
    """Collects at most `limit` bytes. `write` raises UpstreamError when there are more."""

    def __init__(self, directory: Path, *, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._hash = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._file: int | None = None
        self._path: Path | None = None
        self._disk_failed = False
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what came so far, in lower-case hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        if self.size + len(data) > self._limit:
            raise UpstreamError(f"upstream sent more than {self._limit} bytes")
        self._hash.update(data)
        self.size += len(data)
        if self._file is None:
            self._buffer.append(data)
            if self.size > _IN_MEMORY and not self._disk_failed:
                self._to_file()
            if self._disk_failed and self.size > _IN_MEMORY_WITHOUT_DISK:
                raise UpstreamError("the body is too large to go through without disk space")
            return
        try:
            _write_all(self._file, data)
        except OSError:
            self._back_to_memory(data)

    def finish(self) -> bytes | Path:
        """The body: its bytes, or a file that now belongs to the caller."""
        if self._file is None:
            return b"".join(self._buffer)
        os.close(self._file)
        self._file = None
        path, self._path = self._path, None
        assert path is not None
        return path

    def discard(self) -> None:
        """Forget everything. Harmless after `finish`."""
        self._buffer = []
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def _to_file(self) -> None:
        path = self._directory / f"{uuid.uuid4().hex}.part"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._path = path
            _write_all(self._file, b"".join(self._buffer))
        except OSError:
            # A full disk must not keep a client from what upstream has.
            self._disk_failed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None
            path.unlink(missing_ok=True)
            self._path = None
            return
        self._buffer = []

    def _back_to_memory(self, data: bytes) -> None:
        assert self._file is not None
        assert self._path is not None
        written = os.pread(self._file, self.size - len(data), 0)
        os.close(self._file)
        self._path.unlink(missing_ok=True)
        self._file = self._path = None
        self._disk_failed = True
        self._buffer = [written, data]
        if self.size > _IN_MEMORY_WITHOUT_DISK:
            raise UpstreamError("the body is too large to go through without disk space")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
