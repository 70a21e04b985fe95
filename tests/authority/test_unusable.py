"""An authority that can't be used is one line: which file, what, and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from mitmproxy.certs import CertStore

from hexcache.authority import HEX_HOSTS, Authority
from hexcache.errors import AuthorityError
from support.authority import contents, key_file
from support.clock import Calendar

NOBODY = 65534


def refused(directory: Path, file: str, problem: str, hosts: Sequence[str] = HEX_HOSTS) -> None:
    """Opening fails with one line that says which file, what, and what to do; no file changes."""
    before = contents(directory)
    with pytest.raises(AuthorityError) as caught:
        Authority.open(directory, hosts)
    message = str(caught.value)
    assert message.startswith(f"{directory / file} ")
    assert problem in message
    assert f"delete the directory {directory}" in message
    assert f"trust the new {directory / 'hexcache-ca.pem'}" in message
    assert "\n" not in message
    assert contents(directory) == before


def blocks(pem: bytes) -> list[bytes]:
    return [b"-----BEGIN " + block for block in pem.split(b"-----BEGIN ")[1:]]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda pem: b"", id="empty"),
        pytest.param(lambda pem: b"\0\xff" * 500, id="garbage"),
        pytest.param(lambda pem: pem[: len(pem) // 2], id="half"),
        pytest.param(lambda pem: blocks(pem)[0], id="key-only"),
        pytest.param(lambda pem: b"".join(blocks(pem)[:2]), id="no-root"),
        pytest.param(lambda pem: b"".join(blocks(pem)[1:]), id="no-key"),
        pytest.param(lambda pem: pem + blocks(pem)[2], id="one-too-many"),
        pytest.param(
            lambda pem: b"".join(blocks(pem)[index] for index in (0, 2, 1)), id="wrong-order"
        ),
        pytest.param(lambda pem: pem.replace(b"MII", b"MIJ"), id="not-der"),
    ],
)
def test_a_damaged_key_file(authority: Authority, damage: Callable[[bytes], bytes]) -> None:
    directory = authority.certificate_path.parent
    key_file(directory).write_bytes(damage(key_file(directory).read_bytes()))
    refused(directory, "mitmproxy-ca.pem", "isn't a key with its certificate and a root's")


def test_another_key(authority: Authority, tmp_path: Path) -> None:
    directory = authority.certificate_path.parent
    Authority.open(tmp_path / "other")
    ours = blocks(key_file(directory).read_bytes())
    theirs = blocks(key_file(tmp_path / "other").read_bytes())
    key_file(directory).write_bytes(b"".join([theirs[0], *ours[1:]]))
    refused(directory, "mitmproxy-ca.pem", "holds a key that isn't its certificate's")
    key_file(directory).write_bytes(b"".join([*theirs[:2], ours[2]]))
    refused(directory, "mitmproxy-ca.pem", "isn't a key with its certificate and a root's")


def test_a_whole_other_authority(authority: Authority, tmp_path: Path) -> None:
    directory = authority.certificate_path.parent
    Authority.open(tmp_path / "other")
    shutil.copy(key_file(tmp_path / "other"), key_file(directory))
    refused(directory, "hexcache-ca.pem", "isn't the root of mitmproxy-ca.pem")


@pytest.mark.parametrize("content", [b"", b"\0\xff", b"-----BEGIN CERTIFICATE-----\nMII"])
def test_a_damaged_certificate(authority: Authority, content: bytes) -> None:
    authority.certificate_path.write_bytes(content)
    refused(authority.certificate_path.parent, "hexcache-ca.pem", "is damaged")


def test_a_lost_key(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    key_file(directory).unlink()
    refused(directory, "mitmproxy-ca.pem", "is missing")
    authority.certificate_path.unlink()
    refused(directory, "mitmproxy-ca.pem", "is missing")


def test_a_key_that_isnt_mounted(tmp_path: Path) -> None:
    key_file(tmp_path).symlink_to("/nonexistent/key.pem")
    with pytest.raises(AuthorityError, match="No such file or directory"):
        Authority.open(tmp_path)
    assert key_file(tmp_path).is_symlink()


def test_mitmproxys_own_authority_is_not_taken(tmp_path: Path) -> None:
    CertStore.create_store(tmp_path, "mitmproxy", 2048)
    refused(tmp_path, "mitmproxy-ca.pem", "isn't a key with its certificate and a root's")


def test_an_authority_for_other_hosts(authority: Authority, tmp_path: Path) -> None:
    directory = authority.certificate_path.parent
    refused(directory, "mitmproxy-ca.pem", "isn't confined to hex.pm", hosts=["hex.pm"])
    refused(directory, "mitmproxy-ca.pem", "isn't confined to repo.hex.pm", hosts=["repo.hex.pm"])
    assert Authority.open(directory, hosts=HEX_HOSTS[::-1]).name == authority.name
    with pytest.raises(ValueError, match="without hosts"):
        Authority.open(tmp_path / "none", hosts=[])
    assert not (tmp_path / "none").exists()


def test_expiry(tmp_path: Path, clock: Calendar) -> None:
    authority = Authority.open(tmp_path, now=clock)
    clock.set(days=3619)
    assert authority.expiry_warning() is None
    clock.set(days=3621)
    assert Authority.open(tmp_path, now=clock).expires == authority.expires
    warning = authority.expiry_warning()
    assert warning is not None
    assert "\n" not in warning
    assert f"{authority.name} expires on {authority.expires:%Y-%m-%d}: stop Hexcache" in warning
    clock.set(days=3650)
    with pytest.raises(AuthorityError, match=r"mitmproxy-ca\.pem expired on .*delete the dir"):
        Authority.open(tmp_path, now=clock)


def test_a_clock_that_is_too_early(tmp_path: Path, clock: Calendar) -> None:
    Authority.open(tmp_path, now=clock)
    clock.set(days=-3)
    with pytest.raises(AuthorityError, match="set the clock") as caught:
        Authority.open(tmp_path, now=clock)
    assert "delete" not in str(caught.value)


@contextmanager
def unprivileged(directory: Path) -> Iterator[Path]:
    """`directory`, owned by the user that this process is inside the block, who isn't root."""
    if os.geteuid() != 0:
        yield directory
        return
    for path in [directory, *directory.iterdir()]:
        os.chown(path, NOBODY, NOBODY)
    # pytest's own directories are closed to other users; the group is still root's.
    modes = {path: path.stat().st_mode for path in directory.parents}
    for path, mode in modes.items():
        if mode & 0o011 != 0o011:
            path.chmod(mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        os.seteuid(0)
        for path, mode in modes.items():
            if mode & 0o011 != 0o011:
                path.chmod(mode)


def test_a_directory_that_cant_be_written(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with (
        unprivileged(tmp_path / "closed") as directory,
        pytest.raises(AuthorityError, match="make it readable and writable") as caught,
    ):
        Authority.open(directory)
    assert f"Permission denied: '{directory}/." in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(directory) == {}


def test_a_whole_authority_needs_no_write(authority: Authority) -> None:
    authority.certificate_path.parent.chmod(0o555)
    with unprivileged(authority.certificate_path.parent) as directory:
        assert Authority.open(directory).name == authority.name


@pytest.mark.parametrize("name", ["mitmproxy-ca.pem", "hexcache-ca.pem", "ca-bundle.pem"])
def test_a_directory_in_a_files_place(tmp_path: Path, name: str) -> None:
    """As Docker makes where a file that doesn't exist is mounted."""
    Authority.open(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(AuthorityError, match="Is a directory"):
        Authority.open(tmp_path)


def test_a_file_in_the_directorys_place(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    for directory in (tmp_path / "data", tmp_path / "data" / "ca"):
        with pytest.raises(AuthorityError, match="can't use the certificate authority's directory"):
            Authority.open(directory)
