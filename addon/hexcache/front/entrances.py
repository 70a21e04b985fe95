"""The ways in, and what a request that came by one of them is about."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from mitmproxy import http
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_servers import ServerInstance

from hexcache import resources
from hexcache.settings import Listen
from hexcache.values import Address


class Entrance(StrEnum):
    """Named like its setting."""

    PROXY = "proxy"
    MIRROR = "mirror"
    TLS = "tls"
    TRANSPARENT = "transparent"


def modes(listen: Listen) -> list[str]:
    """mitmproxy's modes. It wants an IPv6 host without brackets here."""
    found = ["regular@{}:{}".format(*listen.proxy)]
    if listen.mirror is not None:
        found.append("reverse:http://{}@{}:{}".format(resources.REPO_HOST, *listen.mirror))
    if listen.tls is not None:
        # The scheme tells it from the mirror; "https" would listen for QUIC too.
        found.append("reverse:tls://{}:443@{}:{}".format(resources.REPO_HOST, *listen.tls))
    if listen.transparent is not None:
        found.append("transparent@{}:{}".format(*listen.transparent))
    return found


def entrance(mode: mode_specs.ProxyMode) -> Entrance:
    """Which of `modes` this is."""
    if isinstance(mode, mode_specs.ReverseMode):
        return Entrance.TLS if mode.scheme == "tls" else Entrance.MIRROR
    if isinstance(mode, mode_specs.TransparentMode):
        return Entrance.TRANSPARENT
    return Entrance.PROXY


def addresses(servers: Iterable[ServerInstance[mode_specs.ProxyMode]]) -> dict[Entrance, Address]:
    """Where mitmproxy really listens."""
    return {
        entrance(server.mode): Address(*server.listen_addrs[0][:2])
        for server in servers
        if server.listen_addrs
    }


def asked(flow: http.HTTPFlow) -> tuple[str, str]:
    """The host and the target that a flow asks for. The name in the handshake goes before the one
    in the request."""
    client, request = flow.client_conn, flow.request
    way = entrance(client.proxy_mode)
    if way is Entrance.MIRROR:
        return resources.REPO_HOST, resources.drop_mirror_prefix(request.path)
    sni = resources.hex_host(client.sni)
    if way is Entrance.PROXY:
        return sni or request.host, request.path
    # Where the packets were going says nothing here.
    if client.sni:
        return sni or client.sni, request.path
    return resources.hex_host(request.pretty_host) or request.pretty_host, request.path


def is_local(flow: http.HTTPFlow) -> bool:
    """Whether this asks the proxy about the proxy."""
    client, request = flow.client_conn, flow.request
    asks_proxy = entrance(client.proxy_mode) is Entrance.PROXY and not client.tls
    return asks_proxy and request.host.lower().removesuffix(".") == resources.LOCAL_HOST


def refusal(flow: http.HTTPFlow, host: str) -> tuple[int, str] | None:
    """Status and reason if this isn't answered at all. `host` as a log may show it."""
    way = entrance(flow.client_conn.proxy_mode)
    if way is Entrance.TLS and not flow.client_conn.tls:
        return 400, "this port is for https only"
    if asked(flow)[0] in resources.HOSTS:
        return None
    if way is Entrance.PROXY:
        return 403, f"{host} is not one of Hex's hosts; plain HTTP to others is not proxied"
    # RFC 9110 §15.5.20: a connection that isn't good for this host.
    return 421, f"{host} is not one of Hex's hosts, and they alone are here"
