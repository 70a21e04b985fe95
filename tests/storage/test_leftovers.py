"""What lies beside the entries goes when it is old, and not before."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hexcache.storage import leftovers as module
from hexcache.storage.leftovers import Sort, leftovers, put_aside
from support.entries import body_of, entry_of

DAY = 86400.0


def names(directory: Path, **how: float | bool) -> set[str]:
    found = leftovers(directory, now=time.time(), **how)  # type: ignore[arg-type]
    return {str(each.path.relative_to(directory)) for each in found}


def make(path: Path, *, days: float = 0, content: bytes = b"x") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    at = time.time() - days * DAY
    os.utime(path, (at, at))


def test_an_empty_directory(tmp_path: Path) -> None:
    assert leftovers(tmp_path, now=time.time()) == []
    assert leftovers(tmp_path / "none", now=time.time()) == []


def test_parts_of_downloads(tmp_path: Path) -> None:
    for name, days in {
        "young.part": 6,
        "young.json": 6,
        "old.part": 8,
        "old.json": 8,
        "just-finished.done": 0,
        "forgotten.done": 1,
    }.items():
        make(tmp_path / "partial" / name, days=days)
    old = {"partial/old.part", "partial/old.json"}
    # A server may be about to move a finished one into its place.
    assert names(tmp_path) == old | {"partial/forgotten.done"}
    alone = old | {"partial/forgotten.done", "partial/just-finished.done"}
    assert names(tmp_path, alone=True) == alone
    assert names(tmp_path, keep=0.0) == names(tmp_path), "they are what a transfer goes on with"


def test_the_quarantine_and_databases(tmp_path: Path) -> None:
    make(tmp_path / "quarantine" / "young.body", days=6)
    make(tmp_path / "quarantine" / "old.body", days=8)
    make(tmp_path / "entries.damaged-1" / "cache.db", days=8, content=b"12345")
    assert names(tmp_path) == {"quarantine/old.body"}, "it was put aside just now"
    assert names(tmp_path, keep=0.0) == {
        "quarantine/young.body",
        "quarantine/old.body",
        "entries.damaged-1",
    }
    later = leftovers(tmp_path, now=time.time() + 8 * DAY)
    assert {each.sort: each.size for each in later if each.sort is Sort.DATABASE} == {
        Sort.DATABASE: 5
    }
    for each in later:
        each.remove()
    assert not list((tmp_path / "quarantine").iterdir())
    assert not (tmp_path / "entries.damaged-1").exists()
    for each in later:
        each.remove()  # harmless


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    make(elsewhere / "file")
    store = tmp_path / "store"
    store.mkdir()
    (store / "entries.damaged-1").symlink_to(elsewhere)
    (store / "quarantine").mkdir()
    (store / "quarantine" / "x.body").symlink_to(elsewhere / "file")
    for each in leftovers(store, now=time.time() + 8 * DAY, keep=0.0):
        each.remove()
    assert (elsewhere / "file").exists()
    assert not (store / "quarantine" / "x.body").is_symlink()


def test_the_quarantine_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that damages everything mustn't be filled a second time."""
    monkeypatch.setattr(module, "_QUARANTINE_BYTES", 30_000)
    for n in range(5):
        body = body_of(str(n), 10_000)
        put_aside(tmp_path, entry_of(f"repo/{n}", body), body, "damaged", now=1.0)
    quarantine = tmp_path / "quarantine"
    # The descriptions count too.
    assert len(list(quarantine.glob("*.body"))) == 2
    keys = {json.loads(path.read_text())["key"] for path in quarantine.glob("*.json")}
    assert keys == {f"repo/{n}" for n in range(5)}, "what was there is known all the same"
