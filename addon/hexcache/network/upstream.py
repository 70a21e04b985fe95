"""The HTTP client towards Hex and its mirrors: which base URLs there are, which of them are up, and
what they answer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import urljoin, urlsplit

from hexcache.errors import UpstreamError
from hexcache.labels import host_of, label_of
from hexcache.network.connections import Connections, Response
from hexcache.network.gate import Gate
from hexcache.network.health import Health
from hexcache.network.pace import Pace
from hexcache.network.pauses import Pauses
from hexcache.records.telemetry import Telemetry
from hexcache.resources import Origin
from hexcache.settings import Settings

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


class Upstream:
    """One per process; `close` it. `own_addresses`: see Connections."""

    def __init__(
        self,
        settings: Settings,
        own_addresses: Iterable[tuple[str, int]] = (),
        *,
        pace: Pace | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or Telemetry()
        self._bases = {
            Origin.REPO: settings.upstream.repo,
            Origin.BUILDS: settings.upstream.builds,
        }
        self.gate = Gate(closed=settings.offline)
        self._connections = Connections(
            settings.upstream, self.gate, own_addresses, took=self._telemetry.fetched
        )
        every = [base for bases in self._bases.values() for base in bases]
        self._labels = {base: label_of(base) for base in every}
        pace = pace or Pace()
        self._health = Health(every, self._probe, self.gate, pace, settings.upstream.timeout)
        self._pauses = Pauses(pace.monotonic)

    def bases(self, origin: Origin) -> Sequence[str]:
        """Base URLs in the order in which they are to be tried."""
        return self._bases[origin]

    async def close(self) -> None:
        await self._health.close()
        await self._connections.close()

    def healthy(self, origin: Origin) -> list[str]:
        """The base URLs that may be asked now, in order. Whoever asks wants the others back."""
        return self._health.healthy(self.bases(origin))

    def is_down(self, origin: Origin) -> bool:
        """Whether no base URL of `origin` may be asked now."""
        return not self.healthy(origin)

    def why_down(self, origin: Origin) -> str:
        """The reason of the first base URL that is down."""
        return self._health.why_down(self.bases(origin))

    def trouble(self, origin: Origin) -> str:
        """Why `origin` can't be asked now; "" if it can, or if it isn't meant to be asked."""
        return self.why_down(origin) if not self.gate.closed and self.is_down(origin) else ""

    def pause(self, origin: Origin, path: str) -> UpstreamError | None:
        """Why nobody of `origin` who is up may be asked for `path` just now, though it will answer;
        None if somebody may, or if all are down."""
        pauses = [self._pauses.why(base, path) for base in self.healthy(origin)]
        return pauses[0] if pauses and all(pauses) else None

    def paused_until(self, base: str, path: str) -> float:
        """When `base` may be asked for `path`, on the monotonic clock."""
        return self._pauses.until(base, path)

    def heard(self, base: str) -> None:
        """Bytes of a body came from `base`."""
        self._health.heard(base)

    def silent_for(self, origin: Origin) -> float:
        """Seconds for which `origin` has left every question without an answer."""
        return self._health.silent_for(self.bases(origin))

    async def wait_for_change(self, seconds: float) -> None:
        """Until an upstream goes down or comes back, but not longer than `seconds`."""
        await self._health.wait_for_change(seconds)

    async def down_for(self, origin: Origin, seconds: float) -> None:
        """Return when `origin` has been down for `seconds` without a break."""
        await self._health.down_for(self.bases(origin), seconds)

    def statistics(self) -> dict[str, dict[str, object]]:
        """See Health.statistics."""
        return self._health.statistics()

    @contextlib.asynccontextmanager
    async def get(
        self, base: str, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Response]:
        """GET a public resource, redirects followed. Any status is a Response; UpstreamError is
        raised if there is none."""
        async with self._connections.turn():
            # It may have taken a while.
            if not self._health.healthy([base]):
                raise UpstreamError(self._health.why_down([base]))
            with self._question(base, path) as answered:
                async with self._get(base, path, headers or {}) as response:
                    answered(response.status)
                    self._pauses.note(base, path, response)
                    yield response

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, base: str, target: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> AsyncIterator[Response]:
        """Anything else, redirects not followed. Raises UpstreamError, at once if `base` is
        down."""
        if not self._health.healthy([base]):
            raise UpstreamError(self._health.why_down([base]))
        # Without a turn: how long it takes is up to the client.
        with self._question(base, target) as answered:
            async with self._connections.request(method, base + target, headers, body) as response:
                answered(response.status)
                yield response

    async def _probe(self, base: str, path: str) -> int:
        with self._telemetry.question(self._labels[base]) as answered:
            # As little of it as can be asked for.
            async with self._get(base, path, {"Range": "bytes=0-0"}) as response:
                answered(response.status)
                return response.status

    @contextlib.contextmanager
    def _question(self, base: str, path: str) -> Iterator[Callable[[int], None]]:
        """Who has to know of a question hears of its answer."""
        with (
            self._health.question(base, path) as told_health,
            self._telemetry.question(self._labels[base]) as told_telemetry,
        ):

            def answered(status: int) -> None:
                told_telemetry(status)
                told_health(status)

            yield answered

    @contextlib.asynccontextmanager
    async def _get(
        self, base: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[Response]:
        url = base + path
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                async with self._connections.request("GET", url, list(headers.items())) as response:
                    if response.status not in _REDIRECTS or "location" not in response.headers:
                        _check_encoding(url, response)
                        yield response
                        return
                    following = urljoin(url, response.headers["location"])
            except UpstreamError as error:
                # Whoever redirected us was reached.
                error.unreachable = error.unreachable and url == base + path
                raise
            self._check_redirect(url, following)
            url = following
        raise UpstreamError(
            f"{host_of(base)} redirects more than {_MAX_REDIRECTS} times", final=True
        )

    def _check_redirect(self, url: str, following: str) -> None:
        """Not everything is verified, so a redirect mustn't lead to less safety, nor into the
        network around us."""
        try:
            old, new = urlsplit(url), urlsplit(following)
            host = new.hostname or ""
        except ValueError:
            raise UpstreamError(
                f"{host_of(url)} redirects to an address that can't be used", final=True
            ) from None
        if new.scheme not in ("http", "https") or (old.scheme == "https" != new.scheme):
            raise UpstreamError(f"{host_of(url)} redirects to {host}, not by https", final=True)
        known = {urlsplit(base).netloc for bases in self._bases.values() for base in bases}
        if new.netloc not in known and not re.fullmatch(r"(?:[\w-]+\.)+[A-Za-z]\w+", host):
            raise UpstreamError(
                f"{host_of(url)} redirects to {host}, which is no public name", final=True
            )


def _check_encoding(url: str, response: Response) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding != "identity" and response.status in (200, 206):
        raise UpstreamError(f"{host_of(url)} sent the body as {encoding}, unasked", final=True)
