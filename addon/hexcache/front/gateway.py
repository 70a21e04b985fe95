"""Transparent mode: whose connection is it that a packet filter sent here?

mitmproxy's own layer for this mode decides late and by guesses: it would intercept what looks like
HTTP, and have a client that waits for the server's greeting wait for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy import connection
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer, TCPLayer
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import parse_client_hello

from hexcache import resources
from hexcache.front.layers import PullingHttpLayer

# Only here may it be Hex, and then the client speaks first.
_PORTS = (80, 443)
# Seconds. A client that is silent for so long, twice that at most, waits for the server's greeting
# or for an answer to what it has said.
_PATIENCE = 0.5
# What tells whose connection it is comes sooner, or it isn't Hex.
_MOST = 64 * 2**10
_REQUEST = re.compile(rb"[A-Z]{1,20} [^\r\n]{0,8192} HTTP/1\.[01]\r?\n")
_REQUEST_SO_FAR = re.compile(rb"[A-Z]{1,20}(?: [^\r\n]*\r?)?")
_HOST = re.compile(rb"\nhost:[ \t]*([^\s:]*)", re.IGNORECASE)
_END = re.compile(rb"\n\r?\n")


@dataclass
class Arrival:
    """A connection that goes by `tunnelled`, or else is answered here."""

    client: connection.Client
    tunnelled: bool


@dataclass
class HexcacheArrivalHook(commands.StartHook):
    """Tells the addon."""

    arrival: Arrival


@dataclass
class Silence:
    """A client that waits, and hasn't said anything that Hex's would. Its server hears of it if
    `may_go_on`."""

    client: connection.Client
    may_go_on: bool = False


@dataclass
class HexcacheSilenceHook(commands.StartHook):
    """Asks the addon."""

    silence: Silence


class Gateway(layer.Layer):
    """The top layer of a connection. `context.server.address` is where it was going."""

    _child: layer.Layer | None = None
    _data = b""
    # Whether it has since the clock was set; and whether the clock runs. It doesn't for ever: a
    # client that is gone has to run into mitmproxy's time-out.
    _has_spoken = False
    _is_timed = False
    # A connection to the server that was begun to hear whether it speaks first.
    _trial: connection.Server | None = None
    _is_open = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._is_of_the_past(event):
            return
        if self._child is not None:
            yield from self._child.handle_event(event)
        elif isinstance(event, events.Start):
            assert self.context.server.address is not None
            if self.context.server.address[1] in _PORTS:
                yield from self._wait()
            else:
                yield from self._go_on(_tunnel)
        elif isinstance(event, events.Wakeup):
            yield from self._wake_up()
        elif isinstance(event, events.OpenConnectionCompleted):
            self._is_open = not event.reply
            if event.reply:
                yield commands.CloseConnection(self.context.client)
        elif isinstance(event, events.ConnectionEvent):
            if event.connection is self._trial:
                # The server came first.
                yield from self._go_on(_tunnel, event)
            elif isinstance(event, events.DataReceived):
                self._data += event.data
                self._has_spoken = True
                if (child := _decide(self._data)) is not None:
                    yield from self._go_on(child)
                else:
                    yield from self._wait()
            elif _may_be_hex(self._data) or not (yield from self._may_go_on()):
                yield commands.CloseConnection(self.context.client)
            else:
                yield from self._go_on(_tunnel, event)

    def _is_of_the_past(self, event: events.Event) -> bool:
        """What the trial or the clock has to say when it's decided."""
        if self._child is None:
            return False
        if isinstance(event, events.Wakeup):
            return True
        if isinstance(event, events.OpenConnectionCompleted):
            return event.command.connection is self._trial
        return (
            isinstance(event, events.ConnectionEvent)
            and event.connection is self._trial is not self.context.server
        )

    def _wait(self) -> layer.CommandGenerator[None]:
        if not self._is_timed:
            self._is_timed = True
            self._has_spoken = False
            yield commands.RequestWakeup(_PATIENCE)

    def _wake_up(self) -> layer.CommandGenerator[None]:
        self._is_timed = False
        if self._has_spoken:
            yield from self._wait()
        elif not _may_be_hex(self._data) and (yield from self._may_go_on()):
            if self._data:
                yield from self._go_on(_tunnel)
            else:
                self._trial = self.context.server
                command = commands.OpenConnection(self._trial)
                # Meanwhile the client may say that it is Hex's.
                command.blocking = False
                yield command

    def _may_go_on(self) -> layer.CommandGenerator[bool]:
        silence = Silence(self.context.client)
        yield HexcacheSilenceHook(silence)
        return silence.may_go_on

    def _go_on(
        self, make: Callable[[Context], layer.Layer], event: events.Event | None = None
    ) -> layer.CommandGenerator[None]:
        """`event`: what comes after the data."""
        if self._trial is not None and not (self._is_open and make is _tunnel):
            yield commands.CloseConnection(self._trial)
            self.context.server = connection.Server(address=self._trial.address)
        self._child = child = make(self.context)
        yield HexcacheArrivalHook(Arrival(self.context.client, make is _tunnel))
        yield from child.handle_event(events.Start())
        if self._data:
            data, self._data = self._data, b""
            yield from child.handle_event(events.DataReceived(self.context.client, data))
        if event is not None:
            yield from child.handle_event(event)


def _tunnel(context: Context) -> layer.Layer:
    return TCPLayer(context, ignore=True)


def _http(context: Context) -> layer.Layer:
    return PullingHttpLayer(context, HTTPMode.transparent)


def _decide(data: bytes) -> Callable[[Context], layer.Layer] | None:
    """The layer for what was received so far; None if that isn't enough to tell."""
    whose = _whose(data)
    if whose is None and len(data) < _MOST:
        return None
    if not whose or resources.hex_host(whose) is None:
        return _tunnel
    return ClientTLSLayer if starts_like_tls_record(data) else _http


def _may_be_hex(data: bytes) -> bool:
    """Whether what isn't enough to tell is more than chance."""
    return starts_like_tls_record(data) or _REQUEST.match(data) is not None


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
