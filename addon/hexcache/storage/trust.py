"""Which keys vouch for what, by the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hexcache import registry
from hexcache.errors import SettingsError, VerificationError
from hexcache.registry import KeyRing, Package
from hexcache.resources import Kind, Resource
from hexcache.settings import Settings

# The name where nothing is verified.
UNVERIFIED = "unverified"

_END = "-----END PUBLIC KEY-----"


@dataclass(frozen=True)
class Trust:
    """`registry` and `builds` are the keys of the registry and of builds.hex.pm; None: nothing is
    verified. `name` stands for them in the store: what one key vouched for is nothing to
    another."""

    registry: KeyRing | None
    builds: KeyRing | None
    name: str

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Raises SettingsError."""
        keys, builds = _keys(settings.upstream.public_key)
        if not settings.cache.verify:
            return cls(None, None, UNVERIFIED)
        return cls(keys, builds, keys.fingerprint)

    def package(self, about: Resource, body: bytes) -> Package:
        """The registry entry `about`. Raises VerificationError."""
        return registry.decode_package(
            body, self.registry, repository=about.repository, name=about.name
        )

    def has_checks(self, resource: Resource) -> bool:
        """Whether a body of `resource` shows by itself that it is what it should be."""
        return resource.kind.is_registry or (
            resource.kind is Kind.PUBLIC_KEY and self.registry is not None
        )

    def check(self, resource: Resource, body: bytes) -> None:
        """Raises VerificationError for a body that has checks and fails them."""
        repository = resource.repository
        match resource.kind:
            case Kind.PACKAGE:
                self.package(resource, body)
            case Kind.NAMES:
                registry.decode_names(body, self.registry, repository=repository)
            case Kind.VERSIONS:
                registry.decode_versions(body, self.registry, repository=repository)
            case Kind.PUBLIC_KEY if self.registry is not None:
                self.registry.check_key(body)


def _keys(public_key: Path | None) -> tuple[KeyRing, KeyRing]:
    """A self-hosted repository signs both with its own."""
    if public_key is None:
        return KeyRing([registry.HEXPM_PUBLIC_KEY]), KeyRing([registry.BUILDS_PUBLIC_KEY])
    try:
        text = public_key.read_text(encoding="ascii")
        own = [part + _END for part in text.split(_END) if "-----BEGIN PUBLIC KEY-----" in part]
        if not own:
            raise VerificationError("key", "it holds no PEM public key")
        return KeyRing(own), KeyRing([*own, registry.BUILDS_PUBLIC_KEY])
    except (OSError, UnicodeDecodeError, VerificationError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"upstream.public_key: {public_key}: {reason}", key="upstream.public_key"
        ) from None
