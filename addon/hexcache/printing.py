"""Text of others, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """On one line, without control characters."""
    return text if text.isprintable() else ascii(text)[1:-1]
