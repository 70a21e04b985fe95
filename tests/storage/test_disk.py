"""The storage format: nothing that is read runs code or leads out of the directory."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import diskcache
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hexcache.storage.disk import Adopted, SafeDisk

SMALL = b"small"
LARGE = bytes(range(256)) * 400
# diskcache's modes: raw, binary (a file), text, pickle.
RAW, BINARY, TEXT, PICKLE = 1, 2, 3, 4


class Bomb:
    """Unpickling it makes a directory."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._trace),)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "entries"


@pytest.fixture
def cache(directory: Path) -> Iterator[diskcache.Cache]:
    with diskcache.Cache(str(directory), disk=SafeDisk, eviction_policy="none") as cache:
        yield cache


def plant(directory: Path, **changes: Any) -> None:
    """Put a row into the database, as whoever can write the directory could."""
    row = {"key": "planted", "raw": 1, "size": 0, "mode": RAW, "filename": None, "value": None}
    row |= {"store_time": 0.0, "access_time": 0.0} | changes
    with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO Cache ({columns}) VALUES ({marks})", tuple(row.values()))


def value_files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.val"))


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """A test that would hang fails instead."""

    def ring(*_: object) -> None:
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("value", [SMALL, LARGE, b""])
def test_bytes_come_back(cache: diskcache.Cache, directory: Path, value: bytes) -> None:
    cache.set("key", value)
    assert cache.get("key") == value
    assert len(value_files(directory)) == (value is LARGE)
    assert list(cache) == ["key"]


def test_a_large_value_can_be_read_as_a_file(cache: diskcache.Cache) -> None:
    cache.set("key", LARGE)
    file: BinaryIO = cache.get("key", read=True)
    with file:
        assert file.read() == LARGE


@pytest.mark.parametrize("value", [SMALL, LARGE, b""])
def test_a_file_is_moved_in(
    cache: diskcache.Cache, directory: Path, tmp_path: Path, value: bytes
) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(value)
    inode = part.stat().st_ino
    cache.set("key", Adopted(part))
    assert not part.exists()
    assert cache.get("key") == value
    if value is LARGE:
        (file,) = value_files(directory)
        assert file.stat().st_ino == inode
        assert cache.volume() > len(LARGE)


def test_a_file_to_move_in_has_to_be_there(cache: diskcache.Cache, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cache.set("key", Adopted(tmp_path / "nothing"))
    assert cache.get("key") is None


def test_values_go_with_their_rows(cache: diskcache.Cache, directory: Path) -> None:
    cache.set("key", LARGE)
    cache.set("key", LARGE[::-1])
    assert len(value_files(directory)) == 1
    cache.delete("key")
    assert value_files(directory) == []


@pytest.mark.parametrize("value", ["text", 1, None, [b"x"], bytearray(b"x"), Path("a")])
def test_only_bytes_and_files_are_stored(cache: diskcache.Cache, value: object) -> None:
    with pytest.raises(TypeError, match="values are bytes"):
        cache.set("key", value)


def test_no_stream_is_stored(cache: diskcache.Cache, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(SMALL)
    with (tmp_path / "a").open("rb") as file, pytest.raises(TypeError):
        cache.set("key", file, read=True)


@pytest.mark.parametrize("key", [b"bytes", 1, 1.5, None, ("a", 1)])
def test_only_text_is_a_key(cache: diskcache.Cache, key: object) -> None:
    with pytest.raises(TypeError, match="keys are str"):
        cache.set(key, SMALL)
    with pytest.raises(TypeError, match="keys are str"):
        cache.get(key)


def test_a_pickle_as_a_value_does_not_run(
    cache: diskcache.Cache, directory: Path, tmp_path: Path
) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    plant(directory, mode=PICKLE, value=bomb)
    plant(directory, key="file", mode=PICKLE, filename="00/00/" + "0" * 28 + ".val")
    (directory / "00/00").mkdir(parents=True)
    (directory / "00/00" / ("0" * 28 + ".val")).write_bytes(bomb)
    for read in (False, True):
        assert cache.get("planted", read=read) is None
        assert cache.get("file", read=read) is None
    assert not (tmp_path / "ran").exists()


def test_a_pickle_as_a_key_does_not_run(
    cache: diskcache.Cache, directory: Path, tmp_path: Path
) -> None:
    cache.set("good", SMALL)
    plant(directory, key=pickle.dumps(Bomb(tmp_path / "ran")), raw=0, value=SMALL)
    assert "good" in list(cache)
    assert all(isinstance(key, str) for key in cache)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("mode", [None, 0, TEXT, PICKLE, 5, "1", "raw"])
def test_no_other_mode_is_read(cache: diskcache.Cache, directory: Path, mode: object) -> None:
    cache.set("good", LARGE)
    (file,) = value_files(directory)
    plant(directory, mode=mode, value=SMALL)
    plant(directory, key="file", mode=mode, filename=str(file.relative_to(directory)))
    expected = SMALL if mode == "1" else None  # SQLite makes a number of it
    assert cache.get("planted") == expected
    assert cache.get("file") is None


@pytest.mark.parametrize("value", ["text", 1, 1.5, None])
def test_no_other_value_is_read(cache: diskcache.Cache, directory: Path, value: object) -> None:
    plant(directory, value=value)
    assert cache.get("planted") is None


OUTSIDE = "00/11/" + "2" * 28 + ".val"


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "../../etc/passwd",
        "/etc/passwd",
        "cache.db",
        "",
        ".",
        "00/11/../../../secret",
        "/" + OUTSIDE,
        "./" + OUTSIDE,
        OUTSIDE + "\n",
        OUTSIDE + "\0",
        OUTSIDE.replace("2", "٢"),
        OUTSIDE.upper(),
        OUTSIDE.encode(),
        None,
    ],
)
def test_planted_file_names_are_not_opened(
    cache: diskcache.Cache, directory: Path, tmp_path: Path, name: object
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (directory / "00/11").mkdir(parents=True)
    (directory / OUTSIDE).write_bytes(b"secret")
    plant(directory, mode=BINARY, filename=name)
    assert cache.get("planted") is None
    assert cache.get("planted", read=True) is None


def test_a_symbolic_link_is_not_followed(
    cache: diskcache.Cache, directory: Path, tmp_path: Path
) -> None:
    cache.set("key", LARGE)
    (file,) = value_files(directory)
    (tmp_path / "secret").write_bytes(LARGE)
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    assert cache.get("key") is None
    assert cache.get("key", read=True) is None


def test_a_value_file_that_is_gone(cache: diskcache.Cache, directory: Path) -> None:
    cache.set("key", LARGE)
    value_files(directory)[0].unlink()
    assert cache.get("key") is None


def test_a_directory_in_a_value_file_s_place(cache: diskcache.Cache, directory: Path) -> None:
    cache.set("key", LARGE)
    (file,) = value_files(directory)
    file.unlink()
    file.mkdir()
    open_before = len(os.listdir("/dev/fd"))
    assert cache.get("key") is None
    assert cache.get("key", read=True) is None
    assert len(os.listdir("/dev/fd")) == open_before


def test_a_pipe_in_a_value_file_s_place_blocks_nobody(
    cache: diskcache.Cache, directory: Path
) -> None:
    cache.set("key", LARGE)
    (file,) = value_files(directory)
    file.unlink()
    os.mkfifo(file)
    with no_longer_than(2):
        assert cache.get("key", read=True) is None


@pytest.mark.parametrize("name", ["../secret", "/{}/secret", "../entries2/" + OUTSIDE])
def test_nothing_outside_is_deleted(
    cache: diskcache.Cache, directory: Path, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    other = tmp_path / "entries2" / OUTSIDE
    other.parent.mkdir(parents=True)
    other.write_bytes(b"secret")
    plant(directory, mode=BINARY, filename=name.format(tmp_path))
    plant(directory, key="again", mode=BINARY, filename=name.format(tmp_path))
    cache.delete("planted")
    cache.set("again", SMALL)
    assert secret.exists()
    assert other.exists()


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    mode=st.integers(0, 5),
    filename=st.none() | st.text(max_size=40) | st.just(OUTSIDE),
    value=st.none() | st.binary(max_size=20) | st.text(max_size=20) | st.integers(0, 9),
)
def test_any_row_is_bytes_or_nothing(tmp_path: Path, mode: int, filename: Any, value: Any) -> None:
    disk = SafeDisk(str(tmp_path))
    try:
        got = disk.fetch(mode, filename, value, False)
    except OSError:
        return
    assert mode == RAW
    assert filename is None
    assert got == value
    assert type(got) is bytes
