"""What all commands have in common."""

from __future__ import annotations

import click
import pytest

from hexcache.cli import main

CONTEXT = click.Context(main)
COMMANDS = [(name, main.get_command(CONTEXT, name)) for name in main.list_commands(CONTEXT)]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_help_has_an_example_and_config(name: str, command: click.Command) -> None:
    assert command.help
    assert command.epilog is not None
    assert command.epilog.startswith(("Example: ", "Examples: "))
    assert "hexcache" in command.epilog
    names = {option for parameter in command.params for option in parameter.opts}
    # Completion is the shell's business, whatever the settings are.
    assert "--config" in names or name == "completion"
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help


def test_each_command_is_in_the_readme() -> None:
    from pathlib import Path

    table = Path(__file__).parents[1].joinpath("README.md").read_text("utf-8")
    table = table[table.index("## Commands") : table.index("## Settings")]
    for name, _ in COMMANDS:
        assert f"hexcache {name}" in table or f"`{name} " in table or f"`{name}`" in table, name
