"""The HTTP client towards Hex and its mirrors.

Whatever goes wrong on the way is one UpstreamError with a line that a user understands. Bodies
come as they are on the wire: a registry file is a gzip without Content-Encoding, so nothing is
negotiated and nothing is decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from hexcache import __version__
from hexcache.breaker import Breaker
from hexcache.errors import SettingsError, UpstreamError
from hexcache.gate import Gate
from hexcache.pace import Pace
from hexcache.resources import Origin
from hexcache.settings import Settings

logger = logging.getLogger(__name__)

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CONNECT_TIMEOUT = 6.0
# Probing goes on for so long after somebody last asked.
_DEMAND_SECONDS = 60.0
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

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises UpstreamError if it breaks off or stands still."""
        while True:
            with _explained(self.location):
                async with asyncio.timeout(self._stall):
                    chunk = await self._raw.content.read(_CHUNK)
            if not chunk:
                return
            yield chunk


class Upstream:
    """One per process; `close` it. `own_addresses` are where Hexcache itself listens: a proxy
    variable that leads back there is left unused, or a request would go round for ever."""

    def __init__(
        self,
        settings: Settings,
        own_addresses: Iterable[tuple[str, int]] = (),
        *,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._breakers: dict[str, Breaker] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._demanded_at = -_DEMAND_SECONDS
        self._demanded = asyncio.Event()
        self._changed = asyncio.Event()
        self._bases = {
            Origin.REPO: settings.upstream.repo,
            Origin.BUILDS: settings.upstream.builds,
        }
        self._settings = settings.upstream
        self._own = set(own_addresses)
        self._ssl = _ssl_context(settings.upstream.ca_file)
        self._session: aiohttp.ClientSession | None = None
        self.gate = Gate(closed=settings.offline)

    def bases(self, origin: Origin) -> Sequence[str]:
        """Base URLs in the order in which they are to be tried."""
        return self._bases[origin]

    async def close(self) -> None:
        for task in self._probes.values():
            task.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def healthy(self, origin: Origin) -> list[str]:
        """The base URLs whose breaker is closed, in order. Whoever asks wants the others back."""
        bases = self.bases(origin)
        healthy = [base for base in bases if not self._breaker(base).is_open]
        if len(healthy) < len(bases):
            self.want_back()
        return healthy

    def is_down(self, origin: Origin) -> bool:
        """Whether no base URL of `origin` may be asked now."""
        return not self.healthy(origin)

    def want_back(self) -> None:
        """Somebody would ask, were they up: keeps the probes going."""
        self._demanded_at = self._pace.monotonic()
        self._demanded.set()

    def why_down(self, origin: Origin) -> str:
        """The reason of the first base URL that is down."""
        whys = [self._breaker(base).state.why for base in self.bases(origin)]
        return next((why for why in whys if why), "upstream is down")

    async def wait_for_change(self, seconds: float) -> None:
        """Until a breaker opens or closes, but not longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def down_for(self, origin: Origin, seconds: float) -> None:
        """Return when `origin` has been down for `seconds` without a break."""
        while True:
            states = [self._breaker(base).state for base in self.bases(origin)]
            if all(state.is_open for state in states):
                since = max(state.since or 0.0 for state in states)
                if (left := since + seconds - self._pace.monotonic()) <= 0:
                    return
                await self.wait_for_change(left)
            else:
                await self._changed.wait()

    def succeeded(self, base: str) -> None:
        """Note that `base` answered."""
        if self._breaker(base).succeeded():
            logger.warning("%s is back", host_of(base))
            self._announce()

    def failed(self, base: str, why: str) -> None:
        """Note that `base` gave no answer, or a 5xx."""
        if self._breaker(base).failed(why):
            logger.warning("%s is down: %s; what is stored is served", host_of(base), why)
            self._announce()
            name = f"probe {host_of(base)}"
            self._probes[base] = asyncio.create_task(self._probe(base), name=name)

    def statistics(self) -> dict[str, dict[str, object]]:
        """For each base URL: `up`, `failures` in a row, `since` (seconds that it has been down)
        and `why`."""
        now = self._pace.monotonic()
        result: dict[str, dict[str, object]] = {}
        for base in dict.fromkeys(base for bases in self._bases.values() for base in bases):
            state = self._breaker(base).state
            result[host_of(base)] = {
                "up": not state.is_open,
                "failures": state.failures,
                "since": None if state.since is None else now - state.since,
                "why": state.why,
            }
        return result

    def _breaker(self, base: str) -> Breaker:
        breaker = self._breakers.get(base)
        if breaker is None:
            breaker = self._breakers[base] = Breaker(self._pace.monotonic)
        return breaker

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _probe(self, base: str) -> None:
        """Ask until there is an answer, and only while somebody wants to know."""
        breaker = self._breaker(base)
        while breaker.is_open:
            await self._pace.sleep(breaker.probe_in)
            if self._pace.monotonic() - self._demanded_at >= _DEMAND_SECONDS:
                self._demanded.clear()
                await self._demanded.wait()
            await self.gate.opened()
            try:
                async with self.request("HEAD", f"{base}/") as response:
                    if response.status >= 500:
                        raise UpstreamError(f"{host_of(base)} answered {response.status}")
            except UpstreamError as error:
                breaker.failed(str(error))
            else:
                self.succeeded(base)

    @contextlib.asynccontextmanager
    async def get(
        self, base: str, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Response]:
        """GET a public resource, redirects followed. Any status is a Response; UpstreamError is
        raised if there is none."""
        url = base + path
        for _ in range(_MAX_REDIRECTS + 1):
            async with self.request("GET", url, list((headers or {}).items())) as response:
                if response.status not in _REDIRECTS or "location" not in response.headers:
                    encoding = response.headers.get("content-encoding", "identity").lower()
                    if encoding != "identity" and response.status in (200, 206):
                        raise UpstreamError(f"{host_of(url)} sent the body as {encoding}, unasked")
                    yield response
                    return
                following = urljoin(url, response.headers["location"])
            self._check_redirect(url, following)
            url = following
        raise UpstreamError(f"{host_of(base)} redirects more than {_MAX_REDIRECTS} times")

    def _check_redirect(self, url: str, following: str) -> None:
        """Not everything is verified, so a redirect mustn't lead to less safety, nor into the
        network around us."""
        try:
            old, new = urlsplit(url), urlsplit(following)
            host = new.hostname or ""
        except ValueError:
            raise UpstreamError(
                f"{host_of(url)} redirects to an address that can't be used"
            ) from None
        if new.scheme not in ("http", "https") or (old.scheme == "https" != new.scheme):
            raise UpstreamError(f"{host_of(url)} redirects to {host}, not by https")
        known = {urlsplit(base).netloc for bases in self._bases.values() for base in bases}
        if new.netloc not in known and not re.fullmatch(r"(?:[\w-]+\.)+[A-Za-z]\w+", host):
            raise UpstreamError(f"{host_of(url)} redirects to {host}, which is no public name")

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> AsyncIterator[Response]:
        """One request, redirects not followed. Raises UpstreamError."""
        self.gate.check(host_of(url))
        self._session = self._session or self._make_session()
        with _explained(url):
            async with asyncio.timeout(self._settings.timeout):
                raw = await self._session.request(
                    method,
                    # encoded=True: what the client's path says is what upstream is asked.
                    URL(url, encoded=True),
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    ssl=self._ssl,
                    proxy=self._proxy_for(url),
                )
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
            )
        finally:
            # Does nothing to a body that was read to its end; the rest is not worth reading.
            raw.close()

    def _make_session(self) -> aiohttp.ClientSession:
        nameservers = list(self._settings.nameservers)
        # The system's resolver by default: it notices a change of network, c-ares doesn't.
        resolver = (
            aiohttp.AsyncResolver(nameservers=nameservers)
            if nameservers
            else aiohttp.ThreadedResolver()
        )
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, limit=64),
            # Slow is not dead: the first byte and the next byte have their own limits.
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=min(_CONNECT_TIMEOUT, self._settings.timeout)
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


def host_of(url: str) -> str:
    """HOST[:PORT] of a URL, for messages: a password in it stays out of them."""
    return urlsplit(url).netloc.rpartition("@")[2]


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn whatever the client library raises into an UpstreamError. The order goes from the
    special to the general: aiohttp's errors inherit from each other."""
    host = host_of(url)
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or "it isn't trusted"
        raise UpstreamError(f"{host}: its TLS certificate was refused: {reason}") from None
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise UpstreamError(f"{host}: TLS failed: {_brief(error)}") from None
    except aiohttp.ClientConnectorDNSError:
        raise UpstreamError(f"{host}: the name can't be resolved") from None
    except aiohttp.ClientProxyConnectionError as error:
        reason = _reason(error.os_error)
        raise UpstreamError(f"{host}: no connection to the proxy on the way: {reason}") from None
    except aiohttp.ClientHttpProxyError as error:
        # Its text has the proxy's URL, password and all.
        raise UpstreamError(f"{host}: the proxy on the way answered {error.status}") from None
    except aiohttp.ClientConnectorError as error:
        raise UpstreamError(f"{host}: no connection: {_reason(error.os_error)}") from None
    except TimeoutError:
        raise UpstreamError(f"{host}: no answer in time") from None
    except aiohttp.ClientPayloadError:
        raise UpstreamError(f"{host}: the connection broke off in the middle") from None
    except aiohttp.ServerDisconnectedError:
        raise UpstreamError(f"{host}: the connection was closed without an answer") from None
    except (aiohttp.InvalidURL, UnicodeError):
        raise UpstreamError(f"{host}: the address can't be used") from None
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
        raise UpstreamError(f"{host}: {_brief(error)}") from None
    except RuntimeError:
        # aiohttp's word for a session that was closed.
        raise UpstreamError(f"{host}: Hexcache is shutting down") from None


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else _brief(error)


def _brief(error: BaseException | None) -> str:
    """The first line of an error's text, which may quote what upstream sent."""
    text = next(iter(str(error).splitlines()), "")[:200]
    return text if text and text.isprintable() else type(error).__name__
