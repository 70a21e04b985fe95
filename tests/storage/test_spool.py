"""Where a body is collected: whole, limited, found again after a restart, and not lost for a disk
that is full."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hexcache.errors import UpstreamError
from hexcache.storage import spool as spool_module
from hexcache.storage.spool import Source, Spool

LARGE = bytes(range(256)) * 1024
SMALL = b"a registry entry"
SOURCE = Source("https://repo.hex.pm", '"tag"', len(LARGE), "Tue, 14 Nov 2023 22:13:20 GMT", "x/y")


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[list[Spool]]:
    """Those in it are discarded in the end."""
    made: list[Spool] = []
    yield made
    for spool in made:
        spool.discard()


def make(spools: list[Spool], directory: Path, *, limit: int = 2**30, name: str = "a") -> Spool:
    spool = Spool(directory, name, limit=limit)
    spools.append(spool)
    return spool


@contextmanager
def disk_full(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(spool: Spool, data: bytes, chunk: int = 10_000) -> None:
    for start in range(0, len(data), chunk):
        spool.write(data[start : start + chunk])


def content(body: bytes | Path) -> bytes:
    return body if isinstance(body, bytes) else body.read_bytes()


def test_a_small_body_stays_in_memory(spools: list[Spool], tmp_path: Path) -> None:
    spool = make(spools, tmp_path)
    spool.begin(SOURCE)
    fill(spool, SMALL, 3)
    assert spool.size == len(SMALL)
    assert spool.sha256 == hashlib.sha256(SMALL).hexdigest()
    assert spool.finish() == SMALL
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_a_body_too(spools: list[Spool], tmp_path: Path) -> None:
    spool = make(spools, tmp_path)
    assert spool.finish() == b""
    assert spool.sha256 == hashlib.sha256(b"").hexdigest()


def test_a_large_body_becomes_a_file(spools: list[Spool], tmp_path: Path) -> None:
    spool = make(spools, tmp_path)
    spool.begin(SOURCE)
    fill(spool, LARGE)
    assert spool.size == len(LARGE)
    assert spool.sha256 == hashlib.sha256(LARGE).hexdigest()
    body = spool.finish()
    assert isinstance(body, Path)
    assert body.read_bytes() == LARGE
    assert stat.S_IMODE(body.stat().st_mode) == 0o600
    # It belongs to the caller now, and nothing else is left.
    assert list(tmp_path.iterdir()) == [body]
    spool.discard()
    assert body.exists()


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_what_came_can_be_read_while_more_comes(
    spools: list[Spool], tmp_path: Path, data: bytes
) -> None:
    spool = make(spools, tmp_path)
    read = b""
    for start in range(0, len(data), 9_000):
        spool.write(data[start : start + 9_000])
        read += spool.read_at(len(read), spool.size - len(read))
    assert read == data
    assert spool.read_at(5, 3) == data[5:8]
    assert spool.read_at(len(data), 10) == b""
    spool.finish()
    assert spool.read_at(0, 2**20) == data


@pytest.mark.parametrize("limit", [10, 100_000])
def test_the_limit(spools: list[Spool], tmp_path: Path, limit: int) -> None:
    spool = make(spools, tmp_path, limit=limit)
    fill(spool, LARGE[:limit])
    with pytest.raises(UpstreamError, match=str(limit)):
        spool.write(b"x")
    assert spool.size == limit
    spool.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_a_restart_forgets_what_came(spools: list[Spool], tmp_path: Path, data: bytes) -> None:
    spool = make(spools, tmp_path)
    spool.begin(SOURCE)
    fill(spool, data)
    spool.restart()
    assert (spool.size, spool.generation, spool.source) == (0, 1, None)
    assert list(tmp_path.iterdir()) == []
    fill(spool, data[::-1])
    assert spool.sha256 == hashlib.sha256(data[::-1]).hexdigest()
    assert content(spool.finish()) == data[::-1]


def test_two_of_the_same_name_do_not_meet(spools: list[Spool], tmp_path: Path) -> None:
    first = make(spools, tmp_path)
    fill(first, LARGE)
    done = first.finish()
    second = make(spools, tmp_path)
    fill(second, LARGE[::-1])
    assert content(done) == LARGE
    assert content(second.finish()) == LARGE[::-1]


# After a restart.


def test_a_part_is_found_again(spools: list[Spool], tmp_path: Path) -> None:
    earlier = make(spools, tmp_path)
    earlier.begin(SOURCE)
    fill(earlier, LARGE[:200_000])
    earlier.close()

    later = make(spools, tmp_path)
    later.load()
    assert later.size == 200_000
    assert later.source == SOURCE
    assert later.source.is_resumable
    fill(later, LARGE[200_000:])
    assert later.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert content(later.finish()) == LARGE
    assert len(list(tmp_path.iterdir())) == 1


def test_only_a_strong_tag_proves_that_a_part_belongs_to_the_rest() -> None:
    assert Source("b", '"tag"', 1).is_resumable
    assert not Source("b", 'W/"tag"', 1).is_resumable
    assert not Source("b", "", 1).is_resumable


def test_nothing_to_take_up(spools: list[Spool], tmp_path: Path) -> None:
    spool = make(spools, tmp_path)
    spool.load()
    assert (spool.size, spool.source) == (0, None)


def test_a_small_part_is_not_kept(spools: list[Spool], tmp_path: Path) -> None:
    spool = make(spools, tmp_path)
    spool.begin(SOURCE)
    spool.write(SMALL)
    spool.close()
    later = make(spools, tmp_path)
    later.load()
    assert later.size == 0


def good_description() -> dict[str, object]:
    return {"base": "b", "etag": '"t"', "total": 9, "last_modified": "", "content_type": ""}


@pytest.mark.parametrize(
    "description",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        json.dumps({"base": "b"}).encode(),
        json.dumps(good_description() | {"surplus": 1}).encode(),
        json.dumps(good_description() | {"etag": 7}).encode(),
        json.dumps(good_description() | {"base": None}).encode(),
        json.dumps(good_description() | {"content_type": ["x"]}).encode(),
        json.dumps(good_description() | {"total": "many"}).encode(),
    ],
)
def test_a_part_that_nobody_can_tell_what_it_is_of(
    spools: list[Spool], tmp_path: Path, description: bytes | None
) -> None:
    (tmp_path / "a.part").write_bytes(LARGE)
    if description is not None:
        (tmp_path / "a.json").write_bytes(description)
    spool = make(spools, tmp_path)
    spool.load()
    assert (spool.size, spool.source) == (0, None)
    assert list(tmp_path.iterdir()) == []
    fill(spool, LARGE[::-1])
    assert content(spool.finish()) == LARGE[::-1]


def test_a_part_above_the_limit(spools: list[Spool], tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(LARGE)
    (tmp_path / "a.json").write_text(json.dumps(good_description()))
    spool = make(spools, tmp_path, limit=1000)
    spool.load()
    assert spool.size == 0
    assert list(tmp_path.iterdir()) == []


def test_a_part_behind_a_link_is_not_taken_up(spools: list[Spool], tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(LARGE)
    (tmp_path / "a.part").symlink_to(tmp_path / "outside")
    (tmp_path / "a.json").write_text(json.dumps(good_description()))
    spool = make(spools, tmp_path)
    spool.load()
    assert (spool.size, spool.source) == (0, None)
    assert (tmp_path / "outside").read_bytes() == LARGE


@pytest.mark.parametrize("suffix", ["part", "json"])
def test_nothing_is_written_through_a_link(
    spools: list[Spool], tmp_path: Path, suffix: str
) -> None:
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / f"a.{suffix}").symlink_to(tmp_path / "outside")
    spool = make(spools, tmp_path)
    spool.begin(SOURCE)
    fill(spool, LARGE)
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert content(spool.finish()) == LARGE


# A full disk.


@pytest.mark.parametrize("room", [0, 1000, 70_000, 123_456])
def test_a_full_disk_keeps_nobody_from_the_body(
    spools: list[Spool], tmp_path: Path, room: int
) -> None:
    spool = make(spools, tmp_path)
    with disk_full(room):
        spool.begin(SOURCE)
        fill(spool, LARGE)
    assert spool.size == len(LARGE)
    assert spool.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert spool.read_at(100_000, 50) == LARGE[100_000:100_050]
    assert spool.finish() == LARGE
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_gone_keeps_nobody_from_the_body(
    spools: list[Spool], tmp_path: Path
) -> None:
    spool = make(spools, tmp_path / "gone")
    spool.begin(SOURCE)
    fill(spool, LARGE)
    assert spool.finish() == LARGE


@pytest.mark.parametrize("room", [0, 70_000, 150_000])
def test_without_disk_space_memory_is_limited(
    spools: list[Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(spool_module, "_IN_MEMORY_WITHOUT_DISK", 100_000)
    spool = make(spools, tmp_path)
    with disk_full(room), pytest.raises(UpstreamError, match="disk space"):
        fill(spool, LARGE)
    spool.discard()
    assert list(tmp_path.iterdir()) == []


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        spool = Spool(tmp_path, "a", limit=2**30)
        spool.load()
        fill(spool, LARGE)
        spool.restart()
        fill(spool, LARGE)
        spool.close()
        spool = Spool(tmp_path, "a", limit=2**30)
        fill(spool, LARGE)
        spool.finish()
        spool.close()
        with disk_full(100_000):
            spool = Spool(tmp_path, "b", limit=2**30)
            fill(spool, LARGE)
            spool.discard()
    assert len(os.listdir("/dev/fd")) == before


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chunks=st.lists(st.integers(0, 60_000), max_size=8),
    room=st.none() | st.integers(0, 300_000),
)
def test_whatever_comes_is_what_is_kept(
    tmp_path: Path, chunks: list[int], room: int | None
) -> None:
    data = os.urandom(sum(chunks))
    spool = Spool(tmp_path, "a", limit=2**30)
    position = 0
    with disk_full(room if room is not None else 2**30):
        for size in chunks:
            spool.write(data[position : position + size])
            position += size
            assert spool.size == position
            assert spool.read_at(0, position) == data[:position]
    assert spool.sha256 == hashlib.sha256(data).hexdigest()
    assert content(spool.finish()) == data
    spool.close()
