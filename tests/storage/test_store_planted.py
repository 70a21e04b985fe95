"""What somebody planted in the store's directory does nothing and leads nowhere."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hexcache.storage.store import Store
from support.entries import body_of, entry_of
from support.stores import SIZES, Open, close, content, plant, sql


class Bomb:
    """Unpickling it makes a directory."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._trace),)


async def with_a_planted(
    stores: Open, directory: Path, how: Callable[[], None], *, open_already: bool
) -> Store:
    """A store with one good entry, and what `how` plants before or after it is opened."""
    store = stores()
    await store.put((entry_of("repo/good", b"good"), b"good"))
    if open_already:
        how()
        return store
    await close(store)
    how()
    return stores()


@pytest.mark.parametrize("open_already", [False, True])
@pytest.mark.parametrize("place", ["value", "key", "value file", "description"])
async def test_a_planted_pickle_does_not_run(
    stores: Open, directory: Path, tmp_path: Path, place: str, open_already: bool
) -> None:
    trace = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(trace))
    file = "00/11/" + "2" * 28 + ".val"

    def how() -> None:
        if place == "value":
            plant(directory, key="m:planted", mode=4, value=bomb)
        elif place == "key":
            plant(directory, key=bomb, raw=0, value=b"x")
        elif place == "value file":
            (directory / "entries" / file).parent.mkdir(parents=True)
            (directory / "entries" / file).write_bytes(bomb)
            plant(directory, key="m:planted", mode=4, filename=file, size=len(bomb))
        else:
            plant(directory, key="m:planted", value=bomb)

    store = await with_a_planted(stores, directory, how, open_already=open_already)
    assert await content(store, "planted") is None
    assert [entry.key for entry in store.entries()] == ["repo/good"]
    assert await content(store, "repo/good") == b"good"
    await store.delete("planted")
    await close(store)
    store = stores(limit=2**20)
    # An eviction goes through all rows.
    for n in range(15):
        body = body_of(str(n), 100_000)
        await store.put((entry_of(f"repo/{n}", body), body))
    assert not trace.exists()


@pytest.mark.parametrize("open_already", [False, True])
@pytest.mark.parametrize(
    "name",
    ["../../secret", "{}/secret", "../entries/../../secret", "cache.db", "x", b"00/secret", "a\0b"],
)
async def test_a_planted_file_name_leads_nowhere(
    stores: Open, directory: Path, tmp_path: Path, name: str | bytes, open_already: bool
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    if isinstance(name, str):
        name = name.format(tmp_path)
    entry = entry_of("planted", b"secret")
    fields = {
        "kind": "tarball",
        **{name: getattr(entry, name) for name in ("sha256", "size", "etag", "last_modified")},
        "content_type": "x/y",
        **dict.fromkeys(("stored_at", "checked_at", "used_at"), 0.0),
    }

    def how() -> None:
        plant(directory, key="m:planted", value=json.dumps(fields).encode())
        plant(directory, key=entry.body_key, mode=2, filename=name, size=6)

    store = await with_a_planted(stores, directory, how, open_already=open_already)
    assert await content(store, "planted") is None
    await store.put((entry_of("planted", b"mine"), b"mine"))
    await store.delete("planted")
    assert await content(store, "repo/good") == b"good"
    await close(store)
    stores()
    assert secret.read_bytes() == b"secret"


def description(**changes: object) -> bytes:
    entry = entry_of("planted", b"x")
    fields = {
        name: getattr(entry, name)
        for name in ("sha256", "size", "etag", "last_modified", "content_type")
    }
    fields |= dict.fromkeys(("stored_at", "checked_at", "used_at"), 0.0) | {"kind": "tarball"}
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize("open_already", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b"[" * 30_000,
        description(kind="unheard of"),
        description(kind=["tarball"]),
        description(key="repo/other"),
        description(surplus=1),
        description(etag='"a"\r\nSet-Cookie: x'),
        description(etag=None),
        description(content_type="a\nb"),
        description(last_modified=7),
        description(sha256=None),
        description(size="1"),
        description(size=-1),
        description(size=2),
        description(stored_at="now"),
        description(stored_at=None),
        description(checked_at=float("nan")),
        description(checked_at=float("inf")),
        description(used_at=10**400),
        description(asked_at="now"),
        description(base=7),
        description(generation=7),
        "text",
        7,
        None,
    ],
)
async def test_a_planted_description_is_a_miss(
    stores: Open, directory: Path, value: object, open_already: bool
) -> None:
    def how() -> None:
        plant(directory, key="m:planted", value=value)
        plant(directory, key=entry_of("planted", b"x").body_key, value=b"x")

    store = await with_a_planted(stores, directory, how, open_already=open_already)
    assert await content(store, "planted") is None
    assert {entry.key for entry in store.entries()} <= {"repo/good", "planted"}
    assert await content(store, "repo/good") == b"good"
    await store.put((entry_of("planted", b"y"), b"y"))
    assert await content(store, "planted") == b"y"


async def test_a_description_as_it_is_written_is_a_hit(stores: Open, directory: Path) -> None:
    """So that the misses above are misses for their reason."""
    store = stores()
    plant(directory, key="m:planted", value=description())
    plant(directory, key=entry_of("planted", b"x").body_key, value=b"x")
    assert await content(store, "planted") == b"x"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_directory", "{victim}"),
        ("disk_min_file_size", "many"),
        ("disk_directory", "{victim}"),
        ("disk__directory", "{victim}"),
        ("disk_fetch", "x"),
        ("reset", "x"),
        ("_disk", "x"),
        ("count", "many"),
        ("size", "large"),
        ("size", 2**62),
        ("sqlite_nonsense", "x"),
        ("cull_limit", 10),
        ("eviction_policy", "nonsense"),
    ],
)
async def test_planted_settings_of_diskcache(
    stores: Open, directory: Path, tmp_path: Path, key: str, value: object
) -> None:
    """diskcache makes attributes of itself of whatever its Settings table holds."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("years of work")
    if isinstance(value, str):
        value = value.format(victim=victim)
    store = stores()
    body = body_of("a", SIZES["medium"])
    await store.put((entry_of("repo/a", body), body))
    await close(store)
    sql(directory, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", key, value)
    store = stores()
    assert [path.name for path in victim.iterdir()] == ["thesis.txt"]
    assert await content(store, "repo/a") == body
    await store.put((entry_of("repo/b", body), body))
    assert await content(store, "repo/b") == body
    assert store.statistics()["bytes"] < 2**20
