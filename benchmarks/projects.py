"""A project of each real client, the same dependencies in all, and a way to the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.shape import DIRECT, Shape
from support.clients import hex_archive
from support.rebar3 import Rebar3Project, erlang_hosts


@dataclass(frozen=True)
class Route:
    """Through `proxy`, or straight to `mirror`: one of them is a URL, the other is "". `hosts`:
    name → IPv4 address of names that no DNS server knows."""

    ca_file: Path
    proxy: str = ""
    mirror: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)


class Project(Protocol):
    def fetch(self, seconds: float) -> bool:
        """Get the dependencies; whether all of them came, within so many seconds."""

    def wipe(self) -> None:
        """Everything that the client fetched, resolved and cached."""


class Rebar3:
    def __init__(self, directory: Path, shape: Shape, route: Route) -> None:
        self._expected = shape.packages
        self._project = Rebar3Project(
            directory,
            dict.fromkeys(DIRECT, "~> 1.0"),
            public_key=shape.public_key,
            ca_file=route.ca_file,
        )
        self._environment = _environment(self._project.home, route)
        if route.proxy:
            self._environment["https_proxy"] = route.proxy
        else:
            self._environment["HEX_CDN"] = route.mirror

    def fetch(self, seconds: float) -> bool:
        done = _run(["rebar3", "get-deps"], self._project.directory, self._environment, seconds)
        return done and self._expected <= self._project.fetched().keys()

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
        self._environment = _environment(self._home, route) | {
            "MIX_HOME": str(self._home / "mix"),
            "HEX_HOME": str(self._home / "hex"),
            "HEX_CACERTS_PATH": str(route.ca_file),
        }
        key = str(shape.public_key_file)
        if not self._mix(60, "hex.repo", "set", "hexpm", "--public-key", key):
            raise RuntimeError("mix hex.repo set failed")
        if route.proxy:
            self._environment["HTTPS_PROXY"] = route.proxy
        else:
            self._environment["HEX_MIRROR"] = route.mirror

    def _mix(self, seconds: float, *arguments: str) -> bool:
        return _run(["mix", *arguments], self._directory, self._environment, seconds)

    def fetch(self, seconds: float) -> bool:
        done = self._mix(seconds, "deps.get")
        fetched = {path.name for path in (self._directory / "deps").glob("*")}
        return done and self._expected <= fetched

    def wipe(self) -> None:
        shutil.rmtree(self._directory / "deps", ignore_errors=True)
        shutil.rmtree(self._home / "hex" / "packages", ignore_errors=True)
        for path in (self._directory / "mix.lock", self._home / "hex" / "cache.ets"):
            path.unlink(missing_ok=True)


def _environment(home: Path, route: Route) -> dict[str, str]:
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home)}
    if route.hosts:
        environment |= erlang_hosts(home, route.hosts)
    return environment


def _run(
    command: list[str], directory: Path, environment: Mapping[str, str], seconds: float
) -> bool:
    """Whether it ended well in time. What it says is kept in `output.txt` beside its directory."""
    with (directory.parent / "output.txt").open("ab") as output:
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            output.write(b"-- killed: too slow\n")
            return False
        output.write(f"-- exit status {done.returncode}\n".encode())
        return done.returncode == 0


def clients() -> dict[str, Callable[[Path, Shape, Route], Project]]:
    """The real clients that are installed here."""
    found: dict[str, Callable[[Path, Shape, Route], Project]] = {}
    if shutil.which("rebar3"):
        found["rebar3"] = Rebar3
    if shutil.which("mix") and hex_archive() is not None:
        found["mix"] = Mix
    return found
