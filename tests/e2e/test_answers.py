"""What a client gets of the whole of it: bodies, headers and credentials."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable

from e2e.conftest import World
from support.faults import cut, hold, replaced, status, without
from support.http import curl
from support.running import Running
from support.upstream import Upstream


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


def test_truncated_upstream_is_an_error_and_then_a_fetch(
    world: World, hexcache: Callable[..., Running]
) -> None:
    world.upstream.fault("/tarballs/gamma", cut(700), times=1)
    proxy = hexcache()
    url = f"{proxy.mirror}/tarballs/gamma-0.1.0.tar"
    first = curl(url)
    assert first.status == 504 or first.body == world.upstream.files["/tarballs/gamma-0.1.0.tar"]
    assert curl(url).body == world.upstream.files["/tarballs/gamma-0.1.0.tar"]
