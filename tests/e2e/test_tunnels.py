"""Through the proxy's port: what means Hex is answered here, the rest is tunnelled or refused."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from e2e.conftest import World
from support.certificates import CertificateAuthority
from support.http import curl
from support.running import Running
from support.upstream import Upstream


def test_other_hosts_are_tunnelled_with_their_own_certificate(
    world: World, hexcache: Callable[..., Running], tmp_path: Path
) -> None:
    other = CertificateAuthority(tmp_path / "other")
    with Upstream(other) as elsewhere:
        elsewhere.files["/hello"] = b"from elsewhere"
        proxy = hexcache()
        got = curl(f"{elsewhere.url}/hello", proxy=proxy.proxy, ca=other.ca_file)
        assert (got.status, got.body) == (200, b"from elsewhere")
        refused = curl(f"{elsewhere.url}/hello", proxy=proxy.proxy, ca=proxy.ca)
        assert refused.error == 60, "it is not our certificate that the client saw"


def test_plain_tcp_in_a_tunnel_is_untouched(hexcache: Callable[..., Running]) -> None:
    """HTTP without TLS inside a CONNECT, such as a package registry on another port."""
    with Upstream() as elsewhere:
        elsewhere.files["/hello"] = b"plain"
        proxy = hexcache()
        got = curl(f"{elsewhere.url}/hello", "--proxytunnel", proxy=proxy.proxy)
        assert (got.status, got.body) == (200, b"plain")


def test_plain_http_to_other_hosts_is_refused(hexcache: Callable[..., Running]) -> None:
    with Upstream() as elsewhere:
        elsewhere.files["/hello"] = b"plain"
        proxy = hexcache()
        got = curl(f"{elsewhere.url}/hello", proxy=proxy.proxy)
        assert got.status == 403
        assert elsewhere.requests == []


def test_hex_by_plain_http_through_the_proxy(
    world: World, hexcache: Callable[..., Running]
) -> None:
    proxy = hexcache()
    got = curl("http://repo.hex.pm/names", proxy=proxy.proxy)
    assert (got.status, got.body) == (200, world.upstream.files["/names"])


def test_both_hosts_by_tls(world: World, hexcache: Callable[..., Running]) -> None:
    world.upstream.files["/installs/1.17.0/hex-2.1.1.ez"] = b"an archive"
    proxy = hexcache()
    for host in ("repo.hex.pm", "builds.hex.pm"):
        got = curl(f"https://{host}/installs/1.17.0/hex-2.1.1.ez", proxy=proxy.proxy, ca=proxy.ca)
        assert (got.status, got.body) == (200, b"an archive")
    assert world.upstream.count("/installs") == 1


def _handshake(port: int, host: str, connect: str = "") -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=30)
    if connect:
        raw.sendall(f"CONNECT {connect} HTTP/1.1\r\nhost: {connect}\r\n\r\n".encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(raw, server_hostname=host)


def test_nothing_leaves_by_a_trick(world: World, hexcache: Callable[..., Running]) -> None:
    """A name in the handshake, another in the CONNECT or in the Host header, bytes that are no
    HTTP: what means Hex is answered here, and while offline nobody else hears of it."""
    proxy = hexcache("--offline")
    with Upstream() as elsewhere:
        target = f"127.0.0.1:{elsewhere.port}"
        request = f"GET /x HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
        for connect in ("", target, "repo.hex.pm:443"):
            with _handshake(proxy.proxy_port, "repo.hex.pm", connect) as tls:
                tls.sendall(request)
                assert tls.recv(1000).startswith(b"HTTP/1.1 504")
            with _handshake(proxy.proxy_port, "repo.hex.pm", connect) as tls:
                tls.sendall(b"\x00\x01\x02 not HTTP at all\r\n\r\n")
                tls.recv(1000)
        with _handshake(proxy.proxy_port, "other.host", "repo.hex.pm:443") as tls:
            tls.sendall(request)
            assert tls.recv(1000).startswith(b"HTTP/1.1 504")
        with socket.create_connection(("127.0.0.1", proxy.proxy_port), timeout=30) as raw:
            raw.sendall(b"GET http://repo.hex.pm/\xff HTTP/1.1\r\nHost: repo.hex.pm\r\n\r\n")
            assert raw.recv(1000).startswith((b"HTTP/1.1 504", b"HTTP/1.1 400"))
        assert elsewhere.requests == []
    assert world.upstream.requests == []
    assert "Traceback" not in proxy.log


def test_tls_1_2_without_alpn_as_hex_speaks_it(
    world: World, hexcache: Callable[..., Running]
) -> None:
    """Hex offers TLS 1.2 at most and no ALPN, on a CONNECT with content-length: 0."""
    proxy = hexcache()
    with socket.create_connection(("127.0.0.1", proxy.proxy_port), timeout=30) as raw:
        raw.sendall(
            b"CONNECT repo.hex.pm:443 HTTP/1.1\r\nhost: repo.hex.pm\r\n"
            b"content-length: 0\r\nProxy-Connection: keep-alive\r\n\r\n"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        context = ssl.create_default_context(cafile=str(proxy.bundle))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with context.wrap_socket(raw, server_hostname="repo.hex.pm") as tls:
            for path in ("/packages/alpha", "/packages/beta"):
                tls.sendall(
                    f"GET {path} HTTP/1.1\r\nhost: repo.hex.pm\r\nte: \r\n"
                    "content-length: 0\r\n\r\n".encode()
                )
                body = world.upstream.files[path]
                received = b""
                while not received.endswith(body):
                    chunk = tls.recv(65536)
                    assert chunk
                    received += chunk
                assert received.startswith(b"HTTP/1.1 200")
    for seen in world.upstream.requests:
        assert "te" not in seen.headers
        assert "content-length" not in seen.headers
