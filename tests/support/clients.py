"""Whether the real clients are here. A missing one is a visible skip, or a failure where CI asked
for them (REQUIRE_CLIENTS)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def require(*programs: str, install: str) -> None:
    """Skip the test, or fail it in CI, unless all `programs` are on the PATH."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        missing(f"{', '.join(absent)} not found: {install}")


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if os.environ.get("REQUIRE_CLIENTS"):
        pytest.fail(reason)
    pytest.skip(reason)


def require_rebar3() -> None:
    require(
        "rebar3",
        "escript",
        install="apt-get install rebar3 erlang-dev erlang-ssl erlang-eunit erlang-tools",
    )


def hex_archive() -> Path | None:
    """The Hex archive of the user's mix, if there is one."""
    home = Path(os.environ.get("MIX_HOME", Path.home() / ".mix"))
    return next(iter(sorted(home.glob("**/archives/hex*"), reverse=True)), None)


def require_mix() -> Path:
    """mix and a Hex archive. Debian has none, so this one is never demanded."""
    archive = hex_archive()
    if shutil.which("mix") is None or archive is None:
        pytest.skip("mix with Hex not found: apt-get install elixir, then mix local.hex")
    return archive
