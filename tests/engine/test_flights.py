"""Coalescing: one piece of work for whoever waits, and it belongs to none of them."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from hexcache.engine.flights import Flights


class Work:
    """Work that ends when it is told to; `calls` counts how often it was begun."""

    def __init__(self) -> None:
        self.calls = 0
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.finished = False

    async def __call__(self) -> str:
        self.calls += 1
        self.began.set()
        await self.go.wait()
        self.finished = True
        return "tarball"


class NoSuchHostError(Exception):
    pass


async def fail() -> str:
    raise NoSuchHostError


@pytest.fixture
def complaints() -> list[dict[str, Any]]:
    """What the event loop complains of: errors that nobody looked at."""
    found: list[dict[str, Any]] = []
    return found


async def turns(count: int = 5) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_fifty_clients_share_one_fetch() -> None:
    flights: Flights[str] = Flights()
    work = Work()
    joined = [flights.join("repo/a", work) for _ in range(50)]
    assert [under_way for _, under_way in joined] == [False] + [True] * 49
    waiters = [asyncio.ensure_future(flight.result()) for flight, _ in joined]
    await work.began.wait()
    work.go.set()
    assert await asyncio.gather(*waiters) == ["tarball"] * 50
    assert work.calls == 1


async def test_keys_have_flights_of_their_own() -> None:
    flights: Flights[str] = Flights()
    one, other = Work(), Work()
    flight, _ = flights.join("repo/a", one)
    _, under_way = flights.join("repo/b", other)
    assert not under_way
    assert len(flights) == 2
    one.go.set()
    assert await flight.result() == "tarball"
    assert not other.finished
    await flights.close()


async def test_the_work_goes_on_when_all_clients_have_hung_up() -> None:
    flights: Flights[str] = Flights()
    work = Work()
    flight, _ = flights.join("repo/a", work)
    waiters = [asyncio.ensure_future(flight.result()) for _ in range(3)]
    await work.began.wait()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert all(waiter.cancelled() for waiter in waiters)

    # The next who asks joins the same flight.
    again, under_way = flights.join("repo/a", work)
    assert under_way
    work.go.set()
    assert await again.result() == "tarball"
    assert work.calls == 1


async def test_one_client_hanging_up_does_not_disturb_the_others() -> None:
    flights: Flights[str] = Flights()
    work = Work()
    flight, _ = flights.join("repo/a", work)
    impatient, patient = (asyncio.ensure_future(flight.result()) for _ in range(2))
    await work.began.wait()
    impatient.cancel()
    work.go.set()
    assert await patient == "tarball"


async def test_an_error_reaches_everyone_who_waits() -> None:
    flights: Flights[str] = Flights()
    flight, _ = flights.join("repo/a", fail)
    results = await asyncio.gather(*(flight.result() for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [NoSuchHostError] * 5


async def test_an_error_that_nobody_waits_for_is_no_complaint(
    complaints: list[dict[str, Any]],
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    flights: Flights[str] = Flights()
    flights.join("repo/a", fail)
    await turns()
    assert len(flights) == 0
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("work", [fail, None])
async def test_a_landed_flight_is_forgotten(work: Any) -> None:
    flights: Flights[str] = Flights()
    good = Work()
    good.go.set()
    flight, _ = flights.join("repo/a", work or good)
    await asyncio.gather(flight.result(), return_exceptions=True)
    await turns()
    assert flights.get("repo/a") is None
    assert len(flights) == 0

    # A failure isn't remembered: the next who asks gets a new try.
    later = Work()
    later.go.set()
    flight, under_way = flights.join("repo/a", later)
    assert not under_way
    assert await flight.result() == "tarball"


async def test_patience() -> None:
    flights: Flights[str] = Flights()
    work = Work()
    flight, _ = flights.join("repo/a", work)
    assert not await flight.done_within(0)
    assert not await flight.done_within(-1)
    waiting = asyncio.ensure_future(flight.done_within(60))
    await work.began.wait()
    work.go.set()
    assert await waiting
    assert await flight.done_within(0)
    assert await flight.result() == "tarball"


async def test_waiting_in_vain_leaves_the_work_alone() -> None:
    flights: Flights[str] = Flights()
    work = Work()
    flight, _ = flights.join("repo/a", work)
    waiting = asyncio.ensure_future(flight.done_within(60))
    await work.began.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    work.go.set()
    assert await flight.result() == "tarball"


async def test_a_failure_counts_as_an_end() -> None:
    flights: Flights[str] = Flights()
    flight, _ = flights.join("repo/a", fail)
    assert await flight.done_within(60)
    with pytest.raises(NoSuchHostError):
        await flight.result()


async def test_how_long_it_runs() -> None:
    flights: Flights[str] = Flights()
    work = Work()
    flight, _ = flights.join("repo/a", work)
    before = flight.running_for
    await turns()
    assert 0 <= before <= flight.running_for
    assert flight.started <= asyncio.get_running_loop().time()
    await flights.close()


async def test_close_ends_what_is_under_way() -> None:
    flights: Flights[str] = Flights()
    works = [Work() for _ in range(3)]
    joined = [flights.join(f"repo/{index}", work)[0] for index, work in enumerate(works)]
    await asyncio.gather(*(work.began.wait() for work in works))
    await flights.close()
    assert all(flight.task.cancelled() for flight in joined)
    await turns()
    assert len(flights) == 0
    await flights.close()


@pytest.fixture
def eager_loop() -> Any:
    """What mitmproxy sets: a task runs at once, up to where it first waits."""

    def make() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return make


def test_under_an_eager_task_factory(eager_loop: Any) -> None:
    async def scenario() -> None:
        flights: Flights[str] = Flights()
        instant = Work()
        instant.go.set()
        flight, under_way = flights.join("repo/a", instant)
        assert not under_way
        assert flight.task.done()
        assert len(flights) == 0
        assert await flight.result() == "tarball"

        flight, _ = flights.join("repo/a", fail)
        assert len(flights) == 0
        with pytest.raises(NoSuchHostError):
            await flight.result()

        slow = Work()
        first, _ = flights.join("repo/a", slow)
        second, under_way = flights.join("repo/a", slow)
        assert under_way
        waiters = [asyncio.ensure_future(f.result()) for f in (first, second)]
        # The landing of the earlier flights must not take this one away.
        await turns()
        assert flights.get("repo/a") is first
        slow.go.set()
        assert await asyncio.gather(*waiters) == ["tarball"] * 2
        assert slow.calls == 1
        await turns()
        assert len(flights) == 0

    with asyncio.Runner(loop_factory=eager_loop) as runner:
        runner.run(scenario())


async def test_nobody_joins_what_was_given_up() -> None:
    """The next one doesn't begin before it has ended: both would write to the same file."""
    flights: Flights[str] = Flights()
    ended = asyncio.Event()

    async def ends_slowly() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await ended.wait()
        return "nothing"

    first, _ = flights.join("repo/a", ends_slowly)
    await turns()
    first.give_up()
    work = Work()
    second, under_way = flights.join("repo/a", work)
    third, joined = flights.join("repo/a", work)
    assert (under_way, joined, third) == (False, True, second)
    await turns()
    assert work.calls == 0
    ended.set()
    work.go.set()
    assert await second.result() == "tarball"
    assert work.calls == 1
    assert len(flights) == 0
