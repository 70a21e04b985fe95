"""An authority, and a clock of dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from hexcache.authority import Authority
from support.clock import Calendar


@pytest.fixture
def clock() -> Calendar:
    return Calendar()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "ca")
