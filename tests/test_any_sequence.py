"""Any sequence of faults, changes, restarts and requests: no wrong byte is ever served, nothing
good is ever lost, every request ends."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.clock import Clock
from support.engine import Bench, Got
from support.signing import Rel, other_signer
from support.upstream import (
    Upstream,
    closed,
    corrupt,
    cut,
    drip,
    longer,
    replaced,
    status,
)

PACKAGE = "/packages/foo"
LIMITS = {"timeout": 5, "stall": 5, "patience": 5}
ENDS_WITHIN = 30.0
FAULTS = {
    "closed": closed(),
    "cut": cut(150),
    "reset": cut(700, reset=True),
    "corrupt": corrupt(),
    "500": status(500),
    "503": status(503),
    "429": status(429),
    "403": status(403),
    "longer": longer(),
    "not signed": replaced(other_signer().package("foo")),
    "drip": drip(),
}


class AnySequence(RuleBasedStateMachine):
    """One package at one upstream, and an engine that is closed and opened again."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hexcache-"))
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.fake = Upstream()
        self.fake.__enter__()
        self.releases: dict[str, bytes] = {}
        self.entries: set[bytes] = set()
        self.contents: dict[str, set[bytes]] = {}
        self.counter = 0
        self.had_entry = False
        self.bench = self.open(offline=False)

    def open(self, *, offline: bool) -> Bench:
        async def make() -> Bench:
            changes = {"upstream": LIMITS, "offline": offline}
            return Bench(self.directory, self.fake, self.clock, changes)

        return self.run(make())

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(work, ENDS_WITHIN)

        return self.runner.run(bounded())

    def teardown(self) -> None:
        try:
            self.reopen(offline=False)
            self.mend()
            self.clock.advance(700)
            self.run(self.bench.until_up())
            self.run(self.bench.settled())
            # What there is now is served, exactly.
            assert self.get(PACKAGE).body == self.fake.files[PACKAGE]
            for version, content in self.releases.items():
                assert self.get(self.tarball(version)).body == content
        finally:
            self.run(self.bench.close())
            self.runner.close()
            self.fake.__exit__(None, None, None)
            shutil.rmtree(self.directory, ignore_errors=True)

    def get(self, target: str) -> Got:
        return self.run(self.bench.get(target))

    @staticmethod
    def tarball(version: str) -> str:
        return f"/tarballs/foo-{version}.tar"

    def announce(self) -> None:
        """The registry entry of what there is, newer than the one before."""
        self.counter += 1
        self.fake.modified[PACKAGE] = 1.7e9 + self.counter
        tarballs = {path for path in self.fake.files if path.startswith("/tarballs")}
        for path in tarballs:
            del self.fake.files[path]
        self.bench.publish("foo", *(Rel(v, content) for v, content in self.releases.items()))
        self.entries.add(self.fake.files[PACKAGE])

    def content(self, version: str) -> bytes:
        self.counter += 1
        made = f"{version}, {self.counter}. ".encode() * 300
        self.contents.setdefault(version, set()).add(made)
        return made

    @initialize()
    def first_release(self) -> None:
        self.publish()

    @rule()
    def publish(self) -> None:
        version = f"1.{len(self.contents)}.0"
        self.releases[version] = self.content(version)
        self.announce()

    @rule(data=st.data())
    def replace_content(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.releases)))
        self.releases[version] = self.content(version)
        self.announce()

    @rule(data=st.data())
    def replace_tarball_first(self, data: st.DataObject) -> None:
        """hexpm's order: the entry follows with whatever is announced next."""
        version = data.draw(st.sampled_from(sorted(self.releases)))
        self.releases[version] = self.content(version)
        self.fake.files[self.tarball(version)] = self.releases[version]

    @precondition(lambda self: len(self.releases) > 1)
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        del self.releases[data.draw(st.sampled_from(sorted(self.releases)))]
        self.announce()

    @rule(
        prefix=st.sampled_from([PACKAGE, "/tarballs", "/"]),
        name=st.sampled_from(sorted(FAULTS)),
        times=st.sampled_from([1, 2, 3, None]),
    )
    def break_something(self, prefix: str, name: str, times: int | None) -> None:
        # A body signed for nobody is about the registry only.
        self.fake.fault(PACKAGE if name == "not signed" else prefix, FAULTS[name], times)

    @rule()
    def mend(self) -> None:
        self.fake.heal()
        self.fake.stop_listening()
        self.fake.start_listening()
        self.announce()

    @rule()
    def cut_the_line(self) -> None:
        self.fake.stop_listening()

    @rule(seconds=st.sampled_from([1, 6, 660, 2 * 86400]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(offline=st.booleans())
    def reopen(self, offline: bool) -> None:
        self.run(self.bench.close())
        self.bench = self.open(offline=offline)

    @rule()
    def ask_for_the_entry(self) -> None:
        got = self.get(PACKAGE)
        if got.status == 200:
            self.had_entry = True
            assert got.body in self.entries
        else:
            assert not self.had_entry, f"it was here before: {got.body!r}"
            assert got.status in (502, 504)

    @rule(data=st.data())
    def ask_for_a_tarball(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.contents)))
        self.check_tarball(version, self.get(self.tarball(version)))

    def check_tarball(self, version: str, got: Got) -> None:
        if got.status == 200:
            assert got.body in self.contents[version]
        else:
            assert got.status in (404, 502, 504)

    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.contents)))

        async def impatient() -> None:
            client = asyncio.create_task(self.bench.get(self.tarball(version)))
            await asyncio.sleep(0)
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)

        self.run(impatient())


AnySequence.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnySequence = AnySequence.TestCase
