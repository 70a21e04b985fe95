"""The command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hexcache import __version__
from hexcache.errors import HexcacheError
from hexcache.server import serve as run_server
from hexcache.settings import load

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (default: $HEXCACHE_CONFIG, else ./proxy.yaml).",
)


class _Group(click.Group):
    """Turns Hexcache's own errors into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HexcacheError as error:
            click.echo(f"hexcache: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="hexcache")
def main() -> None:
    """A caching forward proxy for Hex, the package manager of Elixir, Erlang and Gleam."""


@main.command(epilog="Example: hexcache serve --config /etc/hexcache/proxy.yaml")
@config_option
@click.option("--offline", is_flag=True, help="Ask nothing of Hex: serve what is stored.")
def serve(config: Path | None, offline: bool) -> None:
    """Run the proxy until SIGTERM or Ctrl-C."""
    settings = load(config, {"offline": True} if offline else None)
    sys.exit(run_server(settings))
