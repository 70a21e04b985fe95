"""What `warm` does with an engine, beside the ways that e2e tries with a real client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hexcache.errors import ControlError, OfflineError
from hexcache.jobs.base import Event, Order
from hexcache.jobs.warm import Demand, Failure, job, warm
from hexcache.locks.lockfiles import LockedRelease
from hexcache.versions.wishes import parse_wish
from support.engine import CONTENT, Bench, Make
from support.faults import hold, status
from support.signing import Rel

LOCKED = (LockedRelease("foo", "1.0.0"),)


def silent(_: Event) -> None:
    """Nobody looks."""


async def test_what_is_named_is_pinned_from_the_beginning(foo: Bench) -> None:
    foo.fake.fault("/tarballs", status(404))
    summary = await warm(foo.core, Demand(label="mix.lock", releases=LOCKED), silent)
    assert [failure.subject for failure in summary.failures] == ["tarball foo-1.0.0"]
    foo.fake.heal()
    await foo.get("/tarballs/foo-1.0.0.tar")
    assert "repo/packages/foo" in foo.store.pins.keys


async def test_pins_outlast_everything_else(bench: Make) -> None:
    made = bench(cache={"size_limit": 2**20})
    made.publish("foo", Rel("1.0.0", bytes(200_000)))
    made.publish("bar", *(Rel(f"{n}.0.0", bytes([n]) * 200_000) for n in range(8)))
    summary = await warm(made.core, Demand(label="mix.lock", releases=LOCKED), silent)
    assert summary.failures == []
    for n in range(8):
        assert (await made.get(f"/tarballs/bar-{n}.0.0.tar")).status == 200
    assert made.store.evictions > 0
    assert made.store.get("repo/tarballs/foo-1.0.0.tar") is not None
    assert made.store.get("repo/packages/foo") is not None


async def test_what_does_not_fit_is_said(bench: Make) -> None:
    made = bench(cache={"size_limit": 2**20})
    made.publish("bar", *(Rel(f"{n}.0.0", bytes([n]) * 200_000) for n in range(8)))
    releases = tuple(LockedRelease("bar", f"{n}.0.0") for n in range(8))
    summary = await warm(made.core, Demand(label="mix.lock", releases=releases), silent)
    assert summary.failures
    assert all("raise cache.size_limit" in failure.why for failure in summary.failures)


async def test_a_line_that_comes_back_is_waited_for(foo: Bench) -> None:
    """The clock is injected: what waits for the line waits for its probes only."""
    with foo.fake.refusing():
        for _ in range(3):
            await foo.get("/packages/foo")
        running = asyncio.ensure_future(
            warm(foo.core, Demand(label="mix.lock", releases=LOCKED), silent)
        )
        await asyncio.sleep(0)
    summary = await running
    assert summary.failures == []
    assert foo.store.get("repo/tarballs/foo-1.0.0.tar") is not None


async def test_who_waits_for_the_line_says_so_once(bench: Make) -> None:
    made = bench(upstream={"give_up": 0})
    events: list[Event] = []
    releases = (*LOCKED, LockedRelease("bar", "1.0.0"))
    with made.fake.refusing():
        summary = await warm(made.core, Demand(label="x", releases=releases), events.append)
    assert len(summary.failures) == 2
    notes = [event for event in events if event["event"] == "note"]
    assert [note["subject"] for note in notes] == ["waiting for upstream"]
    assert "Connection refused" in notes[0]["why"]


async def test_a_release_that_was_published_anew_since_its_entry_was_stored(bench: Make) -> None:
    made = bench(cache={"registry_fresh": 1000})
    made.publish("foo", Rel("1.0.0", CONTENT))
    await made.get("/packages/foo")
    anew = Rel("1.0.0", b"anew")
    made.publish("foo", anew)
    locked = LockedRelease("foo", "1.0.0", outer_checksum=anew.outer_checksum.hex())
    summary = await warm(made.core, Demand(label="x", releases=(locked,)), silent)
    assert summary.failures == []


async def test_a_release_newer_than_the_stored_entry(bench: Make) -> None:
    made = bench(cache={"registry_fresh": 1000})
    made.publish("foo", Rel("1.0.0", CONTENT))
    await made.get("/packages/foo")
    made.publish("foo", Rel("1.0.0", CONTENT), Rel("2.0.0", b"two"))
    demand = Demand(label="mix.lock", releases=(LockedRelease("foo", "2.0.0"),))
    summary = await warm(made.core, demand, silent)
    assert summary.failures == []
    summary = await warm(
        made.core, Demand(label="x", releases=(LockedRelease("foo", "3.0.0"),)), silent
    )
    assert summary.failures == [
        Failure("tarball foo-3.0.0", "the registry has no foo 3.0.0"),
    ]


async def test_tools(foo: Bench) -> None:
    csv = b"2.0.6,aa,1.12.0\n2.1.1,bb,1.12.0\n2.1.1,bb,1.14.0\n"
    foo.publish_csv(csv)
    foo.fake.files["/installs/1.14.0/hex-2.1.1.ez"] = b"archive"
    foo.fake.files["/installs/1.12.0/hex-2.1.1.ez"] = b"older archive"
    summary = await warm(foo.core, Demand(label="tools", tools=True), silent)
    # Of rebar3 upstream has nothing at all.
    failed = [failure.subject for failure in summary.failures]
    assert failed == ["installs/rebar3-1.x.csv", "installs/rebar.csv"]
    foo.engine.offline = True
    for target in (
        "/installs/hex-1.x.csv",
        "/installs/hex-1.x.csv.signed",
        "/installs/1.14.0/hex-2.1.1.ez",
    ):
        assert (await foo.get(target, host="builds.hex.pm")).status == 200
    assert "builds/installs/hex-1.x.csv.signed" in foo.store.pins.keys


async def test_docs_are_taken_where_there_are_any(foo: Bench) -> None:
    foo.publish("bar", Rel("1.0.0", b"bar"))
    foo.fake.files["/docs/foo-1.0.0.tar.gz"] = b"docs"
    releases = (*LOCKED, LockedRelease("bar", "1.0.0"))
    summary = await warm(foo.core, Demand(label="x", releases=releases, docs=True), silent)
    assert summary.failures == []
    assert foo.store.get("repo/docs/foo-1.0.0.tar.gz") is not None


async def test_a_name_that_nobody_has_and_an_upstream_that_fails(foo: Bench) -> None:
    wishes = (parse_wish("foo"), parse_wish("nobody"))
    summary = await warm(foo.core, Demand(label="x", wishes=wishes), silent)
    assert [failure.why for failure in summary.failures] != []
    assert all("nobody" in failure.why for failure in summary.failures)
    assert foo.store.get("repo/tarballs/foo-1.0.0.tar") is not None


async def test_each_thing_is_reported_once(foo: Bench) -> None:
    events: list[Event] = []
    foo.publish("bar", Rel("1.0.0", b"bar", deps=(("foo", "~> 1.0", False),)))
    await warm(foo.core, Demand(label="x", wishes=(parse_wish("bar"),)), events.append)
    had = [event["subject"] for event in events if event["event"] == "have"]
    assert sorted(had) == ["package bar", "package foo", "tarball bar-1.0.0", "tarball foo-1.0.0"]
    assert max(event["count"] for event in events if event["event"] == "total") == 4


async def test_offline(foo: Bench) -> None:
    foo.engine.offline = True
    with pytest.raises(OfflineError, match="hexcache offline off"):
        await warm(foo.core, Demand(label="x", releases=LOCKED), silent)


@pytest.mark.parametrize(
    "fields",
    [{}, {"label": "x"}, {"label": "x", "releases": [{"colour": 1}], "wishes": []}, [], None],
)
async def test_arguments_of_another_version(foo: Bench, fields: Any) -> None:
    with pytest.raises(ControlError, match="different versions"):
        await job(foo.core, Order({"demands": [fields]}), silent)


def test_a_demand_crosses_the_socket_whole() -> None:
    demand = Demand(
        label="x",
        releases=(LockedRelease("foo", "1.0.0", "hexpm", "a" * 64, None, 7),),
        wishes=(parse_wish("plug ~> 1.14"), parse_wish("phoenix@1.5.6")),
        latest=3,
        docs=True,
    )
    assert Demand.from_json(json.loads(json.dumps(demand.as_json()))) == demand


async def test_a_second_run_that_is_interrupted_keeps_the_pins(foo: Bench) -> None:
    foo.fake.files["/docs/foo-1.0.0.tar.gz"] = b"docs"
    demand = Demand(label="x", releases=LOCKED, docs=True)
    await warm(foo.core, demand, silent)
    before = foo.store.pins.keys
    assert "repo/docs/foo-1.0.0.tar.gz" in before
    foo.fake.fault("/packages", hold())
    foo.clock.advance(60)
    running = asyncio.ensure_future(warm(foo.core, demand, silent))
    await asyncio.to_thread(foo.fake.wait_until_holding)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert foo.store.pins.keys == before
    foo.fake.heal()
    foo.fake.release()
    # Nor does one without docs forget them.
    await warm(foo.core, Demand(label="x", releases=LOCKED), silent)
    assert foo.store.pins.keys == before


async def test_what_could_not_be_asked_about_stays_pinned(foo: Bench) -> None:
    demand = Demand(label="x", releases=LOCKED)
    await warm(foo.core, demand, silent)
    before = foo.store.pins.keys
    foo.fake.fault("/", status(500))
    foo.clock.advance(60)
    await warm(foo.core, demand, silent)
    assert foo.store.pins.keys == before


async def test_the_newest_by_name_is_what_upstream_says_now(bench: Make) -> None:
    made = bench(cache={"registry_fresh": 1000})
    made.publish("foo", Rel("1.0.0", CONTENT))
    await made.get("/packages/foo")
    made.publish("foo", Rel("1.0.0", CONTENT), Rel("1.1.0", b"newer"))
    summary = await warm(made.core, Demand(label="x", wishes=(parse_wish("foo"),)), silent)
    assert summary.failures == []
    assert made.store.get("repo/tarballs/foo-1.1.0.tar") is not None


async def test_by_name_from_what_is_known_is_said(foo: Bench) -> None:
    await foo.get("/packages/foo")
    await foo.get("/tarballs/foo-1.0.0.tar")
    events: list[Event] = []
    with foo.fake.refusing():
        await warm(foo.core, Demand(label="x", wishes=(parse_wish("foo"),)), events.append)
    notes = [event for event in events if event["event"] == "note"]
    assert [note["subject"] for note in notes] == ["package foo"]
    assert "upstream could not be asked" in notes[0]["why"]
