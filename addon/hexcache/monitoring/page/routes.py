"""The page's routes on the status port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from hexcache.assembly import Parts
from hexcache.errors import HexcacheError, LockFileError
from hexcache.locks import lockfiles
from hexcache.monitoring.page import setup
from hexcache.monitoring.page.check import verdict_on
from hexcache.monitoring.page.hosts import host_of
from hexcache.monitoring.page.overview import overview
from hexcache.monitoring.page.packages import package_view, packages_view
from hexcache.monitoring.page.rendering import STATIC, Pages
from hexcache.monitoring.status import Readiness
from hexcache.printing import shortened
from hexcache.resources import LOCAL_HOST
from hexcache.stock import completeness
from hexcache.storage.library import Library

# As lockfiles.parse takes it, with what a form puts around it.
MAX_UPLOAD = 2 * 2**20
# Of the set-up, for somebody who has just begun.
_FIRST_STEPS = ("ca", "mix")


class Page:
    """`readiness` is asked for each view of the first page."""

    def __init__(
        self,
        parts: Parts,
        library: Library,
        readiness: Callable[[], Awaitable[Readiness]],
    ) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._library = library
        self._readiness = readiness
        self._pages = Pages()
        # Of its own, and one: a large store may take seconds, and clients' files need the others.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hexcache-page")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._front),
            web.get("/packages", self._packages),
            web.get("/packages/{name}", self._package),
            web.get("/setup", self._setup),
            web.get("/check", self._ask_check),
            web.post("/check", self._check),
            *(
                web.get(f"/static/{name}", _static(self._pages.files[name], kind))
                for name, kind in STATIC.items()
            ),
            # The last: whatever has no page.
            web.get("/{path:.*}", self._nowhere),
        ]

    async def _front(self, request: web.Request) -> web.Response:
        steps = [each for each in self._sections(request) if each.id in _FIRST_STEPS]
        values = overview(self._parts, await self._readiness(), steps)
        return self._pages.answer("overview", here="/", **values)

    async def _packages(self, request: web.Request) -> web.Response:
        query = request.query.get("q", "").strip()[:100]
        every = "all" in request.query
        values = await self._from_library(packages_view, query, every)
        return await self._aside(lambda: self._pages.answer("packages", here="/packages", **values))

    async def _package(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = await self._from_library(package_view, name)
        if found is None:
            return self._not_here(f"Nothing is stored of a package {name!r}.")
        return await self._aside(
            lambda: self._pages.answer("package", here="/packages", package=found)
        )

    async def _nowhere(self, request: web.Request) -> web.Response:
        return self._not_here(f"There is no page {shortened(request.path, 100)!r}.")

    def _not_here(self, text: str) -> web.Response:
        return self._pages.answer("message", status=404, title="Not here", text=text)

    async def _setup(self, request: web.Request) -> web.Response:
        listens = self._settings.listen.proxy
        return self._pages.answer(
            "setup",
            here="/setup",
            sections=self._sections(request),
            reachable=setup.is_reachable(listens, _called(request)),
            listens=listens,
            port=listens.port,
        )

    def _sections(self, request: web.Request) -> list[setup.Section]:
        port = request.url.port or 80
        return list(setup.sections(self._settings, _called(request), port))

    async def _ask_check(self, _: web.Request) -> web.Response:
        return self._answer_check()

    async def _check(self, request: web.Request) -> web.Response:
        try:
            name, text = await _uploaded(request)
            lock = await self._aside(lambda: lockfiles.parse(name, text))
            result = await self._aside(lambda: completeness.check(self._library, lock))
        except LockFileError as error:
            return self._answer_check(problem=str(error), status=400)
        except HexcacheError as error:
            return self._answer_check(problem=str(error), status=503)
        verdict = verdict_on(name, result)
        return await self._aside(lambda: self._answer_check(verdict=verdict))

    def _answer_check(self, *, status: int = 200, **values: Any) -> web.Response:
        empty = {"problem": "", "verdict": None}
        return self._pages.answer("check", here="/check", status=status, **{**empty, **values})

    async def _aside[T](self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _from_library(self, view: Callable[..., Any], *arguments: Any) -> Any:
        """Raises HTTPServiceUnavailable, as a page."""
        try:
            return await self._aside(lambda: view(self._library, *arguments))
        except HexcacheError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from None


def _called(request: web.Request) -> str | None:
    """What the browser calls this machine; None behind the proxy, where nothing has an address."""
    host = host_of(request.host)
    return None if host == LOCAL_HOST else host


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
    except (ValueError, KeyError, AssertionError, BadHttpMessage):
        pass  # no form, or a broken one
    raise LockFileError("no file came: choose mix.lock, rebar.lock or manifest.toml")


def _static(body: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:

    async def serve(_: web.Request) -> web.Response:
        # Its address changes with it.
        return web.Response(
            body=body,
            content_type=kind,
            charset="utf-8",
            headers={"Cache-Control": "public, max-age=86400"},
        )

    return serve
