"""A server that ends while it does a command's work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import World
from support.commands import clean_environment, run
from support.faults import hold
from support.locks import rebar_lock
from support.running import Running


@pytest.mark.parametrize("end", [Running.stop, Running.kill], ids=["SIGTERM", "kill -9"])
def test_the_command_says_so(
    world: World, hexcache: Callable[..., Running], tmp_path: Path, end: Callable[[Running], object]
) -> None:
    newest = {"alpha": "1.1.0", "beta": "1.0.0", "gamma": "0.1.0"}
    lock = rebar_lock(tmp_path / "rebar.lock", world.repository, newest)
    proxy = hexcache()
    world.upstream.fault("/tarballs/gamma", hold())
    command = [sys.executable, "-m", "hexcache", "warm", str(lock), "--config", str(proxy.config)]
    warming = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    world.upstream.wait_until_holding()
    end(proxy)
    world.upstream.heal()
    world.upstream.release()
    _, errors = warming.communicate(timeout=60)
    assert warming.returncode == 1
    assert errors == (
        "hexcache: the server ended meanwhile; run it again, it goes on where it was\n"
    )
    again = run("warm", lock, config=proxy.config)
    assert again.status == 0, again.errors
