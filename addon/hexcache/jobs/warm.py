"""Have in the store what a project needs, before it asks: from a lock file, or by name.

Everything goes through the engine, as if a client had asked: one fetch whoever waits, verified,
resumed where it broke off. So a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from hexcache import resources
from hexcache.assembly import Core
from hexcache.engine.replies import Found, Refused
from hexcache.errors import ControlError, OfflineError, RequirementError, StoreError, UpstreamError
from hexcache.jobs.base import Event, Order, Report
from hexcache.locks.lockfiles import LockedRelease
from hexcache.messages import Outcome, read
from hexcache.registry import Package
from hexcache.resources import Kind, Origin, Resource
from hexcache.stock import completeness, tools
from hexcache.storage.entries import Entry
from hexcache.versions.resolution import resolve
from hexcache.versions.wishes import Wish, parse_wish

# Awaited before each file: whoever isn't in a hurry leaves the line to others.
type Pause = Callable[[], Awaitable[None]]

# How often something is asked for again after upstream has come back.
_TRIES = 5


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is to be there. `label` names its pins: a lock file's path, or what was asked for.
    `latest` is how many releases of each wish; `docs` and `tools` come on top."""

    label: str
    releases: tuple[LockedRelease, ...] = ()
    wishes: tuple[Wish, ...] = ()
    latest: int = 1
    all_versions: bool = False
    docs: bool = False
    tools: bool = False

    def as_json(self) -> dict[str, Any]:
        """For `from_json`, on the other side of the control socket."""
        fields = asdict(self)
        fields["wishes"] = [wish.source for wish in self.wishes]
        return fields

    @classmethod
    def from_json(cls, fields: Any) -> Self:
        """Raises ControlError for what `as_json` didn't make."""
        try:
            releases = tuple(LockedRelease(**each) for each in fields["releases"])
            wishes = tuple(parse_wish(each) for each in fields["wishes"])
            return cls(**{**fields, "releases": releases, "wishes": wishes})
        except (TypeError, KeyError, AttributeError, RequirementError):
            raise ControlError("the command and the server are of different versions") from None


@dataclass(frozen=True)
class Failure:
    subject: str
    why: str


@dataclass
class Summary:
    """How it went. `fetched` and `present` count files, `bytes` is what was fetched."""

    fetched: int = 0
    present: int = 0
    bytes: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        self.fetched += other.fetched
        self.present += other.present
        self.bytes += other.bytes
        self.failures += other.failures

    def as_event(self) -> Event:
        return {
            "event": "summary",
            "fetched": self.fetched,
            "present": self.present,
            "bytes": self.bytes,
            "failures": [[each.subject, each.why] for each in self.failures],
        }


async def job(core: Core, order: Order, report: Report) -> None:
    """`arguments`: {"demands": [Demand.as_json(), …], "jobs": 8}. One `summary` for all."""
    total = Summary()
    for fields in order.arguments.get("demands", ()):
        summary = await warm(
            core, Demand.from_json(fields), report, jobs=int(order.arguments.get("jobs", 8))
        )
        total.add(summary)
    report(total.as_event())


async def warm(
    core: Core,
    demand: Demand,
    report: Report,
    *,
    jobs: int = 8,
    before_each: Pause | None = None,
) -> Summary:
    """Bring what `demand` wants, `jobs` files at a time, and pin it. Events: `total` (files known
    so far), `have` (subject, outcome, bytes), `failed` (subject, why). Raises OfflineError;
    whatever else goes wrong is a failure in the summary."""
    if core.engine.offline:
        raise OfflineError(
            "nothing can be fetched: Hexcache is offline; `hexcache check` says what is missing, "
            "`hexcache offline off` ends it, or `offline: false` where no server runs"
        )
    run = _Run(core, report, jobs, before_each)
    # So that what comes in doesn't drive out what came before, or is here from the last time.
    old = core.store.pins.groups.get(demand.label)
    before = old.keys if old else frozenset()
    await run.pin(demand.label, before.union(_known_before(demand)))
    async with asyncio.TaskGroup() as tasks:
        for locked in demand.releases:
            tasks.create_task(run.locked(locked, demand.docs))
        if demand.wishes:
            tasks.create_task(run.wished(demand))
        if demand.tools:
            for generations in tools.GENERATIONS:
                tasks.create_task(run.tool(generations))
    # Docs that somebody wanted once stay with their releases.
    docs = {resources.docs(each.name, each.version).key for each in demand.releases}
    await run.pin(demand.label, [*run.present(), *(before & docs)])
    run.look_again()
    return run.summary


def _known_before(demand: Demand) -> list[str]:
    keys = []
    for locked in demand.releases:
        keys.append(resources.package(locked.name).key)
        keys.append(resources.tarball(locked.name, locked.version).key)
    return keys


class _Run:
    """One demand being met."""

    def __init__(
        self,
        core: Core,
        report: Report,
        jobs: int,
        before_each: Pause | None,
    ) -> None:
        self._core = core
        self._report = report
        self._turns = asyncio.Semaphore(jobs)
        self._before_each = before_each
        self._asked: dict[Resource, asyncio.Task[Entry | None]] = {}
        self._lacking: set[Resource] = set()
        self._waiting: set[Origin] = set()
        self.held: dict[Resource, Entry] = {}
        self.summary = Summary()

    async def pin(self, label: str, keys: Iterable[str]) -> None:
        keys = list(keys)
        pins, now = self._core.store.pins, self._core.clock()
        try:
            await asyncio.to_thread(lambda: pins.pin(label, keys, at=now))
        except OSError as error:
            self._fail("pins", f"they can't be written: {error.strerror}")

    def present(self) -> list[str]:
        """The keys of what was wanted and is stored now, whether it could be asked about or not."""
        wanted = {*self._asked, *self.held}
        return [each.key for each in wanted if self._core.store.get(each.key) is not None]

    async def locked(self, locked: LockedRelease, docs: bool) -> None:
        """A release of a lock file, and the registry entries that resolving asks for."""
        about = resources.package(locked.name)
        tarball = resources.tarball(locked.name, locked.version)
        package = await self._package(about)
        release = package.by_version.get(locked.version) if package else None
        if package is not None and (release is None or completeness.disagreement(locked, release)):
            # The stored entry may be older than the release, or than its being published anew.
            await self._need(about, itself=True)
            package = await self._package(about)
            release = package.by_version.get(locked.version) if package else None
        if package is None:
            return
        if release is None:
            self._fail(tarball, f"the registry has no {locked.name} {locked.version}")
            return
        wanted = [resources.package(name) for name in completeness.asked_about(release)]
        if why := completeness.disagreement(locked, release, asked=True):
            self._fail(tarball, why)
        else:
            wanted.insert(0, tarball)
        if docs and package.name:
            wanted.append(resources.docs(locked.name, locked.version))
        await asyncio.gather(*(self._need(each) for each in wanted))

    async def wished(self, demand: Demand) -> None:
        """Releases by name, with what they depend on."""

        named = {wish.name for wish in demand.wishes}

        async def look_up(name: str) -> Package | None:
            about = resources.package(name)
            if name in named:
                # "The newest" is what upstream says now, not what was here within the patience.
                await self._need(about, itself=True, by_resolver=True)
            return await self._package(about, by_resolver=True)

        resolution = await resolve(
            demand.wishes, look_up, latest=demand.latest, all_versions=demand.all_versions
        )
        for problem in resolution.problems:
            self._fail("resolving", problem)
        wanted = [resources.package(name) for name in sorted(resolution.entries)]
        for name, version in sorted(resolution.releases):
            wanted.append(resources.tarball(name, version))
            if demand.docs:
                wanted.append(resources.docs(name, version))
        await asyncio.gather(*(self._need(each) for each in wanted))

    async def tool(self, generations: tuple[Resource, ...]) -> None:
        """A tool's lists, one of which is enough: not every upstream has all."""
        await asyncio.gather(*(self._list(csv) for csv in generations))
        lacking = [csv for csv in generations if csv in self._lacking]
        for csv in lacking:
            why = f"upstream has no {csv}, which {tools.readers_of(csv)} ask for"
            if len(lacking) < len(generations):
                self._report({"event": "note", "subject": "tools", "why": why})
            else:
                self._fail(csv, why)

    async def _list(self, csv: Resource) -> None:
        """An index of installs, its signature, and the files that today's clients take from it."""
        entry = await self._need(csv)
        if entry is None:
            return
        signature = self._core.store.get(resources.signature_of(csv).key)
        if signature is not None:
            self.held[resources.signature_of(csv)] = signature
        try:
            body = await self._core.store.read(entry)
        except StoreError as error:
            self._fail(csv, str(error))
            return
        if body is None:
            self._fail(csv, "its stored copy is damaged")
            return
        text = (await read(body)).decode("utf-8", "replace")
        await asyncio.gather(*(self._need(each) for each in tools.files_of(csv, text)))

    def look_again(self) -> None:
        """What came first may have had to make room for what came last."""
        for resource in self.held:
            if self._core.store.get(resource.key) is None:
                self._fail(resource, "it didn't fit: raise cache.size_limit")

    async def _package(self, about: Resource, *, by_resolver: bool = False) -> Package | None:
        entry = await self._need(about, by_resolver=by_resolver)
        if entry is None:
            return None
        try:
            package = await self._core.engine.package(entry)
        except StoreError as error:
            self._fail(about, str(error))
            return None
        if package is None:
            self._fail(about, "its stored copy is damaged")
        return package

    async def _need(
        self, resource: Resource, *, itself: bool = False, by_resolver: bool = False
    ) -> Entry | None:
        """The entry of a resource that is stored now; None, and a failure, if it can't be had: the
        resolver names its failures itself, so it gets an UpstreamError. Each resource is asked for
        once, unless it is about `itself`."""
        task = self._asked.get(resource)
        if task is None or (itself and task.done()):
            first = task is None
            task = asyncio.ensure_future(self._bring(resource, itself, by_resolver, first))
            self._asked[resource] = task
            self._report({"event": "total", "count": len(self._asked)})
        return await task

    async def _bring(
        self, resource: Resource, itself: bool, by_resolver: bool, first: bool
    ) -> Entry | None:
        async with self._turns:
            if self._before_each is not None:
                await self._before_each()
            found = await self._ensure(resource, itself)
        if isinstance(found, Refused):
            if by_resolver and found.status != 404:
                raise UpstreamError(found.reason, status=found.status)
            if found.status == 404 and (by_resolver or resource.kind in _MAY_BE_MISSING):
                self._lacking.add(resource)
                self._report({"event": "have", "subject": str(resource), "outcome": "none"})
            else:
                self._fail(resource, found.reason)
            return None
        if not found.stored:
            self._fail(resource, "it was fetched, but can't be stored: is the disk full?")
            return None
        self.held[resource] = found.entry
        if itself and found.outcome is Outcome.STALE:
            why = f"as it was known: upstream could not be asked ({found.detail})"
            self._report({"event": "note", "subject": str(resource), "why": why})
        if first:
            self._count(resource, found)
        return found.entry

    async def _ensure(self, resource: Resource, itself: bool) -> Found | Refused:
        """Ask the engine, and again when upstream has come back."""
        engine = self._core.engine
        for _ in range(_TRIES):
            found = await engine.ensure(resource, itself=itself)
            # 504: nobody could be asked. Anything else is an answer, tried for long enough.
            if not isinstance(found, Refused) or found.status != 504:
                break
            if not await self._until_reachable(resource, found.reason):
                break
        return found

    async def _until_reachable(self, resource: Resource, why: str) -> bool:
        """Wait for upstream to come back, and say so: once until it does."""
        seconds, origin = self._core.settings.upstream.give_up, resource.origin
        if origin not in self._waiting and not self._core.engine.offline:
            why = f"{why}; for {seconds:g} s at most"
            self._report({"event": "note", "subject": "waiting for upstream", "why": why})
        self._waiting.add(origin)
        is_back = await self._core.engine.until_reachable(resource, seconds)
        if is_back:
            self._waiting.discard(origin)
        return is_back

    def _count(self, resource: Resource, found: Found) -> None:
        size = 0
        if found.outcome in (Outcome.MISS, Outcome.COALESCED):
            self.summary.fetched += 1
            size = found.entry.size
            self.summary.bytes += size
        else:
            self.summary.present += 1
        self._report(
            {
                "event": "have",
                "subject": str(resource),
                "outcome": str(found.outcome),
                "bytes": size,
            }
        )

    def _fail(self, resource: Resource | str, why: str) -> None:
        failure = Failure(str(resource), why)
        if failure not in self.summary.failures:
            self.summary.failures.append(failure)
            self._report({"event": "failed", "subject": failure.subject, "why": why})


# Not each release has docs, and not each index of installs exists everywhere.
_MAY_BE_MISSING = (Kind.DOCS, Kind.CSV)
