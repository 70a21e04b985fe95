"""A store that tests open, close and open again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hexcache.storage.store import Store
from support.clock import Clock
from support.stores import LIMIT, Open, close


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def stores(directory: Path, clock: Clock) -> AsyncIterator[Open]:
    """Opens the store; a second time, it closes and opens it again."""
    opened: list[Store] = []

    def open_store(**changes: Any) -> Store:
        arguments: dict[str, Any] = {"limit": LIMIT, "clock": clock}
        store = Store.open(directory, **arguments | changes)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await close(store)
