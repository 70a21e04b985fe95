"""Registry messages signed in Python, for tests that need no Erlang."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA512

from hexcache.proto import registry_pb2 as pb


@dataclass(frozen=True)
class Rel:
    """A release as the registry has it; `tarball` is what its outer checksum is of."""

    version: str
    tarball: bytes = b""
    deps: tuple[tuple[str, str, bool], ...] = ()
    retired: tuple[int, str] | None = None
    published_at: int | None = None
    advisories: tuple[int, ...] = ()

    @property
    def outer_checksum(self) -> bytes:
        return hashlib.sha256(self.tarball).digest()


class Signer:
    """An RSA key and what it signs."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def public_key(self) -> str:
        return (
            self._key.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    @property
    def private_key(self) -> str:
        """PEM, as hex_core wants it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()

    def package(
        self,
        name: str,
        releases: Iterable[Rel] = (),
        repository: str = "hexpm",
        advisories: Iterable[pb.SecurityAdvisory] = (),
    ) -> bytes:
        message = pb.Package(name=name, repository=repository)
        message.advisories.extend(advisories)
        for rel in releases:
            release = message.releases.add(
                version=rel.version,
                inner_checksum=b"\0" * 32,
                outer_checksum=rel.outer_checksum,
                advisory_indexes=rel.advisories,
            )
            for package, requirement, optional in rel.deps:
                release.dependencies.add(
                    package=package, requirement=requirement, optional=optional
                )
            if rel.retired is not None:
                release.retired.reason, release.retired.message = rel.retired
            if rel.published_at is not None:
                release.published_at.seconds = rel.published_at
        return self.sign(message.SerializeToString())

    def names(self, names: Iterable[str], repository: str = "hexpm") -> bytes:
        message = pb.Names(repository=repository)
        for name in names:
            message.packages.add(name=name)
        return self.sign(message.SerializeToString())

    def versions(self, packages: Mapping[str, Iterable[str]], repository: str = "hexpm") -> bytes:
        message = pb.Versions(repository=repository)
        for name, versions in packages.items():
            message.packages.add(name=name, versions=versions)
        return self.sign(message.SerializeToString())

    def signature(self, data: bytes) -> bytes:
        return self._key.sign(data, padding.PKCS1v15(), SHA512())

    def sign(self, payload: bytes) -> bytes:
        """The registry file of a payload."""
        signed = pb.Signed(payload=payload, signature=self.signature(payload))
        return gzip.compress(signed.SerializeToString(), mtime=0)

    def signed_file(self, body: bytes) -> bytes:
        """The `.signed` of a file of builds.hex.pm."""
        return base64.encodebytes(self.signature(body))


@functools.cache
def signer() -> Signer:
    """The repository's key, made once: it takes a moment."""
    return Signer()


@functools.cache
def other_signer() -> Signer:
    """Somebody else's key."""
    return Signer()
