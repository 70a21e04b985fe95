"""What happened lately: minutes of the last day, and the last requests, across restarts.

One small file beside the entries. Losing it costs a chart, so it is never in anybody's way: it is
written now and then, whole or not at all, and what can't be read counts as nothing.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hexcache.files import write_whole
from hexcache.messages import Outcome
from hexcache.records.answers import Answer, short

logger = logging.getLogger(__name__)

_NAME = "history.json"
_FORMAT = 1
_MINUTE = 60
_DAY_MINUTES = 1440
# A day, and the hour that has begun.
_KEPT_MINUTES = _DAY_MINUTES + 60
_RECENT = 200
_INCIDENTS = 50
_DAY = 86400.0
# So many misses of a kind are enough to know how long one takes; after that, later ones count more.
_MISSES = 500
# Served from the store; and what wasn't, but could have been.
_FROM_STORE = (Outcome.HIT, Outcome.OFFLINE, Outcome.STALE, Outcome.REVALIDATED)
_FETCHED = (Outcome.MISS, Outcome.COALESCED)
# Where there was no waiting for upstream at all.
_AT_ONCE = (Outcome.HIT, Outcome.OFFLINE)


@dataclass(kw_only=True)
class Bucket:
    """What happened from `start` (seconds since the epoch) on, for `seconds`: answers by outcome,
    bytes of bodies to clients and from upstream, and seconds that clients didn't wait. Of those
    who asked for what can be stored, `hits` got it from the store, a question for its currency
    included, and `misses` didn't."""

    start: float
    seconds: float = _MINUTE
    outcomes: Counter[str] = field(default_factory=Counter)
    served: int = 0
    fetched: int = 0
    saved: float = 0.0
    hits: int = 0
    misses: int = 0

    @property
    def requests(self) -> int:
        return self.outcomes.total()

    @property
    def hit_ratio(self) -> float | None:
        """The share of `hits`; None before anything was asked."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def add(self, other: Bucket) -> None:
        self.outcomes.update(other.outcomes)
        self.served += other.served
        self.fetched += other.fetched
        self.saved += other.saved
        self.hits += other.hits
        self.misses += other.misses

    def report(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "start": self.start,
            "seconds": self.seconds,
            "requests": self.requests,
            "outcomes": dict(self.outcomes),
            "served": self.served,
            "fetched": self.fetched,
            "saved_seconds": round(self.saved, 3),
            "hits": self.hits,
            "misses": self.misses,
            "hit_ratio": self.hit_ratio,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Recent:
    """A request as a page shows it: see Answer."""

    at: float
    client: str
    kind: str
    subject: str
    outcome: str
    status: int
    size: int
    seconds: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """Something that was not served, because it failed `check` (see Observer), in printable
    words."""

    at: float
    check: str
    subject: str


class History:
    """An Observer. `clock`: seconds since the epoch. Who has one writes what `encoded` gives, now
    and then and at the end."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._minutes: dict[int, Bucket] = {}
        self._recent: deque[Recent] = deque(maxlen=_RECENT)
        self._incidents: deque[Incident] = deque(maxlen=_INCIDENTS)
        # By kind: how many misses, and how long they took together.
        self._misses: dict[str, tuple[float, float]] = {}
        self._failing = False
        self._changed = False
        # Minutes as they were written, until they change.
        self._rows: dict[int, str] = {}

    @classmethod
    def load(cls, directory: Path, clock: Callable[[], float]) -> Self:
        """That of the store in `directory`. A file that can't be read starts it anew, with a
        warning."""
        history = cls(directory / _NAME, clock)
        try:
            history._restore(json.loads(history._path.read_bytes()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as e:
            logger.warning("%s can't be read, the history starts anew: %s", history._path, e)
            history = cls(directory / _NAME, clock)
        except RecursionError:
            logger.warning("%s can't be read, the history starts anew", history._path)
            history = cls(directory / _NAME, clock)
        return history

    def answered(self, answer: Answer) -> None:
        bucket = self._now()
        bucket.outcomes[str(answer.outcome)] += 1
        bucket.served += answer.size
        bucket.saved += self._saved_by(answer)
        # While the offline flag is set, what isn't stored is refused.
        if answer.outcome in _FROM_STORE and answer.status < 400:
            bucket.hits += 1
        elif answer.outcome in (*_FROM_STORE, *_FETCHED):
            bucket.misses += 1
        self._recent.append(
            Recent(
                at=answer.at,
                client=answer.client,
                kind=answer.kind,
                subject=answer.subject,
                outcome=str(answer.outcome),
                status=answer.status,
                size=answer.size,
                seconds=round(answer.seconds, 6),
                detail=answer.detail,
            )
        )

    def fetched(self, size: int) -> None:
        self._now().fetched += size

    def refused(self, check: str, subject: str) -> None:
        self._changed = True
        self._incidents.append(Incident(at=self._clock(), check=check, subject=short(subject)))

    def incidents(self) -> list[Incident]:
        """What failed a check in the last 24 hours, the newest first; of a flood only the last."""
        since = self._clock() - _DAY
        return [each for each in reversed(self._incidents) if each.at > since]

    def recent(self) -> list[Recent]:
        """The last requests, the newest first."""
        return list(reversed(self._recent))

    def last_hour(self) -> list[Bucket]:
        """60 buckets of a minute, the last one that of now; empty ones too."""
        return self._buckets(count=60, minutes=1)

    def last_day(self) -> list[Bucket]:
        """96 buckets of a quarter of an hour, the last one that of now; empty ones too."""
        return self._buckets(count=96, minutes=15)

    def total(self, buckets: Iterable[Bucket]) -> Bucket:
        """All of them in one."""
        buckets = list(buckets)
        result = Bucket(
            start=buckets[0].start if buckets else self._clock(),
            seconds=sum(bucket.seconds for bucket in buckets),
        )
        for bucket in buckets:
            result.add(bucket)
        return result

    def statistics(self) -> dict[str, Any]:
        """The last hour and the last day, ready for JSON."""
        return {
            "hour": self.total(self.last_hour()).report(),
            "day": self.total(self.last_day()).report(),
        }

    def encoded(self) -> bytes | None:
        """What to write; None if nothing has changed since it was asked for last."""
        if not self._changed:
            return None
        self._changed = False
        self._forget()
        for minute, bucket in self._minutes.items():
            if minute not in self._rows:
                self._rows[minute] = _compact(_row(minute, bucket))
        recent = [[getattr(each, name) for name in Recent.__slots__] for each in self._recent]
        incidents = [[each.at, each.check, each.subject] for each in self._incidents]
        return (
            f'{{"format":{_FORMAT},"minutes":[{",".join(self._rows.values())}],'
            f'"recent":{_compact(recent)},"misses":{_compact(self._misses)},'
            f'"incidents":{_compact(incidents)}}}'
        ).encode()

    def write(self, content: bytes) -> None:
        """In any thread; a failure is a warning, and no more."""
        try:
            write_whole(self._path, content, 0o600)
        except OSError as error:
            # Once, and not every few seconds for as long as the disk is full.
            if not self._failing:
                logger.warning("%s can't be written: %s", self._path, error.strerror)
            self._failing = self._changed = True
        else:
            self._failing = False

    def _saved_by(self, answer: Answer) -> float:
        """An estimate: a hit took so much less than misses of its kind do as a rule. Before a kind
        was missed once, nothing is claimed; nor for what had to be asked for, or wasn't there."""
        if answer.status >= 400:
            return 0.0
        count, total = self._misses.get(answer.kind, (0.0, 0.0))
        if answer.outcome is Outcome.MISS:
            if count >= _MISSES:
                count, total = count / 2, total / 2
            self._misses[answer.kind] = (count + 1, total + answer.seconds)
        elif answer.outcome in _AT_ONCE and count:
            return max(total / count - answer.seconds, 0.0)
        return 0.0

    def _now(self) -> Bucket:
        self._changed = True
        minute = int(self._clock() // _MINUTE)
        bucket = self._minutes.get(minute)
        self._rows.pop(minute, None)
        if bucket is None:
            if len(self._minutes) >= _KEPT_MINUTES:
                self._forget()
            bucket = self._minutes[minute] = Bucket(start=float(minute * _MINUTE))
        return bucket

    def _forget(self) -> None:
        """What is too old, or in a future from which the clock was set back."""
        now = int(self._clock() // _MINUTE)
        for minute in [m for m in self._minutes if not now - _KEPT_MINUTES < m <= now]:
            del self._minutes[minute]
            self._rows.pop(minute, None)

    def _buckets(self, *, count: int, minutes: int) -> list[Bucket]:
        last = int(self._clock() // _MINUTE) // minutes * minutes
        first = last - (count - 1) * minutes
        buckets = [
            Bucket(start=float((first + n * minutes) * _MINUTE), seconds=float(minutes * _MINUTE))
            for n in range(count)
        ]
        for minute, bucket in self._minutes.items():
            number = (minute - first) // minutes
            if 0 <= number < count:
                buckets[number].add(bucket)
        return buckets

    def _restore(self, content: Any) -> None:
        """Raises one of several errors for what `encoded` didn't make."""
        if content["format"] != _FORMAT:
            raise ValueError("it is another version's")
        for minute, outcomes, served, fetched, saved, hits, misses in content["minutes"]:
            self._minutes[_whole(minute)] = Bucket(
                start=float(minute * _MINUTE),
                outcomes=Counter({_text(k): _whole(v) for k, v in outcomes.items()}),
                served=_whole(served),
                fetched=_whole(fetched),
                saved=_number(saved),
                hits=_whole(hits),
                misses=_whole(misses),
            )
        for values in content["recent"]:
            fields = dict(zip(Recent.__slots__, values, strict=True))
            for name in ("client", "kind", "subject", "outcome", "detail"):
                _text(fields[name])
            for name in ("status", "size"):
                _whole(fields[name])
            for name in ("at", "seconds"):
                _number(fields[name])
            self._recent.append(Recent(**fields))
        for kind, (count, total) in content["misses"].items():
            self._misses[kind] = (_number(count), _number(total))
        # None in a file of an earlier version.
        for at, check, subject in content.get("incidents", []):
            self._incidents.append(
                Incident(at=_number(at), check=_text(check), subject=_text(subject))
            )
        self._forget()


def _row(minute: int, bucket: Bucket) -> list[Any]:
    return [
        minute,
        dict(bucket.outcomes),
        bucket.served,
        bucket.fetched,
        round(bucket.saved, 3),
        bucket.hits,
        bucket.misses,
    ]


def _compact(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or not value.isprintable():
        raise ValueError("a text is no text")
    return value
