"""Whoever says `Retry-After` is left alone, by everybody who would ask."""

from __future__ import annotations

import asyncio

import pytest

from hexcache import resources
from hexcache.engine.replies import Found
from support.clock import Clock
from support.engine import Bench, Make
from support.faults import Answer, status
from support.signing import Rel, signer
from support.upstream import Upstream

OLD = b"old tarball " * 10_000
NAMES = "abcdefgh"


async def stocked(made: Bench, clock: Clock) -> Bench:
    """With copies that are to be asked about."""
    for name in NAMES:
        made.publish(name, Rel("1.0.0", OLD))
        await made.get(f"/packages/{name}")
    clock.advance(6)
    made.fake.requests.clear()
    return made


async def test_copies_are_served_at_once(bench: Make, clock: Clock) -> None:
    made = await stocked(bench(), clock)
    made.fake.fault("/", status(429, Retry_After="30"))
    replies = [await made.get(f"/packages/{name}") for name in NAMES]
    assert {(got.status, got.outcome) for got in replies} == {(200, "stale")}
    assert made.fake.count() <= 2
    assert replies[-1].detail == f"{made.fake.url[7:]} answered 429: not asked again for 30 s"
    assert made.upstream.statistics()[made.fake.url[7:]]["up"] is True
    made.fake.heal()
    made.time.advance(29)
    assert (await made.get("/packages/h")).outcome == "stale"
    made.time.advance(1)
    assert (await made.get("/packages/h")).outcome == "revalidated"


async def test_with_an_index(bench: Make, clock: Clock) -> None:
    """What /versions was told holds for the entries that it would have vouched for."""
    made = bench()
    for name in NAMES:
        made.publish(name, Rel("1.0.0", OLD, published_at=1_500_000_000))
    made.fake.files["/versions"] = signer().versions({name: ["1.0.0"] for name in NAMES})
    for _ in range(2):
        for name in NAMES:
            await made.get(f"/packages/{name}")
        clock.advance(6)
    made.fake.requests.clear()
    made.fake.fault("/", status(429, Retry_After="30"))
    replies = await asyncio.gather(*(made.get(f"/packages/{name}") for name in NAMES))
    assert {(got.status, got.outcome) for got in replies} == {(200, "stale")}
    assert [seen.path for seen in made.fake.requests] == ["/versions"]


async def test_a_miss_waits(bench: Make, clock: Clock) -> None:
    made = await stocked(bench(), clock)
    made.publish("new", Rel("1.0.0", OLD))
    asked: list[float] = []

    def limited(answer: Answer) -> None:
        asked.append(made.time.now)
        if len(asked) == 1:
            status(429, Retry_After="30")(answer)

    made.fake.fault("/", limited)
    assert (await made.get("/packages/a")).outcome == "stale"
    began = made.time.now
    assert (await made.get("/tarballs/new-1.0.0.tar")).body == OLD
    assert asked[1] >= began + 30


async def test_a_miss_goes_to_the_next_mirror(bench: Make, upstream: Upstream) -> None:
    with Upstream() as second:
        made = bench(upstream={"repo": [upstream.url, second.url]})
        for name in "ab":
            made.publish(name, Rel("1.0.0", OLD))
        second.files.update(upstream.files)
        upstream.fault("/", status(429, Retry_After="30"))
        assert (await made.get("/packages/a")).outcome == "miss"
        assert (await made.get("/packages/b")).outcome == "miss"
        assert (upstream.count(), second.count(), made.time.now) == (1, 2, 0)
        await made.close()


async def test_a_miss_does_not_wait_for_ever(bench: Make, clock: Clock) -> None:
    made = await stocked(bench(upstream={"give_up": 10}), clock)
    made.fake.fault("/", status(429, Retry_After="3600"))
    await made.get("/packages/a")
    got = await made.get("/packages/new")
    assert (got.status, made.fake.count()) == (502, 1)
    assert b"answered 429: not asked again for 30 s" in got.body


async def test_who_insists_waits(bench: Make, clock: Clock) -> None:
    """`hexcache refresh --all` is what gets a 429 first of all."""
    made = await stocked(bench(), clock)
    made.fake.fault("/", status(429, Retry_After="15"), times=1)
    found = await asyncio.gather(
        *(made.engine.ensure(resources.package(name), itself=True) for name in NAMES)
    )
    assert all(isinstance(each, Found) for each in found)
    assert {str(each.outcome) for each in found if isinstance(each, Found)} == {"revalidated"}


@pytest.mark.parametrize("code", [503, 302])
async def test_what_may_be_about_one_file(bench: Make, clock: Clock, code: int) -> None:
    """A 503, or a 429 of somebody whom we were sent to: that file waits, the others don't."""
    with Upstream() as elsewhere:
        # No public name, so it has to be one that is known.
        made = await stocked(bench(upstream={"builds": [elsewhere.url]}), clock)
        elsewhere.fault("/", status(429, Retry_After="30"))
        redirected = status(302, Location=f"{elsewhere.url}/a")
        busy = status(503, Retry_After="30")
        made.fake.fault("/packages/a", busy if code == 503 else redirected)
        for _ in range(3):
            assert (await made.get("/packages/a")).outcome == "stale"
            clock.advance(6)
        assert made.fake.count("/packages/a") == 1
        assert (await made.get("/packages/b")).outcome == "revalidated"
        await made.close()
