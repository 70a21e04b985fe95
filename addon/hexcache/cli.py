"""The command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from hexcache import __version__
from hexcache.errors import HexcacheError, reason_of

# Where each command is: the engine and cryptography take a moment to import, and whoever asks for
# `health` every 30 s shouldn't.
_COMMANDS = {
    "audit": ("auditing", "audit_command"),
    "check": ("warming", "check"),
    "completion": ("completing", "completion"),
    "doctor": ("doctoring", "doctor"),
    "env": ("serving", "env"),
    "export": ("carrying", "export"),
    "gc": ("upkeep", "gc"),
    "health": ("serving", "health"),
    "import": ("carrying", "import_command"),
    "ls": ("stored", "ls"),
    "offline": ("serving", "offline_command"),
    "refresh": ("upkeep", "refresh"),
    "rm": ("upkeep", "rm"),
    "serve": ("serving", "serve"),
    "show": ("stored", "show"),
    "stats": ("stored", "stats"),
    "verify": ("upkeep", "verify"),
    "warm": ("warming", "warm"),
}


class _Group(click.Group):
    """Says in one line what is wrong: exit status 1 for Hexcache's own errors, 2 for a command
    line that can't be understood."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"hexcache.commands.{module}"), name)
        assert isinstance(command, click.Command)
        return command

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
        except OSError as error:
            # Of standard output; what else can fail says so itself.
            _end(f"the output can't be written: {reason_of(error)}", 1)
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
