"""Make the parts of a running Hexcache from its settings, and take them apart again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from hexcache.authority import Authority
from hexcache.engine.cache import Engine
from hexcache.errors import SettingsError
from hexcache.network.names import look_up_apart
from hexcache.network.upstream import Upstream
from hexcache.records.history import History
from hexcache.records.telemetry import Telemetry
from hexcache.resources import subject_of
from hexcache.settings import Listen, Settings
from hexcache.storage.store import Store
from hexcache.storage.trust import Trust
from hexcache.values import Address

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Core:
    """What fetches, verifies and stores; nothing listens."""

    settings: Settings
    engine: Engine
    store: Store
    upstream: Upstream
    trust: Trust
    clock: Callable[[], float]
    telemetry: Telemetry

    async def close(self) -> None:
        await self.engine.close()
        await self.upstream.close()
        await self.store.close()


@dataclass(frozen=True)
class Parts(Core):
    authority: Authority
    history: History


def assemble_core(
    settings: Settings,
    clock: Callable[[], float] = time.time,
    telemetry: Telemetry | None = None,
    *,
    put_aside: bool = True,
) -> Core:
    """Open the store, for this process alone; `put_aside` as for `open_directory`. Raises
    HexcacheError; then nothing is left open."""
    trust = Trust.of(settings)
    telemetry = telemetry or Telemetry()
    upstream = Upstream(settings, settings.listen.addresses, telemetry=telemetry)
    if not settings.cache.verify:
        logger.warning(
            "cache.verify is false: NOTHING THAT COMES FROM UPSTREAM IS VERIFIED, and what is "
            "wrong there goes to every client"
        )
    store = Store.open(
        settings.cache_directory,
        limit=settings.cache.size_limit,
        clock=clock,
        trust=trust.name,
        put_aside=put_aside,
        on_damage=lambda entry: telemetry.damaged(str(subject_of(entry.key) or entry.key)),
    )
    engine = Engine(settings, store, upstream, trust=trust, clock=clock, telemetry=telemetry)
    return Core(settings, engine, store, upstream, trust, clock, telemetry)


def assemble(
    settings: Settings, telemetry: Telemetry, clock: Callable[[], float] = time.time
) -> Parts:
    """Open everything that a server needs, in its event loop. Raises HexcacheError; then nothing is
    left open."""
    look_up_apart(asyncio.get_running_loop())  # tunnels too
    _refuse_one_address_twice(settings.listen)
    Trust.of(settings)  # before anything is made
    authority = Authority.open(settings.data / "ca")
    if settings.publish_ca is not None:
        authority.publish(settings.publish_ca)
    if warning := authority.expiry_warning():
        logger.warning("%s", warning)
    core = assemble_core(settings, clock, telemetry)
    # The store's directory is ours alone by now.
    history = History.load(settings.cache_directory, clock)
    telemetry.tell(history)
    return Parts(**vars(core), authority=authority, history=history)


def _refuse_one_address_twice(listen: Listen) -> None:
    taken: dict[Address, str] = {}
    for name in Listen.model_fields:
        address = getattr(listen, name)
        # The system gives each port 0 another one.
        if not isinstance(address, Address) or not address.port:
            continue
        if other := taken.get(address):
            key = f"listen.{name}"
            raise SettingsError(
                f"listen.{other} and {key} are both {address}: each needs its own", key=key
            )
        taken[address] = name
