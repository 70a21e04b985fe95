"""`hexcache warm` and `hexcache check` as a user reads them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from support.commands import Ran, clean_environment, run
from support.faults import status
from support.machines import publish
from support.running import free_ports
from support.signing import Rel, signer
from support.upstream import Upstream

FOO = Rel("1.0.0", b"foo one")
BAR = Rel("1.0.0", b"bar one")

type Commands = Callable[..., Ran]


def publish_list(upstream: Upstream, name: str, row: str, file: str) -> None:
    """A list of installs with one row, its signature, and the file that it names."""
    upstream.files[f"/installs/{name}"] = row.encode()
    upstream.files[f"/installs/{name}.signed"] = signer().signed_file(row.encode())
    upstream.files[f"/installs/{file}"] = b"an archive"


def publish_old_lists(upstream: Upstream) -> None:
    """Those for Elixir up to 1.18.3, and no newer ones."""
    publish_list(upstream, "hex-1.x.csv", "2.1.1,aa,1.17.0\n", "1.17.0/hex-2.1.1.ez")
    publish_list(upstream, "rebar3-1.x.csv", "3.22.0,aa,1.14.0\n", "1.14.0/rebar3-3.22.0")


def lock_text(*entries: tuple[str, Rel], more: str = "") -> str:
    lines = [
        f'"{name}": {{:hex, :{name}, "{rel.version}", "", [:mix], [], "hexpm", '
        f'"{sha256(rel.tarball).hexdigest()}"}},\n'
        for name, rel in entries
    ]
    return "%{" + "".join(lines) + more + "}"


@pytest.fixture
def project(tmp_path: Path, upstream: Upstream) -> Path:
    """A project's directory with a mix.lock; upstream has what that names."""
    publish(upstream, "foo", FOO)
    publish(upstream, "bar", BAR)
    directory = tmp_path / "my project"
    directory.mkdir()
    (directory / "mix.lock").write_text(lock_text(("foo", FOO), ("bar", BAR)))
    return directory


@pytest.fixture
def config(tmp_path: Path, upstream: Upstream) -> Path:
    """Of a Hexcache that doesn't run."""
    (tmp_path / "key.pem").write_text(signer().public_key)
    content = {
        "data": "data",
        "upstream": {
            "repo": [upstream.url],
            "builds": [upstream.url],
            "public_key": "key.pem",
            "give_up": "1s",
        },
    }
    path = tmp_path / "proxy.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def hexcache(config: Path, project: Path) -> Commands:
    """Run in the project's directory."""

    def command(*arguments: str, **variables: str) -> Ran:
        around = {"HEXCACHE_CONFIG": str(config), **variables}
        return run(*arguments, environment=around, cwd=project)

    return command


def pasted(line: str, config: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a line to paste does in a shell."""
    assert line.startswith("hexcache ")
    return subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m {line}"],
        env={**clean_environment(), "HEXCACHE_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )


# --tools.


def test_a_list_that_upstream_does_not_have_is_named(
    upstream: Upstream, hexcache: Commands
) -> None:
    publish_old_lists(upstream)
    warmed = hexcache("warm", "--tools")
    assert warmed.status == 0, warmed.errors
    assert sorted(warmed.errors.splitlines()) == [
        "tools: upstream has no installs/hex.csv, which Elixir 1.18.4 and newer ask for",
        "tools: upstream has no installs/rebar.csv, which Elixir 1.18.4 and newer ask for",
    ]
    checked = hexcache("check", "--tools")
    assert checked.status == 0, checked.text
    *named, last = checked.text.splitlines()
    for line, name in zip(named, ("hex.csv", "rebar.csv"), strict=True):
        assert line.startswith(f"tools: installs/{name}: not stored: ")
        assert "Elixir 1.18.4 and newer" in line
        assert "`hexcache warm --tools`" in line
    assert last == "tools: complete: 6 files, beside 2 named above"
    answer = json.loads(hexcache("check", "--tools", "--json").text)
    skipped = [each["name"] for each in answer["tools"]["skipped"]]
    assert skipped == ["installs/hex.csv", "installs/rebar.csv"]


def test_a_tool_of_which_upstream_has_nothing_is_a_failure(
    upstream: Upstream, hexcache: Commands
) -> None:
    """Neither generation: warm doesn't say that all is well where check says that it isn't."""
    publish_list(upstream, "hex.csv", "2.3.1,aa,1.18.0,27\n", "1.18.0/hex-2.3.1-otp-27.ez")
    warmed = hexcache("warm", "--tools")
    assert warmed.status == 1
    assert "installs/rebar.csv" in warmed.errors
    checked = hexcache("check", "--tools")
    assert checked.status == 1
    assert "tools: installs/rebar3-1.x.csv: not stored\n" in checked.text
    assert "tools: installs/rebar.csv: not stored\n" in checked.text
    assert "tools: installs/hex-1.x.csv: not stored: Elixir 1.18.3 and older" in checked.text


def test_a_list_that_could_not_be_fetched_is_a_failure(
    upstream: Upstream, hexcache: Commands
) -> None:
    """Upstream has it, but doesn't give it."""
    publish_old_lists(upstream)
    upstream.fault("/installs/hex.csv", status(403))
    warmed = hexcache("warm", "--tools")
    assert warmed.status == 1
    assert "installs/hex.csv" in warmed.errors


# The line to run.


def test_the_line_that_check_says_to_run_mends_it(
    upstream: Upstream, hexcache: Commands, config: Path, project: Path
) -> None:
    upstream.files["/docs/foo-1.0.0.tar.gz"] = b"docs"
    lock = project / "mix.lock"
    checked = hexcache("check", "--docs", str(lock))
    assert checked.status == 1
    line = checked.text.splitlines()[-1].partition("; run: ")[2]
    warmed = pasted(line, config, project)
    assert warmed.returncode == 0, warmed.stderr
    again = hexcache("check", "--docs", "--json", str(lock))
    assert again.status == 0
    (file,) = json.loads(again.text)["files"]
    assert file["docs_not_stored"] == [{"name": "bar", "version": "1.0.0"}]


def test_the_line_to_run_names_the_settings_that_were_named(
    hexcache: Commands, config: Path, project: Path
) -> None:
    named = config.rename(config.with_name("other settings.yaml"))
    checked = hexcache("check", "mix.lock", "--tools", "--config", str(named), HEXCACHE_CONFIG="")
    runs = [line.partition("; run: ")[2] for line in checked.text.splitlines() if "; run: " in line]
    assert runs == [
        f"hexcache warm mix.lock --config '{named}'",
        f"hexcache warm --tools --config '{named}'",
    ]
    assert pasted(runs[0], Path(), project).returncode == 0


# Docs.


def test_docs_never_count_as_missing_and_have_a_place_of_their_own(
    hexcache: Commands, project: Path
) -> None:
    git = '"elm": {:git, "https://example.com/elm.git", "abc", []},\n'
    (project / "mix.lock").write_text(lock_text(("foo", FOO), more=git))
    assert hexcache("warm", "mix.lock", "--docs").status == 0
    checked = hexcache("check", "mix.lock", "--docs")
    assert checked.status == 0
    assert checked.text.splitlines() == [
        "mix.lock: elm: from git (https://example.com/elm.git), not from Hex",
        "mix.lock: docs of foo 1.0.0: not stored (not every release has any)",
        "mix.lock: complete: 2 files, beside 1 named above; docs of 1 release are not stored",
    ]
    (file,) = json.loads(hexcache("check", "mix.lock", "--docs", "--json").text)["files"]
    assert [each["name"] for each in file["skipped"]] == ["elm"]
    assert file["docs_not_stored"] == [{"name": "foo", "version": "1.0.0"}]
    (file,) = json.loads(hexcache("check", "mix.lock", "--json").text)["files"]
    assert "docs_not_stored" not in file
    assert "never count as missing" in " ".join(hexcache("check", "--help").text.split())


# A release that was published anew.


def test_a_republished_release_is_asked_about_before_the_dependency_is_updated(
    upstream: Upstream, hexcache: Commands, project: Path
) -> None:
    assert hexcache("warm", "mix.lock").status == 0
    newer = Rel("1.0.0", b"foo one, published anew")
    publish(upstream, "foo", newer)
    (project / "mix.lock").write_text(lock_text(("foo", newer), ("bar", BAR)))
    for command in ("check", "audit"):
        line = next(line for line in hexcache(command).text.splitlines() if "checksum" in line)
        assert "hexcache warm" in line, line
        assert line.index("hexcache warm") < line.index("update the dependency")
    warmed = hexcache("warm", "mix.lock")
    assert warmed.status == 0, warmed.errors
    assert hexcache("check").status == 0
    # Upstream has been asked: only the dependency is left.
    (project / "mix.lock").write_text(lock_text(("foo", FOO), ("bar", BAR)))
    warmed = hexcache("warm", "mix.lock")
    assert warmed.status == 1
    assert "update the dependency" in warmed.errors
    assert "hexcache warm" not in warmed.errors


# Waiting.


@pytest.mark.parametrize("quiet", [(), ("--json",)])
def test_what_is_waited_for_is_said(
    upstream: Upstream, hexcache: Commands, quiet: tuple[str, ...]
) -> None:
    upstream.stop_listening()
    warmed = hexcache("warm", "foo", "bar", *quiet)
    assert warmed.status == 1
    lines = [line for line in warmed.errors.splitlines() if "waiting" in line]
    why = f"127.0.0.1:{upstream.port}: no connection: Connection refused"
    assert lines == [f"waiting for upstream: {why}; for 1 s at most"]


# PACKAGES.


def test_packages_that_are_not_meant_for_hexcache_are_the_servers_matter(
    hexcache: Commands, config: Path
) -> None:
    foreign = "build-essential git"
    assert hexcache("warm", "mix.lock", PACKAGES=foreign).status == 0
    assert hexcache("check", "mix.lock", PACKAGES=foreign).status == 0
    assert hexcache("env", PACKAGES=foreign).status == 0
    ports = dict(zip(("PROXY", "MIRROR", "STATUS"), free_ports(3), strict=True))
    listen = {f"HEXCACHE_LISTEN__{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
    served = hexcache("serve", PACKAGES=foreign, **listen)
    assert served.status == 1
    assert "environment: PACKAGES: 'essential' is not a version" in served.errors
    examined = hexcache("doctor", PACKAGES=foreign, **listen)
    lines = examined.text.splitlines()
    (number,) = [n for n, line in enumerate(lines) if line.startswith("warn  PACKAGES: ")]
    assert "'essential' is not a version" in lines[number]
    assert lines[number + 1].strip() == "env -u PACKAGES hexcache serve"
