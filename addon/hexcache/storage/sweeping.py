"""What goes first when there is too much in a store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from hexcache.storage.entries import Entry

# What an entry takes beside its body.
_BESIDE = 1024


@dataclass(frozen=True)
class Swept:
    """What `Store.sweep` has deleted, or would. `useless` counts rows that nobody can read, `bytes`
    is what all of it took, as far as bodies go."""

    unwanted: tuple[Entry, ...] = ()
    useless: int = 0
    evicted: tuple[Entry, ...] = ()
    bytes: int = 0


def expendable(
    entries: Iterable[Entry],
    *,
    excess: float,
    pinned: Collection[str],
    used: Mapping[str, float],
) -> list[Entry]:
    """Those that have to go so that `excess` bytes are free: tarballs and the like by last use
    (`used`, by key, is newer than what the entries say), then registry entries, then what is
    pinned."""
    order = sorted(
        entries, key=lambda e: (e.key in pinned, e.kind.is_registry, used.get(e.key, e.used_at))
    )
    chosen = []
    for entry in order:
        if excess <= 0:
            break
        chosen.append(entry)
        excess -= entry.size + _BESIDE
    return chosen
