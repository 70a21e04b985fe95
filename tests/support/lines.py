"""What a user is told."""

from __future__ import annotations

from hexcache.errors import HexcacheError


def is_one_line(error: HexcacheError) -> None:
    """An error's message is fit for a terminal."""
    message = str(error)
    assert message, "it says something"
    assert message.isprintable(), message
