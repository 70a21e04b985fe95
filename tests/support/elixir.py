"""Runs Elixir, the reference for what its own syntax and its versions mean."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support import clients


def run(script: str, *arguments: str | Path, path: Path | None = None) -> str:
    """What an Elixir script prints; a visible skip where there is no Elixir. `path` is a
    directory of compiled modules."""
    clients.require("elixir", install="apt-get install elixir")
    modules = ["-pa", str(path)] if path else []
    # A locale without UTF-8 earns a warning on stderr, and damages what is printed.
    command = ["elixir", "--erl", "+fnu", *modules, "-e", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
