"""refresh, with a real engine: what is new is told, what fails too."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hexcache.errors import ControlError, OfflineError
from hexcache.jobs import upkeep
from support.clock import Clock
from support.engine import Bench, Make
from support.faults import hold, status
from support.signing import Rel, other_signer
from support.upkeep import ONE, TWO, of, run, summary


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
