"""A project of each real client, the same dependencies in all, and a way to the repository."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.shape import DIRECT, Shape
from support.clients import hex_archive
from support.rebar3 import Rebar3Project


@dataclass(frozen=True)
class Route:
    """Through `proxy`, or straight to `mirror`: one of them is a URL, the other is ""."""

    ca_file: Path
    proxy: str = ""
    mirror: str = ""


class Project(Protocol):
    def fetch(self, seconds: float) -> bool:
        """Get the dependencies; whether all of them came, within so many seconds."""

    def wipe(self) -> None:
        """Everything that the client fetched, resolved and cached."""


class Rebar3:
    def __init__(self, directory: Path, shape: Shape, route: Route) -> None:
        self._expected = shape.packages
        self._route = route
        self._project = Rebar3Project(
            directory,
            dict.fromkeys(DIRECT, "~> 1.0"),
            public_key=shape.public_key,
            ca_file=route.ca_file,
        )
        self.output = ""

    def fetch(self, seconds: float) -> bool:
        try:
            done = self._project.get_deps(
                proxy=self._route.proxy, mirror=self._route.mirror, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and self._expected <= self._project.fetched().keys()

    def wipe(self) -> None:
        self._project.wipe(lock=True)


class Mix:
    def __init__(self, directory: Path, shape: Shape, route: Route) -> None:
        archive = hex_archive()
        assert archive is not None
        self._expected = shape.packages
        self._directory = directory / "project"
        self._home = directory / "home"
        self._directory.mkdir(parents=True)
        archives = self._home / "mix" / "archives"
        archives.mkdir(parents=True)
        (archives / archive.name).symlink_to(archive)
        deps = ", ".join(f'{{:{name}, "~> 1.0"}}' for name in DIRECT)
        (self._directory / "mix.exs").write_text(
            "defmodule Probe.MixProject do\n  use Mix.Project\n"
            f'  def project, do: [app: :probe, version: "1.0.0", deps: [{deps}]]\nend\n'
        )
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._home),
            "MIX_HOME": str(self._home / "mix"),
            "HEX_HOME": str(self._home / "hex"),
        }
        key = str(shape.public_key_file)
        self._mix(60, "hex.repo", "set", "hexpm", "--public-key", key).check_returncode()
        self._environment |= {
            "HEX_CACERTS_PATH": str(route.ca_file),
            **({"HTTPS_PROXY": route.proxy} if route.proxy else {"HEX_MIRROR": route.mirror}),
        }

    def _mix(self, seconds: float, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["mix", *arguments],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    def fetch(self, seconds: float) -> bool:
        try:
            done = self._mix(seconds, "deps.get")
        except subprocess.TimeoutExpired:
            return False
        fetched = {path.name for path in (self._directory / "deps").glob("*")}
        return done.returncode == 0 and self._expected <= fetched

    def wipe(self) -> None:
        shutil.rmtree(self._directory / "deps", ignore_errors=True)
        shutil.rmtree(self._home / "hex" / "packages", ignore_errors=True)
        for path in (self._directory / "mix.lock", self._home / "hex" / "cache.ets"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def clients() -> dict[str, Callable[[Path, Shape, Route], Project]]:
    """The real clients that are installed here."""
    found: dict[str, Callable[[Path, Shape, Route], Project]] = {}
    if shutil.which("rebar3"):
        found["rebar3"] = Rebar3
    if shutil.which("mix") and hex_archive() is not None:
        found["mix"] = Mix
    return found
