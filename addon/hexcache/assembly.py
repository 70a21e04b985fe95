"""Make the parts of a running Hexcache from its settings, and take them apart again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hexcache import registry
from hexcache.authority import Authority
from hexcache.cache import Engine
from hexcache.errors import SettingsError, VerificationError
from hexcache.registry import KeyRing
from hexcache.settings import Address, Listen, Settings
from hexcache.store import Store
from hexcache.upstream import Upstream

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    settings: Settings
    engine: Engine
    store: Store
    upstream: Upstream
    authority: Authority

    async def close(self) -> None:
        await self.engine.close()
        await self.upstream.close()
        await self.store.close()


def assemble(settings: Settings, clock: Callable[[], float] = time.time) -> Parts:
    """Open everything that a server needs. Raises HexcacheError; then nothing is left open."""
    _refuse_one_address_twice(settings.listen)
    keys, builds_keys = _keys(settings.upstream.public_key)
    upstream = Upstream(settings, settings.listen.addresses)
    authority = Authority.open(settings.data / "ca")
    if settings.publish_ca is not None:
        authority.publish(settings.publish_ca)
    if warning := authority.expiry_warning():
        logger.warning("%s", warning)
    if not settings.cache.verify:
        logger.warning(
            "cache.verify is false: NOTHING THAT COMES FROM UPSTREAM IS VERIFIED, and what is "
            "wrong there goes to every client"
        )
    store = Store.open(
        settings.data / "cache",
        limit=settings.cache.size_limit,
        clock=clock,
        # What one key vouched for is nothing to another.
        trust=keys.fingerprint if settings.cache.verify else "unverified",
    )
    engine = Engine(settings, store, upstream, keys=keys, builds_keys=builds_keys, clock=clock)
    return Parts(settings, engine, store, upstream, authority)


def _keys(public_key: Path | None) -> tuple[KeyRing, KeyRing]:
    """The keys of the registry and those of builds.hex.pm. A self-hosted repository signs both
    with its own."""
    if public_key is None:
        return KeyRing([registry.HEXPM_PUBLIC_KEY]), KeyRing([registry.BUILDS_PUBLIC_KEY])
    try:
        text = public_key.read_text(encoding="ascii")
        end = "-----END PUBLIC KEY-----"
        own = [part + end for part in text.split(end) if "-----BEGIN PUBLIC KEY-----" in part]
        if not own:
            raise VerificationError("key", "it holds no PEM public key")
        return KeyRing(own), KeyRing([*own, registry.BUILDS_PUBLIC_KEY])
    except (OSError, UnicodeDecodeError, VerificationError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"upstream.public_key: {public_key}: {reason}", key="upstream.public_key"
        ) from None


def _refuse_one_address_twice(listen: Listen) -> None:
    taken: dict[Address, str] = {}
    for name in Listen.model_fields:
        address: Address | None = getattr(listen, name)
        # The system gives each port 0 another one.
        if address is None or not address.port:
            continue
        if other := taken.get(address):
            key = f"listen.{name}"
            raise SettingsError(
                f"listen.{other} and {key} are both {address}: each needs its own", key=key
            )
        taken[address] = name
