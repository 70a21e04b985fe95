"""Cache-Status (RFC 9211): what was done for a client, in one header.

Section 2 would have a cache say nothing on errors of its own. It does here: a 504 of Hexcache has
to be told from one of upstream, and where there is no page this header is all that tells why.
"""

from __future__ import annotations

from dataclasses import dataclass

NAME = "Cache-Status"


@dataclass(frozen=True, kw_only=True)
class CacheStatus:
    """`hit`: nobody was asked. `forwarded` says why upstream was (§2.2: "bypass", "method",
    "uri-miss", "miss", "request" or "stale"), `status` what it answered, None if it didn't. `ttl`
    is in seconds, negative for what is stale; None for what doesn't age. Neither `hit` nor
    `forwarded`: nothing is stored, and nobody was asked."""

    hit: bool = False
    forwarded: str = ""
    status: int | None = None
    stored: bool = False
    collapsed: bool = False
    ttl: int | None = None
    detail: str = ""

    @property
    def header(self) -> tuple[str, str]:
        """Name and value, a List of one member (RFC 9651 §3.1)."""
        parts = ["hexcache"]
        if self.hit:
            parts.append("hit")
        elif self.forwarded:
            parts.append(f"fwd={self.forwarded}")
            if self.status is not None:
                parts.append(f"fwd-status={self.status}")
            if self.stored:
                parts.append("stored")
            if self.collapsed:
                parts.append("collapsed")
        if self.ttl is not None:
            parts.append(f"ttl={self.ttl}")
        if self.detail:
            parts.append(f"detail={quoted(self.detail)}")
        return NAME, "; ".join(parts)


def quoted(text: str) -> str:
    """A String of RFC 9651 §3.3.3 that Hex doesn't stumble over either: printable ASCII without
    anything that would need an escape."""
    clean = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in text)
    return f'"{clean}"'
