"""A UNIX socket in the data directory, for commands that act on a running server. Only its owner
can use it: what a network port can be asked never changes anything."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from hexcache.errors import ControlError

if TYPE_CHECKING:
    # The commands that ask are to start fast.
    from hexcache.cache import Engine

logger = logging.getLogger(__name__)

_NAME = "control.sock"
# sun_path, with its final zero: 108 bytes on Linux, 104 elsewhere.
_LONGEST = 103
_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_CLOSE_SECONDS = 1.0


class Control:
    """The server's side, once it is started. Whoever has the lock of the store in `data` may:
    what is found there of another server is a dead one's."""

    def __init__(self, data: Path, engine: Engine) -> None:
        self._path = data / _NAME
        self._engine = engine
        self._app = web.Application(client_max_size=2**16)
        self._app.router.add_get("/health", self._health)
        self._app.router.add_get("/offline", self._offline)
        self._app.router.add_put("/offline", self._set_offline)
        self._runner: web.AppRunner | None = None
        self._inode: int | None = None

    async def start(self) -> None:
        """Raises ControlError."""
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_SECONDS
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
            raise ControlError(f"{self._path} can't be made: {_reason(error)}") from None

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
                else "online again"
            )
        return await self._offline(request)


async def ask(data: Path, method: str, path: str, body: object = None) -> Any:
    """What the server that runs with this data directory answers, decoded. Raises ControlError:
    there is none, it isn't ours, or it refuses."""
    place = data / _NAME
    try:
        with _within_reach(place) as reachable:
            connector = aiohttp.UnixConnector(path=reachable)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
                session.request(method, f"http://hexcache{path}", json=body) as response,
            ):
                text = await response.text()
                if response.status != 200:
                    raise ControlError(f"the server refuses: {text.strip()[:200]}")
                return json.loads(text)
    except TimeoutError:
        raise ControlError(f"the server behind {place} gives no answer") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ControlError(_why_unreachable(place, error)) from None


def _why_unreachable(place: Path, error: Exception) -> str:
    os_error = getattr(error, "os_error", error)
    if isinstance(os_error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        return f"no Hexcache runs with the data in {place.parent} (start it with `hexcache serve`)"
    if isinstance(os_error, PermissionError):
        return f"{place} is another user's: run this as the user that runs the server, or as root"
    return f"{place}: {_reason(os_error)}"


def _bind(bound: socket.socket, path: Path) -> None:
    with _within_reach(path) as reachable:
        # From the first moment on: a chmod would come too late.
        umask = os.umask(0o177)
        try:
            bound.bind(reachable)
        finally:
            os.umask(umask)


@contextlib.contextmanager
def _within_reach(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a socket's address, for as long as this lasts. Raises
    ControlError where there is none."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    if not Path("/proc/self/fd").is_dir():
        raise ControlError(f"{path} is too long for a socket: choose a shorter `data`")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _reason(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error).split("\n")[0] or type(error).__name__
