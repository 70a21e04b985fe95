"""Import of what is forged, hostile or damaged: none of it gets in, and nothing else suffers."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.errors import BundleError
from hexcache.jobs.base import Event, Order
from hexcache.jobs.importing import import_bundle
from hexcache.stock import tar
from hexcache.stock.bundle import Bundle
from support.bundles import BAR, BODY, FOO, archive, exported, imported
from support.lines import is_one_line
from support.machines import Machine
from support.signing import other_signer, signer

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
