"""The mitmproxy addon: hooks only. A flow becomes a Request, the engine's Reply goes back."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from urllib.parse import urlsplit

from mitmproxy import connection, ctx, http, tls
from mitmproxy.addons import proxyserver
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, mode_specs
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.modes import HttpProxy, ReverseProxy
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from OpenSSL import SSL

from hexcache import resources
from hexcache.assembly import Parts
from hexcache.errors import HexcacheError
from hexcache.layers import Pull, PullingHttpLayer, leave
from hexcache.messages import Content, Headers, Outcome, Reply, Request, read

logger = logging.getLogger(__name__)
access = logging.getLogger("hexcache.access")

# How often a drain looks whether everything has been sent.
_DRAIN_STEP = 0.02
_FLUSH_EVERY = 60.0


class HexProxy:
    """Answers for Hex's hosts from the engine; everything else goes by untouched. `parts` is None
    until the settings are known."""

    def __init__(self) -> None:
        self.parts: Parts | None = None
        self._in_flight = 0
        # Clients whose HTTP layer is ours.
        self._pulling: set[str] = set()
        self._flusher: asyncio.Task[None] | None = None

    def options(self) -> dict[str, object]:
        """The mitmproxy options that this addon needs."""
        assert self.parts is not None
        settings = self.parts.settings
        modes = [f"regular@{settings.listen.proxy}"]
        if settings.listen.mirror is not None:
            modes.append(f"reverse:http://{resources.REPO_HOST}@{settings.listen.mirror}")
        return {
            "mode": modes,
            # With "eager" a CONNECT needs the network even for what is stored.
            "connection_strategy": "lazy",
            "upstream_cert": False,
            "confdir": str(self.parts.authority.certificate_path.parent),
        }

    def next_layer(self, data: layer.NextLayer) -> None:
        """Our own HTTP layer, which streams; and inside a CONNECT to another host, what isn't TLS
        is tunnelled untouched too."""
        context, last = data.context, data.context.layers[-1]
        if starts_like_tls_record(data.data_client()):
            return
        mode = None
        if isinstance(last, HttpProxy):
            mode = HTTPMode.regular
        elif isinstance(last, ReverseProxy):
            mode = HTTPMode.transparent
        elif isinstance(context.layers[0], HttpProxy) and context.server.address:
            if context.server.address[0] in resources.HOSTS or context.client.tls:
                mode = HTTPMode.transparent
            else:
                data.layer = TCPLayer(context, ignore=True)
        if mode is not None:
            data.layer = PullingHttpLayer(context, mode)
            self._pulling.add(context.client.id)

    def client_disconnected(self, client: connection.Client) -> None:
        self._pulling.discard(client.id)

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """Only Hex is intercepted: other hosts keep their certificates."""
        server = data.context.server.address
        if server is None and isinstance(data.context.layers[0], HttpProxy):
            return  # TLS to the proxy itself
        host = data.client_hello.sni or (server[0] if server else "")
        data.ignore_connection = host not in resources.HOSTS

    def tls_start_client(self, data: tls.TlsData) -> None:
        assert self.parts is not None
        data.ssl_conn = SSL.Connection(self.parts.authority.server_context())
        data.ssl_conn.set_accept_state()

    async def request(self, flow: http.HTTPFlow) -> None:
        # Proxy authentication answers by setting a response: that stands.
        if flow.response or flow.error or not flow.live or self.parts is None:
            return
        request = _request(flow)
        if request is None:
            flow.response = http.Response.make(
                403,
                f"hexcache: {flow.request.pretty_host} is not one of Hex's hosts; plain HTTP to "
                "others is not proxied\n",
                {"Content-Type": "text/plain; charset=utf-8"},
            )
            return
        started = time.monotonic()
        self._in_flight += 1
        try:
            reply = await self.parts.engine.get(request)
            if not isinstance(reply.body, Content) and flow.client_conn.id in self._pulling:
                flow.response = _response(reply, reply.content_length)
                leave(flow, self._streamed(request, reply, started))
                return
            body = await read(reply.body)
        except HexcacheError as error:
            # A passed-through body broke off; nothing of it has been sent yet.
            flow.response = http.Response.make(502, f"hexcache: {error}\n")
            return
        finally:
            self._in_flight -= 1
        length = len(body) if reply.length is None else reply.length
        flow.response = _response(reply, length, body)
        _log(request, reply, len(body), time.monotonic() - started)

    async def _streamed(
        self, request: Request, reply: Reply, started: float
    ) -> AsyncGenerator[bytes]:
        """The body, counted as in flight until it has been handed over, and logged then."""
        sent, why = 0, "the client hung up"
        self._in_flight += 1
        try:
            async for chunk in reply.body.chunks():
                sent += len(chunk)
                yield chunk
            why = ""
        except HexcacheError as error:
            why = str(error)
            raise
        finally:
            self._in_flight -= 1
            if why:
                reply = replace(reply, outcome=Outcome.ERROR, detail=f"broken off: {why}")
            _log(request, reply, sent, time.monotonic() - started)

    async def hexcache_pull(self, pull: Pull) -> None:
        """The next piece of a body, when the client has taken most of those before."""
        if pull.abandoned:
            await pull.source.aclose()
            return
        handler = ctx.master.addons.get("proxyserver").connections.get(pull.client.id)
        io = handler.transports.get(pull.client) if handler else None
        try:
            if io is not None and io.writer is not None:
                await io.writer.drain()
            pull.chunk = await anext(pull.source, b"")
        except (HexcacheError, OSError):
            pull.failed = True

    def running(self) -> None:
        self._flusher = asyncio.create_task(self._flush())

    async def done(self) -> None:
        """Stop accepting, finish what is being sent, let go of everything."""
        if self.parts is None:
            return
        parts, grace = self.parts, self.parts.settings.shutdown_grace
        if self._flusher is not None:
            self._flusher.cancel()
        server = ctx.master.addons.get("proxyserver")
        await server.servers.update([])
        try:
            async with asyncio.timeout(grace):
                # mitmproxy has no event for "all written".
                while self._is_busy(server):  # noqa: ASYNC110
                    await asyncio.sleep(_DRAIN_STEP)
        except TimeoutError:
            logger.warning("after %g s some clients are still being sent to: ended", grace)
        self.parts = None
        await parts.close()

    def _is_busy(self, server: proxyserver.Proxyserver) -> bool:
        return bool(self._in_flight) or any(map(_is_sending, server.connections.values()))

    async def _flush(self) -> None:
        while self.parts is not None:
            await asyncio.sleep(_FLUSH_EVERY)
            try:
                await self.parts.store.flush()
            except HexcacheError as error:
                logger.warning("%s", error)


def _request(flow: http.HTTPFlow) -> Request | None:
    """None for a host that isn't Hex's."""
    target = flow.request.path
    if isinstance(flow.client_conn.proxy_mode, mode_specs.ReverseMode):
        target = resources.drop_mirror_prefix(target)
        host = resources.REPO_HOST
    else:
        host = flow.client_conn.sni or flow.request.host
        if target.startswith(("http://", "https://")):
            target = urlsplit(target).path
    if host not in resources.HOSTS:
        return None
    return Request(
        method=flow.request.method,
        host=host,
        target=target,
        headers=Headers(flow.request.headers.items(multi=True)),
        body=flow.request.raw_content or b"",
        client=_client(flow.client_conn),
    )


def _client(client: connection.Client) -> str:
    return client.peername[0] if client.peername else ""


def _response(reply: Reply, length: int | None, body: bytes = b"") -> http.Response:
    """`length` None: chunked, since the end isn't known."""
    response = http.Response.make(reply.status, body)
    response.headers.clear()
    for name, value in reply.headers:
        response.headers.add(name, value)
    if length is None:
        response.headers["Transfer-Encoding"] = "chunked"
    elif reply.status != 304:  # RFC 9110 §8.6: a 304 has no Content-Length but the 200's
        response.headers["Content-Length"] = str(length)
    return response


def _is_sending(handler: ProxyConnectionHandler) -> bool:
    io = handler.transports.get(handler.client)
    transport = getattr(io.writer, "transport", None) if io else None
    return transport is not None and transport.get_write_buffer_size() > 0


def _log(request: Request, reply: Reply, sent: int, seconds: float) -> None:
    level = logging.WARNING if reply.outcome is Outcome.ERROR else logging.INFO
    if not access.isEnabledFor(level):
        return
    fields = {
        "client": request.client,
        "method": request.method,
        "resource": reply.subject,
        "outcome": str(reply.outcome),
        "status": reply.status,
        "bytes": sent,
        "ms": round(seconds * 1000, 1),
    }
    if reply.detail:
        fields["detail"] = reply.detail
    access.log(
        level,
        "%s %s %s %d %d B %.0f ms%s",
        request.client,
        _printable(reply.subject),
        reply.outcome,
        reply.status,
        sent,
        seconds * 1000,
        f" ({_printable(reply.detail)})" if reply.detail else "",
        extra={"fields": fields},
    )


def _printable(text: str) -> str:
    """Text that a client or upstream chose, safe for a terminal and for one line."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
