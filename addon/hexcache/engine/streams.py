"""A body that is sent to a client while it still comes in."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from hexcache.engine.flights import Flight
from hexcache.errors import UpstreamError, VerificationError
from hexcache.network.progress import Lease, Progress


@dataclass(frozen=True)
class Growing:
    """`length` bytes, of which the last ones are held back until the whole has been verified.

    What a client gets is hashed on its way: a transfer may have begun anew with other content in
    the middle of it.
    """

    progress: Progress
    flight: Flight[Any]
    length: int
    lease: Lease

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises UpstreamError or VerificationError when the rest can't be had."""
        digest = hashlib.sha256()
        position = 0
        try:
            while True:
                verified = self.progress.sha256 is not None
                available = self.progress.size - position
                # One byte is enough to keep a client from taking it for whole.
                ready = available if verified else min(available, self.length - 1 - position)
                if ready > 0:
                    chunk = self.progress.read_at(position)[:ready]
                    if not chunk:
                        await self._fail()
                    position += len(chunk)
                    digest.update(chunk)
                    if position >= self.length:
                        self._check(digest.hexdigest(), position)
                        yield chunk
                        return
                    yield chunk
                elif verified or self.flight.task.done():
                    await self._fail()
                else:
                    await self.progress.wait()
        finally:
            self.lease.release()

    def _check(self, sha256: str, size: int) -> None:
        if size != self.length or sha256 != self.progress.sha256:
            raise VerificationError("checksum", "the body changed while it was sent")

    async def _fail(self) -> None:
        await self.flight.result()
        raise UpstreamError("the body is shorter than was announced")
