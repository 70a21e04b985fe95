"""The first page: whether it works, and what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hexcache.assembly import Parts
from hexcache.engine.landing import Fetch
from hexcache.messages import Outcome
from hexcache.monitoring.page import charts, words
from hexcache.monitoring.page.charts import Chart
from hexcache.monitoring.page.setup import Section
from hexcache.monitoring.page.state import savings, state_of, warnings
from hexcache.monitoring.status import Readiness
from hexcache.records.history import Bucket, Recent

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

# What the words of the last requests mean.
_OUTCOMES = (
    (Outcome.HIT, "from this cache at once"),
    (Outcome.REVALIDATED, "the same, after Hex said that it is current"),
    (Outcome.STALE, "the same, because Hex couldn't be asked"),
    (Outcome.OFFLINE, "the same or nothing, because the offline flag is set"),
    (Outcome.MISS, "fetched for this client"),
    (Outcome.COALESCED, "fetched, together with others who asked at the same time"),
    (Outcome.PASSED, "handed on to Hex and not kept"),
    (Outcome.ERROR, "no answer could be had"),
    (Outcome.ABORTED, "the client hung up before its end"),
)


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
    """`full_detail` is empty where `detail` says all of it."""

    subject: str
    outcome: str
    colour: str
    detail: str
    full_detail: str
    size: str
    took: str
    when: words.Moment
    client: str


@dataclass(frozen=True)
class Incoming:
    subject: str
    received: int
    total: int | None
    text: str


def overview(parts: Parts, readiness: Readiness, steps: Sequence[Section]) -> dict[str, Any]:
    """The values of the template. `steps` lead a first client here: shown until one has asked."""
    history = parts.history
    hour, day = history.last_hour(), history.last_day()
    recent = history.recent()
    whole_day = history.total(day)
    now = parts.clock()
    state = state_of(readiness, parts.settings.upstream, now)
    return {
        "state": state,
        "savings": f"{savings(whole_day)} {state.note}" if state.colour != "bad" else "",
        "warnings": warnings(history.incidents(), now),
        "welcome": [] if recent or whole_day.requests else steps,
        "tiles": _tiles(parts, history.total(hour), whole_day),
        "hour": _period(hour),
        "day": _period(day),
        "fetching": [_incoming(each) for each in parts.engine.fetches()],
        "recent": [_line(each, now) for each in recent[:_SHOWN]],
        "outcomes": _OUTCOMES,
    }


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
            "Download saved",
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
    short = words.shortened_checksums(recent.detail)
    return Line(
        subject=recent.subject,
        outcome=recent.outcome if recent.status < 400 else f"{recent.outcome} {recent.status}",
        colour="bad" if recent.status >= 500 else colours.get(recent.outcome, ""),
        detail=short,
        full_detail="" if short == recent.detail else recent.detail,
        size=words.size(recent.size),
        took=words.duration(recent.seconds),
        when=words.since(recent.at, now),
        client=recent.client,
    )


def _incoming(fetch: Fetch) -> Incoming:
    text = words.size(fetch.size)
    if fetch.total:
        text = f"{text} of {words.size(fetch.total)}"
    return Incoming(fetch.subject, fetch.size, fetch.total, f"{text}, {words.span(fetch.seconds)}")
