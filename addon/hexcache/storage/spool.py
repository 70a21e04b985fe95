"""Where a body is collected while it comes in, so that it can be continued after a break, after a
time-out of the client and after a restart, and read while it grows.

A small body stays in memory. A larger one goes into `NAME.part`, with `NAME.json` beside it that
says what it is part of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path

from hexcache.errors import UpstreamError

# Below this a body is not worth a file.
_IN_MEMORY = 64 * 2**10
# What is collected in memory if the disk is full; a larger body is given up.
_IN_MEMORY_WITHOUT_DISK = 64 * 2**20
_CHUNK = 2**20
_NO_ROOM = "the body is too large to go through without disk space"


@dataclass(frozen=True)
class Source:
    """What a body is: from which base URL, with which ETag (or "") and how long (or None)."""

    base: str
    etag: str
    total: int | None
    last_modified: str = ""
    content_type: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether what was read from a file has the right types."""
        texts = (self.base, self.etag, self.last_modified, self.content_type)
        total = self.total is None or type(self.total) is int
        return total and all(isinstance(text, str) for text in texts)

    @property
    def is_resumable(self) -> bool:
        """RFC 9110 §13.1.5: only a strong ETag proves that a part belongs to the rest."""
        return bool(self.etag) and not self.etag.startswith("W/")


class Spool:
    """Collects at most `limit` bytes. `write` raises UpstreamError when there are more.

    `generation` counts the restarts: what was read of an earlier one may not belong to this.
    """

    def __init__(self, directory: Path, name: str, *, limit: int) -> None:
        self._path = directory / f"{name}.part"
        self._description = directory / f"{name}.json"
        self._limit = limit
        self._hash = hashlib.sha256()
        self._memory = bytearray()
        self._file: int | None = None
        self._disk_failed = False
        self._loaded = False
        self.size = 0
        self.generation = 0
        self.source: Source | None = None

    @property
    def sha256(self) -> str:
        """Of what came so far, in lower-case hex."""
        return self._hash.hexdigest()

    @property
    def paths(self) -> tuple[Path, Path]:
        """Where its part and what is said of it are, or would be."""
        return self._path, self._description

    @property
    def is_used(self) -> bool:
        """Whether a part is open, or may still be taken up: it must stay where it is."""
        # In this order: another thread loads.
        return not self._loaded or self._file is not None

    def load(self) -> None:
        """Take up what an earlier process left. Reads it all: not for the event loop."""
        try:
            self._load()
        finally:
            self._loaded = True

    def _load(self) -> None:
        try:
            source = Source(**json.loads(self._description.read_bytes()))
            file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
        except (OSError, ValueError, TypeError, RecursionError):
            self._remove()
            return
        self._file, self.source = file, source
        while chunk := os.pread(file, _CHUNK, self.size):
            self._hash.update(chunk)
            self.size += len(chunk)
        if self.size > self._limit or not source.is_sound:
            self.discard()

    def begin(self, source: Source) -> None:
        """Say what the bytes that follow are part of."""
        self.source = source
        if self._file is not None:
            self._describe()

    def restart(self) -> None:
        """Forget what came: it doesn't belong to what comes."""
        self.discard()
        self.generation += 1

    def write(self, data: bytes) -> None:
        if self.size + len(data) > self._limit:
            raise UpstreamError(f"upstream sent more than {self._limit} bytes", final=True)
        self._hash.update(data)
        if self._file is not None:
            try:
                _write_all(self._file, data, self.size)
            except OSError:
                self._back_to_memory()
        if self._file is None:
            self._memory += data
        self.size += len(data)
        if self._file is None:
            if self.size > _IN_MEMORY and not self._disk_failed:
                self._to_file()
            if self._disk_failed and self.size > _IN_MEMORY_WITHOUT_DISK:
                raise UpstreamError(_NO_ROOM, final=True)

    def read_at(self, position: int, size: int) -> bytes:
        """At most `size` of the bytes from `position` on that are here."""
        if self._file is not None:
            return os.pread(self._file, size, position)
        return bytes(self._memory[position : position + size])

    def finish(self) -> bytes | Path:
        """The body: its bytes, or a file that now belongs to the caller. Reading goes on."""
        with contextlib.suppress(OSError):
            self._description.unlink(missing_ok=True)
        if self._file is None:
            return bytes(self._memory)
        # Under its own name, so that the next fetch of the same thing can't meet it.
        done = self._path.with_name(f"{self._path.stem}.{os.urandom(8).hex()}.done")
        os.replace(self._path, done)
        return done

    def close(self) -> None:
        """End reading and writing; a part stays for the next time."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def discard(self) -> None:
        """Forget everything."""
        self.close()
        self._remove()
        self._memory.clear()
        self._hash = hashlib.sha256()
        self.size = 0
        self.source = None

    def _remove(self) -> None:
        for path in self.paths:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _describe(self) -> None:
        if self.source is not None:
            # Without it the part is of no use to another process; to this one it is.
            with contextlib.suppress(OSError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                with open(os.open(self._description, flags, 0o600), "w") as file:
                    json.dump(asdict(self.source), file)

    def _to_file(self) -> None:
        try:
            self._file = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600
            )
            _write_all(self._file, bytes(self._memory), 0)
        except OSError:
            # A full disk must not keep a client from what upstream has.
            self.close()
            self._remove()
            self._disk_failed = True
            return
        self._memory.clear()
        self._describe()

    def _back_to_memory(self) -> None:
        assert self._file is not None
        if self.size > _IN_MEMORY_WITHOUT_DISK:
            raise UpstreamError(_NO_ROOM, final=True)
        self._memory = bytearray()
        while chunk := os.pread(self._file, _CHUNK, len(self._memory)):
            self._memory += chunk
        del self._memory[self.size :]
        self.close()
        self._remove()
        self._disk_failed = True


class Spools:
    """Those in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: weakref.WeakSet[Spool] = weakref.WeakSet()

    def make(self, name: str, limit: int) -> Spool:
        """For a body of at most `limit` bytes. The same `name` finds again what was left half
        done."""
        spool = Spool(self._directory, hashlib.sha256(name.encode()).hexdigest()[:40], limit=limit)
        self._made.add(spool)
        return spool

    @property
    def used(self) -> set[Path]:
        """Files that must stay."""
        return {path for spool in self._made if spool.is_used for path in spool.paths}


def _write_all(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written
