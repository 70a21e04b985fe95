"""Questions as a client asks them: through a proxy, of a mirror, with the roots that it trusts."""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from cryptography import x509

from hexcache.errors import HexcacheError
from hexcache.printing import printable
from hexcache.resources import REPO_HOST

# Of all files of Hex the one that is small, seldom changes, and is always there.
PATH = "/public_key"
_SECONDS = 5.0
_MAX_BODY = 64 * 2**10


class ProbeError(HexcacheError):
    """No answer. `untrusted`: because the certificate doesn't lead to a root that is trusted."""

    def __init__(self, message: str, *, untrusted: bool = False) -> None:
        super().__init__(message)
        self.untrusted = untrusted


@dataclass(frozen=True)
class Answer:
    """`issuer` is the common name of who issued the certificate, "" without TLS or if it has
    none."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    issuer: str = ""

    @property
    def is_hexcache(self) -> bool:
        return self.headers.get("cache-status", "").startswith("hexcache")

    @property
    def forwarded(self) -> bool:
        """Whether upstream was asked, and answered."""
        return "fwd-status=" in self.headers.get("cache-status", "") or self.status in (404, 410)

    @property
    def detail(self) -> str:
        """What Hexcache says of why it answers like this."""
        found = re.search(r'detail=(?:"([^"]*)"|(\w+))', self.headers.get("cache-status", ""))
        return (found[1] or found[2]) if found else ""


def split(url: str) -> SplitResult | None:
    """A proxy's or mirror's URL as clients read them, with or without a scheme; None for what
    names no host."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        return parts if parts.hostname and (parts.port or 0) >= 0 else None
    except ValueError:
        return None


def shown(place: SplitResult) -> str:
    """A URL without its password, path and all that."""
    return printable(f"{place.scheme}://{place.netloc.rpartition('@')[2]}")


def through(
    proxy: SplitResult, trusted: ssl.SSLContext | None, headers: Mapping[str, str], seconds: float
) -> Answer:
    """GET PATH of Hex's repository through a proxy, whoever answers. `trusted` None: whatever the
    certificate. Raises ProbeError."""
    context = trusted
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with _explained(proxy, seconds):
        connection = http.client.HTTPSConnection(
            proxy.hostname or "", proxy.port or 80, timeout=seconds, context=context
        )
        connection.set_tunnel(REPO_HOST, 443, _credentials(proxy))
        try:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            issuer = _issuer(connection.sock.getpeercert(binary_form=True))
            return _get(connection, PATH, headers, issuer)
        finally:
            connection.close()


def ask(
    base: SplitResult,
    path: str,
    headers: Mapping[str, str] | None = None,
    seconds: float = _SECONDS,
) -> Answer:
    """GET a path below a URL, without a proxy. Raises ProbeError."""
    with _explained(base, seconds):
        kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
        connection = kind(base.hostname or "", base.port, timeout=seconds)
        try:
            return _get(connection, base.path.rstrip("/") + path, headers or {})
        finally:
            connection.close()


def roots(file: Path | None) -> ssl.SSLContext:
    """What trusts the certificates in a PEM file, or those of the system. Raises OSError; an
    ssl.SSLError is one."""
    # Not create_default_context: it is stricter than the clients.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if file is None:
        context.set_default_verify_paths()
        return context
    # OpenSSL's own error for a missing file has no text.
    with file.open("rb"):
        context.load_verify_locations(file)
    return context


def _get(
    connection: http.client.HTTPConnection,
    path: str,
    headers: Mapping[str, str],
    issuer: str = "",
) -> Answer:
    connection.request("GET", path, headers=dict(headers))
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, response.read(_MAX_BODY), issuer)


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _issuer(der: bytes | None) -> str:
    try:
        names = x509.load_der_x509_certificate(der or b"").issuer
        common = names.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return printable(str(common[0].value)) if common else ""
    except ValueError:
        return ""


@contextmanager
def _explained(place: SplitResult, seconds: float) -> Iterator[None]:
    where = printable(place.netloc.rpartition("@")[2])
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        why = printable(error.verify_message or "certificate not trusted")
        raise ProbeError(f"{where}: {why}", untrusted=True) from None
    except ssl.SSLError as error:
        why = printable((error.reason or "no TLS").replace("_", " ").lower())
        raise ProbeError(f"{where}: {why}") from None
    except TimeoutError:
        raise ProbeError(f"{where}: no answer within {seconds:g} s") from None
    except socket.gaierror:
        raise ProbeError(f"{where}: there is no such host") from None
    except OSError as error:
        # http.client tells with a bare OSError that a proxy refuses a tunnel.
        why = os.strerror(error.errno) if error.errno else printable(error)
        raise ProbeError(f"{where}: {why}") from None
    except (http.client.HTTPException, ValueError) as error:
        name = type(error).__name__
        raise ProbeError(f"{where}: what answers there doesn't speak HTTP ({name})") from None
