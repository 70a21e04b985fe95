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

from hexcache.errors import HexcacheError
from hexcache.messages import Headers
from support.clock import Clock
from support.engine import Bench, Got
from support.faults import (
    closed,
    corrupt,
    cut,
    drip,
    hold,
    huge_headers,
    longer,
    redirect_loop,
    replaced,
    status,
)
from support.signing import Rel, other_signer, signer
from support.upstream import Upstream

PACKAGE, SECRET = "/packages/foo", "/repos/acme/packages/secret"
LIMITS = {"timeout": 5, "stall": 5, "patience": 5}
ENDS_WITHIN = 30.0
# Which upstreams something happens to: often all of them, or the other one hides it.
WHERE = [(0, 1), (0,), (1,)]
LONG_AGO = 1_500_000_000
FAULTS = {
    "closed": closed(),
    "cut": cut(30_000),
    "reset": cut(700, reset=True),
    "corrupt": corrupt(),
    "500": status(500),
    "503": status(503),
    "429": status(429),
    "403": status(403),
    "longer": longer(),
    "redirects": redirect_loop(),
    "huge": huge_headers(),
}
# Of the registry only: a body signed for nobody, and what takes long with a large body.
ABOUT_ENTRIES = {
    "cut": cut(150),
    "not signed": replaced(other_signer().package("foo")),
    "drip": drip(),
}


class AnySequence(RuleBasedStateMachine):
    """One package at two upstreams, and an engine that is closed and opened again. Its store has
    room for a few large tarballs."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hexcache-"))
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.fakes = [Upstream(), Upstream()]
        for fake in self.fakes:
            fake.__enter__()
        self.first, self.mirror = self.fakes
        self.first.files[SECRET] = b"private" * 100
        # What there is, what the newest entry names, and what any entry ever named.
        self.releases: dict[str, Rel] = {}
        self.announced: dict[str, bytes] = {}
        self.named: dict[str, set[bytes]] = {}
        self.entries: set[bytes] = set()
        self.counter = 0
        # What has been served and must be again, unless it is evicted.
        self.had_entry = False
        self.had: dict[str, bytes] = {}
        self.evictions = 0
        self.bench = self.open(offline=False)

    def open(self, *, offline: bool) -> Bench:
        async def make() -> Bench:
            changes = {
                "upstream": {**LIMITS, "repo": [fake.url for fake in self.fakes]},
                "cache": {"size_limit": "1MiB"},
                "offline": offline,
            }
            return Bench(self.directory, self.first, self.clock, changes)

        self.evictions = 0
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
            assert self.get(PACKAGE).body == self.first.files[PACKAGE]
            for version, release in self.releases.items():
                assert self.get(tarball(version)).body == release.tarball
            assert not any("acme" in entry.key for entry in self.bench.store.entries())
            for seen in self.mirror.requests:
                assert not seen.path.startswith("/repos")
                assert "authorization" not in seen.headers
        finally:
            self.run(self.bench.close())
            self.runner.close()
            for fake in self.fakes:
                fake.__exit__(None, None, None)
            shutil.rmtree(self.directory, ignore_errors=True)

    def get(self, target: str) -> Got:
        return self.run(self.ask(target))

    async def ask(self, target: str) -> Got:
        try:
            return await self.bench.get(target, Authorization="key")
        except HexcacheError as error:
            # It was sent as it came, and the connection is broken off: no whole answer.
            return Got(504, b"", Headers(()), "error", str(error))

    def announce(self, *, lagging: bool = False) -> None:
        """The registry of what there is, newer than the one before. A lagging mirror has the one
        before, which must not have more than the new one."""
        self.counter += 1
        files = self.first.files
        for path in [path for path in files if path.startswith("/tarballs")]:
            del files[path]
        self.bench.publish("foo", *self.releases.values())
        files["/versions"] = signer().versions({"foo": self.releases})
        for fake in self.fakes:
            for path in (PACKAGE, "/versions"):
                fake.modified[path] = 1.7e9 + self.counter
        if not lagging:
            self.mirror.files.clear()
            self.mirror.files.update(files)
            del self.mirror.files[SECRET]
        self.entries.add(files[PACKAGE])
        self.announced = {version: rel.tarball for version, rel in self.releases.items()}
        for version, content in self.announced.items():
            self.named.setdefault(version, set()).add(content)

    def release(self, version: str, *, large: bool, fresh: bool) -> None:
        """`fresh`: published a moment ago, so that /versions doesn't vouch for its entry."""
        self.counter += 1
        content = f"{version}, {self.counter}. ".encode() * (20_000 if large else 300)
        at = int(self.clock.now) if fresh else LONG_AGO
        self.releases[version] = Rel(version, content, published_at=at)

    def a_version(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.releases)))

    @initialize()
    def first_release(self) -> None:
        self.publish(large=False, fresh=False, lagging=False)

    @rule(large=st.booleans(), fresh=st.booleans(), lagging=st.booleans())
    def publish(self, large: bool, fresh: bool, lagging: bool) -> None:
        self.release(f"1.{self.counter}.0", large=large, fresh=fresh)
        self.announce(lagging=lagging)

    @rule(data=st.data(), large=st.booleans())
    def replace_content(self, data: st.DataObject, large: bool) -> None:
        self.release(self.a_version(data), large=large, fresh=True)
        self.announce()

    @rule(data=st.data())
    def replace_tarball_first(self, data: st.DataObject) -> None:
        """hexpm's order: the entry follows with whatever is announced next."""
        version = self.a_version(data)
        self.release(version, large=False, fresh=True)
        self.first.files[tarball(version)] = self.releases[version].tarball

    @precondition(lambda self: len(self.releases) > 1)
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        del self.releases[self.a_version(data)]
        self.announce()

    @rule(
        where=st.sampled_from(WHERE),
        prefix=st.sampled_from([PACKAGE, "/versions", "/tarballs", "/"]),
        name=st.sampled_from(sorted(FAULTS)),
        times=st.sampled_from([1, 2, 3, None]),
    )
    def break_something(
        self, where: tuple[int, ...], prefix: str, name: str, times: int | None
    ) -> None:
        for number in where:
            self.fakes[number].fault(prefix, FAULTS[name], times)

    @rule(where=st.sampled_from(WHERE), name=st.sampled_from(sorted(ABOUT_ENTRIES)))
    def break_entries(self, where: tuple[int, ...], name: str) -> None:
        for number in where:
            self.fakes[number].fault(PACKAGE, ABOUT_ENTRIES[name], None)

    @rule()
    def mend(self) -> None:
        for fake in self.fakes:
            fake.heal()
            fake.stop_listening()
            fake.start_listening()
        self.announce()

    @rule(where=st.sampled_from(WHERE))
    def cut_the_line(self, where: tuple[int, ...]) -> None:
        for number in where:
            self.fakes[number].stop_listening()

    @rule(seconds=st.sampled_from([1, 6, 660, 2 * 86400]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(offline=st.booleans())
    def reopen(self, offline: bool) -> None:
        self.run(self.bench.close())
        self.note_evictions()
        self.bench = self.open(offline=offline)

    @rule(later=st.sampled_from([0, 6]))
    def ask_for_the_entry(self, later: int) -> None:
        self.clock.advance(later)
        self.check_entry(self.get(PACKAGE))

    @rule(data=st.data())
    def ask_for_a_tarball(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.named)))
        self.check_tarball(version, self.get(tarball(version)))

    @rule()
    def ask_for_what_is_private(self) -> None:
        got = self.get(SECRET)
        assert got.status != 200 or len(got.body) == len(self.first.files[SECRET])

    @rule()
    def everybody_asks(self) -> None:
        """Several clients at once, two for each thing."""

        async def crowd() -> list[Got]:
            return await asyncio.gather(*(self.ask(target) for target in targets * 2))

        versions = sorted(self.named)
        targets = [PACKAGE, *map(tarball, versions)]
        replies = self.run(crowd())
        for half in (replies[: len(targets)], replies[len(targets) :]):
            self.check_entry(half[0])
            for version, got in zip(versions, half[1:], strict=True):
                self.check_tarball(version, got)

    @rule(data=st.data(), after=st.sampled_from([-1, 0, 200, 100_000]))
    def ask_while_it_stalls(self, data: st.DataObject, after: int) -> None:
        version = data.draw(st.sampled_from(sorted(self.named)))

        async def patient() -> Got:
            client = asyncio.create_task(self.ask(tarball(version)))
            await self.until_held(client, after)
            return await client

        self.check_tarball(version, self.run(patient()))

    @rule(data=st.data(), damaged=st.booleans())
    def crash_in_the_middle(self, data: st.DataObject, damaged: bool) -> None:
        """What has come of a large tarball is left, or something that looks like it."""
        version = data.draw(st.sampled_from(sorted(self.named)))

        async def crash() -> None:
            client = asyncio.create_task(self.ask(tarball(version)))
            await self.until_held(client, 100_000, self.bench.close())
            await asyncio.gather(client, return_exceptions=True)

        self.run(crash())
        self.run(self.bench.close())
        self.note_evictions()
        for part in self.bench.partial.glob("*.part") if damaged else ():
            part.write_bytes(part.read_bytes()[:-1] + b"!")
        self.bench = self.open(offline=False)

    async def until_held(
        self, client: asyncio.Task[Got], after: int, then: Coroutine[Any, Any, None] | None = None
    ) -> None:
        """Let both upstreams stall one tarball each, and go on when the client waits for it."""
        stalls = hold(after)
        for fake in self.fakes:
            fake.fault("/tarballs", stalls, 1)
        while not client.done() and not any(fake.is_holding for fake in self.fakes):
            await asyncio.sleep(0.001)
        if then is not None:
            await then
        for fake in self.fakes:
            fake.spare(stalls)
            fake.release()

    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.named)))

        async def impatient() -> None:
            client = asyncio.create_task(self.ask(tarball(version)))
            await asyncio.sleep(0)
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)

        self.run(impatient())

    def note_evictions(self) -> None:
        """What has been served may be gone."""
        if self.bench.store.evictions != self.evictions:
            self.evictions = self.bench.store.evictions
            self.had_entry = False
            self.had.clear()

    def check_entry(self, got: Got) -> None:
        self.note_evictions()
        if got.status == 200:
            self.had_entry = True
            assert got.body in self.entries
        else:
            assert not self.had_entry, f"it was here before: {got.body!r}"
            assert got.status in (502, 504)

    def check_tarball(self, version: str, got: Got) -> None:
        self.note_evictions()
        had = self.had.get(version)
        if had is not None and had == self.announced.get(version):
            # However the line is, and whatever else was published.
            assert (got.status, got.body) == (200, had)
        if got.status == 200:
            assert got.body in self.named[version]
            self.had[version] = got.body
        else:
            assert got.status in (404, 502, 504)


def tarball(version: str) -> str:
    return f"/tarballs/foo-{version}.tar"


AnySequence.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnySequence = AnySequence.TestCase
