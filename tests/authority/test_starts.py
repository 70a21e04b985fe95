"""Starts that are killed, and starts at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hexcache.authority import Authority
from support.authority import contents

KILLED_STARTS = """
import os, signal, sys
from pathlib import Path
from hexcache.authority import Authority

base = Path(sys.argv[1])

def start(directory, steps):
    def hook(event, args):
        nonlocal steps
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.chmod"):
            return
        # fchmod names no path
        if str(args[0]).startswith(str(directory)) or event == "os.chmod":
            if steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            steps -= 1
    sys.addaudithook(hook)
    Authority.open(directory)

Authority.open(base / "whole")  # everything is imported by now
for steps in range(100):
    child = os.fork()
    if child == 0:
        start(base / f"{steps:03}", steps)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""

STARTS_AT_ONCE = """
import os, sys
from pathlib import Path
from hexcache.authority import Authority

for _ in range(8):
    if os.fork() == 0:
        print(Authority.open(Path(sys.argv[1])).name, flush=True)
        os._exit(0)
for _ in range(8):
    assert os.wait()[1] == 0
"""


def run_python(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_start_killed_at_any_step(tmp_path: Path, part: float) -> None:
    """`part` is how much of a file that wasn't in place yet has come to the disk."""
    run_python(KILLED_STARTS, str(tmp_path))
    (tmp_path / "whole").rename(tmp_path / "whole-one")
    attempts = sorted(tmp_path.glob("[0-9]*"))
    seen = set()
    for directory in attempts:
        for unfinished in directory.glob(".*.new"):
            assert unfinished.name != ".mitmproxy-ca.pem.new" or not (
                unfinished.stat().st_mode & 0o077
            )
            os.truncate(unfinished, int(unfinished.stat().st_size * part))
        left = contents(directory)
        seen.add(frozenset(left))
        assert "hexcache-ca.pem" not in left or "mitmproxy-ca.pem" in left
        authority = Authority.open(directory)
        after = contents(directory)
        assert set(after) == {"mitmproxy-ca.pem", "hexcache-ca.pem", "ca-bundle.pem"}
        for name, content in left.items():
            assert name.startswith(".") or after[name] == content
        Authority.open(directory)
        assert contents(directory) == after
        assert authority.name in authority.bundle_path.read_text().splitlines()[0]
    assert len(attempts) > 12
    # Nothing, each file half-made or in place, and the whole.
    assert len(seen) == 7


def test_starts_at_once_make_one_authority(tmp_path: Path) -> None:
    names = run_python(STARTS_AT_ONCE, str(tmp_path / "ca")).splitlines()
    assert len(names) == 8
    assert set(names) == {Authority.open(tmp_path / "ca").name}
