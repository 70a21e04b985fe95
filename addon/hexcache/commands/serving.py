"""serve, and what is asked of a server that runs."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from hexcache.commands.common import config_option
from hexcache.seat.clients import Format, client_environment, notes, render
from hexcache.settings import load, with_packages
from hexcache.signals import end_at_once


@click.command(epilog="Example: hexcache serve --config /etc/hexcache/proxy.yaml")
@config_option
@click.option("--offline", is_flag=True, help="Ask nothing of Hex: serve what is stored.")
def serve(config: Path | None, offline: bool) -> None:
    """Run the proxy until SIGTERM or Ctrl-C."""
    # Until the server has its own handlers; on a slow disk that may take a while.
    end_at_once(signal.SIGTERM)
    # mitmproxy takes a moment to import: the other commands don't need it.
    from hexcache.server import serve as run_server

    settings = with_packages(load(config, {"offline": True} if offline else None))
    sys.exit(run_server(settings))


@click.command("offline", epilog="Example: hexcache offline on")
@click.argument("what", type=click.Choice(["on", "off", "status"]))
@config_option
def offline_command(what: str, config: Path | None) -> None:
    """Turn the offline flag of the running server on or off, or say how it is.

    While it is on, no packet leaves for Hex: what is stored is served as if fresh. What is coming
    in may finish. The next start goes by the settings again.
    """
    from hexcache.jobs import remote  # aiohttp takes a moment to import

    data = load(config).data
    if what == "status":
        answer = asyncio.run(remote.ask(data, "GET", "/offline"))
    else:
        answer = asyncio.run(remote.ask(data, "PUT", "/offline", {"offline": what == "on"}))
    click.echo("offline" if answer["offline"] else "online")


@click.command(epilog="Example: hexcache health && echo it runs")
@config_option
def health(config: Path | None) -> None:
    """Ask the running server whether it is well: exit status 0 if it is.

    It asks /healthz at listen.status, or the control socket where that is off.
    """
    from hexcache.jobs import remote  # aiohttp takes a moment to import

    settings = load(config)
    if settings.listen.status is not None:
        asyncio.run(remote.ask_health(settings.listen.status))
    else:
        asyncio.run(remote.ask(settings.data, "GET", "/health"))
    click.echo("ok")


@click.command(epilog='Example: eval "$(hexcache env)"')
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    default=Format.SHELL.value,
    show_default=True,
    help="shell: to eval. docker: for a Dockerfile. compose: for a service of a compose file. "
    'github-actions: to append to "$GITHUB_ENV".',
)
@click.option(
    "--host",
    metavar="HOST",
    help="How clients call the machine that Hexcache runs on (default: this machine, in "
    "compose `hexcache`).",
)
@config_option
def env(form: str, host: str | None, config: Path | None) -> None:
    """Print what mix, mix local.hex, rebar3 and Gleam have to set to use this Hexcache."""
    wanted = Format(form)
    client = client_environment(load(config), wanted, host)
    click.echo(render(client, wanted), nl=False)
    if wanted is Format.GITHUB_ACTIONS:
        for note in notes(client):
            click.echo(note, err=True)
