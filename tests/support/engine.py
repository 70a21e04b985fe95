"""An engine with everything real but mitmproxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hexcache.assembly import Core
from hexcache.engine.cache import Engine
from hexcache.messages import Headers, Reply, Request, read
from hexcache.network.pace import Pace
from hexcache.network.upstream import Upstream
from hexcache.records.telemetry import Telemetry
from hexcache.registry import KeyRing
from hexcache.resources import REPO_HOST, Origin
from hexcache.settings import Settings
from hexcache.storage.store import Store
from hexcache.storage.trust import Trust
from support.clock import Clock
from support.signing import Rel, signer
from support.upstream import Upstream as FakeHex


@dataclass(frozen=True)
class Got:
    """A reply with its body read."""

    status: int
    body: bytes
    headers: Headers
    outcome: str
    detail: str


CONTENT = b"a tarball " * 5000
URL = "/tarballs/foo-1.0.0.tar"


class Bench:
    """`get` asks the engine; `publish` puts packages at upstream. `time` is the monotonic clock."""

    def __init__(
        self, directory: Path, fake: FakeHex, clock: Clock, changes: Mapping[str, Any]
    ) -> None:
        sections: dict[str, Any] = {
            "upstream": {"repo": [fake.url], "builds": [fake.url], "patience": 30}
        }
        for name, content in changes.items():
            merge = isinstance(content, dict)
            sections[name] = {**sections.get(name, {}), **content} if merge else content
        self.settings = Settings(**sections)
        self.fake = fake
        self.clock = clock
        keys = KeyRing([signer().public_key])
        self.trust = (
            Trust(keys, keys, keys.fingerprint)
            if self.settings.cache.verify
            else Trust(None, None, "unverified")
        )
        self.store = Store.open(
            directory,
            limit=self.settings.cache.size_limit,
            clock=clock,
            trust=self.trust.name,
        )
        # No sleeps: what waits before it tries again tries at once.
        self.time = Clock(0.0)
        pace = Pace(monotonic=self.time, sleep=self.time.sleep, down_grace=0)
        self.telemetry = Telemetry()
        self.upstream = Upstream(self.settings, pace=pace, telemetry=self.telemetry)
        self.engine = Engine(
            self.settings,
            self.store,
            self.upstream,
            trust=self.trust,
            clock=clock,
            pace=pace,
            telemetry=self.telemetry,
        )
        self.partial = directory / "partial"
        self._open = True

    @property
    def core(self) -> Core:
        """The same for jobs."""
        return Core(
            self.settings,
            self.engine,
            self.store,
            self.upstream,
            self.trust,
            self.clock,
            self.telemetry,
        )

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self.engine.close()
            await self.upstream.close()
            await self.store.close()

    async def get(
        self,
        target: str,
        *,
        method: str = "GET",
        host: str = REPO_HOST,
        client: str = "10.0.0.1",
        connection: str = "",
        body: bytes = b"",
        **headers: str,
    ) -> Got:
        """Header names are written with underscores."""
        reply = await self.reply(target, method, host, client, body, headers, connection)
        return Got(
            reply.status,
            await read(reply.body),
            Headers(reply.headers),
            str(reply.outcome),
            reply.detail,
        )

    async def reply(
        self,
        target: str,
        method: str,
        host: str,
        client: str,
        body: bytes,
        headers: Mapping[str, str],
        connection: str = "",
    ) -> Reply:
        pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        return await self.engine.get(
            Request(
                method=method,
                host=host,
                target=target,
                headers=Headers(pairs),
                body=body,
                client=client,
                connection=connection,
            )
        )

    async def settled(self) -> None:
        """Until what goes on behind has come to its end."""
        while self.engine.is_busy:
            await asyncio.sleep(0.001)

    async def until_up(self) -> None:
        """Until the probes have found that upstream is back."""
        while self.upstream.is_down(Origin.REPO):
            await self.upstream.wait_for_change(1)

    def publish(self, name: str, *releases: Rel) -> None:
        """Upstream's registry entry of a package and its tarballs."""
        self.fake.files[f"/packages/{name}"] = signer().package(name, releases)
        for release in releases:
            self.fake.files[f"/tarballs/{name}-{release.version}.tar"] = release.tarball

    def publish_csv(self, text: bytes) -> None:
        """Upstream's index of installs and its signature."""
        self.fake.files["/installs/hex-1.x.csv"] = text
        self.fake.files["/installs/hex-1.x.csv.signed"] = signer().signed_file(text)


# Makes engines: keyword arguments are settings by section.
Make = Callable[..., Bench]
