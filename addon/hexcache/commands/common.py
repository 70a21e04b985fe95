"""What every command shares: its options, how it runs a job, how it prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import click

from hexcache.errors import NoServerError, SettingsError, StoreInUseError
from hexcache.jobs.base import Event
from hexcache.settings import Settings, find_config, load

# For how long a store may be in somebody else's hands: 15 seconds.
_TRIES = 60
_PAUSE = 0.25

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (default: $HEXCACHE_CONFIG, else ./proxy.yaml).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def load_of_server(config: Path | None) -> Settings:
    """The settings of the server whose store a command is about. Raises SettingsError where
    nothing says which that is: a store of its own in a project's directory helps nobody."""
    settings = load(config)
    named = find_config(config) is not None or "HEXCACHE_DATA" in os.environ
    if not named and not os.path.isdir(settings.cache_directory):
        raise SettingsError(
            "which Hexcache? No proxy.yaml is here: name the server's with --config, or "
            "export HEXCACHE_CONFIG=/path/to/hexcache/proxy.yaml"
        )
    return settings


def print_json(value: Any) -> None:
    """One JSON document, readable by people too, and harmless to their terminals."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Line breaks are the layout's: those in texts are escaped already.
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def run_job(
    settings: Settings,
    name: str,
    arguments: Mapping[str, Any],
    on_event: Callable[[Event], None],
    upload: Path | None = None,
) -> None:
    """Have a job done by the running server, or here where none runs. Raises HexcacheError."""

    async def run() -> None:
        async with contextlib.aclosing(_events(settings, name, arguments, upload)) as events:
            async for event in events:
                on_event(event)

    asyncio.run(run())


async def _events(
    settings: Settings, name: str, arguments: Mapping[str, Any], upload: Path | None
) -> AsyncGenerator[Event]:
    # aiohttp takes a moment to import: whoever only reads doesn't need it.
    from hexcache.jobs import remote

    for tries_left in reversed(range(_TRIES)):
        running = remote.run_job(settings.data, name, arguments, upload)
        try:
            async with contextlib.aclosing(running) as events:
                async for event in events:
                    yield event
                return
        except NoServerError:
            pass
        try:
            async with contextlib.aclosing(_here(settings, name, arguments, upload)) as events:
                async for event in events:
                    yield event
                return
        except StoreInUseError:
            # A server that starts or ends, or another command that will soon be through.
            if not tries_left:
                raise
            await asyncio.sleep(_PAUSE)


async def _here(
    settings: Settings, name: str, arguments: Mapping[str, Any], upload: Path | None
) -> AsyncGenerator[Event]:
    # Only now: the engine takes a moment to import, and whoever only reads doesn't need it.
    from hexcache.assembly import assemble_core
    from hexcache.jobs.base import Order
    from hexcache.jobs.joblist import JOBS

    quiet()
    # Whoever only wants to be told loses nothing.
    core = assemble_core(settings, put_aside=not arguments.get("dry"))
    events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def work() -> None:
        try:
            await JOBS[name](core, Order(arguments, upload), events.put_nowait)
        finally:
            events.put_nowait(None)

    running = asyncio.ensure_future(work())
    try:
        while (event := await events.get()) is not None:
            yield event
        await running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await running
        await core.close()


def quiet() -> None:
    """A command's own lines say what happens; of the log only what went wrong is of interest, and
    what became of a store that was damaged."""
    from hexcache.storage import opening

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("hexcache: %(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger(opening.__name__).setLevel(logging.WARNING)
