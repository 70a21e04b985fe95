"""Work that changes the store at a user's command: in the process that has the store open.

A job gets its arguments as decoded JSON and tells how it goes on in events, dicts that become JSON
lines: `hexcache` runs it in the server, through the control socket, or by itself where none runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the engine takes a moment to import: commands that only read don't need it
    from hexcache.assembly import Core

type Event = Mapping[str, Any]
type Report = Callable[[Event], None]


@dataclass(frozen=True)
class Order:
    """`arguments` as they came, so each job looks at them itself; `upload` is a file that belongs
    to them."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    upload: Path | None = None


# Raises HexcacheError: the message is the user's. Its end is the job's end; cancelling it is fine.
type Job = Callable[[Core, Order, Report], Awaitable[None]]
