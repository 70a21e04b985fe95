"""A cache carried to a machine that no line leads to, with real clients on both sides."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.conftest import World
from e2e.test_mix import MixProject
from hexcache.printing import size
from support.clients import require_mix
from support.commands import clean_environment, run
from support.http import curl
from support.rebar3 import Rebar3Project
from support.running import Running, free_ports

ALL = {"alpha", "beta", "gamma"}
Start = Callable[..., Running]


@pytest.fixture
def home(world: World, hexcache: Start) -> tuple[Running, Rebar3Project]:
    """A proxy through which rebar3 has fetched, and then the line was lost."""
    proxy = hexcache()
    project = world.rebar3(proxy.bundle)
    assert project.get_deps(proxy=proxy.proxy).returncode == 0
    world.upstream.stop_listening()
    return proxy, project


def names(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return set(opened.getnames())


def members(archive: bytes) -> list[tarfile.TarInfo]:
    """Of Hex, not what Hexcache says of them."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [each for each in opened if each.name != "hexcache.json"]


def test_rebar3_works_offline_from_what_was_carried(
    home: tuple[Running, Rebar3Project], hexcache: Start, tmp_path: Path
) -> None:
    """Exported beside a running server, imported where none runs yet."""
    proxy, project = home
    file = tmp_path / "train.tar"
    lock = project.directory / "rebar.lock"
    made = run("export", file, "--lock", lock, config=proxy.config)
    assert made.status == 0, made.errors
    assert "; 0 missing" not in made.errors
    assert oct(file.stat().st_mode & 0o777) == "0o644"

    away = hexcache("--offline")
    away.stop()
    taken = run("import", file, config=away.config)
    assert (taken.status, taken.errors) == (0, ""), taken.text
    assert taken.text.startswith("6 taken"), taken.text
    away.start()
    project.trust(away.bundle)
    project.wipe(lock=True)
    result = project.get_deps(proxy=away.proxy)
    assert result.returncode == 0, result.stdout
    assert set(project.fetched()) == ALL


def test_mix_works_offline_from_what_was_carried(
    world: World, hexcache: Start, tmp_path: Path
) -> None:
    project = MixProject(tmp_path / "mix", require_mix(), world.repository.public_key_file)
    proxy = hexcache()
    through = {"HTTPS_PROXY": proxy.proxy, "HEX_CACERTS_PATH": str(proxy.bundle)}
    assert project.run("deps.get", **through).returncode == 0
    world.upstream.stop_listening()
    file = tmp_path / "train.tar"
    made = run("export", file, "--lock", project.directory / "mix.lock", config=proxy.config)
    assert made.status == 0, made.errors
    away = hexcache("--offline")
    assert run("import", file, config=away.config).status == 0
    project.wipe()
    result = project.run("deps.get", HEX_MIRROR=away.mirror)
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.fetched() == ALL


def test_through_pipes_and_a_running_server(
    home: tuple[Running, Rebar3Project], hexcache: Start
) -> None:
    proxy, _ = home
    made = run("export", "-", config=proxy.config)
    assert made.status == 0, made.errors
    away = hexcache("--offline")
    taken = run("import", "-", "--json", config=away.config, data=made.output)
    assert taken.status == 0, taken.errors
    answer = json.loads(taken.text)
    assert (answer["taken"], answer["refused"], answer["members"]) == (6, 0, [])
    assert not list((away.directory / "data").glob(".upload-*"))
    got = curl(f"{away.mirror}/tarballs/alpha-1.1.0.tar")
    assert (got.status, got.headers["cache-status"].split(";")[1].strip()) == (200, "hit")


def test_refusals_are_named(home: tuple[Running, Rebar3Project], tmp_path: Path) -> None:
    proxy, _ = home
    file = tmp_path / "hostile.tar"
    with tarfile.open(file, "w") as archive:
        for name in ("../../etc/passwd", "tarballs/alpha-1.1.0.tar", "\x1b[31mred"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    taken = run("import", file, config=proxy.config)
    assert taken.status == 1
    lines = taken.errors.splitlines()
    assert lines[0] == "refused: ../../etc/passwd: its name leads out of the archive"
    assert lines[1] == "refused: \\x1b[31mred: no file of Hex has such a name"
    assert lines[2].startswith("refused: tarballs/alpha-1.1.0.tar: alpha 1.1.0 has SHA-256")
    assert taken.text == "0 taken (0 bytes), 0 were here already, 0 kept as they are, 3 refused\n"


@pytest.mark.parametrize("running", [True, False])
def test_what_is_no_archive_is_one_line(hexcache: Start, tmp_path: Path, *, running: bool) -> None:
    proxy = hexcache("--offline")
    if not running:
        proxy.stop()
    file = tmp_path / "no.tar"
    file.write_bytes(b"\x1f\x8bhello")
    taken = run("import", file, config=proxy.config)
    assert (taken.status, taken.text) == (1, "")
    assert taken.errors == (
        "hexcache: it is compressed: `gzip -dc FILE | hexcache import -` takes it\n"
    )
    assert run("import", tmp_path / "absent.tar", config=proxy.config).status == 2


def test_what_is_missing_is_listed_and_the_rest_is_written(
    home: tuple[Running, Rebar3Project], tmp_path: Path
) -> None:
    proxy, _ = home
    lock = tmp_path / "mix.lock"
    lock.write_text(
        '%{\n  "gamma": {:hex, :gamma, "0.1.0", "", [:mix], [], "hexpm", ""},\n'
        '  "other": {:hex, :other, "1.0.0", "", [:mix], [], "hexpm", ""},\n'
        '  "mine": {:git, "https://example.org/mine.git", "abc", []},\n}\n'
    )
    file = tmp_path / "train.tar"
    made = run("export", file, "--lock", lock, config=proxy.config)
    assert made.status == 1
    written = size(sum(each.size for each in members(file.read_bytes())))
    assert made.errors.splitlines() == [
        "skipped: mine is from git (https://example.org/mine.git), not from Hex",
        "missing: package other: not stored",
        "missing: tarball other-1.0.0: not stored",
        f"{file}: 2 files, {written}; 2 missing",
    ]
    assert names(file.read_bytes()) == {
        *("packages/gamma", "tarballs/gamma-0.1.0.tar", "hexcache.json")
    }

    lock.write_text('%{"other": {:hex, :other, "1.0.0", "", [:mix], [], "hexpm", ""}}')
    nothing = tmp_path / "nothing.tar"
    made = run("export", nothing, "--lock", lock, config=proxy.config)
    assert made.status == 1
    assert "nothing is written" in made.errors
    assert not nothing.exists()


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    home: tuple[Running, Rebar3Project], tmp_path: Path
) -> None:
    proxy, _ = home
    absent = run("export", tmp_path / "no" / "train.tar", config=proxy.config)
    assert absent.status == 1
    assert absent.errors.endswith("it can't be written: No such file or directory\n")
    full = run("export", "/dev/full", config=proxy.config)
    assert full.status == 1
    assert full.errors.endswith("it can't be written: No space left on device\n")
    assert Path("/dev/full").is_char_device(), "it was written to, not replaced"
    file = tmp_path / "train.tar"
    assert run("export", file, config=proxy.config).status == 0
    assert [path.name for path in tmp_path.glob("*train*")] == ["train.tar"]


SITE = """
import sys
from aiohttp import web
app = web.Application()
app.router.add_static("/", sys.argv[1])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.fixture
def serve_files() -> Iterator[Callable[[Path], str]]:
    """A web server that knows files and their ETags, and nothing of Hex."""
    processes: list[subprocess.Popen[str]] = []

    def start(directory: Path) -> str:
        (port,) = free_ports(1)
        process = subprocess.Popen(
            [sys.executable, "-c", SITE, directory, str(port)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert "Running on" in process.stdout.readline()
        return f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_unpacked_it_is_a_mirror(
    home: tuple[Running, Rebar3Project], serve_files: Callable[[Path], str], tmp_path: Path
) -> None:
    proxy, project = home
    site = tmp_path / "site"
    site.mkdir()
    made = run("export", "-", config=proxy.config)
    subprocess.run(["tar", "x"], input=made.output, cwd=site, check=True, timeout=60)
    told = json.loads((site / "hexcache.json").read_text())
    assert set(told["files"]) == names(made.output) - {"hexcache.json"}
    proxy.stop()
    project.trust(None)
    project.wipe(lock=True)
    result = project.get_deps(mirror=serve_files(site))
    assert result.returncode == 0, result.stdout
    assert set(project.fetched()) == ALL


def test_mix_takes_it_from_there_too(
    world: World,
    home: tuple[Running, Rebar3Project],
    serve_files: Callable[[Path], str],
    tmp_path: Path,
) -> None:
    project = MixProject(tmp_path / "mix", require_mix(), world.repository.public_key_file)
    site = tmp_path / "site"
    site.mkdir()
    made = run("export", "-", config=home[0].config)
    subprocess.run(["tar", "x"], input=made.output, cwd=site, check=True, timeout=60)
    result = project.run("deps.get", HEX_MIRROR=serve_files(site))
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.fetched() == ALL


def test_an_import_that_is_killed_leaves_a_good_store(
    home: tuple[Running, Rebar3Project], hexcache: Start, tmp_path: Path
) -> None:
    proxy, _ = home
    # Docs are taken as they are: a body that is under way for a while.
    file = tmp_path / "train.tar"
    file.write_bytes(run("export", "-", config=proxy.config).output)
    with tarfile.open(file, "a") as archive:
        for number in range(8):
            member = tarfile.TarInfo(f"docs/alpha-1.0.{number}.tar.gz")
            member.size = 6 * 2**20
            archive.addfile(member, io.BytesIO(bytes([number]) * member.size))
    away = hexcache("--offline")
    away.stop()
    files = away.directory / "data/cache/entries"
    importing = subprocess.Popen(
        [sys.executable, "-m", "hexcache", "import", file, "--config", away.config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    # The second body is being written: then the first is stored.
    while importing.poll() is None and len(list(files.rglob("*.val"))) < 2:
        pass
    importing.send_signal(signal.SIGKILL)
    importing.communicate(timeout=60)
    assert importing.returncode == -signal.SIGKILL, "it was under way"

    taken = run("export", tmp_path / "partial.tar", config=away.config)
    assert taken.status == 0, taken.errors
    away.start()
    assert curl(f"{away.mirror}/tarballs/alpha-1.1.0.tar").status == 200
    again = run("import", file, "--json", config=away.config)
    assert again.status == 0, again.errors
    answer = json.loads(again.text)
    assert answer["taken"] + answer["present"] == 14
    assert answer["present"] >= 7
    for number in range(8):
        got = curl(f"{away.mirror}/docs/alpha-1.0.{number}.tar.gz")
        assert got.body == bytes([number]) * 6 * 2**20
