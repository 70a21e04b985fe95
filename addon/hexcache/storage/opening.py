"""Open the directory of a store: alone, mended after a `kill -9`, and rid of what isn't ours."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import sqlite3
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import diskcache

from hexcache.errors import StoreError, StoreInUseError
from hexcache.storage.disk import SafeDisk
from hexcache.storage.leftovers import DAMAGED, PARTIAL, leftovers

logger = logging.getLogger(__name__)

# Where in a store's directory the database is.
ENTRIES = "entries"

_HEX = "[0-9a-f]"
_FILE_NAME = f"{_HEX * 2}/{_HEX * 2}/{_HEX * 28}.val"


class Opened(NamedTuple):
    """`lock` is the descriptor that keeps other processes out. `loss` says of a database that was
    put aside what was wrong with it and where it is now; empty where none was."""

    cache: diskcache.Cache
    lock: int
    loss: str


def open_directory(directory: Path, *, now: float, put_aside: bool = True) -> Opened:
    """The cache in `directory`, made with mode 0700 if it isn't there. Raises StoreError. A
    database that is no longer one is put aside, with a warning, and the store starts empty; unless
    `put_aside` is False: then that is an error."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"{directory} can't be written: {error.strerror}; make it writable or change `data`"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StoreInUseError(
            f"{directory} is in use by another Hexcache, a server or a command such as "
            "`hexcache warm`; wait for its end, stop it or change `data`"
        ) from None
    try:
        (directory / PARTIAL).mkdir(mode=0o700, exist_ok=True)
        for leftover in leftovers(directory, now=now, alone=True):
            leftover.remove()
        cache, loss = _open_cache(directory / ENTRIES, put_aside)
        return Opened(cache, lock, loss)
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        os.close(lock)
        raise StoreError(
            f"{directory} can't be used: {error}; is the disk full or read-only?"
        ) from None
    except BaseException:
        os.close(lock)
        raise


def damage(directory: Path, error: sqlite3.Error) -> str:
    """What to tell whoever mustn't put the database in `directory` aside."""
    return (
        f"{directory} is damaged: {error}; the next start of `hexcache serve`, or `hexcache gc`, "
        "puts it aside and begins with an empty one"
    )


def _open_cache(directory: Path, put_aside: bool) -> tuple[diskcache.Cache, str]:
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    try:
        _purge(directory / diskcache.core.DBNAME)
        return _checked_cache(directory), ""
    except sqlite3.DatabaseError as error:
        # The low byte is the kind (https://sqlite.org/rescode.html). A full disk or a lock is no
        # reason to give a good store up.
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        if not put_aside:
            raise StoreError(damage(directory, error)) from None
        # The last one is enough for whoever wants to look.
        for old in directory.parent.glob(f"{DAMAGED}*"):
            shutil.rmtree(old, ignore_errors=True)
        aside = directory.with_name(f"{DAMAGED}{int(time.time())}")
        logger.warning(
            "the store's database is damaged (%s): put aside as %s, starting empty", error, aside
        )
        os.replace(directory, aside)
        directory.mkdir(mode=0o700)
        return _checked_cache(directory), f"it is damaged ({error}), and now {aside}"


def _purge(database: Path) -> None:
    """Delete what we would never have written, before diskcache sees it: rows that aren't
    SafeDisk's, and settings, of which diskcache makes attributes of itself (`_directory`, say)."""
    if not database.exists():
        return
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "Settings" in tables:
            connection.execute(
                "DELETE FROM Settings WHERE key NOT IN ('count', 'size', 'hits', 'misses')"
                " OR typeof(value) != 'integer'"
            )
        if "Cache" in tables:
            connection.execute(
                "DELETE FROM Cache WHERE typeof(key) != 'text' OR raw IS NOT 1"
                " OR mode IS NULL OR mode NOT IN (1, 2) OR typeof(size) != 'integer'"
                " OR NOT (filename IS NULL OR typeof(filename) = 'text' AND filename GLOB ?)",
                (_FILE_NAME,),
            )


def _checked_cache(directory: Path) -> diskcache.Cache:
    cache = diskcache.Cache(
        str(directory),
        disk=SafeDisk,
        # We evict ourselves: diskcache's order knows nothing of registry entries.
        eviction_policy="none",
        cull_limit=0,
        size_limit=2**62,
        statistics=0,
        tag_index=0,
    )
    try:
        with warnings.catch_warnings():
            # What kill -9 left: files without a row, rows without a file, wrong counts.
            warnings.simplefilter("ignore")
            try:
                cache.check(fix=True)
                _drop_orphans(cache)
            except (sqlite3.OperationalError, diskcache.Timeout) as error:
                # Mending takes room; reading what is there doesn't.
                logger.warning("the store could not be tidied up: %s", error)
    except BaseException:
        cache.close()
        raise
    return cache


def _drop_orphans(cache: diskcache.Cache) -> None:
    """Delete bodies that no entry names: `kill -9` came between the two writes."""
    bodies = set()
    named = set()
    for key in list(cache):
        if key.startswith("b:"):
            bodies.add(key)
        elif key.startswith("m:"):
            value = cache.get(key)
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                named.add(f"b:{key[2:]}@{json.loads(value)['sha256']}")
    for key in bodies - named:
        cache.delete(key)
