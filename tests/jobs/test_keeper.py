"""What the server does by itself, with an engine, real files and a clock to move."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hexcache.jobs.keeper import PACKAGES, Keeper, Kept
from hexcache.network.pace import Pace
from hexcache.versions.wishes import parse_wish
from support.clock import Waiting
from support.engine import Bench, Make
from support.faults import status
from support.signing import Rel

DAY = 86400.0
LOOK = 2.0


async def until(condition: Callable[[], bool]) -> None:
    """What happens beside this test has come that far."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def lock_of(*releases: tuple[str, str]) -> str:
    lines = [f'  "{name}": {{:hex, :{name}, "{version}"}},\n' for name, version in releases]
    return "%{\n" + "".join(lines) + "}\n"


class Kitchen:
    """A keeper at work. `lock` is the one file that it watches."""

    def __init__(self, made: Bench, lock: Path) -> None:
        self.bench = made
        self.lock = lock
        self.time = Waiting()
        self.keeper = self._made()

    def _made(self) -> Keeper:
        pace = Pace(monotonic=self.time, sleep=self.time.sleep, random=lambda: 1.0)
        return Keeper(self.bench.core, pace)

    async def again(self) -> None:
        """Another server begins."""
        await self.keeper.close()
        self.keeper = self._made()
        await self.keeper.start()

    def kept(self, label: str = "") -> Kept:
        wanted = label or str(self.lock)
        return next(
            (each for each in self.keeper.statistics() if each.label == wanted), Kept(wanted)
        )

    async def done(self, runs: int, label: str = "") -> Kept:
        await until(lambda: self.kept(label).runs == runs)
        return self.kept(label)

    async def looked(self, times: int = 1) -> None:
        """So many looks at the disk have come to their end."""
        for _ in range(times):
            await until(lambda: self.time.sleepers(LOOK) > 0)
            self.time.advance(LOOK)
        await until(lambda: self.time.sleepers(LOOK) > 0)

    async def passes(self, condition: Callable[[], bool], step: float = 1.0) -> None:
        """Time passes until then."""
        async with asyncio.timeout(20):
            while not condition():
                self.time.advance(step)
                await asyncio.sleep(0.002)

    @property
    def pinned(self) -> set[str]:
        return set(self.bench.store.pins.groups)

    def stored(self, key: str) -> bool:
        return self.bench.store.get(key) is not None


type Cook = Callable[..., Awaitable[Kitchen]]


@pytest.fixture
async def kitchen(bench: Make, tmp_path: Path) -> AsyncIterator[Cook]:
    """Starts keepers that end with the test. Keyword arguments are of the section `warm`."""
    made: list[Kitchen] = []

    async def start(**warm: Any) -> Kitchen:
        directory = tmp_path / "project"
        directory.mkdir(exist_ok=True)
        lock = directory / "mix.lock"
        settings = {"lockfiles": [f"{tmp_path}/*/mix.lock"], **warm}
        kitchen = Kitchen(bench(warm=settings, cache={"registry_fresh": 0}), lock)
        kitchen.bench.publish("foo", Rel("1.0.0", b"foo one", (("bar", "~> 1.0", False),)))
        kitchen.bench.publish("bar", Rel("1.0.0", b"bar one"))
        made.append(kitchen)
        await kitchen.keeper.start()
        return kitchen

    yield start
    for each in made:
        await each.keeper.close()


async def test_a_lock_file_that_appears_is_warmed_and_pinned(
    kitchen: Cook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cook = await kitchen()
    await cook.looked()
    assert cook.keeper.statistics() == ()
    cook.lock.write_text(lock_of(("foo", "1.0.0")))
    await cook.looked(2)
    kept = await cook.done(1)
    # The registry entry of bar too, which resolving asks for.
    assert kept == Kept(
        str(cook.lock),
        files=3,
        fetched=3,
        bytes=kept.bytes,
        runs=1,
        done_at=cook.bench.clock(),
    )
    assert cook.stored("repo/tarballs/foo-1.0.0.tar")
    assert cook.bench.store.pins.groups[str(cook.lock)].keys == {
        *("repo/packages/foo", "repo/packages/bar", "repo/tarballs/foo-1.0.0.tar"),
    }
    assert f"{cook.lock}: 3 files fetched (0.0 MB), 0 were here" in caplog.messages


async def test_one_that_changes_is_warmed_again_at_once(kitchen: Cook) -> None:
    cook = await kitchen()
    cook.lock.write_text(lock_of(("foo", "1.0.0")))
    await cook.looked(2)
    await cook.done(1)
    cook.lock.write_text(lock_of(("bar", "1.0.0")))
    await cook.looked(2)
    await cook.done(2)
    assert cook.stored("repo/tarballs/bar-1.0.0.tar")
    # What it names no longer isn't held any longer.
    assert "repo/tarballs/foo-1.0.0.tar" not in cook.bench.store.pins.keys


async def test_a_change_while_it_is_being_warmed_counts(kitchen: Cook) -> None:
    cook = await kitchen()
    cook.bench.engine.offline = True
    cook.lock.write_text(lock_of(("foo", "1.0.0")))
    await cook.looked(2)
    cook.lock.write_text(lock_of(("bar", "1.0.0")))
    await cook.looked(2)
    cook.bench.engine.offline = False
    await cook.done(1)
    assert cook.stored("repo/tarballs/bar-1.0.0.tar")
    assert not cook.stored("repo/tarballs/foo-1.0.0.tar")


async def test_one_that_goes_is_pinned_no_longer(kitchen: Cook) -> None:
    cook = await kitchen()
    cook.lock.write_text(lock_of(("foo", "1.0.0")))
    await cook.looked(2)
    await cook.done(1)
    cook.lock.unlink()
    await cook.looked(1)
    await until(lambda: not cook.pinned)
    assert cook.keeper.statistics() == ()


async def test_one_that_went_while_no_server_ran(kitchen: Cook) -> None:
    cook = await kitchen()
    pins = cook.bench.store.pins
    elsewhere = str(cook.lock.parent / "deeper/mix.lock")
    for label in (str(cook.lock), elsewhere, "by name: foo", PACKAGES):
        pins.pin(label, ["repo/packages/foo"], at=0.0)
    await cook.again()
    # Those of others are left alone, and so are the files that no pattern names.
    await until(lambda: cook.pinned == {elsewhere, "by name: foo"})


async def test_a_broken_lock_file_is_one_warning_for_each_change(
    kitchen: Cook, caplog: pytest.LogCaptureFixture
) -> None:
    cook = await kitchen()
    cook.lock.write_text(lock_of(("foo", "1.0.0")))
    await cook.looked(2)
    await cook.done(1)
    cook.lock.write_text("<<<<<<< ours\n")
    await cook.looked(5)
    warnings = [each for each in caplog.messages if "merge conflict" in each]
    assert len(warnings) == 1
    assert str(cook.lock) in warnings[0]
    assert "merge conflict" in cook.kept().broken
    # What it named before is still kept.
    assert "repo/tarballs/foo-1.0.0.tar" in cook.bench.store.pins.keys
    cook.lock.write_text("<<<<<<< theirs, and more\n")
    await cook.looked(3)
    assert len([each for each in caplog.messages if "merge conflict" in each]) == 2
    cook.lock.write_text(lock_of(("bar", "1.0.0")))
    await cook.looked(2)
    await until(lambda: cook.stored("repo/tarballs/bar-1.0.0.tar"))
    assert cook.kept().broken == ""


async def test_packages_are_kept_at_their_newest(kitchen: Cook) -> None:
    cook = await kitchen(packages=[parse_wish("foo")], lockfiles=[])
    await cook.done(1, PACKAGES)
    assert cook.stored("repo/tarballs/foo-1.0.0.tar")
    assert cook.stored("repo/tarballs/bar-1.0.0.tar")
    cook.bench.publish("foo", Rel("1.0.0", b"foo one"), Rel("1.1.0", b"foo newer"))
    await cook.passes(lambda: cook.kept(PACKAGES).runs == 2, DAY / 2)
    assert cook.kept(PACKAGES).failures == ()
    assert cook.stored("repo/tarballs/foo-1.1.0.tar")
    kept = cook.kept(PACKAGES)
    assert kept.fetched == 6  # two entries and two tarballs, then foo's new entry and tarball
    assert "repo/tarballs/foo-1.0.0.tar" not in cook.bench.store.pins.keys


async def test_every_version_where_the_settings_say_so(kitchen: Cook) -> None:
    cook = await kitchen(packages=[parse_wish("many")], lockfiles=[], versions="all")
    await cook.done(1, PACKAGES)
    (failure,) = cook.kept(PACKAGES).failures
    assert "there is no package many" in failure.why
    cook.bench.publish("many", Rel("1.0.0", b"one"), Rel("2.0.0", b"two"))
    cook.bench.clock.advance(60)  # a 404 is believed for a moment
    await cook.passes(lambda: cook.kept(PACKAGES).runs == 2)
    assert cook.kept(PACKAGES).failures == ()
    assert cook.stored("repo/tarballs/many-1.0.0.tar")
    assert cook.stored("repo/tarballs/many-2.0.0.tar")


async def test_rounds_leave_gaps_between_files(kitchen: Cook) -> None:
    cook = await kitchen(packages=[parse_wish("foo")], lockfiles=[])
    await cook.done(1, PACKAGES)
    await until(lambda: cook.time.sleepers() == 1)
    cook.time.advance(DAY)
    # A round with two at a time: they wait a second before they ask, and so does each after them.
    asked = len(cook.bench.fake.requests)
    await until(lambda: cook.time.sleepers() > 0)
    assert cook.kept(PACKAGES).working
    assert len(cook.bench.fake.requests) == asked
    began = cook.time.now
    await cook.passes(lambda: cook.kept(PACKAGES).runs == 2)
    assert cook.time.now - began >= 2


async def test_offline_is_waited_for(kitchen: Cook) -> None:
    cook = await kitchen()
    cook.bench.engine.offline = True
    cook.lock.write_text(lock_of(("foo", "1.0.0")))
    await cook.looked(3)
    assert cook.kept().runs == 0
    assert cook.bench.fake.requests == []
    cook.bench.engine.offline = False
    kept = await cook.done(1)
    assert kept.failures == ()


async def test_an_upstream_that_is_down_is_waited_for(kitchen: Cook) -> None:
    cook = await kitchen()
    with cook.bench.fake.refusing():
        for _ in range(3):
            await cook.bench.get("/packages/foo")
        cook.lock.write_text(lock_of(("foo", "1.0.0")))
        await cook.looked(3)
        assert cook.kept().runs == 0
    kept = await cook.done(1)
    assert kept.failures == ()


async def test_what_fails_is_said_once_and_tried_again_soon(
    kitchen: Cook, caplog: pytest.LogCaptureFixture
) -> None:
    cook = await kitchen()
    cook.bench.fake.fault("/tarballs/foo", status(403))
    cook.lock.write_text(lock_of(("foo", "1.0.0")))
    await cook.looked(2)
    kept = await cook.done(1)
    assert [failure.subject for failure in kept.failures] == ["tarball foo-1.0.0"]
    began = cook.time.now
    await cook.passes(lambda: cook.kept().runs == 2)
    assert 60 <= cook.time.now - began < DAY / 2
    assert len([each for each in caplog.messages if "can't be kept" in each]) == 1
    cook.bench.fake.heal()
    await cook.passes(lambda: not cook.kept().failures)
    assert cook.stored("repo/tarballs/foo-1.0.0.tar")


async def test_an_error_that_nobody_thought_of_does_not_end_it(
    kitchen: Cook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("hexcache.jobs.keeper.warm", broken)
        cook = await kitchen(packages=[parse_wish("foo")], lockfiles=[])
        await cook.done(1, PACKAGES)
        assert cook.kept(PACKAGES).failures
    await cook.passes(lambda: cook.kept(PACKAGES).runs == 2)
    assert cook.kept(PACKAGES).failures == ()
