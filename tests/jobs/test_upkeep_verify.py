"""verify, with a real engine: what it finds, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from hexcache import resources
from hexcache.jobs import upkeep
from hexcache.resources import Kind
from support.clock import Clock
from support.engine import Bench, Make
from support.entries import body_of, entry_of
from support.signing import other_signer, signer
from support.upkeep import fill, of, plant, run, summary, supersede


def quarantined(bench: Bench) -> dict[str, str]:
    """Reasons by key."""
    folder = bench.store.directory / "quarantine"
    said = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {each["key"]: each["why"] for each in said}


async def test_what_is_good_stays(full: Bench) -> None:
    before = {entry.key: entry for entry in await full.store.snapshot()}
    events = await run(upkeep.verify, full)
    assert {entry.key: entry for entry in await full.store.snapshot()} == before
    size = sum(entry.size for entry in before.values())
    assert of(events, "total") == [{"event": "total", "files": len(before), "bytes": size}]
    assert summary(events) == {
        "event": "summary",
        "files": len(before),
        "bytes": size,
        "bad": 0,
        "superseded": 0,
        "unvouched": 0,
    }
    assert {entry.kind for entry in before.values()} == set(Kind) - {Kind.BUILD}
    assert quarantined(full) == {}


async def test_a_damaged_file_is_put_aside_and_fetched_again(full: Bench) -> None:
    for path in (full.store.directory / "entries").rglob("*.val"):
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
    bad = {
        "repo/tarballs/foo-1.0.0.tar": "tarball foo-1.0.0",
        "repo/docs/foo-1.0.0.tar.gz": "docs foo-1.0.0",
    }
    events = await run(upkeep.verify, full)
    assert {event["subject"] for event in of(events, "bad")} == set(bad.values())
    assert summary(events)["bad"] == 2
    assert set(quarantined(full)) == set(bad)
    assert full.store.get("repo/tarballs/foo-1.0.0.tar") is None
    assert summary(await run(upkeep.verify, full))["bad"] == 0
    got = await full.get("/tarballs/foo-1.0.0.tar")
    assert (got.status, got.outcome) == (200, "miss")


@pytest.mark.parametrize(
    ("key", "kind", "body", "why"),
    [
        ("repo/packages/foo", Kind.PACKAGE, lambda: other_signer().package("foo"), "not signed"),
        ("repo/packages/foo", Kind.PACKAGE, lambda: signer().package("bar"), "another package"),
        ("repo/packages/foo#before", Kind.PACKAGE, lambda: b"garbage", "not a gzip"),
        ("repo/names", Kind.NAMES, lambda: other_signer().names(["foo"]), "not signed"),
        ("repo/versions", Kind.VERSIONS, lambda: signer().versions({}, "acme"), "repository"),
        ("repo/public_key", Kind.PUBLIC_KEY, lambda: other_signer().public_key.encode(), "key"),
        ("repo/names", Kind.DOCS, lambda: b"unsigned", "something else than its name says"),
        ("repo/../etc", Kind.DOCS, lambda: b"x", "something else than its name says"),
    ],
)
async def test_what_is_not_signed_as_it_should_be(
    full: Bench, key: str, kind: Kind, body: Any, why: str
) -> None:
    await plant(full, key, kind, body())
    events = await run(upkeep.verify, full)
    (bad,) = of(events, "bad")
    assert why in bad["why"]
    assert list(quarantined(full)) == [key]
    assert full.store.get(key) is None
    assert summary(await run(upkeep.verify, full))["bad"] == 0


async def test_a_pair_that_does_not_belong_together(full: Bench) -> None:
    csv = resources.of_key("builds/installs/hex-1.x.csv")
    assert csv is not None
    signature = entry_of(f"{csv.key}.signed", b"AAAA", kind=Kind.SIGNATURE)
    entry = full.store.get(csv.key)
    assert entry is not None
    await full.store.put((replace(signature, generation=entry.sha256), b"AAAA"))
    events = await run(upkeep.verify, full)
    assert summary(events)["bad"] == 2
    assert set(quarantined(full)) == {csv.key, signature.key}
    assert (await full.get(csv.path)).status == 200
    assert (await full.get(f"{csv.path}.signed")).status == 200
    assert summary(await run(upkeep.verify, full))["bad"] == 0


async def test_half_of_a_pair_is_no_damage(full: Bench) -> None:
    await full.store.delete("builds/installs/hex-1.x.csv.signed")
    assert summary(await run(upkeep.verify, full))["bad"] == 0


async def test_a_superseded_tarball_is_no_damage(full: Bench, clock: Clock) -> None:
    await supersede(full, clock)
    events = await run(upkeep.verify, full)
    assert [event["subject"] for event in of(events, "superseded")] == ["tarball foo-1.0.0"]
    assert (summary(events)["superseded"], summary(events)["bad"]) == (1, 0)
    assert quarantined(full) == {}
    assert full.store.get("repo/tarballs/foo-1.0.0.tar") is not None


async def test_a_tarball_without_a_registry_entry_is_told(full: Bench) -> None:
    await full.store.delete("repo/packages/foo")
    events = await run(upkeep.verify, full)
    assert (summary(events)["unvouched"], summary(events)["bad"]) == (1, 0)


async def test_without_verification_only_bytes_are_looked_at(bench: Make) -> None:
    made = bench(cache={"verify": False})
    await fill(made)
    await plant(made, "repo/public_key", Kind.PUBLIC_KEY, b"any key")
    await plant(made, "repo/tarballs/foo-1.0.0.tar", Kind.TARBALL, b"any tarball")
    found = summary(await run(upkeep.verify, made))
    assert (found["bad"], found["superseded"], found["unvouched"]) == (0, 0, 0)


async def test_clients_are_answered_meanwhile(full: Bench) -> None:
    """What they get and what is replaced while verify is under way is no damage."""
    for n in range(300):
        body = body_of(str(n), 1000)
        await plant(full, f"builds/installs/hex-1.0.{n}", Kind.INSTALL, body)
    running = asyncio.create_task(run(upkeep.verify, full))
    for n in range(300):
        if running.done():
            break
        body = body_of(f"new{n}", 1000)
        await plant(full, f"builds/installs/hex-1.0.{n}", Kind.INSTALL, body)
        assert (await full.get("/packages/foo")).status == 200
    events = await running
    assert summary(events)["bad"] == 0
    assert of(events, "progress"), "it tells how far it is"
