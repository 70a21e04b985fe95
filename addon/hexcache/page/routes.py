"""The page's routes on the status port."""

from __future__ import annotations

import asyncio
import importlib.resources
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import BodyPartReader, web

from hexcache import completeness, lockfiles
from hexcache.errors import HexcacheError, LockFileError
from hexcache.library import Library
from hexcache.page import setup
from hexcache.page.hosts import host_of
from hexcache.page.overview import Overview
from hexcache.page.packages import package_view, packages_view
from hexcache.page.rendering import Pages
from hexcache.settings import Address, Settings

# As lockfiles.parse takes it, with what a form puts around it.
MAX_UPLOAD = 2 * 2**20
_STATIC = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Page:
    """Adds itself to an application. `port` is where a browser finds it."""

    def __init__(self, settings: Settings, library: Library, overview: Overview) -> None:
        self._settings = settings
        self._library = library
        self._overview = overview
        self._pages = Pages()

    def add_to(self, app: web.Application) -> None:
        add = app.router.add_get
        add("/", self._front)
        add("/packages", self._packages)
        add("/packages/{name}", self._package)
        add("/setup", self._setup)
        add("/check", self._ask_check)
        app.router.add_post("/check", self._check)
        for name, kind in _STATIC.items():
            add(f"/static/{name}", _static(name, kind))

    async def _front(self, _: web.Request) -> web.Response:
        return self._pages.answer("overview", here="/", **self._overview.values())

    async def _packages(self, request: web.Request) -> web.Response:
        query = request.query.get("q", "").strip()[:100]
        every = "all" in request.query
        values = await self._from_library(packages_view, query, every)
        return self._pages.answer("packages", here="/packages", **values)

    async def _package(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = await self._from_library(package_view, name)
        if found is None:
            return self._pages.answer(
                "message",
                status=404,
                title="Not here",
                text=f"Nothing is stored of a package {name!r}.",
            )
        return self._pages.answer("package", here="/packages", package=found)

    async def _setup(self, request: web.Request) -> web.Response:
        host = host_of(request.host) or "127.0.0.1"
        listens = self._settings.listen.proxy
        port = request.url.port or 80
        return self._pages.answer(
            "setup",
            here="/setup",
            sections=list(setup.sections(self._settings, host, Address(host, port))),
            reachable=setup.is_reachable(self._settings, host),
            listens=listens,
            port=listens.port,
        )

    async def _ask_check(self, _: web.Request) -> web.Response:
        return self._answer_check()

    async def _check(self, request: web.Request) -> web.Response:
        try:
            name, text = await _uploaded(request)
            lock = await asyncio.to_thread(lockfiles.parse, name, text)
            result = await asyncio.to_thread(completeness.check, self._library, lock)
        except LockFileError as error:
            return self._answer_check(problem=str(error), status=400)
        except HexcacheError as error:
            return self._answer_check(problem=str(error), status=503)
        return self._answer_check(name=name, result=result)

    def _answer_check(self, *, status: int = 200, **values: Any) -> web.Response:
        empty = {"problem": "", "result": None, "name": ""}
        return self._pages.answer("check", here="/check", status=status, **{**empty, **values})

    async def _from_library(self, view: Callable[..., Any], *arguments: Any) -> Any:
        """Raises HTTPServiceUnavailable, as a page."""
        try:
            return await asyncio.to_thread(view, self._library, *arguments)
        except HexcacheError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from None


async def _uploaded(request: web.Request) -> tuple[str, str]:
    """The name and the text of the lock file in a form. Raises LockFileError."""
    try:
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name == "lock" and part.filename:
                data = bytearray()
                while chunk := await part.read_chunk():
                    data += chunk
                    if len(data) > MAX_UPLOAD:
                        raise LockFileError(f"{part.filename} is too large for a lock file")
                # A browser may send a path, and the name is only shown.
                name = part.filename.replace("\\", "/").rpartition("/")[2][:100] or "mix.lock"
                return name, data.decode("utf-8")
    except UnicodeDecodeError:
        raise LockFileError("not a UTF-8 text: is this a lock file?") from None
    except (ValueError, AssertionError):
        pass  # no form, or a broken one
    raise LockFileError("no file came: choose mix.lock, rebar.lock or manifest.toml")


def _static(name: str, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = importlib.resources.files("hexcache.page").joinpath("static", name).read_bytes()

    async def serve(_: web.Request) -> web.Response:
        # Its address changes with the version.
        return web.Response(
            body=body,
            content_type=kind,
            charset="utf-8",
            headers={"Cache-Control": "public, max-age=86400"},
        )

    return serve
