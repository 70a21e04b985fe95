"""Reading archives of anybody, and writing ones that everybody reads."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexcache.errors import BundleError
from hexcache.stock import tar
from support.lines import is_one_line

LONG = "installs/" + "deep/" * 40 + "name-" + "x" * 120


def written(*files: tuple[str, bytes]) -> bytes:
    parts = [
        tar.header(name, len(body), 1_700_000_000) + body + tar.padding(len(body))
        for name, body in files
    ]
    return b"".join(parts) + tar.END


def read(archive: bytes) -> list[tar.Member]:
    return list(tar.members(io.BytesIO(archive)))


def by_tarfile(
    *members: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT, body: bytes = b"body"
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            if member.isreg():
                member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, "/etc/passwd"
    return made


NAMES = ["names", "tarballs/a-1.0.0.tar", "a" * 100, "d" * 99 + "/" + "n" * 100, LONG]


def test_python_and_gnu_tar_read_what_is_written(tmp_path: Path) -> None:
    files = [(name, name.encode() * 100) for name in NAMES] + [("empty", b"")]
    archive = written(*files)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = {m.name: opened.extractfile(m).read() for m in opened}  # type: ignore[union-attr]
        assert found == dict(files)
        first = opened.getmembers()[0]
        assert (first.mode, first.uid, first.gid, first.mtime) == (0o644, 0, 0, 1_700_000_000)
    subprocess.run(["tar", "x"], input=archive, cwd=tmp_path, check=True, timeout=60)
    for name, body in files:
        assert (tmp_path / name).read_bytes() == body


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_others_write_is_read(form: int) -> None:
    names = [name for name in NAMES if form != tarfile.USTAR_FORMAT or name != LONG]
    archive = by_tarfile(info("packages", tarfile.DIRTYPE), *map(info, names), form=form)
    assert [member.name for member in read(archive)] == names
    for member in read(archive):
        assert archive[member.offset : member.offset + member.size] == b"body"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "neither a file nor a directory"),
    ],
)
def test_what_is_no_file_is_called_what_it_is(kind: bytes, what: str) -> None:
    archive = by_tarfile(info("names", kind), info("versions"))
    assert [(member.name, member.odd) for member in read(archive)] == [
        ("names", what),
        ("versions", ""),
    ]


def test_a_sparse_file_of_posix_is_one_too() -> None:
    member = info("names")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "1000000000000"}
    assert read(by_tarfile(member, form=tarfile.PAX_FORMAT))[0].odd == "a sparse file"


GOOD = written(("names", b"n" * 700), ("versions", b"v"))


@pytest.mark.parametrize("length", range(1, len(GOOD) - 2 * tar.BLOCK, 97))
def test_a_cut_is_noticed_wherever_it_is(length: int) -> None:
    with pytest.raises(BundleError, match=r"cut off|no tar archive"):
        read(GOOD[:length])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no tar archive"),
        (b"hello", "no tar archive"),
        (b"x" * 2000, "no tar archive"),
        (b"\x1f\x8b" + b"x" * 2000, "gzip -dc FILE"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 20, "zstd -dc FILE"),
        (GOOD.replace(b"versions\0", b"versionz\0"), "damaged at byte 1,536"),
    ],
)
def test_what_is_no_archive(content: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read(content)


def test_a_header_takes_no_more_memory_than_allowed() -> None:
    with pytest.raises(BundleError, match="a header of"):
        read(by_tarfile(info("x" * 70_000)))


@given(st.binary(max_size=3000))
def test_anything_is_an_archive_or_one_error(content: bytes) -> None:
    try:
        read(content)
    except BundleError as error:
        is_one_line(error)


@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=20
    ),
    st.booleans(),
)
def test_a_damaged_archive_is_read_or_one_error(changes: list[tuple[int, int]], mend: bool) -> None:
    """`mend`: with the checksum of the first header made right again, so that the rest counts."""
    archive = bytearray(GOOD)
    for position, value in changes:
        archive[position] = value
    if mend:
        archive[148:156] = b" " * 8
        archive[148:156] = b"%06o\0 " % sum(archive[:512])
    try:
        for member in read(bytes(archive)):
            assert 0 <= member.offset <= member.offset + member.size <= len(archive) or member.odd
    except BundleError as error:
        is_one_line(error)


@given(st.binary(max_size=400))
def test_any_pax_header_is_read_or_one_error(content: bytes) -> None:
    header = bytearray(tar.header("names", len(content), 0))
    header[156:157] = b"x"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    try:
        read(bytes(header) + content + tar.padding(len(content)) + GOOD)
    except BundleError as error:
        is_one_line(error)
