"""What the store knows of a body, and a body that is a file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

from hexcache.errors import StoreError
from hexcache.messages import Content
from hexcache.resources import Kind

_CHUNK = 64 * 2**10
# Seconds since the epoch that no clock shows.
_LATEST = 1e11


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What is known of a stored body. Times are seconds since the epoch: `stored_at` when the
    body came, `checked_at` when upstream last said it is current, `used_at` when a client last
    got it. `generation` ties a `.signed` to its CSV's SHA-256. `base` is the base URL that it came
    from; `asked_at` when that was last asked about this very thing, while `checked_at` may be
    concluded from an index. `trust` is the store's, of the time when it was put."""

    key: str
    kind: Kind
    sha256: str
    size: int
    etag: str
    last_modified: str
    content_type: str
    stored_at: float
    checked_at: float
    used_at: float
    generation: str = ""
    base: str = ""
    asked_at: float = 0.0
    trust: str = ""

    def encode(self) -> bytes:
        """As the database has it, under its key."""
        fields = asdict(self)
        del fields["key"]
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, key: str, value: bytes) -> Self | None:
        """What `encode` made; None for anything else."""
        try:
            fields = json.loads(value)
            entry = cls(key=key, **{**fields, "kind": Kind(fields["kind"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return entry if entry.is_sound else None

    @property
    def is_sound(self) -> bool:
        """Whether what was read from the database can be what was written."""
        texts = (
            self.sha256,
            self.etag,
            self.last_modified,
            self.content_type,
            self.generation,
            self.base,
            self.trust,
        )
        times = (self.stored_at, self.checked_at, self.used_at, self.asked_at)
        return (
            all(type(text) is str and text.isprintable() for text in texts)
            and type(self.size) is int
            and self.size >= 0
            and all(type(time) in (int, float) and 0 <= time < _LATEST for time in times)
        )

    @property
    def client_etag(self) -> str:
        """Never empty: rebar3 takes a tarball without an ETag for a failed download."""
        return self.etag or f'"{self.sha256[:32]}"'

    @property
    def body_key(self) -> str:
        return f"b:{self.key}@{self.sha256}"

    def describes(self, body: bytes | BinaryIO) -> bool:
        """Whether these bytes, or this file's from its beginning, are the body. Raises OSError."""
        if isinstance(body, bytes):
            return len(body) == self.size and hashlib.sha256(body).hexdigest() == self.sha256
        if os.fstat(body.fileno()).st_size != self.size:
            return False
        digest = hashlib.file_digest(body, "sha256")  # type: ignore[arg-type]  # no readinto
        return digest.hexdigest() == self.sha256


@dataclass(frozen=True)
class FileBody:
    """A verified body in an open file, sent from `start` up to `stop`."""

    file: BinaryIO
    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    async def chunks(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        with self.file as file:
            position = self.start
            while position < self.stop:
                size = min(_CHUNK, self.stop - position)
                chunk = await loop.run_in_executor(None, os.pread, file.fileno(), size, position)
                if not chunk:
                    raise StoreError("a stored file got shorter while it was sent")
                position += len(chunk)
                yield chunk


class Unstored:
    """A verified file that nobody keeps: it may be removed, and lasts as long as this object."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)

    def body(self) -> FileBody:
        """For one client; as often as wanted."""
        file = os.fdopen(os.dup(self._file), "rb")
        return FileBody(file, 0, os.fstat(self._file).st_size)

    def __del__(self) -> None:
        # It may never have been opened.
        if (file := self.__dict__.get("_file")) is not None:
            os.close(file)


def part(body: Content | FileBody, start: int, stop: int) -> Content | FileBody:
    """The bytes [start, stop) of a stored body."""
    if isinstance(body, FileBody):
        return FileBody(body.file, body.start + start, body.start + stop)
    return Content(body.data[start:stop])
