"""The state of this Hexcache in a few sentences: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hexcache.labels import label_of
from hexcache.monitoring.page import words
from hexcache.monitoring.status import Readiness
from hexcache.records.answers import STORED
from hexcache.records.history import Bucket, Incident
from hexcache.settings import UpstreamSettings

# Of several files that failed a check, so many are named.
_NAMED = 3
_FAILURES = {
    "checksum": "its checksum",
    "signature": "the check of its signature",
    "key": "the check of its signature",
    "older": "a check: it was older than what is known",
}


@dataclass(frozen=True)
class State:
    """`colour`: good, warn, bad or off; `note` is of the least interest. Nothing here changes as
    long as the state doesn't: a screen reader says all of it again."""

    colour: str
    title: str
    sentence: str
    details: tuple[str, ...] = ()
    note: str = ""


def state_of(readiness: Readiness, upstream: UpstreamSettings, now: float) -> State:
    """What somebody wants to know first. `now`: seconds since the epoch."""
    if readiness.why and not readiness.cant_store:
        return State("bad", "Not working", f"Clients can't be answered: {readiness.why}")
    state = _of_upstream(readiness, upstream, now)
    if not readiness.cant_store:
        return state
    others = () if state.colour == "good" else (state.sentence, *state.details)
    return State(
        "warn",
        "Keeps nothing new",
        f"Nothing new can be kept: {readiness.cant_store}. Clients are answered.",
        (
            "What is stored is served; the rest is fetched from Hex each time it is asked for.",
            *others,
        ),
    )


def _of_upstream(readiness: Readiness, upstream: UpstreamSettings, now: float) -> State:
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
        return State("good", "Online", "Online.", note=f"Asks {upstreams}.")
    since = now - max(float(str(each["since"] or 0)) for each in down.values())
    verb = "is" if len(down) == 1 else "are"
    return State(
        "warn",
        "Degraded",
        f"Degraded since {words.moment(since, now)}: {' and '.join(down)} {verb} down.",
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


def savings(day: Bucket) -> str:
    """What the last day was good for."""
    asked = day.hits + day.misses
    if not asked:
        return "Nothing was asked for in the last 24 hours."
    share = f"{words.percent(day.hits, asked)} of {words.counted(asked, 'request')} came from here"
    saved = []
    if (spared := day.served - day.fetched) > 0:
        saved.append(f"{words.size(spared)} not downloaded")
    if day.saved >= 1:
        saved.append(f"{words.span(day.saved)} saved")
    return f"In the last 24 hours {share}{': ' if saved else ''}{', '.join(saved)}."


def warnings(incidents: Sequence[Incident], now: float) -> list[str]:
    """What failed a check, in a sentence for what came from upstream and one for what was stored.
    `incidents`: the newest first."""
    stored = [each for each in incidents if each.check == STORED]
    fetched = [each for each in incidents if each.check != STORED]
    return [sentence for sentence in (_refused(fetched, now), _damaged(stored, now)) if sentence]


def _refused(incidents: Sequence[Incident], now: float) -> str:
    # A file that was asked for again, and was wrong again, is one file.
    subjects = list(dict.fromkeys(each.subject for each in incidents))
    if not subjects:
        return ""
    failures = {_FAILURES.get(each.check, "a check") for each in incidents}
    failure = failures.pop() if len(failures) == 1 else "a check"
    at = words.moment(incidents[0].at, now)
    if len(subjects) == 1:
        return f"1 file from upstream failed {failure} at {at} and was not served: {subjects[0]}."
    failure = "a check" if ":" in failure else failure.replace("its", "their")
    return (
        f"{len(subjects)} files from upstream failed {failure}, the last "
        f"at {at}, and were not served: {_listed(subjects)}."
    )


def _damaged(incidents: Sequence[Incident], now: float) -> str:
    subjects = list(dict.fromkeys(each.subject for each in incidents))
    if not subjects:
        return ""
    at = words.moment(incidents[0].at, now)
    if len(subjects) == 1:
        return f"1 stored file was found damaged at {at} and is served no longer: {subjects[0]}."
    return (
        f"{len(subjects)} stored files were found damaged, the last at {at}, and are served no "
        f"longer: {_listed(subjects)}."
    )


def _listed(subjects: Sequence[str]) -> str:
    named = ", ".join(subjects[:_NAMED])
    more = len(subjects) - _NAMED
    return f"{named} and {more} more" if more > 0 else named
