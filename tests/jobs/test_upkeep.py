"""verify, refresh, rm and gc, with a real engine: what they find, and what they leave alone."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hexcache import resources
from hexcache.errors import ControlError, OfflineError, StoreError
from hexcache.jobs import upkeep
from hexcache.jobs.base import Event, Job, Order
from hexcache.resources import Kind
from support.clock import Clock
from support.engine import CONTENT, Bench, Make
from support.entries import body_of, entry_of
from support.faults import hold, status
from support.signing import Rel, other_signer, signer

ONE, TWO = Rel("1.0.0", CONTENT), Rel("2.0.0", b"two" * 1000)
DAY = 86400.0


async def run(job: Job, bench: Bench, **arguments: Any) -> list[Event]:
    events: list[Event] = []
    await job(bench.core, Order(arguments), events.append)
    # They go through a socket.
    assert json.loads(json.dumps(events)) == events
    return events


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def summary(events: list[Event]) -> Mapping[str, Any]:
    (found,) = of(events, "summary")
    return found


def quarantined(bench: Bench) -> dict[str, str]:
    """Reasons by key."""
    folder = bench.store.directory / "quarantine"
    said = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {each["key"]: each["why"] for each in said}


async def fill(bench: Bench) -> None:
    """Something of each kind."""
    fake = bench.fake.files
    bench.publish("foo", ONE, TWO)
    bench.publish("bar", Rel("0.1.0", b"bar"))
    bench.publish_csv(b"1.0.0,abc,1.18\n")
    fake["/names"] = signer().names(["foo", "bar"])
    fake["/versions"] = signer().versions({"foo": ["1.0.0", "2.0.0"], "bar": ["0.1.0"]})
    fake["/public_key"] = signer().public_key.encode()
    fake["/docs/foo-1.0.0.tar.gz"] = b"docs" * 20_000
    fake["/installs/1.18.0/hex-2.2.0.ez"] = b"an archive"
    for path in fake:
        if not path.endswith((".signed", "2.0.0.tar", "0.1.0.tar")):
            assert (await bench.get(path)).status == 200
    await bench.settled()


@pytest.fixture
async def full(bench: Make) -> Bench:
    made = bench(cache={"registry_fresh": 5})
    await fill(made)
    return made


# verify


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


async def plant(bench: Bench, key: str, kind: Kind, body: bytes) -> None:
    """As whoever can write the directory could: it hashes well."""
    await bench.store.put((entry_of(key, body, kind=kind), body))


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


async def supersede(bench: Bench, clock: Clock) -> None:
    """foo 1.0.0 is reverted, and then there is something newer whose tarball is here, so that
    nobody is shown the entry with 1.0.0 any more."""
    three, four = Rel("3.0.0", b"three"), Rel("4.0.0", b"four")
    for releases in ([TWO, three], [TWO, three, four]):
        clock.advance(100)
        bench.publish("foo", *releases)
        await bench.get("/packages/foo")
        if releases[-1] is three:
            found = await run(upkeep.verify, bench)
            # Clients may be shown the entry before the newest one while the line is down.
            assert of(found, "superseded") == []
            assert freed(await run(upkeep.collect, bench)) == {}
        await bench.get(f"/tarballs/foo-{releases[-1].version}.tar")


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


# refresh


async def test_what_is_new_is_told(full: Bench, clock: Clock) -> None:
    clock.advance(1)  # fresh still: it is asked all the same
    full.publish("foo", replace(ONE, tarball=b"x", retired=(2, "bad")), Rel("3.0.0", b"three"))
    events = await run(upkeep.refresh, full, names=["foo", "bar"])
    told = {event["name"]: event for event in of(events, "refreshed")}
    assert told["bar"]["changed"] == {}
    assert told["foo"]["changed"] == {
        "new": ["3.0.0"],
        "replaced": ["1.0.0"],
        "reverted": ["2.0.0"],
        "retired": ["1.0.0"],
    }
    assert not told["foo"]["first"]
    assert summary(events) == {"event": "summary", "refreshed": 2, "changed": 1, "failed": 0}
    full.publish("foo", replace(ONE, tarball=b"x"), Rel("3.0.0", b"three"))
    (event,) = of(await run(upkeep.refresh, full, names=["foo"]), "refreshed")
    assert event["changed"] == {"unretired": ["1.0.0"]}


async def test_all_are_those_that_are_stored(full: Bench) -> None:
    full.publish("baz", ONE)
    full.fake.requests.clear()
    events = await run(upkeep.refresh, full, all=True)
    assert {event["name"] for event in of(events, "refreshed")} == {"foo", "bar"}
    assert of(events, "total") == [{"event": "total", "count": 2}]
    # Each entry itself, whatever an index says.
    assert sorted(seen.path for seen in full.fake.requests) == ["/packages/bar", "/packages/foo"]


async def test_one_that_is_not_stored_is_fetched(full: Bench) -> None:
    full.publish("baz", ONE)
    (event,) = of(await run(upkeep.refresh, full, names=["baz"]), "refreshed")
    assert (event["first"], event["changed"]) == (True, {})
    assert full.store.get("repo/packages/baz") is not None


async def test_what_fails_is_told_and_the_others_are_done(full: Bench) -> None:
    full.fake.fault("/packages/foo", status(500))
    events = await run(upkeep.refresh, full, names=["foo", "bar", "none", "we/ird", ""])
    failed = {event["name"]: event["why"] for event in of(events, "failed")}
    assert set(failed) == {"foo", "none", "we/ird", ""}
    assert "500" in failed["foo"]
    assert "no such file" in failed["none"]
    assert failed["we/ird"] == "it is no name of a package"
    assert [event["name"] for event in of(events, "refreshed")] == ["bar"]
    assert summary(events)["failed"] == 4
    assert full.store.get("repo/packages/foo") is not None, "what was stored stays"


async def test_what_is_signed_by_nobody_is_told(full: Bench) -> None:
    full.fake.files["/packages/foo"] = other_signer().package("foo", [ONE])
    (event,) = of(await run(upkeep.refresh, full, names=["foo"]), "failed")
    assert "not signed" in event["why"]


async def test_a_slow_upstream_is_waited_for(bench: Make) -> None:
    """A client is served what is stored when the patience is over; who asks for news wants them."""
    made = bench(cache={"registry_fresh": 5}, upstream={"patience": 0})
    made.publish("foo", ONE)
    await made.get("/packages/foo")
    made.publish("foo", ONE, TWO)
    made.fake.fault("/packages/foo", hold(), times=1)
    running = asyncio.create_task(run(upkeep.refresh, made, names=["foo"]))
    await asyncio.to_thread(made.fake.wait_until_holding)
    made.fake.release()
    (event,) = of(await running, "refreshed")
    assert event["changed"] == {"new": ["2.0.0"]}


async def test_offline_nothing_is_asked(full: Bench) -> None:
    full.engine.offline = True
    full.fake.requests.clear()
    with pytest.raises(OfflineError, match="hexcache offline off"):
        await run(upkeep.refresh, full, all=True)
    assert full.fake.requests == []


@pytest.mark.parametrize("names", ["foo", [1], None, {"a": 1}])
async def test_arguments_of_another_version(full: Bench, names: Any) -> None:
    for job in (upkeep.refresh, upkeep.remove):
        with pytest.raises(ControlError, match="different versions"):
            await run(job, full, names=names, what=names)


# rm


def left(bench: Bench) -> set[str]:
    return {entry.key for entry in bench.store.entries()}


async def test_a_package_goes_with_all_that_belongs_to_it(full: Bench, clock: Clock) -> None:
    clock.advance(100)
    full.publish("foo", ONE, TWO, Rel("3.0.0", b"three"))
    await full.get("/packages/foo")  # the entry before is kept beside it
    await full.get("/tarballs/foo-2.0.0.tar")
    full.store.pins.pin("mix.lock", ["repo/packages/foo", "repo/packages/bar"], at=1.0)
    before = left(full)
    gone = {key for key in before if "foo" in key}
    assert len(gone) == 5
    events = await run(upkeep.remove, full, what=["foo"])
    assert left(full) == before - gone
    (event,) = of(events, "removed")
    assert (event["what"], event["files"], event["pins"]) == ("foo", 5, 1)
    assert event["bytes"] == summary(events)["bytes"] > 130_000
    assert full.store.pins.keys == {"repo/packages/bar"}
    assert (await full.get("/tarballs/foo-1.0.0.tar")).outcome == "miss"


async def test_a_release_goes_alone(full: Bench) -> None:
    await full.get("/tarballs/foo-2.0.0.tar")
    await full.get("/tarballs/bar-0.1.0.tar")
    full.store.pins.pin("a", ["repo/tarballs/foo-1.0.0.tar"], at=1.0)
    before = left(full)
    (event,) = of(await run(upkeep.remove, full, what=["foo@1.0.0"]), "removed")
    assert before - left(full) == {"repo/tarballs/foo-1.0.0.tar", "repo/docs/foo-1.0.0.tar.gz"}
    assert (event["files"], event["pins"]) == (2, 1)
    assert full.store.pins.groups == {}


async def test_the_unknown_are_told_and_the_others_done(full: Bench) -> None:
    full.store.pins.pin("a", ["repo/tarballs/later-1.0.0.tar"], at=1.0)
    what = ["none", "foo@9.9.9", "bar", "later", "foo@", "@", "fo", "names"]
    events = await run(upkeep.remove, full, what=what)
    assert {event["what"] for event in of(events, "removed")} == {"bar", "later"}
    unknown = {event["what"] for event in of(events, "unknown")}
    assert unknown == {"none", "foo@9.9.9", "foo@", "@", "fo", "names"}
    assert summary(events)["unknown"] == len(unknown)
    assert "repo/names" in left(full)
    assert "repo/packages/bar" not in left(full)


async def test_twice_the_same(full: Bench) -> None:
    events = await run(upkeep.remove, full, what=["bar", "bar", "foo@1.0.0", "foo"])
    assert [event["what"] for event in of(events, "removed")] == ["bar", "foo@1.0.0", "foo"]
    assert of(events, "unknown") == []


async def test_pins_that_can_not_be_written(full: Bench) -> None:
    full.store.pins.pin("a", ["repo/packages/foo"], at=1.0)
    (full.store.directory / ".pins.json.new").mkdir()
    with pytest.raises(StoreError, match="pins can't be written"):
        await run(upkeep.remove, full, what=["foo"])


# gc


def freed(events: list[Event]) -> dict[str, int]:
    return {event["what"]: event["count"] for event in of(events, "freed")}


async def test_nothing_is_freed_of_what_is_of_use(full: Bench) -> None:
    before = left(full)
    for dry in (True, False):
        events = await run(upkeep.collect, full, dry=dry)
        assert (freed(events), summary(events)["bytes"]) == ({}, 0)
    assert left(full) == before


async def test_superseded_tarballs_go(full: Bench, clock: Clock) -> None:
    await supersede(full, clock)
    told = await run(upkeep.collect, full, dry=True)
    assert freed(told) == {"superseded tarballs": 1}
    assert summary(told)["bytes"] == len(CONTENT)
    before = left(full)
    assert "repo/tarballs/foo-1.0.0.tar" in before
    assert await run(upkeep.collect, full) == told
    assert before - left(full) == {"repo/tarballs/foo-1.0.0.tar"}


async def test_what_is_above_the_limit_goes_pinned_last(bench: Make, clock: Clock) -> None:
    small = bench(cache={"size_limit": 2_000_000, "registry_fresh": 5})
    for n in range(16):
        clock.advance(1)
        await plant(small, f"repo/docs/foo-1.0.{n}.tar.gz", Kind.DOCS, body_of(str(n), 100_000))
    await small.close()
    small = bench(cache={"size_limit": 1_100_000, "registry_fresh": 5})
    small.store.pins.pin("mix.lock", ["repo/docs/foo-1.0.0.tar.gz"], at=1.0)
    told = await run(upkeep.collect, small, dry=True)
    assert len(left(small)) == 16
    events = await run(upkeep.collect, small)
    assert abs(freed(events)["evicted files"] - freed(told)["evicted files"]) <= 1
    assert small.store.statistics()["bytes"] <= 1_100_000
    assert "repo/docs/foo-1.0.0.tar.gz" in left(small)
    assert "repo/docs/foo-1.0.1.tar.gz" not in left(small)


def old_file(path: Path, days: float) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 1000)
    os.utime(path, times=(time.time() - days * DAY,) * 2)


async def test_what_lies_beside_goes_when_it_is_old(full: Bench, clock: Clock) -> None:
    clock.now = time.time()
    directory = full.store.directory
    for name, days in {
        "partial/old.part": 8.0,
        "partial/young.part": 1.0,
        "quarantine/old.body": 8.0,
        "quarantine/young.body": 1.0,
    }.items():
        old_file(directory / name, days)
    old_file(directory / "entries.damaged-1" / "cache.db", 1.0)
    told = await run(upkeep.collect, full, dry=True)
    assert freed(told) == {"parts of downloads": 1, "files in quarantine": 1}
    assert (directory / "quarantine/old.body").exists()
    assert await run(upkeep.collect, full) == told
    assert summary(told)["bytes"] == 2000
    assert freed(await run(upkeep.collect, full)) == {}
    everything = await run(upkeep.collect, full, put_aside=True)
    assert freed(everything) == {"files in quarantine": 1, "damaged databases": 1}
    assert not (directory / "entries.damaged-1").exists()
    assert (directory / "partial/young.part").exists(), "a transfer may go on with it"


async def test_empty_pins_go(full: Bench) -> None:
    full.store.pins.pin("empty", [], at=1.0)
    full.store.pins.pin("mix.lock", ["repo/packages/gone"], at=1.0)
    assert freed(await run(upkeep.collect, full, dry=True)) == {"empty pins": 1}
    assert freed(await run(upkeep.collect, full)) == {"empty pins": 1}
    assert set(full.store.pins.groups) == {"mix.lock"}, "its lock file may be in a container"
