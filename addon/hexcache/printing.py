"""Text of others, made fit for a terminal and for a log."""

from __future__ import annotations


def printable(text: object) -> str:
    """On one line, without control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
