"""A store whose database is damaged: no command loses it without a word."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hexcache.errors import StoreError
from hexcache.jobs.base import Order
from hexcache.jobs.upkeep import verify
from support.clock import Clock
from support.commands import Ran, run
from support.machines import Machine, publish
from support.signing import Rel
from support.upstream import Upstream

GARBAGE = b"garbage\n" * 1000


@pytest.fixture
async def config(tmp_path: Path, upstream: Upstream, clock: Clock) -> Path:
    """Settings of a store with a package in it, which no server has open."""
    machine = Machine(tmp_path / "machine", upstream, clock)
    publish(upstream, "foo", Rel("1.0.0", b"foo"))
    await machine.fetch("/packages/foo", "/tarballs/foo-1.0.0.tar")
    await machine.close()
    return machine.config


def database(config: Path) -> Path:
    return config.parent / "cache/entries/cache.db"


def put_aside(config: Path) -> list[Path]:
    return list((config.parent / "cache").glob("entries.damaged-*"))


def damaged(config: Path, *arguments: str) -> Ran:
    database(config).write_bytes(GARBAGE)
    return run(*arguments, config=config)


@pytest.mark.parametrize(
    "arguments", [["verify"], ["gc"], ["rm", "foo"], ["refresh", "foo"], ["warm", "foo"]]
)
def test_whoever_puts_it_aside_says_where(config: Path, arguments: list[str]) -> None:
    ran = damaged(config, *arguments)
    (aside,) = put_aside(config)
    assert (aside / "cache.db").read_bytes() == GARBAGE
    told = [line for line in ran.errors.splitlines() if "damaged" in line]
    assert told == [
        "hexcache: the store's database is damaged (file is not a database): put aside as "
        f"{aside}, starting empty"
    ]


def test_verify_counts_it(config: Path) -> None:
    assert run("verify", config=config).text.endswith(": all good\n")
    ran = damaged(config, "verify")
    (aside,) = put_aside(config)
    assert ran.status == 1
    assert ran.text.splitlines() == [
        f"quarantined the database: it is damaged (file is not a database), and now {aside}",
        "0 files, 0 bytes: 1 quarantined",
    ]
    assert run("verify", config=config).text == "0 files, 0 bytes: all good\n", "it is said once"
    ran = damaged(config, "verify", "--json")
    assert ran.status == 1
    found = json.loads(ran.output)
    assert (found["bad"], found["quarantined"][0]["subject"]) == (1, "the database")


def test_what_only_tells_moves_nothing(config: Path) -> None:
    ran = damaged(config, "gc", "--dry-run")
    assert (ran.status, ran.text) == (1, "")
    assert ran.errors == (
        f"hexcache: {database(config).parent} is damaged: file is not a database; the next start "
        "of `hexcache serve`, or `hexcache gc`, puts it aside and begins with an empty one\n"
    )
    assert database(config).read_bytes() == GARBAGE
    assert put_aside(config) == []


async def test_what_can_not_be_read_is_not_all_good(
    tmp_path: Path, upstream: Upstream, clock: Clock
) -> None:
    """Damaged since a server has opened it."""
    machine = Machine(tmp_path / "machine", upstream, clock)
    assert await machine.core.store.snapshot() == []
    with closing(sqlite3.connect(database(machine.config))) as connection, connection:
        connection.execute("DROP TABLE Cache")
    with pytest.raises(StoreError, match="the store can't be read"):
        await verify(machine.core, Order(), lambda _: None)
    await machine.close()
