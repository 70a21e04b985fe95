"""The real docker and docker compose. Nothing here outlives a test run: what is started has a
project name of its own and is taken down with its volumes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import clients

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

# Building an image takes longest, compose's own waiting comes next.
BUILD_SECONDS = 600.0
UP_SECONDS = 120.0
RUN_SECONDS = 120.0

# Nothing of whoever runs the tests gets into what they run.
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "XDG_RUNTIME_DIR",
)


def require_docker() -> None:
    """Skip, or fail in CI, unless a Docker daemon answers and has compose."""
    clients.require("docker", install="install Docker with compose v2, then make test-docker")
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, timeout=30, check=False)
            failed = done.returncode != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed:
            clients.missing(
                f"`{' '.join(command)}` fails: start the Docker daemon (and install compose v2), "
                "then make test-docker"
            )


def docker(
    *arguments: str | Path,
    timeout: float = RUN_SECONDS,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `docker …`; what it printed is in the message if `check` and it fails."""
    inherited = {name: value for name, value in os.environ.items() if name in _KEPT}
    done = subprocess.run(
        ["docker", *map(str, arguments)],
        cwd=ROOT,
        env={**inherited, "DOCKER_BUILDKIT": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"docker {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
    )
    return done


def inspect(what: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("inspect", what).stdout)
    return found[0]


def healthy(container: str) -> bool:
    return bool(inspect(container)["State"]["Health"]["Status"] == "healthy")


@dataclass(frozen=True)
class Compose:
    """`docker compose` with these files, in a project of its own."""

    project: str
    files: tuple[Path, ...]
    environment: Mapping[str, str]

    def __call__(
        self,
        *arguments: str,
        timeout: float = UP_SECONDS,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        files = [word for path in self.files for word in ("-f", str(path))]
        return docker(
            *("compose", "-p", self.project, "--progress", "plain", *files, *arguments),
            timeout=timeout,
            check=check,
            environment={**self.environment, **(environment or {})},
        )

    def up(self, *arguments: str, **environment: str) -> None:
        """Returns when everything is healthy."""
        wait = ("--no-build", "--wait", "--wait-timeout", "100")
        self("up", "--detach", *wait, *arguments, environment=environment)

    def container(self, service: str) -> str:
        return self("ps", "--all", "--quiet", service).stdout.strip()

    def down(self) -> None:
        """Everything of it is gone afterwards."""
        self("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)

    def log(self, service: str) -> str:
        return self("logs", "--no-color", "--no-log-prefix", service).stdout


def readme_block(title: str, language: str) -> str:
    """The first code block of a language below the line of README that holds `title`: users paste
    it, so do the tests."""
    text = README.read_text(encoding="utf-8")
    assert text.count(title) == 1, f"README names {title!r} {text.count(title)} times"
    match = re.search(rf"^```{language}\n(.*?)^```", text[text.index(title) :], re.M | re.S)
    assert match is not None, f"README has no {language} below {title!r}"
    return match[1]


def user() -> str:
    """UID:GID for containers that write into a test's directory."""
    return f"{os.getuid()}:{os.getgid()}"


def skip_without_hex() -> Path:
    """The directory of the Hex archive that a container mounts, or a visible skip."""
    archive = clients.hex_archive()
    if archive is None:
        pytest.skip("no Hex archive to mount: mix local.hex")
    return archive
