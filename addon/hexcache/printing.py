"""Text of others, made fit for a terminal."""

from __future__ import annotations

from rich.filesize import decimal


def printable(text: object) -> str:
    """On one line, without control characters: what a registry or an archive says."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def size(count: int) -> str:
    """Bytes, in powers of 1000: 1.2 kB."""
    return decimal(count)


def counted(count: int, thing: str) -> str:
    """1 release, 2 releases."""
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{count} {thing if count == 1 else plural}"


def shortened(text: str, longest: int) -> str:
    """At most `longest` characters and a sign that there were more."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def quoted(text: str, longest: int = 60) -> str:
    """A piece of a file or of a command line, for a message: short, in quotes, ASCII."""
    return ascii(text) if len(text) <= longest else f"{text[:longest]!a}…"
