"""The mitmproxy addon: hooks only. A flow becomes a Request, the engine's Reply goes back."""

from __future__ import annotations

import asyncio
import logging

from mitmproxy import connection, ctx, http, tls
from mitmproxy.addons import proxyserver
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, mode_specs, server_hooks
from mitmproxy.proxy.layers import ClientTLSLayer, TCPLayer
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.modes import HttpProxy, ReverseProxy
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from OpenSSL import SSL

from hexcache import resources
from hexcache.assembly import Parts
from hexcache.engine.failures import failure
from hexcache.errors import HexcacheError
from hexcache.front.entrances import Entrance, addresses, asked, entrance, is_local, modes, refusal
from hexcache.front.gateway import Arrival, Gateway, Silence
from hexcache.front.layers import Pull, PullingHttpLayer, leave
from hexcache.front.reporting import Reporter
from hexcache.messages import Content, Headers, Reply, Request, read
from hexcache.printing import printable
from hexcache.records.telemetry import Telemetry
from hexcache.services import Services

logger = logging.getLogger(__name__)

# How often a drain looks whether everything has been sent.
_DRAIN_STEP = 0.02
_FLUSH_EVERY = 60.0


class HexProxy:
    """Answers for Hex's hosts from the engine; everything else goes by untouched. `parts` is None
    until the settings are known."""

    def __init__(self) -> None:
        self.parts: Parts | None = None
        self.telemetry = Telemetry()
        self._reporter = Reporter(self.telemetry)
        # None until they run.
        self.services: Services | None = None
        self.is_draining = False
        # Clients whose HTTP layer is ours.
        self._pulling: set[str] = set()
        # Clients whose connection goes by untouched.
        self._tunnelled: set[str] = set()
        self._flusher: asyncio.Task[None] | None = None

    def options(self) -> dict[str, object]:
        """The mitmproxy options that this addon needs."""
        assert self.parts is not None
        settings = self.parts.settings
        return {
            "mode": modes(settings.listen),
            # With "eager" a CONNECT needs the network even for what is stored.
            "connection_strategy": "lazy",
            "upstream_cert": False,
            # On the TLS listener it may have to decide.
            "keep_host_header": True,
            # What a client may send; what it gets isn't held here.
            "body_size_limit": "64m",
            "confdir": str(self.parts.authority.certificate_path.parent),
        }

    def next_layer(self, data: layer.NextLayer) -> None:
        """Our own HTTP layer, which streams; and inside a CONNECT to another host, what isn't TLS
        is tunnelled untouched too."""
        context, last = data.context, data.context.layers[-1]
        if starts_like_tls_record(data.data_client()):
            if isinstance(last, ReverseProxy):
                data.layer = ClientTLSLayer(context)
            return
        mode = None
        if isinstance(last, HttpProxy):
            mode = HTTPMode.regular
        elif isinstance(context.layers[0], ReverseProxy | Gateway):
            mode = HTTPMode.transparent
        elif isinstance(context.layers[0], HttpProxy) and context.server.address:
            if resources.hex_host(context.server.address[0]) or context.client.tls:
                mode = HTTPMode.transparent
            else:
                data.layer = TCPLayer(context, ignore=True)
                self._tunnelled.add(context.client.id)
        if mode is not None:
            data.layer = PullingHttpLayer(context, mode)
            self._pulling.add(context.client.id)

    def client_connected(self, client: connection.Client) -> None:
        if entrance(client.proxy_mode) is Entrance.TRANSPARENT:
            handler = ctx.master.addons.get("proxyserver").connections[client.id]
            context = handler.layer.context
            context.layers.clear()
            handler.layer = Gateway(context)

    def hexcache_arrival(self, arrival: Arrival) -> None:
        self._tunnelled.discard(arrival.client.id)
        (self._tunnelled if arrival.tunnelled else self._pulling).add(arrival.client.id)

    def hexcache_silence(self, silence: Silence) -> None:
        """While offline nothing leaves that could be on its way to Hex."""
        silence.may_go_on = self.parts is not None and not self.parts.engine.offline
        if silence.may_go_on:
            self._tunnelled.add(silence.client.id)

    def client_disconnected(self, client: connection.Client) -> None:
        self._pulling.discard(client.id)
        self._tunnelled.discard(client.id)

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """Only Hex is intercepted: other hosts keep their certificates."""
        context = data.context
        if not isinstance(context.layers[0], HttpProxy) or context.server.address is None:
            return  # TLS to one of our own listeners
        # Either name will do: what means Hex must not leave from here unseen.
        names = (data.client_hello.sni, context.server.address[0])
        if not any(map(resources.hex_host, names)):
            data.ignore_connection = True
            self._tunnelled.add(context.client.id)

    def tls_start_client(self, data: tls.TlsData) -> None:
        if self.parts is None:
            return
        try:
            data.ssl_conn = SSL.Connection(self.parts.authority.server_context())
        except HexcacheError as error:
            # mitmproxy then presents the expired chain, and the client refuses it.
            logger.error("%s", error)
            return
        data.ssl_conn.set_accept_state()

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """mitmproxy connects for tunnels only: whatever else gets here would leave unverified."""
        if data.client.id not in self._tunnelled:
            data.server.error = "Hexcache fetches by itself"
        elif data.server.address == _local_address(data.client):
            # Not redirected: whoever connects to the gateway's own port would be sent back to it.
            data.server.error = "this port is for redirected connections only"
            logger.warning(
                "%s connected to listen.transparent itself, which is for connections that a packet"
                " filter redirects: closed",
                _client(data.client),
            )

    async def request(self, flow: http.HTTPFlow) -> None:
        # Proxy authentication answers by setting a response: that stands.
        if flow.response or flow.error or not flow.live:
            return
        request = _request(flow)
        ticket = self._reporter.begin(request)
        try:
            reply = await self._reply(request, flow)
            pulled = not isinstance(reply.body, Content) and flow.client_conn.id in self._pulling
            # HTTP/1.0 knows no chunks: there the length has to be known beforehand.
            if flow.request.http_version == "HTTP/1.0" and reply.content_length is None:
                pulled = False
            body = b"" if pulled else await read(reply.body)
        except HexcacheError as error:
            reply, pulled = failure(request, 502, str(error)), False
            body = await read(reply.body)
        except Exception as error:
            # Without a response mitmproxy would ask the server itself.
            logger.exception("%s failed:", ticket.id, exc_info=error)
            reason = f"an error in Hexcache; its log has it: {ticket.id}"
            reply, pulled = failure(request, 500, reason), False
            body = await read(reply.body)
        if pulled:
            flow.response = _response(reply, reply.content_length)
            leave(flow, ticket.sending(reply))
            return
        length = reply.content_length if request.method == "HEAD" else len(body)
        flow.response = _response(reply, length, body)
        ticket.end(reply, len(body))

    async def _reply(self, request: Request, flow: http.HTTPFlow) -> Reply:
        if self.parts is None:
            return failure(request, 503, "Hexcache is shutting down")
        if self.services is not None and is_local(flow):
            return await self.services.local(request)
        if refused := refusal(flow, printable(flow.request.pretty_host)):
            return failure(request, *refused)
        with self.telemetry.answering():
            return await self.parts.engine.get(request)

    async def hexcache_pull(self, pull: Pull) -> None:
        """The next piece of a body, when the client has taken most of those before."""
        if pull.abandoned:
            await pull.source.aclose()
            return
        handler = ctx.master.addons.get("proxyserver").connections.get(pull.client.id)
        io = handler.transports.get(pull.client) if handler else None
        # An exception must not leave the piece before to be sent again.
        pull.chunk = b""
        try:
            if io is not None and io.writer is not None:
                await io.writer.drain()
            pull.chunk = await anext(pull.source, b"")
        except (HexcacheError, OSError):
            pull.failed = True
        except Exception as error:
            logger.exception("a body broke off:", exc_info=error)
            pull.failed = True

    async def running(self) -> None:
        assert self.parts is not None
        self._flusher = asyncio.create_task(self._flush())
        services = Services(self.parts, self._what_is_missing)
        try:
            await services.start()
        except HexcacheError as error:
            # mitmproxy ends when an error is logged during its start.
            logger.error("%s", error)
            return
        self.services = services

    def _what_is_missing(self) -> str:
        if self.is_draining:
            return "Hexcache is shutting down"
        assert self.parts is not None
        listening = addresses(ctx.master.addons.get("proxyserver").servers)
        missing = {entrance(mode_specs.ProxyMode.parse(m)) for m in ctx.options.mode} - {*listening}
        return f"listen.{min(missing)} is not up" if missing else ""

    async def done(self) -> None:
        """Stop accepting, finish what is being sent, let go of everything."""
        if self.parts is None:
            return
        parts, grace = self.parts, self.parts.settings.shutdown_grace
        if self._flusher is not None:
            self._flusher.cancel()
        self.is_draining = True
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
        # First the control socket: the store's lock says whose it is.
        if self.services is not None:
            await self.services.close()
        await parts.close()

    def _is_busy(self, server: proxyserver.Proxyserver) -> bool:
        return bool(self.telemetry.in_flight) or any(map(_is_sending, server.connections.values()))

    async def _flush(self) -> None:
        while self.parts is not None:
            await asyncio.sleep(_FLUSH_EVERY)
            try:
                await self.parts.store.flush()
            except HexcacheError as error:
                logger.warning("%s", error)


def _request(flow: http.HTTPFlow) -> Request:
    host, target = asked(flow)
    return Request(
        method=flow.request.method,
        host=host,
        target=target,
        headers=Headers(flow.request.headers.items(multi=True)),
        body=flow.request.raw_content or b"",
        client=_client(flow.client_conn),
        connection=flow.client_conn.id,
    )


def _client(client: connection.Client) -> str:
    return client.peername[0] if client.peername else ""


def _local_address(client: connection.Client) -> tuple[str, int] | None:
    """The address that a client's connection really ended at."""
    handler = ctx.master.addons.get("proxyserver").connections.get(client.id)
    io = handler.transports.get(client) if handler else None
    name = io.writer.get_extra_info("sockname") if io is not None and io.writer else None
    return name[:2] if name else None


def _response(reply: Reply, length: int | None, body: bytes = b"") -> http.Response:
    """`length` None: chunked, since the end isn't known; or nothing, where no body belongs."""
    response = http.Response.make(reply.status, body)
    response.headers.clear()
    for name, value in reply.headers:
        response.headers.add(name, value)
    # RFC 9110 §8.6: a 204 has no Content-Length, a 304 none but the 200's.
    if reply.status not in (204, 304):
        if length is not None:
            response.headers["Content-Length"] = str(length)
        elif not reply.bodiless:
            response.headers["Transfer-Encoding"] = "chunked"
    return response


def _is_sending(handler: ProxyConnectionHandler) -> bool:
    io = handler.transports.get(handler.client)
    transport = getattr(io.writer, "transport", None) if io else None
    return transport is not None and transport.get_write_buffer_size() > 0
