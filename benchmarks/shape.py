"""A repository of the shape that a Phoenix application meets: its depth, its optional
dependencies, entries with a long history, and /versions of a whole registry. Not its exact graph,
and tarballs that a line of 256 kbit/s brings in a bounded time."""

from __future__ import annotations

import gzip
import random
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA512

from hexcache.proto import registry_pb2 as pb
from support.repository import HexRepository

VERSION = "1.2.0"
# What the project asks for itself; its resolution takes 8 rounds.
DIRECT = ("phoenix_storybook", "ecto", "jason")
# Package → kilobytes of its tarball, dependencies; "?" marks an optional one.
_GRAPH: Mapping[str, tuple[int, str]] = {
    "phoenix_storybook": (120, "phoenix_live_dashboard jason"),
    "phoenix_live_dashboard": (60, "phoenix_live_view telemetry_metrics mime ecto?"),
    "phoenix_live_view": (150, "phoenix phoenix_html telemetry jason?"),
    "phoenix": (110, "plug phoenix_pubsub phoenix_template websock_adapter telemetry jason?"),
    "phoenix_template": (15, "phoenix_html?"),
    "phoenix_html": (20, ""),
    "phoenix_pubsub": (15, ""),
    "websock_adapter": (12, "websock plug plug_cowboy bandit?"),
    "websock": (10, ""),
    "plug": (55, "mime plug_crypto telemetry"),
    "plug_crypto": (15, ""),
    "plug_cowboy": (15, "plug cowboy"),
    "cowboy": (70, "cowlib ranch"),
    "cowlib": (45, ""),
    "ranch": (30, ""),
    "mime": (15, ""),
    "telemetry": (15, ""),
    "telemetry_metrics": (15, "telemetry"),
    "ecto": (90, "decimal telemetry jason?"),
    "decimal": (15, ""),
    "jason": (20, "decimal?"),
    # Asked for, never taken.
    "bandit": (25, "plug websock telemetry"),
}
# Releases that are only a line of the registry. Half a year old and more: nothing can be replaced.
_HISTORY = 40
_RELEASED = int(time.time()) - 180 * 86400


@dataclass(frozen=True)
class Shape:
    """`files` are what a web server serves. `packages` are what the project gets in the end."""

    files: Mapping[str, bytes]
    packages: frozenset[str]
    public_key: str
    public_key_file: Path

    @property
    def tarball_bytes(self) -> int:
        names = [f"/tarballs/{name}-{VERSION}.tar" for name in self.packages]
        return sum(len(self.files[name]) for name in names)


def build(directory: Path, *, scale: float, versions_size: int, seed: int) -> Shape:
    """`scale` is that of the tarballs; `versions_size`: bytes of /versions as it is sent, 0 for a
    repository that has none."""
    chance = random.Random(seed)  # noqa: S311  # filling, not a secret
    repository = HexRepository(directory)
    for name, (kilobytes, _) in _GRAPH.items():
        deps = _dependencies(name)
        # Letters and digits pack to three quarters.
        text = _noise(chance, max(int(kilobytes * 1000 * scale * 4 / 3) - 3000, 10))
        repository.publish(
            name,
            VERSION,
            dict.fromkeys(deps, "~> 1.0"),
            optional=tuple(dep for dep, optional in deps.items() if optional),
            text=text,
        )
    files = repository.build()
    key = serialization.load_pem_private_key(
        (directory / "private_key.pem").read_bytes(), password=None
    )
    assert isinstance(key, rsa.RSAPrivateKey)
    versions: dict[str, list[str]] = {}
    for name in _GRAPH:
        package = _with_history(files[f"/packages/{name}"], chance)
        files[f"/packages/{name}"] = _signed(package.SerializeToString(), key)
        versions[name] = [release.version for release in package.releases]
    # Hex's own question whether it is the newest.
    csv = "/installs/hex-1.x.csv"
    files[csv], files[f"{csv}.signed"] = repository.signed_csv("2.5.1,0,1.14.0,25\n")
    del files["/versions"]
    if versions_size:
        files["/versions"] = _versions(versions, versions_size, key, chance)
    return Shape(files, _needed(), repository.public_key, repository.public_key_file)


def _dependencies(name: str) -> dict[str, bool]:
    """Package → whether it is optional."""
    return {dep.removesuffix("?"): dep.endswith("?") for dep in _GRAPH[name][1].split()}


def _needed() -> frozenset[str]:
    needed: set[str] = set()
    left = list(DIRECT)
    while left:
        name = left.pop()
        if name not in needed:
            needed.add(name)
            left += [dep for dep, optional in _dependencies(name).items() if not optional]
    return frozenset(needed)


def _with_history(body: bytes, chance: random.Random) -> pb.Package:
    signed = pb.Signed.FromString(gzip.decompress(body))
    package = pb.Package.FromString(signed.payload)
    newest = package.releases[0]
    newest.published_at.seconds = _RELEASED
    releases = []
    for number in range(_HISTORY):
        old = pb.Release()
        old.CopyFrom(newest)
        old.version = f"1.{number // 20}.{number % 20}"
        old.inner_checksum, old.outer_checksum = chance.randbytes(32), chance.randbytes(32)
        old.published_at.seconds = _RELEASED - (_HISTORY - number) * 86400
        releases.append(old)
    del package.releases[:]
    package.releases.extend([*releases, newest])
    return package


def _versions(
    ours: Mapping[str, list[str]], size: int, key: rsa.RSAPrivateKey, chance: random.Random
) -> bytes:
    """With as many made-up packages as it takes: about `size` bytes."""

    def body(count: int) -> bytes:
        message = pb.Versions(repository="hexpm")
        for name, versions in ours.items():
            message.packages.add(name=name, versions=versions)
        for _ in range(count):
            versions = [f"{chance.randrange(3)}.{n}.{chance.randrange(9)}" for n in range(6)]
            message.packages.add(name=f"x{_noise(chance, 12).lower()}", versions=versions)
        return _signed(message.SerializeToString(), key)

    sample = 2000
    base = len(body(0))
    each = (len(body(sample)) - base) / sample
    return body(max(int((size - base) / each), 0))


def _signed(payload: bytes, key: rsa.RSAPrivateKey) -> bytes:
    signature = key.sign(payload, padding.PKCS1v15(), SHA512())
    message = pb.Signed(payload=payload, signature=signature)
    return gzip.compress(message.SerializeToString(), mtime=0)


def _noise(chance: random.Random, length: int) -> str:
    return "".join(chance.choices(string.ascii_letters + string.digits, k=length))
