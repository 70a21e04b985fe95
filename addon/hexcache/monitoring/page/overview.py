"""The first page: whether it works, and what it saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hexcache.assembly import Parts
from hexcache.engine.landing import Fetch
from hexcache.labels import label_of
from hexcache.messages import Outcome
from hexcache.monitoring.page import charts, words
from hexcache.monitoring.page.charts import Chart
from hexcache.monitoring.status import Readiness
from hexcache.records.history import Bucket, Recent
from hexcache.settings import UpstreamSettings

_SHOWN = 30
# What the bars of the requests are made of, from below.
_FROM_STORE = (Outcome.HIT, Outcome.REVALIDATED, Outcome.STALE, Outcome.OFFLINE)
_COLOURS = {
    Outcome.HIT: "good",
    Outcome.REVALIDATED: "good",
    Outcome.OFFLINE: "good",
    Outcome.STALE: "warn",
    Outcome.ERROR: "bad",
}


@dataclass(frozen=True)
class State:
    """`colour`: good, warn, bad or off."""

    colour: str
    title: str
    sentence: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tile:
    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Period:
    requests: Chart
    bytes: Chart


@dataclass(frozen=True)
class Line:
    subject: str
    outcome: str
    colour: str
    detail: str
    size: str
    took: str
    ago: str
    client: str


@dataclass(frozen=True)
class Incoming:
    subject: str
    received: int
    total: int | None
    text: str


def overview(parts: Parts, readiness: Readiness) -> dict[str, Any]:
    """The values of the template."""
    history = parts.history
    hour, day = history.last_hour(), history.last_day()
    now = parts.clock()
    return {
        "state": state_of(readiness, parts.settings.upstream),
        "tiles": _tiles(parts, history.total(hour), history.total(day)),
        "hour": _period(hour),
        "day": _period(day),
        "fetching": [_incoming(each) for each in parts.engine.fetches()],
        "recent": [_line(each, now) for each in history.recent()[:_SHOWN]],
    }


def state_of(readiness: Readiness, upstream: UpstreamSettings) -> State:
    """What somebody wants to know first."""
    if readiness.why:
        return State("bad", "Not working", f"Clients can't be answered: {readiness.why}")
    if readiness.offline:
        return State(
            "off",
            "Offline",
            "Offline, because the offline flag is set.",
            (
                "What is stored is served as if fresh; nothing is asked of Hex. "
                "hexcache offline off ends it.",
            ),
        )
    down = {name: each for name, each in readiness.upstream.items() if not each["up"]}
    if not down:
        upstreams = " and ".join(readiness.upstream)
        return State("good", "Online", "Online: all is well.", (f"Asks {upstreams}.",))
    since = max(float(str(each["since"] or 0)) for each in down.values())
    verb = "is" if len(down) == 1 else "are"
    return State(
        "warn",
        "Degraded",
        f"Degraded for {words.span(since)}: {' and '.join(down)} {verb} down.",
        (
            *(f"Because {each['why']}." for each in down.values()),
            *_consequences(set(down), upstream),
        ),
    )


def _consequences(down: set[str], upstream: UpstreamSettings) -> Iterator[str]:
    for bases, what in ((upstream.repo, "packages"), (upstream.builds, "mix's own tools")):
        labels = {label_of(base) for base in bases}
        if labels <= down:
            yield (
                f"Of {what}, what is stored is served; the rest is answered with an error until "
                "the line is back, which is noticed within seconds."
            )
        elif labels & down:
            others = " and ".join(sorted(labels - down))
            yield f"Nobody misses anything: {what} come from {others}."


def _tiles(parts: Parts, hour: Bucket, day: Bucket) -> list[Tile]:
    store = parts.store.statistics()
    asked = day.hits + day.misses
    ratio = "-" if day.hit_ratio is None else words.percent(day.hit_ratio, 1)
    spared = max(day.served - day.fetched, 0)
    return [
        Tile(
            "Served from this cache",
            ratio,
            f"{words.number(day.hits)} of {words.counted(asked, 'request')} in 24 hours",
        ),
        Tile(
            "Not downloaded",
            words.size(spared),
            f"{words.size(day.served)} served, {words.size(day.fetched)} fetched in 24 hours",
        ),
        Tile(
            "Time saved",
            words.span(day.saved) if day.saved >= 1 else "-",
            "of waiting for Hex, an estimate for 24 hours",
        ),
        Tile("Last hour", words.number(hour.requests), "requests"),
        Tile(
            "Stored",
            words.size(store["bytes"]),
            f"of {words.size(store['limit'])} allowed",
        ),
    ]


def _period(buckets: Sequence[Bucket]) -> Period:
    requests = [(words.clock_time(b.start), _split(b)) for b in buckets]
    sizes = [(words.clock_time(b.start), (float(b.served), float(b.fetched))) for b in buckets]
    total = sum(b.requests for b in buckets)
    stored = sum(int(values[0]) for _, values in requests)
    failed = sum(int(values[2]) for _, values in requests)
    served, fetched = sum(b.served for b in buckets), sum(b.fetched for b in buckets)
    return Period(
        requests=charts.stacked(
            requests,
            names=("from the store", "from upstream", "errors"),
            unit=words.number,
            summary=(
                f"{words.number(total)}, {words.number(stored)} of them from the store"
                + (f", {words.number(failed)} failed" if failed else "")
                if total
                else "none"
            ),
        ),
        bytes=charts.overlaid(
            sizes,
            names=("served", "fetched"),
            unit=words.size,
            summary=f"{words.size(served)} served, {words.size(fetched)} fetched",
        ),
    )


def _split(bucket: Bucket) -> tuple[float, float, float]:
    # What was refused while offline has that outcome too, and was served to nobody.
    refused = max(sum(bucket.outcomes[each] for each in _FROM_STORE) - bucket.hits, 0)
    failed = bucket.outcomes[Outcome.ERROR] + refused
    rest = bucket.requests - bucket.hits - failed - bucket.outcomes[Outcome.ABORTED]
    return float(bucket.hits), float(max(rest, 0)), float(failed)


def _line(recent: Recent, now: float) -> Line:
    colours: dict[str, str] = {str(outcome): colour for outcome, colour in _COLOURS.items()}
    return Line(
        subject=recent.subject,
        outcome=recent.outcome if recent.status < 400 else f"{recent.outcome} {recent.status}",
        colour="bad" if recent.status >= 500 else colours.get(recent.outcome, ""),
        detail=recent.detail,
        size=words.size(recent.size),
        took=words.duration(recent.seconds),
        ago=words.ago(now - recent.at),
        client=recent.client,
    )


def _incoming(fetch: Fetch) -> Incoming:
    text = words.size(fetch.size)
    if fetch.total:
        text = f"{text} of {words.size(fetch.total)}"
    return Incoming(fetch.subject, fetch.size, fetch.total, f"{text}, {words.span(fetch.seconds)}")
