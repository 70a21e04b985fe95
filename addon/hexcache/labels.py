"""What a URL is called in messages, statistics and pages: a password in it stays out of them."""

from __future__ import annotations

from urllib.parse import urlsplit


def host_of(url: str) -> str:
    """HOST[:PORT] of a URL, for messages: a password in it stays out of them."""
    return urlsplit(url).netloc.rpartition("@")[2]


def label_of(base: str) -> str:
    """What a base URL is called in statistics and metrics: HOST[:PORT][/PATH]."""
    return host_of(base) + urlsplit(base).path.rstrip("/")
