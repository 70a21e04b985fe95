"""A place where no setting is made, and files that make some."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hexcache.errors import SettingsError
from hexcache.settings import load
from support.settings import Write


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no proxy.yaml of whoever runs the tests."""
    monkeypatch.delenv("PACKAGES", raising=False)
    for name in list(os.environ):
        if name.upper().startswith("HEXCACHE_"):
            monkeypatch.delenv(name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "proxy.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def refused(write: Write) -> Callable[[str], SettingsError]:
    """The error of a file's text: one line that names the file."""

    def refused(text: str) -> SettingsError:
        path = write(text)
        with pytest.raises(SettingsError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{path}")
        assert caught.value.where == str(path)
        return caught.value

    return refused
