"""Keeps what the settings name (warm.packages, warm.lockfiles) present and fresh while serving,
without being in anybody's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hexcache.assembly import Core
from hexcache.errors import HexcacheError, LockFileError, OfflineError
from hexcache.jobs.base import Event
from hexcache.jobs.warm import Demand, Failure, Summary, warm
from hexcache.locks.locks_on_disk import Watch, read
from hexcache.network.pace import Pace
from hexcache.printing import counted, printable, size
from hexcache.resources import Origin
from hexcache.stock import completeness

logger = logging.getLogger(__name__)

# What the packages' pins are called; those of a lock file by its path.
PACKAGES = "warm.packages"

_LOOK_SECONDS = 2.0
# Where looking takes long, it is done less often: no more than a twentieth of the time.
_LOOK_SHARE = 20
# What is new is wanted soon; what is looked after again can wait for everything else.
_JOBS_FOR_NEWS = 4
_JOBS = 2
# Between two files that are looked after again: 2,000 of them take a quarter of an hour.
_GAP_SECONDS = 1.0
_GAPS = 10_000
# After a failure it is tried again earlier than every `every`, but less and less so.
_RETRY_SECONDS = 60.0
_LINE_SECONDS = 60.0


@dataclass(frozen=True)
class Kept:
    """How a lock file or the packages are doing. `label` is what the pins are called; `files` and
    `failures` are those of the last run that came to its end, at `done_at` (seconds since the
    epoch, None: there was none yet); `fetched` and `bytes` add up since the start; `broken`: why a
    lock file can't be read, empty if it can."""

    label: str
    working: bool = False
    files: int = 0
    fetched: int = 0
    bytes: int = 0
    runs: int = 0
    failures: tuple[Failure, ...] = ()
    done_at: float | None = None
    broken: str = ""


@dataclass
class _Group:
    """What is warmed together. `task` runs as long as it is kept."""

    label: str
    task: asyncio.Task[None] | None = None
    working: bool = False
    fetched: int = 0
    bytes: int = 0
    last: Summary | None = None
    done_at: float | None = None
    runs: int = 0
    # Runs with failures, one after the other.
    failed: int = 0
    broken: str = ""

    def as_kept(self) -> Kept:
        last = self.last or Summary()
        return Kept(
            self.label,
            self.working,
            last.fetched + last.present,
            self.fetched,
            self.bytes,
            self.runs,
            tuple(last.failures),
            self.done_at,
            self.broken,
        )


class Keeper:
    """`start` it once, and `close` it. It gives way while Hexcache is offline or upstream is down,
    and goes on by itself."""

    def __init__(self, core: Core, pace: Pace | None = None) -> None:
        self._core = core
        self._settings = core.settings.warm
        self._pace = pace or Pace()
        self._watch = Watch(self._settings.lockfiles)
        self._groups: dict[str, _Group] = {}
        self._watching: asyncio.Task[None] | None = None
        # One group at a time, in two lanes: what is new, and what is looked after again.
        self._news = asyncio.Lock()
        self._rounds = asyncio.Lock()

    async def start(self) -> None:
        if self._settings.packages:
            demand = Demand(
                label=PACKAGES,
                wishes=self._settings.packages,
                all_versions=self._settings.versions == "all",
            )
            await self._keep(demand)
        else:
            await self._unpin([PACKAGES])
        if self._settings.lockfiles:
            self._watching = asyncio.create_task(self._follow(), name="watch lock files")

    async def close(self) -> None:
        tasks = [self._watching, *(group.task for group in self._groups.values())]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)

    def statistics(self) -> tuple[Kept, ...]:
        """By label."""
        return tuple(self._groups[label].as_kept() for label in sorted(self._groups))

    async def _follow(self) -> None:
        """Look for lock files, again and again."""
        while True:
            began = self._pace.monotonic()
            try:
                look = await asyncio.to_thread(self._watch.look)
                for path in sorted(look.changed):
                    await self._take(path)
                await self._drop(look.present)
            except Exception:  # it is to go on with the next look
                logger.exception("the lock files can't be looked for:")
            took = self._pace.monotonic() - began
            await self._pace.sleep(max(_LOOK_SECONDS, took * _LOOK_SHARE))

    async def _take(self, path: Path) -> None:
        """A lock file that came or changed. What a broken one named before is kept."""
        label = str(path)
        try:
            lock = await asyncio.to_thread(read, path)
        except LockFileError as error:
            self._groups.setdefault(label, _Group(label)).broken = str(error)
            logger.warning("%s", printable(str(error)))
            return
        await self._keep(Demand(label=label, releases=tuple(completeness.public(lock))))

    async def _drop(self, present: frozenset[Path]) -> None:
        """What belongs to lock files that are gone, also while no server ran."""
        there = {str(path) for path in present}
        for label in self._groups.keys() - there - {PACKAGES}:
            await self._stop(self._groups.pop(label))
            logger.info("%s is gone: it is kept no longer", printable(label))
        pinned = self._core.store.pins.groups.keys() - there
        if gone := [label for label in pinned if self._watch.names(label)]:
            await self._unpin(gone)

    async def _unpin(self, labels: Iterable[str]) -> None:
        try:
            await asyncio.to_thread(self._core.store.pins.unpin, list(labels))
        except OSError as error:
            logger.warning("pins can't be written: %s", error.strerror)

    async def _keep(self, demand: Demand) -> None:
        """From now on, instead of what the group kept before."""
        group = self._groups.setdefault(demand.label, _Group(demand.label))
        await self._stop(group)
        group.broken = ""
        group.task = asyncio.create_task(
            self._look_after(group, demand), name=f"keep {group.label}"
        )

    async def _stop(self, group: _Group) -> None:
        if group.task is not None:
            group.task.cancel()
            await asyncio.gather(group.task, return_exceptions=True)

    async def _look_after(self, group: _Group, demand: Demand) -> None:
        """At once, and then each time within `every`: at a time of its own, so that not everything
        comes together."""
        news = True
        while True:
            summary = await self._warm(group, demand, news)
            if summary is None:
                continue
            news = False
            self._note(group, summary)
            every = self._settings.every
            if summary.failures:
                every = min(every, _RETRY_SECONDS * 2.0 ** min(group.failed - 1, 20))
            await self._pace.sleep(every * (0.5 + self._pace.random() / 2))

    async def _warm(self, group: _Group, demand: Demand, news: bool) -> Summary | None:
        """None: it has to be done again, since Hexcache went offline."""
        lane = self._news if news else self._rounds
        async with lane:
            await self._line()
            group.working = True
            try:
                return await warm(
                    self._core,
                    demand,
                    _nobody_looks,
                    jobs=_JOBS_FOR_NEWS if news else _JOBS,
                    before_each=self._line if news else self._gap,
                )
            except OfflineError:
                return None
            except HexcacheError as error:
                return Summary(failures=[Failure("all of it", str(error))])
            except Exception as error:  # it is to go on with the next round
                logger.exception("%s can't be kept:", printable(group.label))
                return Summary(failures=[Failure("all of it", f"{type(error).__name__}: {error}")])
            finally:
                group.working = False

    async def _line(self) -> None:
        """Return when upstream may be asked."""
        upstream = self._core.upstream
        while True:
            await upstream.gate.opened()
            if not upstream.is_down(Origin.REPO):
                return
            # Meanwhile it is wanted back.
            await upstream.wait_for_change(_LINE_SECONDS)

    async def _gap(self) -> None:
        longest = min(_GAP_SECONDS, self._settings.every / _GAPS)
        await self._pace.sleep(longest * (0.5 + self._pace.random() / 2))
        await self._line()

    def _note(self, group: _Group, summary: Summary) -> None:
        known = group.last.failures if group.last is not None else []
        group.fetched += summary.fetched
        group.bytes += summary.bytes
        group.runs += 1
        group.failed = group.failed + 1 if summary.failures else 0
        group.last, group.done_at = summary, self._core.clock()
        label = printable(group.label)
        logger.log(
            # The same all day is no news.
            logging.INFO if summary.fetched or group.runs == 1 else logging.DEBUG,
            "%s: %s fetched (%s), %d were here",
            label,
            counted(summary.fetched, "file"),
            size(summary.bytes),
            summary.present,
        )
        for failure in summary.failures:
            if failure not in known:
                text = printable(f"{failure.subject}: {failure.why}")
                logger.warning("%s: can't be kept: %s", label, text)


def _nobody_looks(_: Event) -> None:
    """`warm` reports each file; what counts is in its summary."""
