"""Export and import in one process: what gets in, what doesn't, and what stays."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.errors import BundleError
from hexcache.jobs.base import Event, Order
from hexcache.jobs.importing import import_bundle
from hexcache.messages import Request, read
from hexcache.resources import REPO_HOST
from hexcache.stock import bundle, tar
from hexcache.stock.bundle import Bundle
from support.clock import Clock
from support.lines import is_one_line
from support.machines import Machine, paths, publish, publish_tools
from support.signing import Rel, other_signer, signer
from support.upstream import Upstream

BODY = b"a tarball " * 20_000
FOO = Rel("1.0.0", BODY, deps=(("bar", "~> 1.0", True),))
BAR = Rel("1.0.0", b"bar")


@pytest.fixture
async def home(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    """A machine on the line, with two packages, docs and tools stored."""
    machine = Machine(tmp_path / "home", upstream, clock)
    publish(upstream, "foo", FOO)
    publish(upstream, "bar", BAR)
    publish_tools(upstream)
    upstream.files["/docs/foo-1.0.0.tar.gz"] = b"docs"
    upstream.files["/names"] = signer().names(["foo", "bar"])
    upstream.files["/versions"] = signer().versions({"foo": ["1.0.0"], "bar": ["1.0.0"]})
    await machine.fetch(*upstream.files)
    yield machine
    await machine.close()


@pytest.fixture
async def away(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    """A machine with nothing stored."""
    machine = Machine(tmp_path / "away", upstream, clock)
    yield machine
    await machine.close()


def exported(machine: Machine) -> bytes:
    out = io.BytesIO()
    bundle.write(machine.library, bundle.everything(machine.library).good, out)
    return out.getvalue()


def archive(files: Mapping[str, bytes], **told: Any) -> bytes:
    """As anybody may make one; `told` is hexcache.json's."""
    if told:
        files = {**files, "hexcache.json": json.dumps({"format": 1, "files": told}).encode()}
    parts = (tar.header(n, len(b), 0) + b + tar.padding(len(b)) for n, b in files.items())
    return b"".join(parts) + tar.END


async def imported(machine: Machine, content: bytes) -> tuple[dict[str, int], dict[str, str]]:
    """The numbers, and of each member that isn't simply there what became of it and why."""
    events: list[Event] = []
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        await import_bundle(machine.core, Order(upload=Path(file.name)), events.append)
    members: dict[str, str] = {}
    for event in events:
        if "member" in event:
            members.setdefault(event["member"], f"{event['fate']}: {event['why']}")
    return dict(events[-1]["summary"]), members


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
    stored = bundle.everything(home.library)
    good = stored.good
    assert "/tarballs/foo-1.0.0.tar" not in paths(good)
    assert (stored.left_out, stored.missing) == (1, {})
    entry = home.library.entry(next(r for r, _ in good if r.path == "/docs/foo-1.0.0.tar.gz"))
    assert entry is not None
    await home.core.store.delete(entry.key)
    written = bundle.write(home.library, good, io.BytesIO())
    assert [each.path for each in written.damaged] == ["/docs/foo-1.0.0.tar.gz"]


FORGED = {
    "packages/foo": other_signer().package("foo", [FOO]),
    "packages/bar": signer().package("foo", [FOO]),
    "packages/baz": signer().package("baz", [BAR], repository="acme"),
    "names": other_signer().names(["foo"]),
    "versions": b"versions",
    "public_key": other_signer().public_key.encode(),
    "tarballs/foo-1.0.0.tar": BODY,
    "installs/hex-1.x.csv": b"csv",
    "installs/hex-1.x.csv.signed": signer().signed_file(b"another csv"),
    "installs/rebar3-1.x.csv": b"csv",
    "installs/hex.csv.signed": signer().signed_file(b"csv"),
}


async def test_nothing_unverified_gets_in(away: Machine) -> None:
    summary, members = await imported(away, archive(FORGED))
    assert (summary["taken"], summary["refused"]) == (0, len(FORGED))
    assert away.stored() == {}
    assert {name: why.removeprefix("refused: ") for name, why in members.items()} == {
        "packages/foo": "the registry entry of foo is not signed by the repository's key",
        "packages/bar": "the registry entry of bar is about another package, 'foo'",
        "packages/baz": "the registry entry of baz is of the repository 'acme', not of 'hexpm'",
        "names": "/names is not signed by the repository's key",
        "versions": "/versions is not a gzip file",
        "public_key": "/public_key is not the key that upstream.public_key names",
        "tarballs/foo-1.0.0.tar": "no registry entry says what it has to be",
        "installs/hex-1.x.csv": "/installs/hex-1.x.csv is not signed by the repository's key",
        "installs/hex-1.x.csv.signed": "/installs/hex-1.x.csv is not signed by the repository's "
        "key",
        "installs/rebar3-1.x.csv": "its .signed is missing",
        "installs/hex.csv.signed": "the archive doesn't have what it signs",
    }


async def test_a_good_store_stays_as_it_was(home: Machine) -> None:
    before = home.stored()
    summary, _ = await imported(home, archive({**FORGED, "docs/foo-1.0.0.tar.gz": b"others"}))
    # The tarball is the right one: this store knows its checksum.
    assert (summary["taken"], summary["present"], summary["kept"]) == (0, 1, 1)
    assert home.stored() == before


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


async def test_damage_on_the_way_is_noticed_even_where_nothing_is_signed(
    home: Machine, away: Machine
) -> None:
    content = exported(home).replace(b"docs" + bytes(20), b"dogs" + bytes(20))
    _, members = await imported(away, content)
    assert members == {
        "docs/foo-1.0.0.tar.gz": "refused: it is damaged: hexcache.json has another SHA-256"
    }


def odd(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, "/etc/passwd"
    return member.tobuf(tarfile.PAX_FORMAT)


HOSTILE = [
    (odd("/etc/passwd"), "/etc/passwd", "its name leads out of the archive"),
    (odd("../../etc/passwd"), "../../etc/passwd", "its name leads out of the archive"),
    (odd("installs/../../x"), "installs/../../x", "its name leads out of the archive"),
    (odd("packages/foo", tarfile.SYMTYPE), "packages/foo", "it is a symbolic link"),
    (odd("packages/foo", tarfile.LNKTYPE), "packages/foo", "it is a hard link"),
    (odd("packages/foo", tarfile.CHRTYPE), "packages/foo", "it is a character device"),
    (odd("packages/foo", tarfile.FIFOTYPE), "packages/foo", "it is a named pipe"),
    (odd("packages/%66oo"), "packages/%66oo", "no file of Hex has such a name"),
    (odd("packages/foo?x=1"), "packages/foo?x=1", "no file of Hex has such a name"),
    (odd("packages/foo#before"), "packages/foo#before", "no file of Hex has such a name"),
    (odd("repos/acme/packages/foo"), "repos/acme/packages/foo", "no file of Hex has such a name"),
    (odd("data/ca/mitmproxy-ca.pem"), "data/ca/mitmproxy-ca.pem", "no file of Hex"),
    (odd("packages/\x1b[2Jfoo"), "packages/\\x1b[2Jfoo", "no file of Hex has such a name"),
    (odd(""), "(no name)", "no file of Hex has such a name"),
    (odd("names") * 2, "names", "the name is there twice"),
]


@pytest.mark.parametrize(("member", "name", "why"), HOSTILE)
async def test_hostile_members(
    home: Machine, away: Machine, member: bytes, name: str, why: str
) -> None:
    """Refused with a line, and nothing else suffers."""
    files = {"packages/bar": home.fake.files["/packages/bar"], "tarballs/bar-1.0.0.tar": b"bar"}
    summary, members = await imported(away, member + archive(files))
    assert members[name].startswith(f"refused: {why}")
    assert summary["taken"] == 2
    assert set(away.stored()) == {"/packages/bar", "/tarballs/bar-1.0.0.tar"}
    inside = [path for path in away.settings.data.rglob("*") if path.is_symlink()]
    assert inside == []


async def test_bombs(away: Machine, tmp_path: Path) -> None:
    too_many = b"".join(odd(f"x{number}") for number in range(1_001))
    with pytest.raises(BundleError, match="can't be Hex's"):
        await imported(away, too_many + tar.END)
    large = tmp_path / "large.tar"
    with large.open("wb") as file:  # a hole: it takes no room
        file.write(tar.header("packages/foo", 64 * 2**20 + 1, 0))
        file.truncate(512 + 64 * 2**20 + 512 + len(tar.END))
    opened = Bundle.open(large)
    opened.close()
    assert [each.why for each in opened.refused] == ["67,108,865 bytes are too many for it"]
    events: list[Event] = []
    with large.open("r+b") as file:
        file.write(tar.header("docs/foo-1.0.0.tar.gz", 5 * 2**30, 0))
        file.truncate(512 + 5 * 2**30 + len(tar.END))
    await import_bundle(away.core, Order(upload=large), events.append)
    assert events[-1]["summary"]["refused"] == 1
    with large.open("r+b") as file:
        file.write(tar.header("docs/foo-1.0.0.tar.gz", 3 * 2**30, 0))
        for number in range(4):
            file.seek((512 + 3 * 2**30) * number)
            file.write(tar.header(f"docs/foo-1.0.{number}.tar.gz", 3 * 2**30, 0))
        file.truncate((512 + 3 * 2**30) * 4 + len(tar.END))
    with pytest.raises(BundleError, match=r"cache\.size_limit is"):
        await import_bundle(away.core, Order(upload=large), events.append)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (b"{", "damaged"),
        (b"[1]", "damaged"),
        (b'{"format": 1, "files": []}', "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"format": 2, "files": {}}', "has format 2, this Hexcache reads 1"),
    ],
)
async def test_what_hexcache_json_may_be(away: Machine, told: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        await imported(away, archive({"hexcache.json": told}))


async def test_a_cut_archive_changes_nothing(home: Machine, away: Machine) -> None:
    content = exported(home)
    with pytest.raises(BundleError, match="cut off"):
        await imported(away, content[: len(content) - 5000])
    assert away.stored() == {}


async def test_without_verification_all_is_taken_as_the_engine_does(
    tmp_path: Path, upstream: Upstream, clock: Clock
) -> None:
    machine = Machine(tmp_path / "trusting", upstream, clock, cache={"verify": False})
    summary, members = await imported(machine, archive({"tarballs/foo-1.0.0.tar": BODY}))
    assert (summary["taken"], members) == (1, {})
    assert bundle.everything(machine.library).left_out == 0
    await machine.close()


NAMES = st.sampled_from(["packages/foo", "tarballs/foo-1.0.0.tar", "names", "installs/a.csv"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
TOLD = st.dictionaries(
    NAMES | st.text(max_size=9),
    SCALARS | st.dictionaries(st.sampled_from(["sha256", "checked_at", "last_modified"]), SCALARS),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES | st.text(max_size=9), st.binary(max_size=40)), TOLD)
def test_any_archive_is_indexed_or_one_error(files: dict[str, bytes], told: Any) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(archive({n.replace("\0", ""): b for n, b in files.items()}, **told))
        file.flush()
        try:
            opened = Bundle.open(Path(file.name))
        except BundleError as error:
            is_one_line(error)
            return
        for refusal in opened.refused:
            assert (refusal.name + refusal.why).isprintable()
        for claim in opened.claims:
            assert len(b"".join(opened.chunks(claim))) == claim.size
        opened.close()
