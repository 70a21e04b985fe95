"""Health, and the CA's certificate, by plain HTTP. Nothing here changes anything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from hexcache.authority import Authority
from hexcache.errors import ListenError, reason_of
from hexcache.monitoring.page.hosts import host_of, is_ours
from hexcache.values import Address

_PEM = "application/x-pem-file"
# A browser is to show these, and to do nothing else with them.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_CLOSE_SECONDS = 1.0
_PROBES = ("/healthz", "/readyz")

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Readiness:
    """`why` says what keeps this Hexcache from its work; empty if nothing does. `cant_store` says
    the same, without a path, where it only keeps nothing new: clients are answered. What is stored
    can be served without `upstream` (see `Upstream.statistics`)."""

    why: str
    offline: bool
    upstream: dict[str, dict[str, object]]
    cant_store: str = ""

    @property
    def degraded(self) -> bool:
        """Whether only a part of what is asked for can be had."""
        return self.offline or not all(state["up"] for state in self.upstream.values())

    def report(self) -> dict[str, Any]:
        """What /readyz says."""
        if self.why:
            return {"ready": False, "why": self.why}
        return {
            "ready": True,
            "degraded": self.degraded,
            "offline": self.offline,
            "upstream": self.upstream,
        }


class Status:
    """A listener at `address`, once it is started; None: it serves only what `connect` brings.
    `readiness` is asked at each /readyz; `routes` are what else there is to see. `names`: see
    `page.hosts.is_ours`."""

    def __init__(
        self,
        address: Address | None,
        authority: Authority,
        readiness: Callable[[], Awaitable[Readiness]],
        routes: Iterable[web.RouteDef] = (),
        names: Iterable[str] = (),
    ) -> None:
        self._address = address
        self._readiness = readiness
        self._names = frozenset(names)
        self._app = web.Application(client_max_size=0, middlewares=[self._check_host])
        self._app.on_response_prepare.append(_finish)
        self._app.router.add_get("/healthz", _health)
        self._app.router.add_get("/readyz", self._ready)
        for path in (authority.certificate_path, authority.bundle_path):
            self._app.router.add_get(f"/{path.name}", _file(path))
        self._app.router.add_routes(routes)
        self._runner: web.AppRunner | None = None

    @property
    def addresses(self) -> list[Address]:
        """Where it really listens."""
        return [Address(*a[:2]) for a in self._runner.addresses] if self._runner else []

    async def start(self) -> None:
        """Raises ListenError."""
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_SECONDS
        )
        await self._runner.setup()
        if self._address is None:
            return
        try:
            await web.TCPSite(self._runner, *self._address).start()
        except OSError as error:
            await self.close()
            raise ListenError(
                f"listen.status: can't listen on {self._address}: {reason_of(error)}"
            ) from None

    async def connect(self, connected: socket.socket) -> None:
        """Serve whoever is at the other end. Raises OSError."""
        server = self._runner.server if self._runner else None
        if server is None:
            raise ConnectionRefusedError
        await asyncio.get_running_loop().connect_accepted_socket(server, connected)

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # Whoever probes our health may call us as it likes: it learns nothing else.
        host = host_of(request.host)
        if request.path not in _PROBES and (host is None or not is_ours(host, self._names)):
            text = (
                f"this Hexcache isn't called {host or 'that'}: use its IP address, or add the name "
                "to listen.status_names\n"
            )
            raise web.HTTPMisdirectedRequest(text=text)
        # Somebody else's page may link to ours; making a browser work for it is another thing.
        site, mode = (request.headers.get(f"Sec-Fetch-{name}") for name in ("Site", "Mode"))
        if site == "cross-site" and (mode != "navigate" or request.method == "POST"):
            raise web.HTTPForbidden(text="another site's page asks for this\n")
        return await handler(request)

    async def _ready(self, _: web.Request) -> web.Response:
        readiness = await self._readiness()
        return web.json_response(readiness.report(), status=503 if readiness.why else 200)


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(_: web.Request) -> web.Response:
        try:
            body = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise web.HTTPInternalServerError(text=f"{path.name}: {error.strerror}\n") from None
        return web.Response(body=body, content_type=_PEM)

    return serve


async def _finish(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.pop("Server", None)
