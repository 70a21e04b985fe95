"""A stand-in for repo.hex.pm and builds.hex.pm: real sockets, real TLS, Hex's headers, and
whatever faults it is told to have."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from types import TracebackType
from typing import Self

from support.certificates import CertificateAuthority
from support.faults import Answer, Fault

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Seen:
    """A request that came. `status` is what it got, 0 if a fault cut it short."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int


@dataclass
class _Fault:
    prefix: str
    act: Fault
    times: int | None


class Upstream:
    """Serves `files` (path → body) from a thread of its own while it is entered, on `host`, in the
    network namespace of whoever enters it. Port 0: the system chooses."""

    def __init__(
        self,
        authority: CertificateAuthority | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.host = host
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, tuple[int, str]] = {}
        self.modified: dict[str, float] = {}
        self.ignore_range = False
        self.requests: list[Seen] = []
        self._faults: list[_Fault] = []
        self._context = authority.server_context() if authority else None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Set and replaced by each release: what was asked for before it is no longer held.
        self._released = asyncio.Event()
        self._holding = threading.Event()
        self.port = port

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.start_listening()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
        self.stop_listening()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def fault(self, prefix: str, act: Fault, times: int | None = None) -> None:
        """Let `act` spoil the answers to paths that start with `prefix`, for so many requests."""
        self._faults.append(_Fault(prefix, act, times))

    def spare(self, act: Fault) -> None:
        """No more of this fault."""
        self._faults = [fault for fault in self._faults if fault.act is not act]

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()

    def count(self, prefix: str = "/", status: int | None = None) -> int:
        """How many requests came for paths that start with `prefix`."""
        return sum(
            seen.path.startswith(prefix) and status in (None, seen.status) for seen in self.requests
        )

    def wait_until_holding(self) -> None:
        """Return when a request waits in a `hold`."""
        assert self._holding.wait(WAIT_SECONDS)
        self._holding.clear()

    @property
    def is_holding(self) -> bool:
        """Whether a request waits in a `hold`."""
        return self._holding.is_set()

    def release(self) -> None:
        """Let go of what waits in a `hold`, or is about to."""
        self._call(self._release())

    def stop_listening(self) -> None:
        """Refuse connections and drop those that are open."""
        self._call(self._stop())

    def start_listening(self) -> None:
        """Listen (again, on the same port)."""
        self._call(self._start())

    @contextlib.contextmanager
    def presenting(self, authority: CertificateAuthority) -> Iterator[None]:
        """Answer with another authority's certificate, on connections that are new."""
        own = self._context
        self.stop_listening()
        self._context = authority.server_context()
        self.start_listening()
        yield
        self.stop_listening()
        self._context = own
        self.start_listening()

    @contextlib.contextmanager
    def not_accepting(self) -> Iterator[None]:
        """Take no more connections, and refuse none: a SYN isn't answered."""
        self.stop_listening()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(socket.socket())
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", self.port))
            server.listen(0)
            for _ in range(3):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            yield
        self.start_listening()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections."""
        self.stop_listening()
        yield
        self.start_listening()

    def _call(self, coroutine: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, ssl=self._context, limit=2**20
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            # asyncio accepts in one turn and attaches the connection to its server in a later
            # one, which fails, and leaks the socket, if the server was closed in between.
            for _ in range(5):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        # A connection that was accepted a moment ago gets its task in one of the next turns, and
        # a closed transport lets go of its socket in another.
        for _ in range(5):
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
                while await self._one(reader, writer):
                    pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        await reader.readexactly(int(headers.get("content-length", "0")))
        answer = self._answer(path, headers)
        for fault in list(self._faults):
            if path.startswith(fault.prefix) and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                fault.act(answer)
        released = self._released
        self.requests.append(Seen(method, path, headers, 0 if answer.silent else answer.status))
        if answer.silent:
            return False
        if answer.hold == -1:
            await self._wait(released)
        lines = [f"HTTP/1.1 {answer.status} Reason"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        body = b"" if method == "HEAD" or answer.status == 304 else answer.body
        stop = len(body) if answer.cut is None else min(answer.cut, len(body))
        if answer.hold is not None and answer.hold >= 0:
            writer.write(body[: answer.hold])
            await writer.drain()
            await self._wait(released)
            body = body[answer.hold :]
            stop = max(stop - answer.hold, 0)
        step = 7 if answer.drip else max(stop, 1)
        for start in range(0, stop, step):
            writer.write(body[start : min(start + step, stop)])
            await writer.drain()
        writer.write(answer.extra)
        await writer.drain()
        if answer.cut is not None:
            if answer.reset:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            return False
        return not answer.extra

    async def _wait(self, released: asyncio.Event) -> None:
        self._holding.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                await released.wait()

    async def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()
        self._holding.clear()

    def _answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        if redirect := self.redirects.get(path):
            return Answer(redirect[0], {"Location": redirect[1], "Content-Length": "0"}, b"")
        body = self.files.get(path)
        if body is None:
            return Answer(404, {"Content-Length": "10"}, b"not found\n")
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        sent = {
            "Content-Type": "application/octet-stream",
            "ETag": etag,
            "Last-Modified": formatdate(self.modified.get(path, 1.7e9), usegmt=True),
            "Cache-Control": "public, max-age=3600",
            "Age": "250000",
            "Accept-Ranges": "bytes",
        }
        if headers.get("if-none-match") == etag:
            return Answer(304, sent, b"")
        code = 200
        wanted = "" if self.ignore_range else headers.get("range", "")
        if wanted.startswith("bytes=") and headers.get("if-range", etag) == etag:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else len(body)
            if start >= len(body):
                return Answer(
                    416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"}, b""
                )
            sent["Content-Range"] = f"bytes {start}-{min(stop, len(body)) - 1}/{len(body)}"
            code, body = 206, body[start:stop]
        sent["Content-Length"] = str(len(body))
        return Answer(code, sent, body)
