"""completion: what a shell evaluates to complete hexcache's command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_NAME, _VARIABLE = "hexcache", "_HEXCACHE_COMPLETE"


@click.command(epilog='Example: eval "$(hexcache completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete subcommands, options and files.

    For each new shell: bash, in ~/.bashrc: eval "$(hexcache completion bash)". zsh, in ~/.zshrc,
    below compinit: eval "$(hexcache completion zsh)". fish, once: hexcache completion fish >
    ~/.config/fish/completions/hexcache.fish
    """
    made = get_completion_class(shell)
    assert made is not None, "click has these three"
    # click's own way there asks bash for its version by running one.
    complete = made(context.find_root().command, {}, _NAME, _VARIABLE)
    click.echo(complete.source_template % complete.source_vars())
