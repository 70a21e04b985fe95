"""The store's directory: whose it is, who may look into it, and what is tidied away."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from hexcache.errors import StoreError
from hexcache.storage.store import Store
from support.clock import Clock
from support.entries import body_of, entry_of
from support.stores import LIMIT, SIZES, Open, close, content, python, sql, value_files


async def test_files_that_are_nobody_s_are_tidied_away(stores: Open, directory: Path) -> None:
    store = stores()
    body = body_of("a", SIZES["medium"])
    await store.put((entry_of("repo/a", body), body))
    await close(store)
    stray = directory / "entries" / "ab" / "cd" / ("e" * 28 + ".val")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    store = stores()
    assert not stray.exists()
    assert await content(store, "repo/a") == body


async def test_a_body_that_nobody_names_is_tidied_away(stores: Open, directory: Path) -> None:
    store = stores()
    for key in ("repo/a", "repo/b"):
        body = body_of(key, SIZES["medium"])
        await store.put((entry_of(key, body), body))
    await close(store)
    sql(directory, "DELETE FROM Cache WHERE key = 'm:repo/a'")
    store = stores()
    assert len(value_files(directory)) == 1
    assert await content(store, "repo/b") == body


async def test_old_parts_are_tidied_away_and_young_ones_kept(stores: Open, directory: Path) -> None:
    now = time.time()
    await close(stores(clock=lambda: now))
    partial = directory / "partial"
    for name in ("old.part", "old.json", "young.part", "young.json", "x.done", "stray"):
        (partial / name).write_bytes(b"x")
        week_ago = now - 8 * 86400
        os.utime(partial / name, (week_ago, week_ago) if "old" in name else (now, now))
    (partial / "link.part").symlink_to("/nowhere")
    stores(clock=lambda: now)
    left = {path.name for path in partial.iterdir()}
    assert {"young.part", "young.json"} <= left
    assert not left & {"old.part", "old.json", "x.done", "stray"}


async def test_a_directory_among_the_parts_keeps_nobody_from_starting(
    stores: Open, directory: Path
) -> None:
    await close(stores())
    (directory / "partial" / "planted").mkdir()
    store = stores()
    await store.put((entry_of("repo/a", b"x"), b"x"))


@pytest.fixture(params=[False, True], ids=["new", "old"])
def open_to_all(request: pytest.FixtureRequest, directory: Path) -> Path:
    """The directory, which isn't there yet, or is there and anybody may look into it."""
    if request.param:
        for path in (directory, directory / "entries"):
            path.mkdir(mode=0o755)
    return directory


async def test_nobody_else_can_look_into_it(stores: Open, open_to_all: Path) -> None:
    directory = open_to_all
    old = os.umask(0)
    try:
        store = stores()
        body = body_of("a", SIZES["medium"])
        await store.put((entry_of("repo/a", body), body))
    finally:
        os.umask(old)
    for path in (directory, directory / "entries", directory / "partial"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "lock").stat().st_mode) == 0o600


HOLDER = """
import sys, time
from pathlib import Path
from hexcache.storage.store import Store
store = Store.open(Path(sys.argv[1]), limit=2**30, clock=time.time)
print("open", flush=True)
sys.stdin.read()
"""


async def test_it_is_one_process_s(stores: Open, directory: Path) -> None:
    with python(HOLDER, str(directory)) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError) as caught:
            stores()
        assert str(directory) in str(caught.value)
        assert "in use" in str(caught.value)
        holder.stdin.close()
        assert holder.wait(30) == 0
    store = stores()
    await store.put((entry_of("repo/a", b"x"), b"x"))


async def test_a_directory_that_can_not_be_made(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("x")
    for directory in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(StoreError) as caught:
            Store.open(directory, limit=LIMIT, clock=clock)
        assert str(directory) in str(caught.value)
        assert "`data`" in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_a_failed_start_leaves_nothing_open(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "entries").write_text("a file where a directory should be")
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(StoreError):
            Store.open(tmp_path, limit=LIMIT, clock=clock)
    assert len(os.listdir("/dev/fd")) == before
