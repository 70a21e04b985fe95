"""The first page: whether it works, and what it saves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hexcache.assembly import Parts
from hexcache.history import Bucket, Recent
from hexcache.landing import Fetch
from hexcache.messages import Outcome
from hexcache.page import charts, words
from hexcache.page.charts import Chart
from hexcache.status import Readiness

_SHOWN = 30
# What the bars of the requests are made of, from below.
_FROM_STORE = (Outcome.HIT, Outcome.REVALIDATED, Outcome.STALE, Outcome.OFFLINE)
_FAILED = (Outcome.ERROR,)
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
        "state": state_of(readiness),
        "tiles": _tiles(parts, history.total(hour), history.total(day)),
        "hour": _period(hour),
        "day": _period(day),
        "fetching": [_incoming(each) for each in parts.engine.fetches()],
        "recent": [_line(each, now) for each in history.recent()[:_SHOWN]],
    }


def state_of(readiness: Readiness) -> State:
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
    # With another mirror up nobody misses anything.
    whole = len(down) == len(readiness.upstream)
    sentence = (
        f"Degraded for {words.span(since)}: {' and '.join(down)} "
        f"{'is' if len(down) == 1 else 'are'} down."
    )
    served = "What is stored is served"
    rest = (
        "the rest is answered with an error until a probe finds it back."
        if whole
        else ("the rest comes from the others.")
    )
    return State(
        "warn",
        "Degraded",
        sentence,
        (*(f"Because {each['why']}." for each in down.values()), f"{served}; {rest}"),
    )


def _tiles(parts: Parts, hour: Bucket, day: Bucket) -> list[Tile]:
    store = parts.store.statistics()
    from_store = sum(day.outcomes[each] for each in _FROM_STORE)
    ratio = "-" if day.hit_ratio is None else words.percent(day.hit_ratio, 1)
    spared = max(day.served - day.fetched, 0)
    return [
        Tile(
            "From the store",
            ratio,
            f"{words.number(from_store)} of {words.counted(day.requests, 'request')} today",
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
    stored, failed = (_count(bucket, which) for which in (_FROM_STORE, _FAILED))
    return float(stored), float(bucket.requests - stored - failed), float(failed)


def _count(bucket: Bucket, outcomes: Iterable[Outcome]) -> int:
    return sum(bucket.outcomes[each] for each in outcomes)


def _line(recent: Recent, now: float) -> Line:
    colours: dict[str, str] = {str(outcome): colour for outcome, colour in _COLOURS.items()}
    return Line(
        subject=recent.subject,
        outcome=recent.outcome if recent.status < 400 else f"{recent.outcome} {recent.status}",
        colour=colours.get(recent.outcome, ""),
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
