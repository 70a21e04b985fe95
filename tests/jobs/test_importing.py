"""Export and import in one process: what gets in, and what stays."""

from __future__ import annotations

import hashlib
import io
import tarfile
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from hexcache.messages import Request, read
from hexcache.resources import REPO_HOST
from hexcache.stock import bundle
from support.bundles import BODY, archive, exported, imported
from support.clock import Clock
from support.machines import Machine, paths, publish
from support.signing import Rel, signer
from support.upstream import Upstream


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        files = {member.name: opened.extractfile(member) for member in opened}
        return {name: file.read() for name, file in files.items() if file is not None}


async def test_an_empty_store_is_filled(home: Machine, away: Machine) -> None:
    summary, members = await imported(away, exported(home))
    assert members == {}
    assert summary["taken"] == len(home.fake.files) == len(home.stored())
    assert away.stored() == home.stored() == home.fake.files
    home.fake.stop_listening()
    await away.fetch("/tarballs/foo-1.0.0.tar", "/packages/foo", "/installs/hex-1.x.csv.signed")
    home.fake.start_listening()


async def test_again_changes_nothing(home: Machine, away: Machine) -> None:
    content = exported(home)
    await imported(away, content)
    summary, members = await imported(away, content)
    assert (summary["taken"], summary["present"], members) == (0, len(home.fake.files), {})


async def test_the_same_store_gives_the_same_bytes(home: Machine, clock: Clock) -> None:
    first = exported(home)
    clock.advance(1000)
    assert exported(home) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as opened:
        order = opened.getnames()
    assert order.index("packages/foo") < order.index("tarballs/bar-1.0.0.tar")
    assert order == [
        *("public_key", "names", "versions", "packages/bar", "packages/foo"),
        *("installs/hex-1.x.csv", "installs/hex-1.x.csv.signed"),
        *("tarballs/bar-1.0.0.tar", "tarballs/foo-1.0.0.tar", "docs/foo-1.0.0.tar.gz"),
        *("installs/1.17.0/hex-2.1.1.ez", "hexcache.json"),
    ]


async def test_any_order_will_do(home: Machine, away: Machine) -> None:
    files = unpacked(exported(home))
    summary, members = await imported(away, archive(dict(reversed(files.items()))))
    assert (summary["taken"], members) == (len(home.fake.files), {})


async def test_names_that_gnu_tar_makes(home: Machine, away: Machine) -> None:
    files = {f"./{name}": body for name, body in unpacked(exported(home)).items()}
    assert (await imported(away, archive(files)))[0]["taken"] == len(home.fake.files)


async def test_what_is_of_no_use_stays_at_home(home: Machine) -> None:
    """A tarball that the newest registry entry no longer names, and damaged ones."""
    publish(home.fake, "foo", Rel("1.0.0", b"replaced"))
    home.fake.modified["/packages/foo"] = 1.71e9
    home.clock.advance(10)
    await home.fetch("/packages/foo")
    good, left_out = bundle.everything(home.library)
    assert "/tarballs/foo-1.0.0.tar" not in paths(good)
    assert left_out == 1
    entry = home.library.entry(next(r for r, _ in good if r.path == "/docs/foo-1.0.0.tar.gz"))
    assert entry is not None
    await home.core.store.delete(entry.key)
    written = bundle.write(home.library, good, io.BytesIO())
    assert [each.path for each in written.damaged] == ["/docs/foo-1.0.0.tar.gz"]


async def test_tarballs_are_judged_by_the_newest_registry_entry(home: Machine) -> None:
    old = exported(home)
    publish(home.fake, "foo", Rel("1.0.0", b"replaced"), Rel("1.1.0", b"newer"))
    home.fake.modified["/packages/foo"] = 1.71e9
    home.clock.advance(10)
    await home.fetch("/packages/foo", "/tarballs/foo-1.0.0.tar")
    summary, members = await imported(home, old)
    assert members["packages/foo"] == "kept: it is not newer than what is stored"
    assert members["tarballs/foo-1.0.0.tar"].startswith("refused: foo 1.0.0 has SHA-256")
    assert (summary["kept"], summary["refused"]) == (1, 1)
    assert home.stored()["/packages/foo"] == home.fake.files["/packages/foo"]
    assert home.stored()["/tarballs/foo-1.0.0.tar"] == b"replaced"
    absent = await imported(home, archive({"tarballs/foo-2.0.0.tar": b""}))
    assert absent[1]["tarballs/foo-2.0.0.tar"].endswith("registry entry has no such release")


# What is stored is dated between the two.
ONE, TWO, OTHER = Rel("1.0.0", b"one"), Rel("2.0.0", b"two"), Rel("3.0.0", b"three")
EARLY, LATE = formatdate(1.6e9, usegmt=True), formatdate(1.74e9, usegmt=True)


@pytest.mark.parametrize(
    ("held", "offered", "date", "fate"),
    [
        ([ONE], [ONE, TWO], LATE, "taken"),
        ([ONE], [ONE, TWO], "", "taken"),
        ([ONE], [ONE, TWO], EARLY, "kept"),  # TWO was reverted since
        ([ONE, TWO], [ONE], LATE, "kept"),  # anybody can write a date
        ([ONE, TWO], [ONE, OTHER], "", "kept"),
        ([ONE, TWO], [ONE, OTHER], EARLY, "kept"),
        ([ONE, TWO], [ONE, OTHER], LATE, "taken"),
        ([ONE], [Rel("1.0.0", b"one", retired=(2, "bad"))], LATE, "taken"),
        ([ONE], [Rel("1.0.0", b"one", retired=(2, "bad"))], EARLY, "kept"),
    ],
)
async def test_an_older_registry_entry_never_replaces_a_newer_one(
    away: Machine, held: list[Rel], offered: list[Rel], date: str, fate: str
) -> None:
    publish(away.fake, "foo", *held)
    await away.fetch("/packages/foo")
    body = signer().package("foo", offered)
    told: dict[str, Any] = {"packages/foo": {"last_modified": date}}
    summary, _ = await imported(away, archive({"packages/foo": body}, **told))
    assert summary[fate] == 1
    assert (away.stored()["/packages/foo"] == body) == (fate == "taken")


async def test_the_entry_before_is_kept_while_its_tarballs_are_all_there_is(
    away: Machine,
) -> None:
    publish(away.fake, "foo", ONE)
    await away.fetch("/packages/foo", "/tarballs/foo-1.0.0.tar")
    old = away.fake.files["/packages/foo"]
    await imported(away, archive({"packages/foo": signer().package("foo", [ONE, TWO])}))
    away.core.engine.offline = True
    reply = await away.core.engine.get(
        Request(method="GET", host=REPO_HOST, target="/packages/foo")
    )
    assert await read(reply.body) == old, "2.0.0 can't be had here"


async def test_lies_about_dates_and_etags_do_no_harm(away: Machine) -> None:
    """With the ETag of what upstream has now, upstream would confirm the old body for ever; with a
    date in the future nothing would ever be newer."""
    publish(away.fake, "foo", ONE, TWO)
    current = away.fake.files["/packages/foo"]
    old = signer().package("foo", [ONE])
    told: dict[str, Any] = {
        "packages/foo": {
            "etag": f'"{hashlib.md5(current).hexdigest()}"',
            "last_modified": "Fri, 01 Jan 2100 00:00:00 GMT",
            "checked_at": 4e9,
            "content_type": "text/html\r\nSet-Cookie: a=b",
        },
        "versions": {"last_modified": "Fri, 01 Jan 2100 00:00:00 GMT", "checked_at": "soon"},
    }
    files = {"packages/foo": old, "versions": signer().versions({"foo": ["1.0.0"]})}
    assert (await imported(away, archive(files, **told)))[0]["taken"] == 2
    away.clock.advance(10)
    away.fake.files["/versions"] = signer().versions({"foo": ["1.0.0", "2.0.0"]})
    await away.fetch("/packages/foo", "/versions")
    assert away.stored()["/packages/foo"] == current
    assert away.stored()["/versions"] == away.fake.files["/versions"]


async def test_what_came_is_current_upstream_without_being_sent_again(
    home: Machine, away: Machine
) -> None:
    await imported(away, exported(home))
    home.fake.requests.clear()
    away.clock.advance(100)
    await away.fetch("/packages/foo", "/tarballs/foo-1.0.0.tar", "/docs/foo-1.0.0.tar.gz")
    assert home.fake.count("/tarballs") == 0
    assert home.fake.count("/", status=200) == 0


async def test_imported_counts_as_used_now(home: Machine, away: Machine) -> None:
    content = exported(home)
    await imported(away, content)
    away.clock.advance(5000)
    await imported(away, content)
    await away.core.store.flush()
    assert {entry.used_at for _, entry in away.library.holdings()} == {away.clock.now}


async def test_a_damaged_copy_in_the_store_is_mended(home: Machine) -> None:
    content = exported(home)
    for file in home.settings.cache_directory.rglob("*.val"):
        file.write_bytes(b"damaged")
    summary, _ = await imported(home, content)
    assert summary["taken"] >= 1
    assert home.stored() == home.fake.files


async def test_without_verification_all_is_taken_as_the_engine_does(
    tmp_path: Path, upstream: Upstream, clock: Clock
) -> None:
    machine = Machine(tmp_path / "trusting", upstream, clock, cache={"verify": False})
    summary, members = await imported(machine, archive({"tarballs/foo-1.0.0.tar": BODY}))
    assert (summary["taken"], members) == (1, {})
    assert bundle.everything(machine.library)[1] == 0
    await machine.close()
