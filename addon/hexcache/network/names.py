"""Names are looked up in threads of their own.

asyncio does it in the pool that reads files too. Where no name server answers, a lookup holds its
thread for a minute, whatever the time-out of whoever wanted it: a few of them, and nothing that is
stored can be read any more; and a process waits for that pool before it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from typing import Any

# Each is a thread. So many names at once are not asked for by builds.
_MOST = 256


def look_up_apart(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, for everything in this loop: aiohttp's connections, and mitmproxy's tunnels."""
    if not isinstance(getattr(loop, "getaddrinfo", None), _Lookups):
        loop.getaddrinfo = _Lookups(loop)  # type: ignore[method-assign]  # no other way in


class _Lookups:
    """`loop.getaddrinfo`. Whoever asks what is being asked already waits for the same answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: dict[Any, asyncio.Future[Any]] = {}

    async def __call__(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """What socket.getaddrinfo returns. Raises OSError."""
        question = (host, port, family, type, proto, flags)
        answer = self._pending.get(question)
        if answer is None:
            if len(self._pending) >= _MOST:
                raise socket.gaierror(socket.EAI_AGAIN, "too many names are being looked up")
            answer = self._loop.create_future()
            # A daemon: nobody waits for it at the end.
            asking = threading.Thread(
                target=self._ask, args=(question, answer), name="look up a name", daemon=True
            )
            try:
                asking.start()
            except RuntimeError:  # no more threads: a limit of the container's, say
                raise socket.gaierror(socket.EAI_AGAIN, "no thread to look it up in") from None
            self._pending[question] = answer
            answer.add_done_callback(functools.partial(self._answered, question))
        return await asyncio.shield(answer)

    def _answered(self, question: Any, answer: asyncio.Future[Any]) -> None:
        del self._pending[question]
        if not answer.cancelled():
            answer.exception()  # those who wanted to know may have left

    def _ask(self, question: Any, answer: asyncio.Future[Any]) -> None:
        try:
            settle = functools.partial(answer.set_result, socket.getaddrinfo(*question))
        except OSError as error:
            settle = functools.partial(answer.set_exception, error)
        except UnicodeError as error:  # a label of more than 63 characters
            problem = socket.gaierror(socket.EAI_NONAME, f"not a host name: {error}")
            settle = functools.partial(answer.set_exception, problem)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(settle)
