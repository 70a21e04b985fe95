"""Jobs of upkeep, run in a real engine with something of each kind stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hexcache.jobs import upkeep
from hexcache.jobs.base import Event, Job, Order
from hexcache.resources import Kind
from support.clock import Clock
from support.engine import CONTENT, Bench
from support.entries import entry_of
from support.signing import Rel, signer

ONE, TWO = Rel("1.0.0", CONTENT), Rel("2.0.0", b"two" * 1000)


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


async def plant(bench: Bench, key: str, kind: Kind, body: bytes) -> None:
    """As whoever can write the directory could: it hashes well."""
    await bench.store.put((entry_of(key, body, kind=kind), body))


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


def freed(events: list[Event]) -> dict[str, int]:
    return {event["what"]: event["count"] for event in of(events, "freed")}
