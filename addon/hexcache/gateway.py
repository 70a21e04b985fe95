"""Transparent mode: whose connection is it that a packet filter sent here?

mitmproxy's own layer for this mode decides late and by guesses: it would intercept what looks like
HTTP, and have a client that waits for the server's greeting wait for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mitmproxy import connection
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer, TCPLayer
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import parse_client_hello

from hexcache import resources
from hexcache.layers import PullingHttpLayer

# Only here may it be Hex, and here the client speaks first.
_PORTS = (80, 443)
# What tells whose connection it is comes sooner, or it isn't Hex.
_MOST = 64 * 2**10
_REQUEST = re.compile(rb"[A-Z]{1,20} [^\r\n]{0,8192} HTTP/1\.[01]\r?\n")
_REQUEST_SO_FAR = re.compile(rb"[A-Z]{1,20}(?: [^\r\n]*\r?)?")
_HOST = re.compile(rb"\nhost:[ \t]*([^\s:]*)", re.IGNORECASE)
_END = re.compile(rb"\n\r?\n")


@dataclass
class Arrival:
    """A connection that goes by `tunnelled`, or else has our HTTP layer."""

    client: connection.Client
    tunnelled: bool


@dataclass
class HexcacheArrivalHook(commands.StartHook):
    """Tells the addon."""

    arrival: Arrival


class Gateway(layer.Layer):
    """The top layer of a connection. `context.server.address` is where it was going."""

    _child: layer.Layer | None = None
    _data = b""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._child is not None:
            yield from self._child.handle_event(event)
        elif isinstance(event, events.Start):
            assert self.context.server.address is not None
            if self.context.server.address[1] not in _PORTS:
                yield from self._go_on(TCPLayer(self.context, ignore=True))
        elif isinstance(event, events.DataReceived):
            self._data += event.data
            if (child := self._decide()) is not None:
                yield from self._go_on(child)
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)

    def _decide(self) -> layer.Layer | None:
        """The layer for what was received so far; None if that isn't enough to tell."""
        whose = _whose(self._data)
        if whose is None and len(self._data) < _MOST:
            return None
        if not whose or resources.hex_host(whose) is None:
            return TCPLayer(self.context, ignore=True)
        if starts_like_tls_record(self._data):
            return ClientTLSLayer(self.context)
        return PullingHttpLayer(self.context, HTTPMode.transparent)

    def _go_on(self, child: layer.Layer) -> layer.CommandGenerator[None]:
        self._child = child
        if not isinstance(child, ClientTLSLayer):
            yield HexcacheArrivalHook(Arrival(self.context.client, isinstance(child, TCPLayer)))
        yield from child.handle_event(events.Start())
        if self._data:
            data, self._data = self._data, b""
            yield from child.handle_event(events.DataReceived(self.context.client, data))


def _whose(data: bytes) -> str | None:
    """The host that a connection's first bytes name, "" if they name none; None if they don't
    suffice."""
    if data[0] == 0x16 and (len(data) < 3 or starts_like_tls_record(data)):
        try:
            hello = parse_client_hello(data)
        except ValueError:
            return ""
        return None if hello is None else hello.sni or ""
    if not _REQUEST.match(data):
        return None if _REQUEST_SO_FAR.fullmatch(data) else ""
    end = _END.search(data)
    head = data[: end.start() + 1] if end else data
    # Half a name may be the beginning of another.
    if (host := _HOST.search(head)) and (end or b"\n" in head[host.end() :]):
        return host[1].decode("latin-1")
    return "" if end else None
