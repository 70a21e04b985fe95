"""The command line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hexcache import __version__, control, status
from hexcache.clients import Format, client_environment, notes, render
from hexcache.errors import HexcacheError
from hexcache.settings import load
from hexcache.signals import end_at_once

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (default: $HEXCACHE_CONFIG, else ./proxy.yaml).",
)


class _Group(click.Group):
    """Says in one line what is wrong: exit status 1 for Hexcache's own errors, 2 for a command
    line that can't be understood."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        try:
            result = super().main(args, *rest, **{**options, "standalone_mode": False})
        except HexcacheError as error:
            _end(str(error), 1)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "hexcache"
            _end(f"{error.format_message()} See {command} --help", 2)
        except click.ClickException as error:
            _end(error.format_message(), error.exit_code)
        except click.Abort:
            _end("interrupted", 130)
        # Without standalone_mode click hands on the status of --help and --version.
        sys.exit(result if isinstance(result, int) else 0)


def _end(message: str, exit_status: int) -> None:
    click.echo(f"hexcache: {' '.join(message.split())}", err=True)
    sys.exit(exit_status)


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="hexcache")
def main() -> None:
    """A caching forward proxy for Hex, the package manager of Elixir, Erlang and Gleam."""


@main.command(epilog="Example: hexcache serve --config /etc/hexcache/proxy.yaml")
@config_option
@click.option("--offline", is_flag=True, help="Ask nothing of Hex: serve what is stored.")
def serve(config: Path | None, offline: bool) -> None:
    """Run the proxy until SIGTERM or Ctrl-C."""
    # Until the server has its own handlers; on a slow disk that may take a while.
    end_at_once(signal.SIGTERM)
    # mitmproxy takes a second to import. Nobody else is to wait for it: Docker asks for `health`
    # every 30 s.
    from hexcache.server import serve as run_server

    settings = load(config, {"offline": True} if offline else None)
    sys.exit(run_server(settings))


@main.command("offline", epilog="Example: hexcache offline on")
@click.argument("what", type=click.Choice(["on", "off", "status"]))
@config_option
def offline_command(what: str, config: Path | None) -> None:
    """Turn the offline flag of the running server on or off, or say how it is.

    While it is on, no packet leaves for Hex: what is stored is served as if fresh. What is coming
    in may finish. The next start goes by the settings again.
    """
    data = load(config).data
    if what == "status":
        answer = asyncio.run(control.ask(data, "GET", "/offline"))
    else:
        answer = asyncio.run(control.ask(data, "PUT", "/offline", {"offline": what == "on"}))
    click.echo("offline" if answer["offline"] else "online")


@main.command(epilog="Example: hexcache health && echo it runs")
@config_option
def health(config: Path | None) -> None:
    """Ask the running server whether it is well: exit status 0 if it is.

    It asks /healthz at listen.status, or the control socket where that is off.
    """
    settings = load(config)
    if settings.listen.status is not None:
        asyncio.run(status.ask_health(settings.listen.status))
    else:
        asyncio.run(control.ask(settings.data, "GET", "/health"))
    click.echo("ok")


@main.command(epilog='Example: eval "$(hexcache env)"')
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
