"""The command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from hexcache import __version__
from hexcache.commands import (
    auditing,
    carrying,
    completing,
    doctoring,
    serving,
    stored,
    upkeep,
    warming,
)
from hexcache.errors import HexcacheError, reason_of


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


for command in (
    serving.serve,
    serving.offline_command,
    serving.health,
    serving.env,
    warming.warm,
    warming.check,
    stored.ls,
    stored.show,
    stored.stats,
    upkeep.verify,
    upkeep.refresh,
    upkeep.rm,
    upkeep.gc,
    carrying.export,
    carrying.import_command,
    auditing.audit_command,
    doctoring.doctor,
    completing.completion,
):
    main.add_command(command)
