"""By which names a browser may call us.

A page somewhere whose name was made to point here could read what ours says (DNS rebinding). So
only names count that nobody can own in public DNS, IP addresses, and those that are configured.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

# Top-level names that public DNS never delegates: RFC 6761, RFC 6762, RFC 8375, ICANN's .internal,
# and what Docker, Kubernetes and routers at home use.
_PRIVATE = ("localhost", "local", "internal", "test", "home.arpa", "lan", "svc", "cluster.local")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def host_of(header: str) -> str | None:
    """The host in a Host header, in lower case and without brackets; None where there is none."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/]+)(?::([0-9]{1,5}))?", header.strip())
    if match is None:
        return None
    if match[2] and int(match[2]) > 65535:
        return None
    host = match[1].lower().strip("[]").removesuffix(".")
    return host if _is_address(host) or _NAME.fullmatch(host) else None


def is_ours(host: str, names: Iterable[str] = ()) -> bool:
    """Whether `host` can't be somebody else's name for this machine. `names` are configured."""
    if host in names or _is_address(host):
        return True
    # A name without a dot is in nobody's DNS but our own.
    return "." not in host or any(host.endswith(f".{private}") for private in _PRIVATE)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
