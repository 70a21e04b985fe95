"""A UNIX socket in the data directory, for commands that act on a running server. Only its owner
can use it: what a network port can be asked never changes anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from aiohttp import web

from hexcache.assembly import Core
from hexcache.errors import ControlError, HexcacheError, reason_of
from hexcache.jobs.base import Event, Job, Order
from hexcache.jobs.unix_socket import NAME, PULSE_SECONDS, UPLOAD, within_reach
from hexcache.storage.leftovers import PARTIAL

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 1.0
# The releases of a lock file of a megabyte.
_MAX_ARGUMENTS = 4 * 2**20
_CHUNK = 2**18


class Control:
    """The server's side, once it is started. Whoever has the lock of the store in `data` may:
    what is found there of another server is a dead one's."""

    def __init__(self, core: Core, jobs: Mapping[str, Job]) -> None:
        self._path = core.settings.data / NAME
        self._core = core
        self._engine = core.engine
        self._jobs = jobs
        self._app = web.Application(client_max_size=_MAX_ARGUMENTS)
        self._app.router.add_get("/health", self._health)
        self._app.router.add_get("/offline", self._offline)
        self._app.router.add_put("/offline", self._set_offline)
        self._app.router.add_get("/statistics", self._statistics)
        self._app.router.add_post("/jobs/{name}", self._run_job)
        self._runner: web.AppRunner | None = None
        self._inode: int | None = None

    async def start(self) -> None:
        """Raises ControlError."""
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_CLOSE_SECONDS,
            # Who interrupts `hexcache warm` wants it to end.
            handler_cancellation=True,
        )
        await self._runner.setup()
        bound = socket.socket(socket.AF_UNIX)
        try:
            self._path.unlink(missing_ok=True)
            _bind(bound, self._path)
            self._inode = self._path.lstat().st_ino
            await web.SockSite(self._runner, bound).start()
        except OSError as error:
            bound.close()
            await self.close()
            raise ControlError(f"{self._path} can't be made: {reason_of(error)}") from None

    async def close(self) -> None:
        if self._runner is None:
            return
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()
        await self._runner.cleanup()
        self._runner = None

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"well": True})

    async def _offline(self, _: web.Request) -> web.Response:
        return web.json_response({"offline": self._engine.offline})

    async def _set_offline(self, request: web.Request) -> web.Response:
        try:
            wanted = (await request.json())["offline"]
            if not isinstance(wanted, bool):
                raise TypeError
        except (ValueError, TypeError, KeyError, LookupError):
            raise web.HTTPBadRequest(text='{"offline": true or false} is wanted') from None
        if wanted != self._engine.offline:
            self._engine.offline = wanted
            logger.warning(
                "offline: nothing is asked of Hex, what is stored is served"
                if wanted
                else "online again",
                extra={"fields": {"event": "offline", "offline": wanted}},
            )
        return await self._offline(request)

    async def _statistics(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "offline": self._engine.offline,
                "upstream": self._core.upstream.statistics(),
                "store": self._core.store.statistics(),
            }
        )

    async def _run_job(self, request: web.Request) -> web.StreamResponse:
        """Events as JSON lines; null now and then, so that silence means a dead server; in the
        end {"end": null} or {"end": "what went wrong"}."""
        job = self._jobs.get(request.match_info["name"])
        if job is None:
            raise web.HTTPNotFound(text="the server is of another version: it can't do that")
        async with self._order(request) as order:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            events: asyncio.Queue[Event] = asyncio.Queue()
            running = asyncio.ensure_future(job(self._core, order, events.put_nowait))
            try:
                while not running.done() or not events.empty():
                    await _send(response, await _next(events, running))
                end = None
                try:
                    running.result()
                except HexcacheError as error:
                    end = str(error)
                except Exception as error:
                    logger.exception("%s failed:", request.match_info["name"])
                    end = f"{type(error).__name__}: {error}; the server's log may say more"
                await _send(response, {"end": end})
            finally:
                running.cancel()
        return response

    @contextlib.asynccontextmanager
    async def _order(self, request: web.Request) -> AsyncIterator[Order]:
        if request.content_type != UPLOAD:
            try:
                arguments = await request.json()
                if not isinstance(arguments, dict):
                    raise TypeError
            except (ValueError, TypeError, LookupError):
                raise web.HTTPBadRequest(text="a JSON object is wanted") from None
            yield Order(arguments)
            return
        # Where the next start removes what a kill -9 leaves.
        place = self._core.settings.cache_directory / PARTIAL
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(tempfile.NamedTemporaryFile(dir=place))
                async for chunk in request.content.iter_chunked(_CHUNK):
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
            except OSError as error:
                raise web.HTTPInsufficientStorage(
                    text=f"{place} can't be written: {error.strerror}"
                ) from None
            yield Order(upload=Path(file.name))


async def _next(events: asyncio.Queue[Event], running: asyncio.Future[None]) -> Event | None:
    """The next event; None if there is none for a while, or the job has ended without one."""
    waiting = asyncio.ensure_future(events.get())
    try:
        await asyncio.wait(
            (waiting, running), timeout=PULSE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()


async def _send(response: web.StreamResponse, event: Event | None) -> None:
    await response.write(json.dumps(event).encode() + b"\n")


def _bind(bound: socket.socket, path: Path) -> None:
    with within_reach(path) as reachable:
        # From the first moment on: a chmod would come too late.
        umask = os.umask(0o177)
        try:
            bound.bind(reachable)
        finally:
            os.umask(umask)
