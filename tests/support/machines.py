"""Stores on disk as commands find them: by settings."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from hexcache import resources
from hexcache.assembly import Core, assemble_core
from hexcache.engine.replies import Found
from hexcache.resources import REPO_HOST
from hexcache.settings import Settings
from hexcache.storage.library import Library
from support.clock import Clock
from support.signing import Rel, signer
from support.upstream import Upstream


class Machine:
    """A machine with a data directory. `core` opens its store, `library` looks into it."""

    def __init__(self, directory: Path, fake: Upstream, clock: Clock, **changes: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        key = directory / "key.pem"
        key.write_text(signer().public_key)
        sections: dict[str, Any] = {
            "data": directory,
            "upstream": {"repo": [fake.url], "builds": [fake.url], "public_key": key},
        }
        for name, content in changes.items():
            merge = isinstance(content, dict)
            sections[name] = {**sections.get(name, {}), **content} if merge else content
        self.settings = Settings(**sections)
        self.fake = fake
        self.clock = clock
        self._cores: list[Core] = []
        self._libraries: list[Library] = []

    @property
    def config(self) -> Path:
        """A settings file with which a command finds this store, and the same upstream."""
        path = self.settings.data / "proxy.yaml"
        upstream = self.settings.upstream
        urls = {"repo": [self.fake.url], "builds": [self.fake.url]}
        path.write_text(
            yaml.safe_dump(
                {
                    "data": str(self.settings.data),
                    "upstream": {**urls, "public_key": str(upstream.public_key)},
                }
            )
        )
        return path

    @property
    def core(self) -> Core:
        """The opened store, for one process at a time."""
        if not self._cores:
            self._cores.append(assemble_core(self.settings, self.clock))
        return self._cores[0]

    @property
    def library(self) -> Library:
        if not self._libraries:
            self._libraries.append(Library(self.settings))
        return self._libraries[0]

    async def fetch(self, *paths: str) -> None:
        """Have these of upstream in the store."""
        for path in paths:
            resource = resources.parse(REPO_HOST, path)
            assert resource is not None, path
            found = await self.core.engine.ensure(resource)
            assert isinstance(found, Found), found
        while self.core.engine.is_busy:
            await asyncio.sleep(0.001)

    def stored(self) -> dict[str, bytes]:
        """Path → body, of all that is stored and good."""
        found = ((each.path, self.library.reader.content(e)) for each, e in self.library.holdings())
        return {path: body for path, body in found if body is not None}

    async def close(self) -> None:
        for library in self._libraries:
            library.close()
        for core in self._cores:
            await core.close()
        self._libraries.clear()
        self._cores.clear()


def flip_a_bit(machine: Machine, path: str) -> None:
    """Of the stored body of a URL path, which is small and so in the database."""
    place = machine.settings.cache_directory / "entries/cache.db"
    key = f"b:repo/{path}@%"
    with closing(sqlite3.connect(place)) as connection, connection:
        (body,) = connection.execute("SELECT value FROM Cache WHERE key LIKE ?", (key,)).fetchone()
        damaged = body[:-1] + bytes([body[-1] ^ 1])
        connection.execute("UPDATE Cache SET value = ? WHERE key LIKE ?", (damaged, key))


def publish(fake: Upstream, name: str, *releases: Rel, **more: Any) -> None:
    """Upstream's registry entry of a package and its tarballs."""
    fake.files[f"/packages/{name}"] = signer().package(name, releases, **more)
    for release in releases:
        fake.files[f"/tarballs/{name}-{release.version}.tar"] = release.tarball


def publish_tools(fake: Upstream) -> None:
    """Upstream's key, an index of installs with its signature, and what it names."""
    csv = b"2.1.1,abc,1.17.0,27\n"
    fake.files["/public_key"] = signer().public_key.encode()
    fake.files["/installs/hex-1.x.csv"] = csv
    fake.files["/installs/hex-1.x.csv.signed"] = signer().signed_file(csv)
    fake.files["/installs/1.17.0/hex-2.1.1.ez"] = b"an archive"


def paths(items: Iterable[tuple[resources.Resource, object]]) -> set[str]:
    return {resource.path for resource, _ in items}
