"""Which upstreams are up: everybody's experience in one place, so that a dead one is noticed once.

Who asks an upstream reports here how it went. An upstream that is down is probed behind, as long
as somebody would ask it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

from hexcache.errors import OfflineError, UpstreamError
from hexcache.labels import host_of, label_of
from hexcache.network.breaker import Breaker, Silence
from hexcache.network.gate import Gate
from hexcache.network.pace import Pace

logger = logging.getLogger(__name__)

# Probing goes on for so long after somebody last asked.
DEMAND_SECONDS = 60.0
# While bytes come in, a time-out of others shows that the line is full, perhaps with just those.
_HEARD_SECONDS = 5.0
# An upstream that is up has something small to say within so many seconds, or what is set.
_PROBE_SECONDS = 10.0


class Health:
    """`probe` asks a base URL for a path; it raises UpstreamError if that fails, and returns the
    status otherwise. `patience`: how many seconds an answer may take, as for everybody else: who
    is slow is up."""

    def __init__(
        self,
        bases: Iterable[str],
        probe: Callable[[str, str], Awaitable[int]],
        gate: Gate,
        pace: Pace,
        patience: float = 0.0,
    ) -> None:
        self._gate = gate
        self._patience = max(patience, _PROBE_SECONDS)
        self._ask = probe
        self._pace = pace
        # In order, and each once.
        self._breakers = {base: Breaker(pace.monotonic) for base in bases}
        self._silences = {base: Silence(pace.monotonic) for base in self._breakers}
        self._heard_at: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._demanded_at = -DEMAND_SECONDS
        self._demanded = asyncio.Event()
        self._waiting = 0
        self._closed = False
        self._changed = asyncio.Event()

    async def close(self) -> None:
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def healthy(self, bases: Sequence[str]) -> list[str]:
        """Those of `bases` whose breaker is closed, in order. Whoever asks wants the others
        back."""
        healthy = [base for base in bases if not self._breakers[base].is_open]
        if len(healthy) < len(bases):
            self.want_back()
        return healthy

    def want_back(self) -> None:
        """Somebody would ask, were they up: keeps the probes going for a minute."""
        self._demanded_at = self._pace.monotonic()
        self._demanded.set()

    def why_down(self, bases: Sequence[str]) -> str:
        """The reason of the first of `bases` that is down."""
        whys = [self._breakers[base].state.why for base in bases]
        return next((why for why in whys if why), "upstream is down")

    def silent_for(self, bases: Sequence[str]) -> float:
        """Seconds for which every one of `bases` that is up has left all questions open."""
        silences = [self._silences[b].seconds for b in bases if not self._breakers[b].is_open]
        return min(silences, default=0.0)

    async def wait_for_change(self, seconds: float) -> None:
        """Until a breaker opens or closes, but not longer than `seconds`. Meanwhile who is down is
        wanted back."""
        self._waiting += 1
        self.want_back()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        finally:
            self._waiting -= 1

    async def down_for(self, bases: Sequence[str], seconds: float) -> None:
        """Return when all of `bases` have been down for `seconds` without a break."""
        while True:
            states = [self._breakers[base].state for base in bases]
            if all(state.is_open for state in states):
                since = max(state.since or 0.0 for state in states)
                left = since + seconds - self._pace.monotonic()
                if left <= 0:
                    return
                await self.wait_for_change(left)
            else:
                await self._changed.wait()

    def heard(self, base: str) -> None:
        """Bytes of a body came."""
        self._heard_at[base] = self._pace.monotonic()

    @contextlib.contextmanager
    def question(
        self, base: str, path: str, *, opinion: bool = False
    ) -> Iterator[Callable[[int], None]]:
        """While `base` is asked for `path`: call what this gives with the status when there is
        one. An UpstreamError that comes before counts as a failure, unless it is a time-out while
        bytes of a body come in from there."""
        answers: list[int] = []

        def answered(status: int) -> None:
            answers.append(status)
            self._silences[base].answered()
            if status >= 500:
                why = f"{host_of(base)} answered {status}"
                self._failed(base, why, path, unreachable=False, opinion=opinion)
            else:
                self._succeeded(base, path)

        self._silences[base].asked()
        try:
            yield answered
        except OfflineError:
            raise
        except UpstreamError as error:
            # A final one is an answer all the same, though of no use; to a probe it is a failure.
            if not answers and error.final:
                answers.append(0)
                self._silences[base].answered()
            is_open = self._breakers[base].is_open
            proves_nothing = error.timed_out and self._is_heard(base) and not is_open
            if (not answers and not proves_nothing) or (error.final and is_open):
                self._failed(base, str(error), path, error.unreachable, opinion)
            raise
        finally:
            if not answers:
                self._silences[base].ended()

    def statistics(self) -> dict[str, dict[str, object]]:
        """For each base URL, by `label_of`: `up`, `failures` in a row, `since` (seconds that
        it has been down) and `why`."""
        # Who looks wants the truth of now: one probe, also while no client asks.
        self._demanded.set()
        now = self._pace.monotonic()
        result: dict[str, dict[str, object]] = {}
        for base, breaker in self._breakers.items():
            state = breaker.state
            result[label_of(base)] = {
                "up": not state.is_open,
                "failures": state.failures,
                "since": None if state.since is None else now - state.since,
                "why": state.why,
            }
        return result

    def _is_heard(self, base: str) -> bool:
        heard_at = self._heard_at.get(base)
        return heard_at is not None and self._pace.monotonic() - heard_at < _HEARD_SECONDS

    def _succeeded(self, base: str, path: str) -> None:
        if self._breakers[base].succeeded(path):
            logger.warning("%s is back", host_of(base), extra=_event(base, up=True))
            self._announce()

    def _failed(self, base: str, why: str, path: str, unreachable: bool, opinion: bool) -> None:
        breaker = self._breakers[base]
        if breaker.failed(why, path, unreachable=unreachable, opinion=opinion):
            logger.warning(
                "%s is down: %s; what is stored is served",
                host_of(base),
                why,
                extra=_event(base, up=False),
            )
            self._announce()
            self._start(f"probe {base}", self._probe(base))
        elif breaker.is_doubtful:
            self._start(f"second opinion {base}", self._second_opinion(base))

    def _start(self, name: str, work: Coroutine[object, object, None]) -> None:
        """Unless it is under way."""
        running = self._tasks.get(name)
        if self._closed or (running is not None and not running.done()):
            work.close()
            return
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def _second_opinion(self, base: str) -> None:
        """Files fail again and again: is it the files, or the upstream?"""
        await self._asked(base, self._breakers[base].another_path, opinion=True)

    async def _asked(self, base: str, path: str, *, opinion: bool = False) -> None:
        with (
            contextlib.suppress(UpstreamError),
            self.question(base, path, opinion=opinion) as answered,
        ):
            try:
                async with asyncio.timeout(self._patience):
                    status = await self._ask(base, path)
            except TimeoutError:
                text = f"{host_of(base)}: no answer in time"
                raise UpstreamError(text, timed_out=True) from None
            answered(status)

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _probe(self, base: str) -> None:
        """Ask until there is an answer: while clients want it back, and when somebody looks."""
        breaker = self._breakers[base]
        while breaker.is_open:
            await self._pace.sleep(breaker.probe_in)
            idle = self._pace.monotonic() - self._demanded_at >= DEMAND_SECONDS
            if idle and not self._waiting:
                self._demanded.clear()
                await self._demanded.wait()
            await self._gate.opened()
            await self._asked(base, breaker.probe_path())


def _event(base: str, *, up: bool) -> dict[str, object]:
    """The same for programs that read the log."""
    return {"fields": {"event": "upstream", "upstream": label_of(base), "up": up}}
