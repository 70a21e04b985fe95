"""Pins survive restarts, crashes and damage, or are as if they had never been."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from hexcache.storage.pins import Pin, Pins


def test_they_survive_a_restart(tmp_path: Path) -> None:
    pins = Pins.load(tmp_path)
    assert pins.keys == frozenset()
    pins.pin("mix.lock", ["repo/a", "repo/b"], at=5.0)
    pins.pin("other.lock", ["repo/b", "repo/c"], at=6.0)
    again = Pins.load(tmp_path)
    assert again.groups == {
        "mix.lock": Pin(frozenset({"repo/a", "repo/b"}), 5.0),
        "other.lock": Pin(frozenset({"repo/b", "repo/c"}), 6.0),
    }
    assert again.keys == {"repo/a", "repo/b", "repo/c"}
    assert stat.S_IMODE((tmp_path / "pins.json").stat().st_mode) == 0o600


def test_a_lock_file_that_changed_names_others(tmp_path: Path) -> None:
    pins = Pins.load(tmp_path)
    pins.pin("mix.lock", ["repo/a"], at=5.0)
    pins.pin("mix.lock", ["repo/b"], at=6.0)
    assert pins.keys == Pins.load(tmp_path).keys == {"repo/b"}


def test_groups_and_keys_are_forgotten(tmp_path: Path) -> None:
    pins = Pins.load(tmp_path)
    pins.pin("one", ["repo/a", "repo/b"], at=5.0)
    pins.pin("two", ["repo/a"], at=5.0)
    pins.pin("three", ["repo/c"], at=5.0)
    pins.forget(["repo/a", "repo/unknown"])
    # Who names nothing any more is no group.
    assert set(pins.groups) == set(Pins.load(tmp_path).groups) == {"one", "three"}
    assert pins.keys == {"repo/b", "repo/c"}
    pins.unpin(["three", "unknown"])
    assert pins.keys == Pins.load(tmp_path).keys == {"repo/b"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"groups": []}',
        b'{"groups": {"a": {"keys": 5, "at": 1}}}',
        b'{"groups": {"a": {"keys": ["x"]}}}',
        b'{"groups": {"a": {"keys": ["x"], "at": "yesterday"}}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "pins.json").write_bytes(content)
    pins = Pins.load(tmp_path)
    assert pins.keys == frozenset()
    assert f"{tmp_path}/pins.json can't be read, nothing is pinned" in caplog.text
    pins.pin("mix.lock", ["repo/a"], at=5.0)
    assert Pins.load(tmp_path).keys == {"repo/a"}


def test_a_file_that_can_not_be_written_is_as_it_was(tmp_path: Path) -> None:
    pins = Pins.load(tmp_path)
    pins.pin("mix.lock", ["repo/a"], at=5.0)
    # Whole or not at all: it is written beside, and moved over.
    (tmp_path / ".pins.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        pins.pin("mix.lock", ["repo/b"], at=6.0)
    assert Pins.load(tmp_path).keys == {"repo/a"}
    (tmp_path / ".pins.json.new").rmdir()
    # Whoever was killed while writing has left a half of it.
    (tmp_path / ".pins.json.new").write_bytes(b'{"groups": {"mix.l')
    assert Pins.load(tmp_path).keys == {"repo/a"}
    pins.pin("mix.lock", ["repo/c"], at=7.0)
    assert Pins.load(tmp_path).keys == {"repo/c"}
    assert [path.name for path in tmp_path.iterdir()] == ["pins.json"]


def test_what_was_not_written_is_not_believed(tmp_path: Path) -> None:
    """In memory it is as on the disk."""
    pins = Pins.load(tmp_path)
    (tmp_path / ".pins.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        pins.pin("mix.lock", ["repo/a"], at=5.0)
    assert pins.keys == Pins.load(tmp_path).keys == frozenset()


def test_nothing_is_written_for_nothing(tmp_path: Path) -> None:
    pins = Pins.load(tmp_path)
    pins.unpin(["unknown"])
    pins.forget(["repo/a"])
    assert list(tmp_path.iterdir()) == []


def test_a_label_is_any_text(tmp_path: Path) -> None:
    label = 'by name: "plug ~> 1.14"\n\x1b ä'
    Pins.load(tmp_path).pin(label, ["repo/a"], at=1.0)
    assert set(Pins.load(tmp_path).groups) == {label}
    json.loads((tmp_path / "pins.json").read_bytes())
