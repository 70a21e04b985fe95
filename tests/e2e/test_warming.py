"""`hexcache warm` before the train, `hexcache check` to know, and a real client on the train."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import World
from support.faults import hold
from support.locks import rebar_lock
from support.rebar3 import Rebar3Project
from support.running import Running, run_hexcache

NEWEST = {"alpha": "1.1.0", "beta": "1.0.0", "gamma": "0.1.0"}
FILES = set(NEWEST)


@pytest.fixture
def lock(world: World, tmp_path: Path) -> Path:
    """The rebar.lock of a project that needs all three."""
    return rebar_lock(tmp_path / "rebar.lock", world.repository, NEWEST)


@pytest.fixture
def project(world: World) -> Rebar3Project:
    """Another one, which has fetched nothing yet."""
    return Rebar3Project(
        world.directory / "train",
        {"alpha": "~> 1.0", "gamma": "0.1.0"},
        public_key=world.repository.public_key,
        ca_file=None,
    )


@pytest.mark.parametrize("server_runs", [True, False])
def test_warm_then_the_line_is_cut(
    world: World,
    hexcache: Callable[..., Running],
    lock: Path,
    project: Rebar3Project,
    server_runs: bool,
) -> None:
    proxy = hexcache()
    if not server_runs:
        proxy.stop()
    before = run_hexcache("check", str(lock), config=proxy.config)
    assert before.returncode == 1
    assert "tarball alpha-1.1.0: not stored" in before.stdout
    assert "package beta: not stored" in before.stdout

    warmed = run_hexcache("warm", str(lock), config=proxy.config)
    assert warmed.returncode == 0, warmed.stderr
    assert "tarball alpha-1.1.0: " in warmed.stdout
    assert "6 fetched" in warmed.stdout
    assert {name for name in FILES if world.upstream.count(f"/tarballs/{name}")} == FILES

    world.upstream.stop_listening()
    after = run_hexcache("check", str(lock), config=proxy.config)
    assert after.returncode == 0, after.stdout
    assert "complete" in after.stdout
    if not server_runs:
        proxy.start()
    project.trust(proxy.bundle)
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(project.fetched()) == FILES


def test_by_name_with_what_it_depends_on(
    world: World, hexcache: Callable[..., Running], project: Rebar3Project
) -> None:
    proxy = hexcache()
    warmed = run_hexcache("warm", "alpha ~> 1.0", "gamma@0.1.0", config=proxy.config)
    assert warmed.returncode == 0, warmed.stderr
    world.upstream.stop_listening()
    project.trust(proxy.bundle)
    result = project.get_deps(proxy=proxy.proxy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(project.fetched()) == FILES


def test_a_second_run_fetches_nothing(
    world: World, hexcache: Callable[..., Running], lock: Path
) -> None:
    proxy = hexcache()
    run_hexcache("warm", str(lock), config=proxy.config)
    world.upstream.requests.clear()
    again = run_hexcache("warm", str(lock), config=proxy.config)
    assert again.returncode == 0
    assert "0 fetched (0 bytes), 6 here already" in again.stdout
    assert world.upstream.count("/tarballs") == 0


def test_interrupted_it_goes_on_where_it_was(
    world: World, hexcache: Callable[..., Running], lock: Path
) -> None:
    proxy = hexcache()
    proxy.stop()
    world.upstream.fault("/tarballs/gamma", hold())
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "hexcache", "warm", str(lock), "--jobs", "1"),
            *("--config", str(proxy.config)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    world.upstream.wait_until_holding()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    world.upstream.heal()
    world.upstream.release()
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "hexcache: interrupted"
    assert "Traceback" not in errors

    got = world.upstream.count("/tarballs", status=200)
    world.upstream.requests.clear()
    again = run_hexcache("warm", str(lock), config=proxy.config)
    assert again.returncode == 0, again.stderr
    assert got + world.upstream.count("/tarballs", status=200) in (3, 4)  # the held one may count
    assert run_hexcache("check", str(lock), config=proxy.config).returncode == 0


def test_a_checksum_that_is_not_the_registry_s(
    world: World, hexcache: Callable[..., Running], lock: Path
) -> None:
    proxy = hexcache()
    text = lock.read_text()
    release = world.repository.files()["/tarballs/beta-1.0.0.tar"]
    theirs = hashlib.sha256(release).hexdigest()
    ours = "0" * 64
    assert theirs.upper() in text
    lock.write_text(text.replace(theirs.upper(), ours))
    warmed = run_hexcache("warm", str(lock), config=proxy.config)
    assert warmed.returncode == 1
    line = next(line for line in warmed.stderr.splitlines() if "beta" in line)
    assert ours in line
    assert theirs in line
    checked = run_hexcache("check", "--json", str(lock), config=proxy.config)
    assert checked.returncode == 1
    missing = json.loads(checked.stdout)["files"][0]["missing"]
    assert [gap["subject"] for gap in missing] == ["tarball beta-1.0.0"]
    assert ours in missing[0]["why"]


def test_what_is_missing_in_the_end_is_said(
    world: World, hexcache: Callable[..., Running], lock: Path
) -> None:
    proxy = hexcache()
    del world.upstream.files["/tarballs/beta-1.0.0.tar"]
    warmed = run_hexcache("warm", str(lock), "--json", config=proxy.config)
    assert warmed.returncode == 1
    summary = json.loads(warmed.stdout)
    assert [failure["subject"] for failure in summary["failures"]] == ["tarball beta-1.0.0"]
    assert summary["fetched"] == 5


def test_offline_it_says_how_to_go_on(hexcache: Callable[..., Running], lock: Path) -> None:
    proxy = hexcache("--offline")
    warmed = run_hexcache("warm", str(lock), config=proxy.config)
    assert warmed.returncode == 1
    assert warmed.stderr.count("\n") == 1
    assert "hexcache offline off" in warmed.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("warm", "nowhere/mix.lock"), "nowhere/mix.lock: No such file or directory"),
        (("warm", "alpha@one"), "'one' is not a version"),
        (("warm",), "no lock file is in this directory"),
        (("warm", "a!" * 200), "is not a version"),
        (("warm", "!a" * 200), "names no package"),
        (("check",), "no lock file is in this directory"),
        (("check", "proxy.yaml"), "proxy.yaml"),
    ],
)
def test_what_can_not_be_understood(
    world: World, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    config = tmp_path / "proxy.yaml"
    config.write_text("data: data\n")
    result = run_hexcache(*arguments, config=config)
    assert result.returncode in (1, 2)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_lock_file_from_a_pipe(hexcache: Callable[..., Running], lock: Path) -> None:
    """How it gets into a container: docker compose exec -T."""
    proxy = hexcache()
    command = [
        sys.executable,
        "-m",
        "hexcache",
        "warm",
        "/dev/stdin",
        "--config",
        str(proxy.config),
    ]
    with lock.open() as file:
        result = subprocess.run(
            command, stdin=file, capture_output=True, text=True, timeout=60, check=False
        )
    assert result.returncode == 0, result.stderr
    assert run_hexcache("check", str(lock), config=proxy.config).returncode == 0


def test_two_at_once_without_a_server(hexcache: Callable[..., Running], lock: Path) -> None:
    proxy = hexcache()
    proxy.stop()
    command = [sys.executable, "-m", "hexcache", "warm", str(lock), "--config", str(proxy.config)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], results


@pytest.mark.parametrize("command", ["warm", "check", "ls", "stats", "gc", "audit"])
def test_a_store_in_a_project_s_directory_helps_nobody(tmp_path: Path, command: str) -> None:
    (tmp_path / "mix.lock").write_text("%{}")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEXCACHE_")}
    result = subprocess.run(
        [sys.executable, "-m", "hexcache", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "HEXCACHE_CONFIG" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mix.lock"]


def test_an_output_that_is_full(world: World, lock: Path, tmp_path: Path) -> None:
    config = tmp_path / "proxy.yaml"
    config.write_text("data: data\n")
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "hexcache", "check", str(lock), "--config", str(config)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
