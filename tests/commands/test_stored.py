"""ls and show as a user sees them, without a server."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hexcache.jobs.base import Order
from hexcache.jobs.importing import import_bundle
from hexcache.messages import Headers, Request, read
from hexcache.proto import registry_pb2 as pb
from hexcache.resources import REPO_HOST
from support.clock import Clock
from support.commands import run
from support.machines import Machine, flip_a_bit, publish
from support.signing import Rel
from support.terminal import shown
from support.upstream import Upstream

LONG = "phoenix_live_dashboard"
ADVISORY = pb.SecurityAdvisory(id="A-1", summary="bad", html_url="https://a", severity=4)


@pytest.fixture
async def home(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path / "home", upstream, clock)
    yield machine
    await machine.close()


async def with_many_releases(home: Machine) -> Path:
    """Of one package 48, of another five; one retired, one with an advisory, one pinned."""
    many = [Rel(f"1.{n}.0", b"x" * 9) for n in range(46)]
    many += [
        Rel("1.46.0", b"r", retired=(2, "use 1.47")),
        Rel("1.47.0", b"a", advisories=(0,)),
    ]
    publish(home.fake, LONG, *many, advisories=[ADVISORY])
    publish(home.fake, "plug", *(Rel(f"1.16.{n}", b"x", retired=(3, "")) for n in range(5)))
    publish(home.fake, "jason", Rel("1.4.4", b"jason"))
    await home.fetch(*home.fake.files)
    home.core.store.pins.pin("mix.lock", [f"repo/packages/{LONG}"], at=1.0)
    await home.close()
    return home.config


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_ls_fits_a_terminal(home: Machine, columns: int) -> None:
    """Nothing is cut off, and no word is broken."""
    lines = shown(columns, "ls", config=await with_many_releases(home))
    assert max(map(len, lines)) <= columns
    starts = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert starts == ["PACKAGE", "jason", LONG, "plug", "3"]
    text = " ".join(lines)
    for word in ("RELEASES", "NOTES", "1.47.0,", "1.45.0", "more", "pinned,", "(critical)"):
        assert word in text.split(), word
    assert "1.44.0" not in text
    assert {f"1.16.{n}" for n in range(5)} <= set(re.findall(r"1\.16\.\d", text)), "all are retired"


async def test_ls_in_a_pipe_is_a_line_for_each(home: Machine) -> None:
    config = await with_many_releases(home)
    _, jason, long, plug, _ = run("ls", config=config).text.splitlines()
    assert jason.endswith("  1.4.4")
    assert "  1.47.0, 1.46.0, 1.45.0 and 45 more  " in long
    assert long.endswith("  pinned, retired 1.46.0, advisory 1.47.0 (critical)")
    assert "  1.16.4, 1.16.3, 1.16.2 and 2 more  " in plug
    found = json.loads(run("ls", LONG, "--json", config=config).output)
    assert len(found["packages"][0]["releases"]) == 48, "programs get all"
    assert len(re.findall(r"^1\.\d+\.0 ", run("show", LONG, config=config).text, re.M)) == 48


async def test_a_damaged_registry_entry_is_noted(home: Machine) -> None:
    publish(home.fake, "jason", Rel("1.4.4", b"jason"))
    await home.fetch(*home.fake.files)
    await home.close()
    assert run("ls", config=home.config).text.splitlines()[1].endswith("  1.4.4")
    flip_a_bit(home, "packages/jason")
    assert run("ls", config=home.config).text.splitlines()[1].endswith("  1.4.4     damaged")


def plain_mirror(fake: Upstream) -> bytes:
    """A tar that knows nothing of Hexcache."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, body in fake.files.items():
            member = tarfile.TarInfo(path[1:])
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


async def test_what_is_not_known_is_no_date(home: Machine, tmp_path: Path) -> None:
    """An archive without hexcache.json doesn't say when anything was current."""
    publish(home.fake, "jason", Rel("1.4.4", b"jason"))
    (tmp_path / "mirror.tar").write_bytes(plain_mirror(home.fake))
    await import_bundle(home.core, Order({}, tmp_path / "mirror.tar"), lambda _: None)
    await home.close()
    row = run("ls", config=home.config).text.splitlines()[1]
    assert re.fullmatch(r"jason +\d+ bytes +- +- +1\.4\.4", row)
    text = run("show", "jason", config=home.config).text
    assert "not known how current, from unknown" in text
    assert " 20" not in text.split("published")[0].split("checksum")[0]
    found = json.loads(run("show", "jason", "--json", config=home.config).output)
    assert found["registry_entry"]["checked_at"] is None
    lock = tmp_path / "mix.lock"
    lock.write_text('%{"jason": {:hex, :jason, "1.4.4", "", [:mix], [], "hexpm", ""}}')
    audited = run("audit", str(lock), config=home.config)
    assert audited.text == "1 release looked at, as of an unknown time: 0 findings, 0 unknown\n"
    found = json.loads(run("audit", str(lock), "--json", config=home.config).output)
    assert found["as_of"] is None


async def test_used_is_when_a_client_got_it(home: Machine) -> None:
    """What was only stored, ahead of any question, has been of no use yet."""
    publish(home.fake, "jason", Rel("1.4.4", b"jason"))
    publish(home.fake, "plug", Rel("1.0.0", b"plug"))
    await home.fetch(*home.fake.files)
    home.clock.advance(100)
    request = Request(
        method="GET",
        host=REPO_HOST,
        target="/tarballs/plug-1.0.0.tar",
        headers=Headers(()),
        body=b"",
        client="10.0.0.1",
    )
    await read((await home.core.engine.get(request)).body)
    await home.close()
    _, jason, plug, _ = run("ls", config=home.config).text.splitlines()
    assert re.fullmatch(r"jason +\d+ bytes +\d+ d +- +1\.4\.4", jason)
    assert re.fullmatch(r"plug +\d+ bytes +\d+ d +\d+ d +1\.0\.0", plug)
    packages = json.loads(run("ls", "--json", config=home.config).output)["packages"]
    assert packages[0]["used_at"] is packages[0]["releases"][0]["used_at"] is None
    assert packages[1]["used_at"] == packages[1]["releases"][0]["used_at"] is not None
