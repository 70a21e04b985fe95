from __future__ import annotations

import os
from pathlib import Path

import pytest

from hexcache.errors import LockFileError
from hexcache.locks.locks_on_disk import Watch, read


def test_what_is_there_is_told_once(tmp_path: Path) -> None:
    lock = tmp_path / "a/mix.lock"
    lock.parent.mkdir()
    lock.write_text("%{}")
    watch = Watch([f"{tmp_path}/*/mix.lock"])
    look = watch.look()
    assert look.changed == look.present == {lock}
    again = watch.look()
    assert again.changed == set()
    assert again.present == {lock}


def test_a_change_is_told_when_the_file_has_settled(tmp_path: Path) -> None:
    lock = tmp_path / "mix.lock"
    watch = Watch([str(lock)])
    assert watch.look().present == set()
    lock.write_text("%{")
    assert watch.look().changed == set()
    lock.write_text("%{}")  # it is still being written
    assert watch.look().changed == set()
    assert watch.look().changed == {lock}
    assert watch.look().changed == set()


def test_the_same_size_at_another_time_is_a_change(tmp_path: Path) -> None:
    lock = tmp_path / "mix.lock"
    lock.write_text("%{}")
    watch = Watch([str(lock)])
    watch.look()
    os.utime(lock, ns=(1, 1))
    watch.look()
    assert watch.look().changed == {lock}


def test_a_file_that_goes_and_comes_back(tmp_path: Path) -> None:
    lock = tmp_path / "mix.lock"
    lock.write_text("%{}")
    watch = Watch([str(lock)])
    watch.look()
    before = lock.stat()
    lock.rename(tmp_path / "aside")
    assert watch.look().present == set()
    (tmp_path / "aside").rename(lock)
    assert lock.stat().st_mtime_ns == before.st_mtime_ns
    watch.look()
    assert watch.look().changed == {lock}


def test_directories_and_dangling_links_are_no_lock_files(tmp_path: Path) -> None:
    (tmp_path / "a.lock").mkdir()
    (tmp_path / "b.lock").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "c.lock")
    assert Watch([f"{tmp_path}/*.lock"]).look().present == set()


def test_a_file_has_one_name_however_it_is_found(tmp_path: Path) -> None:
    for name in ("server", "project"):
        (tmp_path / name).mkdir()
    lock = tmp_path / "project/mix.lock"
    lock.write_text("%{}")
    (tmp_path / "link").symlink_to(tmp_path / "project")
    patterns = [f"{tmp_path}/server/../*/mix.lock", f"{tmp_path}/link/mix.lock", str(lock)]
    assert Watch(patterns).look().present == {lock}
    for pattern in patterns:
        assert Watch([pattern]).names(str(lock)), pattern


@pytest.mark.parametrize(
    ("pattern", "path", "named"),
    [
        ("/srv/mix.lock", "/srv/mix.lock", True),
        ("/srv/mix.lock", "/srv/a/mix.lock", False),
        ("/srv/*/mix.lock", "/srv/a/mix.lock", True),
        ("/srv/*/mix.lock", "/srv/a/b/mix.lock", False),
        ("/srv/**/mix.lock", "/srv/mix.lock", True),
        ("/srv/**/mix.lock", "/srv/a/b/mix.lock", True),
        ("/srv/**/mix.lock", "/var/mix.lock", False),
        ("/srv/[[]x]/*.lock", "/srv/[x]/mix.lock", True),
        ("/srv/[[]x]/*.lock", "/srv/x/mix.lock", False),
        ("/srv/*.lock", "by name: srv/x.lock", False),
        ("/*/mix.lock", "/srv/mix.lock", True),
    ],
)
def test_whether_a_path_would_be_found(pattern: str, path: str, named: bool) -> None:
    assert Watch([pattern]).names(path) is named


def test_reading(tmp_path: Path) -> None:
    lock = tmp_path / "mix.lock"
    lock.write_text('%{"foo": {:hex, :foo, "1.0.0"}}')
    assert [each.version for each in read(lock).releases] == ["1.0.0"]
    with pytest.raises(LockFileError, match="No such file"):
        read(tmp_path / "rebar.lock")
    lock.write_bytes(b"\xff")
    with pytest.raises(LockFileError, match="not a UTF-8 text"):
        read(lock)
