"""What a client is told that gets nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hexcache.engine.cachestatus import CacheStatus
from hexcache.messages import Content, Outcome, Reply, Request


def failure(
    request: Request,
    status: int,
    reason: str,
    *,
    subject: str = "",
    outcome: Outcome = Outcome.ERROR,
    done: CacheStatus | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Reply:
    """An error in a line of text, which a log and Cache-Status have too; `subject` names what it is
    about, `done` is what was done for the client. Never to be stored."""
    line = f"hexcache: {f'{subject}: ' if subject else ''}{reason}\n"
    text = line.encode(errors="backslashreplace")
    is_head = request.method == "HEAD"
    return Reply(
        status=status,
        headers=(
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-store"),
            replace(done or CacheStatus(), detail=reason).header,
            *headers,
        ),
        body=Content(b"" if is_head else text),
        outcome=outcome,
        subject=subject or request.target,
        detail=reason,
        length=len(text) if is_head else None,
    )
