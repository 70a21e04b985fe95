"""Hexcache: a caching forward proxy for Hex, as a mitmproxy addon."""

__version__ = "0.1.0"
