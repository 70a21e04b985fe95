"""The process: how it is started, what it lets through, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import World
from support.certificates import CertificateAuthority
from support.faults import cut, hold, replaced, status, without
from support.http import curl
from support.running import Running, free_ports
from support.upstream import Upstream

ADDON = Path(__file__).parents[2] / "addon" / "main.py"


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


def test_what_clients_rely_on(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(cache={"registry_fresh": "1h"})
    body = world.upstream.files["/tarballs/alpha-1.1.0.tar"]
    url = "https://repo.hex.pm/tarballs/alpha-1.1.0.tar"

    def get(*arguments: str) -> tuple[int, bytes, dict[str, str]]:
        got = curl(url, *arguments, proxy=proxy.proxy, ca=proxy.ca)
        return got.status, got.body, got.headers

    status, content, headers = get()
    assert (status, content) == (200, body)
    etag = headers["etag"]
    assert headers["content-length"] == str(len(body))
    assert "content-encoding" not in headers
    assert headers["cache-status"] == "hexcache; fwd=miss; fwd-status=200; stored"
    assert get()[2]["cache-status"].startswith("hexcache; hit")
    assert get("-H", f"If-None-Match: {etag}")[0] == 304
    assert get("-H", "If-None-Match;")[0] == 200, "rebar3 sends an empty one"
    status, content, headers = get("-H", "Range: bytes=10-19")
    assert (status, content) == (206, body[10:20])
    assert headers["content-range"] == f"bytes 10-19/{len(body)}"
    status, content, headers = get("--head")
    assert (status, content, headers["content-length"]) == (200, b"", str(len(body)))


def test_credentials_stay_here_on_public_paths_and_travel_on_private_ones(
    world: World, hexcache: Callable[..., Running]
) -> None:
    world.upstream.files["/repos/acme/packages/secret"] = b"private"
    proxy = hexcache()
    key = ("-H", "Authorization: topsecretkey")
    curl("https://repo.hex.pm/packages/alpha", *key, proxy=proxy.proxy, ca=proxy.ca)
    private = "https://repo.hex.pm/repos/acme/packages/secret"
    for _ in range(2):
        assert curl(private, *key, proxy=proxy.proxy, ca=proxy.ca).body == b"private"
    requests = world.upstream.requests
    private_seen = [seen for seen in requests if seen.path.startswith("/repos")]
    for seen in requests:
        assert seen in private_seen or "authorization" not in seen.headers
    assert [seen.headers["authorization"] for seen in private_seen] == ["topsecretkey"] * 2
    assert "topsecretkey" not in proxy.log
    stored = b"".join(p.read_bytes() for p in proxy.directory.rglob("*") if p.is_file())
    assert b"topsecretkey" not in stored
    assert b"private" not in stored.replace(b"private_key", b"")


def test_unknown_methods_and_paths_pass_through(
    world: World, hexcache: Callable[..., Running]
) -> None:
    world.upstream.files["/something/else"] = b"else"
    proxy = hexcache()
    assert curl(f"{proxy.mirror}/something/else").body == b"else"
    assert curl(f"{proxy.mirror}/packages/alpha", "-X", "POST", "-d", "x=1").status == 200
    assert [seen.method for seen in world.upstream.requests] == ["GET", "POST"]


def test_no_chunks_for_http_1_0(world: World, hexcache: Callable[..., Running]) -> None:
    """RFC 9112 §7.1: such a client takes the framing for the body."""
    framed = b"5\r\nhello\r\n0\r\n\r\n"
    world.upstream.fault("/repos", replaced(framed, Transfer_Encoding="chunked"))
    world.upstream.fault("/repos", without("Content-Length"))
    world.upstream.files["/repos/acme/names"] = b""
    proxy = hexcache()
    url = f"{proxy.mirror}/repos/acme/names"
    got = curl(url, "--http1.0", "--raw")
    assert (got.status, got.body) == (200, b"hello")
    assert curl(url).body == b"hello"


def test_redirects_are_followed_inside(world: World, hexcache: Callable[..., Running]) -> None:
    files = world.upstream.files
    files["/elsewhere/hex.ez"] = b"the archive"
    world.upstream.redirects["/installs/hex.ez"] = (
        302,
        f"{world.upstream.url}/elsewhere/hex.ez",
    )
    proxy = hexcache()
    got = curl(f"{proxy.mirror}/installs/hex.ez")
    assert (got.status, got.body) == (200, b"the archive")


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


def test_the_password_of_the_proxy_on_the_way_stays_here(
    world: World, hexcache: Callable[..., Running]
) -> None:
    with Upstream() as company:
        company.fault("", status(407))
        url = company.url.replace("http://", "http://somebody:s3cretpw@")
        proxy = hexcache(upstream={"proxy": url})
        got = curl(f"{proxy.mirror}/packages/alpha")
        assert got.status == 504
        assert b"the proxy on the way answered 407" in got.body
        assert "s3cretpw" not in proxy.log + got.body.decode() + str(got.headers)


def test_ipv6_and_variables_of_an_orchestrator(world: World) -> None:
    port, _ = free_ports(2)
    running = Running(
        world.directory / "v6",
        world.settings(listen={"proxy": f"[::1]:{port}", "mirror": "off"}),
        environment={"HEXCACHE_PORT": "tcp://10.0.0.1:80", "HEXCACHE_SERVICE_HOST": "10.0.0.1"},
    )
    with running:
        got = curl("http://repo.hex.pm/names", proxy=f"http://[::1]:{port}")
        assert got.status == 200


def test_a_large_body_is_streamed(world: World, hexcache: Callable[..., Running]) -> None:
    """Twelve megabytes, while they come in and from the store."""
    body = os.urandom(12 * 2**20)
    world.upstream.files["/installs/1.17.0/big-1.0.0.ez"] = body
    world.upstream.fault("/installs", hold(6 * 2**20), times=1)
    proxy = hexcache()
    url = f"{proxy.mirror}/installs/1.17.0/big-1.0.0.ez"
    client = subprocess.Popen(["curl", "-s", "--noproxy", "*", url], stdout=subprocess.PIPE)
    world.upstream.wait_until_holding()
    assert client.stdout is not None
    early = client.stdout.read(2**20)
    world.upstream.release()
    rest, _ = client.communicate(timeout=60)
    assert early + rest == body
    again = curl(url)
    assert (again.body == body, again.headers["cache-status"][:13]) == (True, "hexcache; hit")


def test_a_body_that_breaks_off_is_no_whole_one(
    world: World, hexcache: Callable[..., Running]
) -> None:
    body = os.urandom(2**20)
    world.upstream.files["/installs/1.17.0/big-1.0.0.ez"] = body
    world.upstream.fault("/installs", cut(2**19))
    world.upstream.ignore_range = True
    proxy = hexcache(upstream={"give_up": "1s"})
    got = curl(f"{proxy.mirror}/installs/1.17.0/big-1.0.0.ez")
    assert got.error != 0 or got.status >= 500
    assert got.body != body


def test_many_clients_one_fetch(world: World, hexcache: Callable[..., Running]) -> None:
    world.upstream.fault("/tarballs/alpha-1.1.0.tar", hold())
    proxy = hexcache()
    bodies: list[bytes] = []

    def fetch() -> None:
        url = f"{proxy.mirror}/tarballs/alpha-1.1.0.tar"
        bodies.append(curl(url).body)

    threads = [threading.Thread(target=fetch) for _ in range(20)]
    for thread in threads:
        thread.start()
    world.upstream.wait_until_holding()
    world.upstream.release()
    for thread in threads:
        thread.join()
    assert bodies == [world.upstream.files["/tarballs/alpha-1.1.0.tar"]] * 20
    assert world.upstream.count("/tarballs") == 1
    assert world.upstream.count("/packages/alpha", status=200) == 1


def test_a_client_that_hangs_up_leaves_a_hit_behind(
    world: World, hexcache: Callable[..., Running]
) -> None:
    world.upstream.fault("/tarballs/alpha-1.1.0.tar", hold(), times=1)
    proxy = hexcache(cache={"registry_fresh": "1h"})
    url = f"{proxy.mirror}/tarballs/alpha-1.1.0.tar"
    client = subprocess.Popen(["curl", "--silent", "--noproxy", "*", url], stdout=subprocess.PIPE)
    world.upstream.wait_until_holding()
    client.kill()
    client.communicate()
    world.upstream.release()
    # Either it joins the fetch that goes on, or it finds its result: never a second one.
    assert curl(url).body == world.upstream.files["/tarballs/alpha-1.1.0.tar"]
    assert world.upstream.count("/tarballs") == 1


def test_kill_9_and_again(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(cache={"registry_fresh": "1h"})
    urls = [f"{proxy.mirror}/tarballs/{n}.tar" for n in ("alpha-1.1.0", "gamma-0.1.0")]
    assert curl(urls[0]).status == 200
    # In the middle of the second download.
    world.upstream.fault("/tarballs/gamma", hold(1000), times=1)
    client = subprocess.Popen(["curl", "-s", "--noproxy", "*", urls[1]], stdout=subprocess.PIPE)
    world.upstream.wait_until_holding()
    proxy.kill()
    world.upstream.release()
    client.communicate()

    world.upstream.requests.clear()
    proxy.start()
    for url in urls:
        assert curl(url).body == world.upstream.files[url.removeprefix(proxy.mirror)]
    assert world.upstream.count("/tarballs/alpha") == 0
    assert world.upstream.count("/tarballs/gamma") == 1


def test_sigterm_finishes_what_is_being_sent(
    world: World, hexcache: Callable[..., Running]
) -> None:
    world.upstream.fault("/tarballs/gamma", hold(1000), times=1)
    proxy = hexcache()
    url = f"{proxy.mirror}/tarballs/gamma-0.1.0.tar"
    client = subprocess.Popen(["curl", "-s", "--noproxy", "*", url], stdout=subprocess.PIPE)
    world.upstream.wait_until_holding()
    os.kill(proxy.pid, signal.SIGTERM)
    while _listens(proxy.proxy_port):
        pass
    world.upstream.release()
    body, _ = client.communicate(timeout=30)
    assert body == world.upstream.files["/tarballs/gamma-0.1.0.tar"]
    assert proxy.wait() == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_truncated_upstream_is_an_error_and_then_a_fetch(
    world: World, hexcache: Callable[..., Running]
) -> None:
    world.upstream.fault("/tarballs/gamma", cut(700), times=1)
    proxy = hexcache()
    url = f"{proxy.mirror}/tarballs/gamma-0.1.0.tar"
    first = curl(url)
    assert first.status == 504 or first.body == world.upstream.files["/tarballs/gamma-0.1.0.tar"]
    assert curl(url).body == world.upstream.files["/tarballs/gamma-0.1.0.tar"]


def test_no_verification_is_loud(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(cache={"verify": False})
    proxy.stop()
    assert "warning: cache.verify is false: NOTHING THAT COMES FROM UPSTREAM" in proxy.log


def test_json_log(world: World, hexcache: Callable[..., Running]) -> None:
    proxy = hexcache(log={"format": "json"})
    curl(f"{proxy.mirror}/packages/alpha")
    proxy.stop()
    lines = [json.loads(line) for line in proxy.log.splitlines()]
    (request,) = [line for line in lines if line.get("event") == "request"]
    assert request["resource"] == "package alpha"
    assert request["outcome"] == "miss"
    assert request["bytes"] == len(world.upstream.files["/packages/alpha"])
    assert request["client"] == "127.0.0.1"


def test_mitmdump_script(world: World) -> None:
    mitmdump = shutil.which("mitmdump", path=str(Path(sys.executable).parent))
    assert mitmdump is not None
    running = Running(
        world.directory / "mitmdump", world.settings(), command=(mitmdump, "-s", str(ADDON))
    )
    with running:
        project = world.rebar3(running.bundle)
        result = project.get_deps(proxy=running.proxy)
        assert result.returncode == 0, result.stdout
        assert set(project.fetched()) == {"alpha", "beta", "gamma"}
        assert running.stop() == 0


def _refused_start(directory: Path, content: str) -> subprocess.CompletedProcess[str]:
    config = directory / "wrong.yaml"
    config.write_text(content)
    return subprocess.run(
        [sys.executable, "-m", "hexcache", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=directory,
    )


def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path) -> None:
    result = _refused_start(tmp_path, "cache:\n  registry_frech: 5s\n")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "wrong.yaml: cache.registry_frech is not a setting" in result.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "{mirror: '127.0.0.1:1', tls: '127.0.0.1:1', status: '127.0.0.1:1'}",
            "listen.mirror and listen.tls are both 127.0.0.1:1",
        ),
        ("{proxy: '192.0.2.1:1', mirror: off, status: off}", "192.0.2.1:1"),
        ("{proxy: '127.0.0.1:0', mirror: off, status: '[fe80::1%nowhere]:1'}", "listen.status"),
    ],
)
def test_where_nobody_can_listen_is_told_in_one_line(
    tmp_path: Path, content: str, told: str
) -> None:
    result = _refused_start(tmp_path, f"listen: {content}\n")
    assert result.returncode == 1
    assert told in result.stderr
    assert "Unknown error" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_taken_port_and_a_taken_directory_are_told(
    hexcache: Callable[..., Running], tmp_path: Path
) -> None:
    proxy = hexcache()
    taken = _refused_start(
        tmp_path, f'listen: {{proxy: "127.0.0.1:{proxy.proxy_port}", mirror: "off"}}\n'
    )
    assert taken.returncode == 1
    assert f"127.0.0.1:{proxy.proxy_port}" in taken.stderr
    assert taken.stderr.count("\n") == 1
    (port,) = free_ports(1)
    data = proxy.directory / "data"
    busy = _refused_start(tmp_path, f'listen: {{proxy: "127.0.0.1:{port}"}}\ndata: {data}\n')
    assert busy.returncode == 1
    assert "in use by another Hexcache" in busy.stderr


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
