"""The image alone, as somebody runs it who doesn't use the compose file."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docker.conftest import HELD, World
from support.docker import ROOT, docker, healthy, inspect, user
from support.http import curl
from support.waiting import wait_until

LOCKED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
GRACE_SECONDS = 20


@pytest.fixture
def start(image: str) -> Iterator[Callable[..., str]]:
    """`docker run` of the image; the container's name. Gone with its volumes afterwards."""
    names: list[str] = []

    def run(*options: str) -> str:
        name = f"{image}-{uuid.uuid4().hex[:6]}"
        names.append(name)
        docker("run", "--detach", "--name", name, *options, image)
        return name

    yield run
    for name in names:
        print(docker("logs", name, check=False).stderr)
        docker("rm", "--force", "--volumes", name, check=False)


def catches(container: str, number: signal.Signals) -> bool:
    """Whether the first process in it has a handler for a signal (proc_pid_status(5): SigCgt)."""
    status = docker("exec", container, "cat", "/proc/1/status", check=False).stdout
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.M)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_what_it_says_of_itself(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["Entrypoint"] == ["hexcache"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "hexcache", "health"]
    assert config["User"].split(":")[0].isdecimal()
    assert config["User"].split(":")[0] != "0"
    text = (ROOT / "Dockerfile").read_text()
    assert not any(word in text for word in ("# syntax=", "@sha256:", "--platform"))


def test_its_size(image: str) -> None:
    """The real python:3.13-slim has about 120 MB, and the whole is to stay below 250."""
    ours = inspect(image)["Size"] - inspect("python:3.13-slim")["Size"]
    assert ours < 125e6


def test_what_is_not_in_it(image: str) -> None:
    look = (
        "find /opt/hexcache /etc/hexcache /data /ca '(' -name 'pip' -o -name setuptools -o "
        "-name '*.key' -o -name '*.pem' -o -name tests -path '*hexcache/tests*' ')'"
    )
    found = docker("run", "--rm", "--entrypoint", "sh", image, "-c", look).stdout.split()
    assert [path for path in found if not path.endswith("certifi/cacert.pem")] == []


@pytest.mark.parametrize("who", ["image's own", "12345", "12345:54321", "0"])
def test_as_anybody_and_locked_in(start: Callable[..., str], who: str) -> None:
    as_user = () if who == "image's own" else ("--user", who)
    name = start(*LOCKED, *as_user)
    wait_until("it is healthy", lambda: healthy(name))
    docker("exec", name, "hexcache", "offline", "status")
    docker("stop", "--time", str(GRACE_SECONDS), name, timeout=GRACE_SECONDS + 30)
    state = inspect(name)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    log = docker("logs", name).stderr
    assert "Traceback" not in log
    assert "ermission" not in log


def test_a_directory_that_is_somebody_elses(
    start: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The commonest mistake with bind mounts: one line that says which directory, and an end."""
    theirs = tmp_path_factory.mktemp("theirs")
    theirs.chmod(0o755)
    name = start("-v", f"{theirs}:/data", "--user", "12345")
    wait_until("it ends", lambda: inspect(name)["State"]["Status"] == "exited")
    assert inspect(name)["State"]["ExitCode"] == 1
    log = docker("logs", name).stderr.strip()
    assert "/data" in log
    assert "Traceback" not in log
    assert log.count("\n") == 0


def test_stopped_while_it_starts(start: Callable[..., str], tmp_path: Path) -> None:
    """The first process of a container gets no signal that it doesn't ask for."""
    authority = tmp_path / "ca"
    authority.mkdir()
    held = os.open(authority, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Another start makes the authority: this one waits for it.
        fcntl.flock(held, fcntl.LOCK_EX)
        name = start("-v", f"{tmp_path}:/data", "--user", user())
        wait_until("it has a handler", lambda: catches(name, signal.SIGTERM))
        docker("stop", "--time", str(GRACE_SECONDS), name, timeout=GRACE_SECONDS + 30)
    finally:
        os.close(held)
    assert inspect(name)["State"]["ExitCode"] == 128 + signal.SIGTERM


def test_a_second_signal_ends_it_at_once(world: World) -> None:
    url = f"http://{world.published(4000)}/installs/held"
    client = subprocess.Popen(
        ["curl", "--silent", "--max-time", "60", "--no-buffer", url], stdout=subprocess.PIPE
    )
    container = world.compose.container("hexcache")
    ready = f"http://{world.published(8081)}/readyz"
    assert client.stdout is not None
    try:
        client.stdout.read(1000)
        docker("kill", "--signal", "TERM", container)
        wait_until("it shuts down", lambda: curl(ready).status == 503)
        docker("kill", "--signal", "TERM", container)
    finally:
        status = docker("wait", container, timeout=60).stdout.strip()
        client.kill()
        client.communicate()
        world.compose("kill", "--signal", "USR1", "upstream")
        world.compose.up()
    assert status == str(128 + signal.SIGTERM)


def test_stopping_finishes_what_is_being_sent(world: World) -> None:
    url = f"http://{world.published(4000)}/installs/held"
    client = subprocess.Popen(
        ["curl", "--silent", "--fail", "--max-time", "60", "--no-buffer", url],
        stdout=subprocess.PIPE,
        bufsize=0,  # `communicate` passes a buffer by
    )
    container = world.compose.container("hexcache")
    assert client.stdout is not None
    try:
        begun = client.stdout.read(1000)
        docker("kill", "--signal", "TERM", container)
        world.compose("kill", "--signal", "USR1", "upstream")
        rest, _ = client.communicate(timeout=60)
        assert begun + rest == HELD
    finally:
        client.kill()
        client.wait()
        status = docker("wait", container, timeout=60).stdout.strip()
        world.compose.up()
    assert status == "0"
