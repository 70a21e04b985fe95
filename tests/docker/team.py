"""A team's own compose file: README's lines pasted over a service with the real clients in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from support.docker import Compose, user
from support.rebar3 import Rebar3Project
from support.repository import HexRepository

# What the team has before it hears of Hexcache. Its own network has no way out: whatever the
# clients get comes from Hexcache.
_BASE = """
services:
  app:
    image: elixir:1.18-slim
    user: "{user}"
    working_dir: /home/dev/project
    environment:
      HOME: /home/dev
      MIX_HOME: /home/dev/.mix
      MIX_REBAR3: /usr/bin/rebar3
      DEBUG: "1"
    volumes:
      - {project}:/home/dev/project
      - {home}:/home/dev
networks:
  default:
    internal: true
"""

# The names that README's users have, translated to those of this test run.
_NAMES = """
networks:
  hexnet: {{name: {name}-hexnet, external: true}}
volumes:
  hexcache-ca: {{name: {name}-ca, external: true}}
"""

MIX_EXS = """defmodule Probe.MixProject do
  use Mix.Project
  def project, do: [app: :probe, version: "1.0.0", deps: deps()]
  defp deps, do: [{:alpha, "~> 1.0"}, {:gamma, "0.1.0"}]
end
"""


class _World(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def repository(self) -> HexRepository: ...


class Team:
    """`join` with the lines from README, then let `rebar3` or `mix` fetch."""

    def __init__(self, world: _World, directory: Path) -> None:
        self.directory = directory
        self.rebar3_project = Rebar3Project(
            directory,
            {"alpha": "~> 1.0", "gamma": "0.1.0"},
            public_key=world.repository.public_key,
            ca_file=Path("/hexcache-ca/ca-bundle.pem"),
        )
        self.project = self.rebar3_project.directory
        self.home = self.rebar3_project.home
        (self.home / "project").mkdir()
        shutil.copy(world.repository.public_key_file, self.home / "public_key.pem")
        (self.project / "mix.exs").write_text(MIX_EXS)
        self._base = directory / "compose.yml"
        self._lines = directory / "readme.yml"
        self._names = directory / "names.yml"
        self._base.write_text(_BASE.format(user=user(), project=self.project, home=self.home))
        self._names.write_text(_NAMES.format(name=world.name))
        self.compose = Compose(f"{world.name}-team", (self._base,), {})

    def join(self, lines: str) -> None:
        self._lines.write_text(lines)
        self.compose = Compose(self.compose.project, (self._base, self._lines, self._names), {})

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.compose("run", "--rm", "-T", "app", *command, check=check)

    def rebar3(self) -> set[str]:
        """Fetch from nothing but the lock file; the packages that came."""
        self.rebar3_project.wipe()
        self.run("rebar3", "get-deps")
        return set(self.rebar3_project.fetched())

    def install_hex(self, archive: Path) -> None:
        """Hex itself, from this machine's archive, with the test repository's key."""
        shutil.copytree(archive, self.home / ".mix" / "archives" / archive.name)
        self.run("mix", "hex.repo", "set", "hexpm", "--public-key", "/home/dev/public_key.pem")

    def mix(self) -> set[str]:
        """The same with mix."""
        shutil.rmtree(self.project / "deps", ignore_errors=True)
        shutil.rmtree(self.home / ".hex" / "packages", ignore_errors=True)
        (self.home / ".hex" / "cache.ets").unlink(missing_ok=True)
        self.run("mix", "deps.get")
        return {path.name for path in (self.project / "deps").glob("*")}
