"""Text of others, made fit for a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """On one line, without control characters: what a registry or an archive says."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
