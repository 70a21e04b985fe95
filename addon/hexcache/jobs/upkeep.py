"""Jobs that keep a store in order: verify, refresh, rm and gc.

Each reports its events while it goes on, and in the end one `summary`. The server answers clients
meanwhile; what they change is looked at as it is at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any

from hexcache import resources
from hexcache.assembly import Core
from hexcache.engine.replies import Found, Refused
from hexcache.errors import ControlError, OfflineError, StoreError, VerificationError
from hexcache.jobs.base import Event, Order, Report
from hexcache.messages import Outcome, read
from hexcache.registry import Package, decode_package
from hexcache.resources import Kind, Resource
from hexcache.stock.inspection import Inspector, Verdict
from hexcache.storage.entries import Entry
from hexcache.storage.leftovers import KEEP_SECONDS

# How many questions upstream is asked at a time.
_AT_A_TIME = 8
# After so many files, or bytes, a job says how far it is.
_FILES_BETWEEN = 100
_BYTES_BETWEEN = 64 * 2**20
_OF_PACKAGES = (Kind.PACKAGE, Kind.TARBALL, Kind.DOCS)


async def verify(core: Core, order: Order, report: Report) -> None:
    """Hash and verify everything; what isn't good goes to the quarantine. Events: `total` (files,
    bytes), `progress` (the same, so far), `bad` (subject, why), `superseded` (subject); `summary`
    has the number of `files`, `bytes`, `bad`, `superseded` and `unvouched` ones."""
    store = core.store
    inspector = Inspector(store, core.trust)
    # What vouches for others comes first.
    entries = sorted(await store.snapshot(), key=lambda e: (not e.kind.is_registry, e.key))
    report({"event": "total", "files": len(entries), "bytes": sum(e.size for e in entries)})
    counts = dict.fromkeys(Verdict, 0)
    files = done = said = 0
    for entry in entries:
        current = store.get(entry.key)
        verdict = Verdict.CHANGED
        if current is not None and current.sha256 == entry.sha256:
            finding = await inspector.look(current)
            verdict = finding.verdict
            for bad in finding.bad:
                await store.quarantine(bad, finding.why)
                report({"event": "bad", "subject": _subject(bad), "why": finding.why})
            counts[verdict] += len(finding.bad) or 1
        if verdict is Verdict.SUPERSEDED:
            report({"event": "superseded", "subject": _subject(entry)})
        files, done = files + 1, done + entry.size
        if files % _FILES_BETWEEN == 0 or done - said >= _BYTES_BETWEEN:
            said = done
            report({"event": "progress", "files": files, "bytes": done})
        # Small bodies are hashed in place: others want a turn too.
        await asyncio.sleep(0)
    report(
        {
            "event": "summary",
            "files": files,
            "bytes": done,
            "bad": counts[Verdict.BAD],
            "superseded": counts[Verdict.SUPERSEDED],
            "unvouched": counts[Verdict.UNVOUCHED],
        }
    )


async def refresh(core: Core, order: Order, report: Report) -> None:
    """Ask upstream about registry entries. Arguments: `names`, or `all`: those that are stored.
    Events: `total` (count), `refreshed` (see `changes`) and `failed` (name, why); `summary` has the
    number of `refreshed`, `changed` and `failed` ones. Raises OfflineError."""
    if core.engine.offline:
        raise OfflineError(
            "nothing is asked of Hex: Hexcache is offline (`hexcache offline off`, or the setting "
            "`offline`, ends it)"
        )
    names = _texts(order, "names")
    if order.arguments.get("all"):
        stored = [resources.of_key(entry.key) for entry in await core.store.snapshot()]
        names += [each.name for each in stored if each and each.kind is Kind.PACKAGE]
    names = sorted(set(names))
    report({"event": "total", "count": len(names)})
    turns = asyncio.Semaphore(_AT_A_TIME)
    counts = {"refreshed": 0, "changed": 0, "failed": 0}

    async def one(name: str) -> None:
        async with turns:
            event = await _refreshed(core, name)
        counts[str(event["event"])] += 1
        counts["changed"] += bool(event.get("changed"))
        report(event)

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(one(name))
    report({"event": "summary", **counts})


async def _refreshed(core: Core, name: str) -> Event:
    about = resources.package(name)
    if resources.of_key(about.key) != about:
        return {"event": "failed", "name": name, "why": "it is no name of a package"}
    try:
        before = await _decoded(core, about)
        found = await core.engine.ensure(about, itself=True)
        if why := _failure(found):
            return {"event": "failed", "name": name, "why": why}
        after = await _decoded(core, about)
    except StoreError as error:
        return {"event": "failed", "name": name, "why": str(error)}
    if after is None:
        return {"event": "failed", "name": name, "why": "it could not be stored"}
    changed = changes(before, after)
    return {"event": "refreshed", "name": name, "first": before is None, "changed": changed}


def changes(before: Package | None, after: Package) -> dict[str, list[str]]:
    """Versions by what became of them: `new`, `replaced` (another tarball), `reverted`, `retired`,
    `unretired` and `advisories` (other ones than before). Nothing is new in an entry that is the
    first."""
    if before is None:
        return {}
    old, new = before.by_version, after.by_version
    both = [version for version in new if version in old]

    def where(differs: Callable[[str], bool]) -> list[str]:
        return [version for version in both if differs(version)]

    found = {
        "new": [version for version in new if version not in old],
        "replaced": where(lambda v: old[v].outer_checksum != new[v].outer_checksum),
        "reverted": [version for version in old if version not in new],
        "retired": where(lambda v: new[v].retired not in (None, old[v].retired)),
        "unretired": where(lambda v: bool(old[v].retired) and not new[v].retired),
        "advisories": where(lambda v: old[v].advisories != new[v].advisories),
    }
    return {what: versions for what, versions in found.items() if versions}


async def remove(core: Core, order: Order, report: Report) -> None:
    """Delete packages and releases, and forget their pins. Arguments: `what`, each NAME or
    NAME@VERSION. Events: `removed` (what, files, bytes, pins) and `unknown` (what); `summary` has
    the sums of `files` and `bytes` and the number of `unknown` ones. Raises StoreError."""
    entries = {entry.key: entry for entry in await core.store.snapshot()}
    pins = core.store.pins
    sums = {"files": 0, "bytes": 0, "unknown": 0}
    for what in dict.fromkeys(_texts(order, "what")):
        name, at, version = what.partition("@")
        meant = bool(name) and bool(version) == bool(at)
        pinned = _belonging(pins.keys, name, version) if meant else []
        there = _belonging(entries, name, version) if meant else []
        if not there and not pinned:
            sums["unknown"] += 1
            report({"event": "unknown", "what": what})
            continue
        size = sum(entries.pop(key).size for key in there)
        # Once they aren't pinned any more, what was left over by an error goes some day.
        await _forget(core, pinned)
        for key in there:
            await core.store.delete(key)
        sums["files"] += len(there)
        sums["bytes"] += size
        report(
            {
                "event": "removed",
                "what": what,
                "files": len(there),
                "bytes": size,
                "pins": len(pinned),
            }
        )
    report({"event": "summary", **sums})


async def collect(core: Core, order: Order, report: Report) -> None:
    """Delete what is of no use. Arguments: `dry` (only tell), `put_aside` (what was put aside less
    than a week ago too). An event `freed` (what, count, bytes) for each sort of it, where `bytes`
    is None if it isn't known; the `summary` has all `bytes`. Raises StoreError."""
    store, dry = core.store, bool(order.arguments.get("dry"))
    inspector = Inspector(store, core.trust)
    superseded = []
    for entry in await store.snapshot():
        resource = resources.of_key(entry.key)
        if resource is not None and resource.kind is Kind.TARBALL:
            finding = await inspector.vouched(resource, entry)
            if finding.verdict is Verdict.SUPERSEDED:
                superseded.append(entry)
        await asyncio.sleep(0)
    swept = await store.sweep(superseded, dry=dry)
    total = swept.bytes

    def freed(what: str, count: int, size: int | None) -> None:
        if count:
            report({"event": "freed", "what": what, "count": count, "bytes": size})

    freed("superseded tarballs", len(swept.unwanted), sum(e.size for e in swept.unwanted))
    freed("rows that nobody can use", swept.useless, None)
    freed("evicted files", len(swept.evicted), sum(e.size for e in swept.evicted))
    keep = 0.0 if order.arguments.get("put_aside") else KEEP_SECONDS
    by_sort: dict[str, list[int]] = {}
    for each in await store.remove_leftovers(keep=keep, dry=dry):
        by_sort.setdefault(each.sort, []).append(each.size)
    for what, sizes in by_sort.items():
        freed(what, len(sizes), sum(sizes))
        total += sum(sizes)
    empty = [label for label, pin in store.pins.groups.items() if not pin.keys]
    if not dry and empty:
        await _write_pins(lambda: store.pins.unpin(empty))
    freed("empty pins", len(empty), 0)
    report({"event": "summary", "bytes": total})


def _belonging(keys: Iterable[str], name: str, version: str) -> list[str]:
    """Those of a package, or of one of its releases if `version` isn't empty."""
    named = ((key, resources.subject_of(key)) for key in keys)
    return [
        key
        for key, resource in named
        if resource is not None
        and resource.kind in _OF_PACKAGES
        and resource.name == name
        and version in ("", resource.version)
    ]


async def _forget(core: Core, keys: Collection[str]) -> None:
    if keys:
        await _write_pins(lambda: core.store.pins.forget(keys))


async def _write_pins(change: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(change)
    except OSError as error:
        raise StoreError(f"the pins can't be written: {error.strerror}") from None


async def _decoded(core: Core, about: Resource) -> Package | None:
    """The stored registry entry, if there is one that can be believed."""
    entry = core.store.get(about.key)
    body = await core.store.read(entry, drop=False) if entry is not None else None
    if body is None:
        return None
    data = await read(body)
    try:
        return await asyncio.to_thread(
            lambda: decode_package(
                data, core.trust.registry, repository=about.repository, name=about.name
            )
        )
    except VerificationError:
        return None


def _failure(found: Found | Refused) -> str:
    """Why upstream's word couldn't be had, or ""."""
    if isinstance(found, Refused):
        return found.reason
    if found.outcome in (Outcome.STALE, Outcome.OFFLINE):
        return found.detail or "upstream was not asked"
    return "" if found.stored else "it could not be stored"


def _subject(entry: Entry) -> str:
    resource = resources.subject_of(entry.key)
    if resource is None:
        return entry.key
    return f"{resource}" if resource.key == entry.key else f"{resource} (the entry before)"


def _texts(order: Order, name: str) -> list[str]:
    """An argument that is a list of texts. Raises ControlError."""
    texts: Any = order.arguments.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ControlError("the command and the server are of different versions")
    return list(texts)
