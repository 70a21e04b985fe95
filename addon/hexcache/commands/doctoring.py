"""doctor: what is wrong, from a client's seat."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hexcache.commands.common import config_option, json_option, print_json
from hexcache.errors import SettingsError, UpstreamError
from hexcache.printing import printable
from hexcache.settings import Settings, find_config, load, with_packages

if TYPE_CHECKING:  # a handshake takes more to import than the other commands need
    from hexcache.seat.checks import Check
    from hexcache.seat.probing import Answer

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_SECONDS = 10.0


@click.command(epilog="Example: hexcache doctor")
@json_option
@config_option
def doctor(config: Path | None, as_json: bool) -> None:
    """Find out why mix or rebar3 don't get what they want here.

    Run it where they run: it looks at the environment, asks the proxy as they do, with the
    certificates that they trust, and looks at upstream, the disk and the clock. Each line says ok,
    warn or fail, and below what is wrong stands a line that mends it. Exit status 1 if anything
    fails.
    """
    checks: list[Check] = []
    for check in _checks(config):
        checks.append(check)
        if not as_json:
            _print(check)
    failed = any(check.state == "fail" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [dataclasses.asdict(each) for each in checks]})
    sys.exit(1 if failed else 0)


def _checks(config: Path | None) -> Iterator[Check]:
    from hexcache.seat.checks import Check, Seat, State
    from hexcache.seat.doctor import examine

    try:
        path = find_config(config)
        settings = load(config)
    except SettingsError as error:
        mend = f"${{EDITOR:-vi}} {shlex.quote(error.where)}" if Path(error.where).is_file() else ""
        yield Check("settings", State.FAIL, printable(error), mend)
        return
    where = printable(str(path)) if path else "the defaults and the environment: no file"
    yield Check("settings", State.OK, where)
    options = f" --config {shlex.quote(str(config))}" if config else ""
    try:
        with_packages(settings)
    except SettingsError as error:
        what = f"{error}: `hexcache serve` refuses it".removeprefix("environment: PACKAGES: ")
        yield Check(
            "PACKAGES", State.WARN, printable(what), f"env -u PACKAGES hexcache serve{options}"
        )
    yield from examine(
        Seat(
            settings=settings,
            environment=os.environ,
            home=Path(os.path.expanduser("~")),
            now=time.time,
            installed=lambda program: shutil.which(program) is not None,
            room=lambda directory: shutil.disk_usage(directory).free,
            upstream=lambda: asyncio.run(_ask(settings)),
            options=options,
        )
    )


async def _ask(settings: Settings) -> Answer:
    """As the server asks, but for its patience. Raises HexcacheError."""
    from hexcache.labels import host_of  # aiohttp takes a moment
    from hexcache.network.upstream import Upstream
    from hexcache.seat.probing import PATH, Answer

    upstream = Upstream(settings, settings.listen.addresses)
    problem = UpstreamError("no upstream is configured")
    try:
        for base in settings.upstream.repo:
            try:
                async with asyncio.timeout(_SECONDS), upstream.get(base, PATH) as response:
                    return Answer(response.status, response.headers, b"")
            except UpstreamError as error:
                problem = error
            except TimeoutError:
                problem = UpstreamError(f"{host_of(base)}: no answer within {_SECONDS:g} s")
    finally:
        await upstream.close()
    raise problem


def _print(check: Check) -> None:
    # https://no-color.org; click itself leaves colours out where the output is no terminal.
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    state = click.style(f"{check.state:<4}", fg=None if plain else _COLOURS[check.state])
    click.echo(f"{state}  {check.name}: {check.what}", color=False if plain else None)
    if check.mend and check.state != "ok":
        click.echo(f"      {check.mend}")
