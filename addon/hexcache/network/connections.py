"""Connections to Hex and its mirrors: one request, one answer.

Whatever goes wrong on the way is one UpstreamError with a line that a user understands. Bodies
come as they are on the wire: a registry file is a gzip without Content-Encoding, so nothing is
negotiated and nothing is decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from hexcache import __version__
from hexcache.errors import SettingsError, UpstreamError
from hexcache.labels import host_of
from hexcache.network.gate import Gate
from hexcache.network.names import look_up_apart
from hexcache.settings import UpstreamSettings

# The name has to be found and the connection made, TLS and all, within so many seconds.
_CONNECT_TIMEOUT = 10.0
_SOCKET_TIMEOUT = 6.0
# Whoever lost its address (another Wi-Fi, a laptop that slept) gets no reset: what was sent is just
# never acknowledged. A server that takes its time acknowledges at once.
_UNACKNOWLEDGED_MS = 8_000
# At the same time; a question that has to wait for its turn isn't unanswered.
_AT_ONCE = 64
_CHUNK = 64 * 2**10
# RFC 9110 §7.6.1, and what a proxy says to a proxy.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True)
class Response:
    """Upstream's answer. `length` is what Content-Length promised; `framed` tells whether the
    body's end can be told from a broken connection. `location` is the URL that answered."""

    status: int
    headers: Mapping[str, str]
    pairs: tuple[tuple[str, str], ...]
    length: int | None
    framed: bool
    location: str
    _raw: aiohttp.ClientResponse
    _stall: float
    _broke: Callable[[], None]
    _took: Callable[[int], None]

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises UpstreamError if it breaks off or stands still."""
        while True:
            try:
                with _explained(self.location):
                    async with asyncio.timeout(self._stall):
                        chunk = await self._raw.content.read(_CHUNK)
            except UpstreamError:
                self._broke()
                raise
            if not chunk:
                return
            self._took(len(chunk))
            yield chunk


@dataclass
class _Pool:
    """Connections that are reused. A retired one is closed when nobody uses it any more."""

    session: aiohttp.ClientSession
    users: int = 0
    retired: bool = False


class Connections:
    """One per process; `close` it. `own_addresses` are where Hexcache itself listens: a proxy
    variable that leads back there is left unused, or a request would go round for ever. `took` is
    told how many bytes of bodies come."""

    def __init__(
        self,
        settings: UpstreamSettings,
        gate: Gate,
        own_addresses: Iterable[tuple[str, int]] = (),
        *,
        took: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._gate = gate
        self._took = took
        self._settings = settings
        self._own = set(own_addresses)
        self._ssl = _ssl_context(settings.ca_file)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._pool: _Pool | None = None
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        if self._pool is not None:
            await self._pool.session.close()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until another request may be made; for what can wait. Hold it until its end."""
        async with self._slots:
            yield

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> AsyncIterator[Response]:
        """One request, redirects not followed. Raises UpstreamError; OfflineError, and no packet
        has left, while the gate is closed."""
        self._gate.check(host_of(url))
        async with self._pooled() as pool:
            try:
                with _explained(url):
                    async with asyncio.timeout(self._settings.timeout):
                        raw = await pool.session.request(
                            method,
                            _address(url, headers),
                            headers=headers,
                            data=body or None,
                            allow_redirects=False,
                            ssl=self._ssl,
                            proxy=self._proxy_for(url),
                        )
            except UpstreamError:
                self._retire(pool)
                raise
            try:
                yield Response(
                    status=raw.status,
                    headers={name.lower(): value for name, value in raw.headers.items()},
                    pairs=tuple(raw.headers.items()),
                    length=raw.content_length,
                    framed=raw.content_length is not None
                    or "chunked" in raw.headers.get("Transfer-Encoding", "").lower(),
                    location=url,
                    _raw=raw,
                    _stall=self._settings.stall,
                    _broke=lambda: self._retire(pool),
                    _took=self._took,
                )
            finally:
                # Does nothing to a body that was read to its end; the rest is not worth reading.
                raw.close()

    @contextlib.asynccontextmanager
    async def _pooled(self) -> AsyncIterator[_Pool]:
        if self._closed:
            raise UpstreamError("Hexcache is shutting down", final=True)
        if self._pool is None:
            self._pool = _Pool(self._make_session())
        pool = self._pool
        pool.users += 1
        try:
            yield pool
        finally:
            pool.users -= 1
            if pool.retired and not pool.users:
                await pool.session.close()

    def _retire(self, pool: _Pool) -> None:
        """The line may be another one by now, and the other connections as dead as this."""
        pool.retired = True
        if self._pool is pool:
            self._pool = None

    def _make_session(self) -> aiohttp.ClientSession:
        look_up_apart(asyncio.get_running_loop())
        nameservers = list(self._settings.nameservers)
        # The system's resolver by default: it notices a change of network, c-ares doesn't.
        resolver = (
            aiohttp.AsyncResolver(nameservers=nameservers)
            if nameservers
            else aiohttp.ThreadedResolver()
        )
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, limit=0, socket_factory=_socket),
            # Slow is not dead: the first byte and the next byte have their own limits.
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=min(_CONNECT_TIMEOUT, self._settings.timeout),
                sock_connect=min(_SOCKET_TIMEOUT, self._settings.timeout),
            ),
            headers={
                "User-Agent": f"hexcache/{__version__}",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
            },
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _proxy_for(self, url: str) -> str | None:
        proxy = self._settings.proxy
        if proxy is None:
            parts = urlsplit(url)
            if urllib.request.proxy_bypass(parts.hostname or ""):
                return None
            proxy = urllib.request.getproxies_environment().get(parts.scheme)
            if not proxy:
                return None
            if "//" not in proxy:
                proxy = f"http://{proxy}"
        parts = urlsplit(proxy)
        if _is_own((parts.hostname or "", parts.port or 0), self._own):
            return None
        return proxy


def _address(url: str, headers: Sequence[tuple[str, str]]) -> URL:
    # encoded: what the client's path says is what upstream is asked.
    address = URL(url, encoded=True)
    # A credential that the client brings takes the place of the one in the settings.
    has_own = any(name.lower() == "authorization" for name, _ in headers)
    return address.with_user(None) if has_own and address.user else address


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    return made


def _is_own(address: tuple[str, int], own: set[tuple[str, int]]) -> bool:
    local = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")
    host, port = address
    return any(port == p and (host == h or (host in local and h in local)) for h, p in own)


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            reason = error.strerror or "it holds no certificate"
            raise SettingsError(
                f"upstream.ca_file: {ca_file}: {reason}", key="upstream.ca_file"
            ) from None
    return context


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn whatever the client library raises into an UpstreamError. The order goes from the
    special to the general: aiohttp's errors inherit from each other."""
    host = host_of(url)
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or "it isn't trusted"
        text = f"{host}: its TLS certificate was refused: {reason}"
        raise UpstreamError(text, unreachable=True) from None
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise UpstreamError(f"{host}: TLS failed: {_brief(error)}", unreachable=True) from None
    except aiohttp.ClientConnectorDNSError:
        raise UpstreamError(f"{host}: the name can't be resolved", unreachable=True) from None
    except aiohttp.ClientProxyConnectionError as error:
        reason = _reason(error.os_error)
        text = f"{host}: no connection to the proxy on the way: {reason}"
        raise UpstreamError(text, unreachable=True) from None
    except aiohttp.ClientHttpProxyError as error:
        # Its text has the proxy's URL, password and all.
        text = f"{host}: the proxy on the way answered {error.status}"
        raise UpstreamError(text, unreachable=True) from None
    except aiohttp.ClientConnectorError as error:
        text = f"{host}: no connection: {_reason(error.os_error)}"
        raise UpstreamError(text, unreachable=True) from None
    except aiohttp.ConnectionTimeoutError:
        text = f"{host}: no connection in time"
        raise UpstreamError(text, unreachable=True, timed_out=True) from None
    except TimeoutError:
        raise UpstreamError(f"{host}: no answer in time", timed_out=True) from None
    except aiohttp.ClientPayloadError:
        raise UpstreamError(f"{host}: the connection broke off in the middle") from None
    except aiohttp.ServerDisconnectedError:
        raise UpstreamError(f"{host}: the connection was closed without an answer") from None
    except aiohttp.ClientResponseError as error:
        # Its text quotes what upstream sent.
        if error.message.startswith("Got more than"):  # aiohttp.http_exceptions.LineTooLong
            raise UpstreamError(f"{host}: the answer's headers are too large") from None
        raise UpstreamError(f"{host}: the answer is no proper HTTP") from None
    except (aiohttp.InvalidURL, UnicodeError):
        raise UpstreamError(f"{host}: the address can't be used", final=True) from None
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
        raise UpstreamError(f"{host}: {_brief(error)}") from None
    except RuntimeError:
        # aiohttp's word for a session that was closed.
        raise UpstreamError(f"{host}: Hexcache is shutting down", final=True) from None


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else _brief(error)


def _brief(error: BaseException | None) -> str:
    """The first line of an error's text, which may quote what upstream sent."""
    text = next(iter(str(error).splitlines()), "")[:200]
    return text if text and text.isprintable() else type(error).__name__
