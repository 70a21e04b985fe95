"""How single settings are written: durations, sizes, addresses, URLs and lists.

What can't be read is a ValueError that says what is wanted.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, InstanceOf
from pydantic_settings import NoDecode

from hexcache.errors import RequirementError
from hexcache.versions.wishes import Wish, parse_wish

_DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
_LONGEST = 100 * 365 * 86400.0
_LARGEST = 2**62
_SIZE_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Address(NamedTuple):
    """Where to listen. Port 0 lets the system choose (for tests)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def reachable(self) -> str:
        """HOST:PORT to connect to from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return str(Address(host, self.port))


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def parse_duration(value: object) -> float:
    """Seconds of "500ms", "5s", "10m", "24h", "7d" or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", str(value).strip())
    if isinstance(value, bool) or match is None:
        raise ValueError("a duration such as 500ms, 5s, 10m, 24h or 7d is wanted")
    seconds = float(match[1]) * _DURATION_UNITS[match[2]]
    if seconds > _LONGEST:
        raise ValueError("a duration of less than 100 years is wanted")
    return seconds


def parse_size(value: object) -> int:
    """Bytes of "500MB" (powers of 1000), "10GiB" (powers of 1024) or a bare number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", str(value).strip().lower())
    if isinstance(value, bool) or match is None:
        raise ValueError("a size such as 500MB or 10GiB is wanted")
    size = float(match[1]) * (1024 if match[3] else 1000) ** _SIZE_UNITS[match[2]]
    if size > _LARGEST:
        raise ValueError("a size such as 500MB or 10GiB is wanted, one that fits on a disk")
    return int(size)


def _positive_duration(value: object) -> float:
    if not (seconds := parse_duration(value)):
        raise ValueError("a duration above 0 is wanted")
    return seconds


def _limit(value: object) -> float | None:
    return None if value is None or value == "unlimited" else parse_duration(value)


def parse_address(value: object) -> Address:
    """HOST:PORT, an IPv6 host in brackets, "localhost" or an IP address."""
    if isinstance(value, Address):
        return value
    wanted = "an address as HOST:PORT is wanted, for instance 127.0.0.1:8080"
    try:
        parts = urlsplit(f"//{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if not host or port is None or not _is_bare(parts) or not re.fullmatch(r"[\w.:%-]+", host):
        raise ValueError(wanted)
    return Address(host, port)


def _is_bare(parts: SplitResult) -> bool:
    return not (parts.username or parts.path or parts.query or parts.fragment)


def _optional_address(value: object) -> Address | None:
    # YAML 1.1 reads a bare off as false.
    return None if value in (None, False, "off") else parse_address(value)


def optional(value: object) -> object:
    """For a setting that may be null: in the environment null is a word."""
    return None if value in ("", "null") else value


def _url(value: object) -> str:
    try:
        parts = urlsplit(str(value))
        usable = (
            str(value).isascii()
            and str(value).isprintable()
            and " " not in str(value)
            and parts.scheme in ("http", "https")
            and parts.hostname
            and parts.port != 0
        )
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ValueError("a URL such as https://repo.hex.pm is wanted")
    return str(value).rstrip("/")


def proxy_url(value: object) -> str | None:
    """A URL that may hold a password, or nothing."""
    if value in (None, "", "null"):
        return None
    try:
        return _url(value)
    except ValueError:
        # The value may hold a password: it must not stand in the message.
        raise ValueError("http://[user:password@]host:port is wanted") from None


def _ip(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise ValueError("an IP address is wanted") from None


def _wish(value: object) -> Wish:
    if isinstance(value, Wish):
        return value
    if not isinstance(value, str):
        raise ValueError("a package is wanted, for instance phoenix or 'plug ~> 1.14'")
    try:
        return parse_wish(value)
    except RequirementError as error:
        raise ValueError(str(error)) from None


def _glob(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path is wanted, which may hold * and **, for instance ../*/mix.lock")
    return value


def _between_commas(value: object) -> object:
    # From the environment; the items may hold spaces.
    if not isinstance(value, str):
        return value
    return [item for each in value.split(",") if (item := each.strip())]


def _name(value: object) -> str:
    name = str(value).lower().removesuffix(".")
    if not re.fullmatch(
        r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", name
    ):
        raise ValueError("a host's name without a port is wanted, such as hexcache.example.com")
    return name


def _listed(value: object) -> object:
    # From the environment a list comes as "a,b" or "a b".
    return re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_positive_duration)]
Limit = Annotated[float | None, BeforeValidator(_limit)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=2**20)]
Url = Annotated[str, BeforeValidator(_url)]
Name = Annotated[str, BeforeValidator(_name)]
Ip = Annotated[str, BeforeValidator(_ip)]
ListenAddress = Annotated[Address, NoDecode, BeforeValidator(parse_address)]
OptionalAddress = Annotated[Address | None, NoDecode, BeforeValidator(_optional_address)]
Urls = Annotated[tuple[Url, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)]
Ips = Annotated[tuple[Ip, ...], NoDecode, BeforeValidator(_listed)]
Names = Annotated[tuple[Name, ...], NoDecode, BeforeValidator(_listed)]
Wishes = Annotated[
    tuple[Annotated[InstanceOf[Wish], BeforeValidator(_wish)], ...],
    NoDecode,
    BeforeValidator(_between_commas),
]
Globs = Annotated[
    tuple[Annotated[str, BeforeValidator(_glob)], ...], NoDecode, BeforeValidator(_between_commas)
]
