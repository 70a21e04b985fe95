"""The same with mix and the real Hex, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import World
from support.clients import require_mix
from support.running import Running


class MixProject:
    def __init__(self, directory: Path, archive: Path, public_key: Path) -> None:
        self.directory = directory / "project"
        self.home = directory / "home"
        self.directory.mkdir(parents=True)
        archives = self.home / "mix" / "archives"
        archives.mkdir(parents=True)
        (archives / archive.name).symlink_to(archive)
        (self.directory / "mix.exs").write_text(
            "defmodule Probe.MixProject do\n  use Mix.Project\n"
            '  def project, do: [app: :probe, version: "1.0.0", deps: deps()]\n'
            '  defp deps, do: [{:alpha, "~> 1.0"}, {:gamma, "0.1.0"}]\nend\n'
        )
        self.run("hex.repo", "set", "hexpm", "--public-key", str(public_key))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["mix", *arguments],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "LANG": "C.UTF-8",
                "HOME": str(self.home),
                "MIX_HOME": str(self.home / "mix"),
                "HEX_HOME": str(self.home / "hex"),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def wipe(self) -> None:
        shutil.rmtree(self.directory / "deps", ignore_errors=True)
        (self.directory / "mix.lock").unlink(missing_ok=True)
        shutil.rmtree(self.home / "hex" / "packages", ignore_errors=True)
        (self.home / "hex" / "cache.ets").unlink(missing_ok=True)

    def fetched(self) -> set[str]:
        return {path.name for path in (self.directory / "deps").glob("*")}


@pytest.fixture
def project(world: World) -> MixProject:
    archive = require_mix()
    return MixProject(world.directory / "mix", archive, world.repository.public_key_file)


def test_cold_warm_dead_and_offline(
    world: World, hexcache: Callable[..., Running], project: MixProject
) -> None:
    proxy = hexcache()
    through = {"HTTPS_PROXY": proxy.proxy, "HEX_CACERTS_PATH": str(proxy.bundle)}
    result = project.run("deps.get", **through)
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.fetched() == {"alpha", "beta", "gamma"}

    world.upstream.requests.clear()
    project.wipe()
    assert project.run("deps.get", **through).returncode == 0
    assert world.upstream.count("/tarballs") == 0

    world.upstream.stop_listening()
    project.wipe()
    result = project.run("deps.get", **through)
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.fetched() == {"alpha", "beta", "gamma"}
    # Hex prints what the proxy has to say, once.
    assert (result.stdout + result.stderr).count("API warning: hexcache:") == 1, result.stdout

    proxy.stop()
    proxy.start("--offline")
    project.wipe()
    result = project.run("deps.get", HEX_MIRROR=proxy.mirror)
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.fetched() == {"alpha", "beta", "gamma"}
