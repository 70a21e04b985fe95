"""ls, show, verify, refresh, rm, gc and stats as a user runs them: beside a server, and without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import World
from hexcache.labels import label_of
from hexcache.proto import registry_pb2 as pb
from support.commands import Ran, run
from support.http import curl
from support.running import Running
from support.signing import Rel, signer
from support.upstream import Upstream

ALPHA = "/tarballs/alpha-1.1.0.tar"


class Commands:
    """A server with something in its store, and commands with its settings."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.cache = running.directory / "data/cache"

    def get(self, *paths: str) -> None:
        for path in paths:
            assert curl(self.running.mirror + path).status == 200

    def __call__(self, *arguments: str) -> Ran:
        return run(*arguments, config=self.running.config)

    def json(self, *arguments: str, status: int = 0) -> Any:
        ran = self(*arguments, "--json")
        assert ran.status == status, ran.errors
        return json.loads(ran.output)

    def damage(self, size: int) -> None:
        """Change a byte of the body of that size, behind everybody's back."""
        (path,) = [p for p in (self.cache / "entries").rglob("*.val") if p.stat().st_size == size]
        content = bytearray(path.read_bytes())
        content[size // 2] ^= 1
        path.write_bytes(content)


@pytest.fixture
def commands(world: World, hexcache: Callable[..., Running]) -> Commands:
    # Large enough to be a file.
    world.upstream.files["/docs/alpha-1.1.0.tar.gz"] = b"docs" * 20_000
    made = Commands(hexcache(cache={"registry_fresh": "1h"}))
    made.get(ALPHA, "/tarballs/gamma-0.1.0.tar", "/docs/alpha-1.1.0.tar.gz", "/packages/beta")
    return made


@pytest.fixture(params=[True, False], ids=["beside a server", "without a server"])
def either(request: pytest.FixtureRequest, commands: Commands) -> Commands:
    if not request.param:
        commands.running.stop()
    return commands


def test_ls(either: Commands) -> None:
    ran = either("ls")
    assert (ran.status, ran.errors) == (0, "")
    header, *rows, total = ran.text.splitlines()
    assert header.split() == ["PACKAGE", "SIZE", "CHECKED", "USED", "RELEASES", "NOTES"]
    assert [row.split()[0] for row in rows] == ["alpha", "beta", "gamma"]
    assert re.match(r"alpha +8\d\.\d kB +\d+ \w+ +(\d+ \w+|-) +1\.1\.0$", rows[0])
    assert re.match(r"beta .* -$", rows[1])
    assert re.match(r"3 packages, 2 releases, 9\d\.\d kB", total)
    found = either.json("ls", "a*")
    assert [package["name"] for package in found["packages"]] == ["alpha"]
    (release,) = found["packages"][0]["releases"]
    assert (release["version"], release["tarball"], release["docs"]) == ("1.1.0", "stored", True)
    assert found["total"]["packages"] == 1
    none = either("ls", "z*")
    assert (none.status, none.text) == (1, "")
    assert none.errors == "hexcache: nothing is stored of z*; `hexcache ls` lists all\n"


def test_show(either: Commands, world: World) -> None:
    ran = either("show", "alpha")
    assert (ran.status, ran.errors) == (0, "")
    lines = ran.text.splitlines()
    assert lines[0] == "alpha"
    releases = [line for line in lines if re.match(r"\d", line)]
    assert releases == ["1.1.0  tarball, docs", "1.0.0  not stored"], "newest first"
    assert "  retired         security: use 1.1" in lines
    assert lines.count("  needs           beta ~> 1.0") == 2
    found = either.json("show", "alpha")
    assert found["registry_entry"]["upstream"] == label_of(world.upstream.url)
    new, old = found["releases"]
    assert (new["tarball"], old["tarball"]) == ("stored", "missing")
    assert old["retired"] == {"reason": "security", "message": "use 1.1"}
    assert new["dependencies"] == [{"package": "beta", "requirement": "~> 1.0", "optional": False}]
    missing = either("show", "nothing")
    assert (missing.status, missing.text) == (1, "")
    assert "nothing is stored of nothing" in missing.errors


def test_verify(either: Commands) -> None:
    ran = either("verify")
    assert (ran.status, ran.errors) == (0, "")
    assert re.search(r"^\d+ files, .*: all good$", ran.text, re.MULTILINE)
    either.damage(80_000)
    ran = either("verify")
    assert ran.status == 1
    first, last = ran.text.splitlines()
    assert first.startswith("quarantined docs alpha-1.1.0: its bytes are damaged")
    assert last.endswith(": 1 quarantined")
    (about,) = (either.cache / "quarantine").glob("*.json")
    assert json.loads(about.read_text())["key"] == "repo/docs/alpha-1.1.0.tar.gz"
    assert either.json("verify")["quarantined"] == []
    assert either.json("ls", "alpha")["packages"][0]["releases"][0]["docs"] is False


def test_a_running_server_has_no_damaged_copy_in_memory(commands: Commands) -> None:
    """It is verified through the server, which then fetches a good one."""
    commands.damage(80_000)
    assert commands("verify").status == 1
    got = curl(commands.running.mirror + "/docs/alpha-1.1.0.tar.gz")
    assert got.body == b"docs" * 20_000
    assert "fwd=miss" in got.headers["cache-status"]


def test_refresh(either: Commands, world: World) -> None:
    world.publish_newer()
    ran = either("refresh", "--all")
    assert (ran.status, ran.errors) == (0, "")
    assert sorted(ran.text.splitlines()) == [
        "alpha: new: 1.2.0",
        "beta: new: 1.1.0",
        "gamma: new: 0.2.0",
    ]
    ran = either("refresh", "alpha", "nothing")
    assert ran.status == 1
    assert ran.text == "alpha: nothing new\n"
    assert ran.errors == "nothing: upstream has no such file\n"
    found = either.json("refresh", "alpha", "nothing", status=1)
    assert found == {
        "refreshed": [{"name": "alpha", "first": False, "changed": {}}],
        "failed": [{"name": "nothing", "why": "upstream has no such file"}],
    }


def test_refresh_while_upstream_is_away(either: Commands, world: World) -> None:
    with world.upstream.refusing():
        ran = either("refresh", "alpha", "gamma")
    assert ran.status == 1
    assert len(ran.errors.splitlines()) == 2
    assert ran.errors.count("alpha: ") == ran.errors.count("gamma: ") == 1
    assert either("show", "alpha").status == 0, "what was stored still is"


def test_refresh_offline(commands: Commands, world: World) -> None:
    commands("offline", "on")
    world.upstream.requests.clear()
    ran = commands("refresh", "--all")
    assert (ran.status, ran.text) == (1, "")
    assert ran.errors.count("\n") == 1
    assert "Hexcache is offline" in ran.errors
    assert world.upstream.requests == []


def test_rm(either: Commands) -> None:
    ran = either("rm", "alpha@1.1.0", "nothing", "gamma")
    assert ran.status == 1
    assert ran.errors == "hexcache: nothing is stored of nothing\n"
    first, second = ran.text.splitlines()
    assert re.match(r"removed alpha@1\.1\.0: 2 files, 8\d\.\d kB$", first)
    assert re.match(r"removed gamma: 2 files, ", second)
    left = either.json("ls")["packages"]
    assert [(package["name"], package["releases"]) for package in left] == [
        ("alpha", []),
        ("beta", []),
    ]


def test_a_running_server_forgets_what_was_removed(commands: Commands, world: World) -> None:
    assert commands("rm", "alpha").status == 0
    world.upstream.requests.clear()
    commands.get(ALPHA)
    assert world.upstream.count(ALPHA) == 1


def test_gc(either: Commands) -> None:
    assert either("gc", "--dry-run").text == "would free 0 bytes\n"
    either.damage(80_000)
    either("verify")
    assert either("gc").text == "freed 0 bytes\n", "it is kept for a week"
    ran = either("gc", "--put-aside", "--dry-run")
    assert re.fullmatch(r"files in quarantine: 2, 80\.\d kB\nwould free 80\.\d kB\n", ran.text), (
        ran.text
    )
    found = either.json("gc", "--put-aside")
    assert (found["dry_run"], found["freed"][0]["count"]) == (False, 2)
    assert list((either.cache / "quarantine").iterdir()) == []


def test_stats(commands: Commands) -> None:
    text = commands("stats").text
    assert re.match(r".* of 10\.7 GB \(0%\): 3 packages, 2 releases, 0 files pinned\n", text)
    assert "server: online; since its start 0 evictions, 0 damaged\n" in text
    assert re.search(r"^upstream \S+: up$", text, re.MULTILINE)
    found = commands.json("stats")
    assert found["kinds"]["tarball"]["files"] == 2
    assert found["server"]["store"]["bytes"] == found["bytes"] > 80_000
    commands.running.stop()
    assert commands.json("stats")["server"] is None
    assert commands("stats").text.endswith("no server runs with this data\n")


def test_an_empty_place(tmp_path: Path) -> None:
    config = tmp_path / "proxy.yaml"
    config.write_text("data: none\n")
    assert run("ls", config=config).text == "0 packages, 0 releases, 0 bytes\n"
    assert run("stats", config=config).status == 0
    assert run("show", "foo", config=config).status == 1
    assert not (tmp_path / "none").exists(), "who only looks makes nothing"


@pytest.mark.parametrize(
    "arguments",
    [["refresh"], ["refresh", "--all", "foo"], ["rm"], ["rm", "a@"], ["rm", "a@1@2"], ["show"]],
)
def test_a_command_line_that_can_not_be_understood(tmp_path: Path, arguments: list[str]) -> None:
    ran = run(*arguments, cwd=tmp_path)
    assert (ran.status, ran.text) == (2, "")
    assert ran.errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["ls", "show", "verify", "refresh", "rm", "gc", "stats"])
def test_help_has_an_example(command: str) -> None:
    ran = run(command, "--help")
    assert ran.status == 0
    assert f"Example: hexcache {command}" in ran.text


def test_commands_that_only_read_start_fast() -> None:
    code = "import sys, hexcache.cli; "
    code += "heavy = ('mitmproxy', 'aiohttp', 'hexcache.engine.cache'); "
    code += "print([m for m in heavy if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout == b"[]\n"


def test_what_a_registry_says_does_not_reach_the_terminal(tmp_path: Path) -> None:
    """Neither as an escape sequence nor as a line of its own, in no form."""
    evil = "evil\x1b]0;x\x07\n\x9b31m\u202e[bold]"
    advisory = pb.SecurityAdvisory(id=evil, summary=evil, html_url=evil, severity=99)
    rel = Rel("1.0.0", b"x" * 100, deps=((evil, evil, False),), retired=(2, evil), advisories=(0,))
    (tmp_path / "key.pem").write_text(signer().public_key)
    with Upstream() as upstream:
        upstream.files["/packages/foo"] = signer().package("foo", [rel], advisories=[advisory])
        upstream.files["/tarballs/foo-1.0.0.tar"] = rel.tarball
        urls = {"repo": [upstream.url], "builds": [upstream.url]}
        key = {"public_key": str(tmp_path / "key.pem")}
        with Running(tmp_path / "run", {"upstream": urls | key, "prefetch": False}) as running:
            commands = Commands(running)
            commands.get("/tarballs/foo-1.0.0.tar")
            for arguments in (["ls"], ["show", "foo"], ["ls", "--json"], ["show", "foo", "--json"]):
                ran = commands(*arguments)
                assert ran.status == 0
                assert all(c.isprintable() or c == "\n" for c in ran.text), arguments
            shown = commands.json("show", "foo")["releases"][0]
            listed = commands.json("ls")["packages"][0]["releases"][0]
            for release in (shown, listed):
                assert release["retired"]["message"] == evil, "programs get it as it is"
                assert release["advisories"][0]["severity"] == "99"
            assert "[bold]" in commands("show", "foo").text
