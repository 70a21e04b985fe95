"""Files that the registry vouches for: those of builds.hex.pm and tarballs."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.errors import VerificationError
from hexcache.registry import Release, check_tarball, verify_signed_file
from support.registry import TARBALL, entry, refused, ring, sha256
from support.signing import Rel, other_signer, signer

# The files of builds.hex.pm.


def test_a_signed_file() -> None:
    csv = b"2.0.6,1.14.0\n2.1.0,1.15.0\n"
    verify_signed_file(csv, signer().signed_file(csv), ring(), "/installs/hex-1.x.csv")
    one_line = base64.b64encode(signer().signature(csv))
    verify_signed_file(csv, one_line, ring(), "/installs/hex-1.x.csv")


@pytest.mark.parametrize(
    ("csv", "signature", "check"),
    [
        (b"1.0.0\n", lambda: signer().signed_file(b"2.0.0\n"), "signature"),
        (b"1.0.0\n", lambda: other_signer().signed_file(b"1.0.0\n"), "signature"),
        (b"1.0.0\n", lambda: b"", "signature"),
        (b"1.0.0\n", lambda: base64.b64encode(b"x" * 256), "signature"),
        (b"1.0.0\n", lambda: b"<html>not found</html>", "pair"),
        (b"1.0.0\n", lambda: b"abc", "pair"),
        (b"1.0.0\n", lambda: signer().signature(b"1.0.0\n"), "pair"),
    ],
)
def test_a_file_with_a_wrong_signature(
    csv: bytes, signature: Callable[[], bytes], check: str
) -> None:
    what = "/installs/hex-1.x.csv"
    message = refused(check, lambda: verify_signed_file(csv, signature(), ring(), what))
    assert what in message


@settings(deadline=None)
@given(signature=st.binary(max_size=400))
def test_any_bytes_as_a_signature_are_refused(signature: bytes) -> None:
    with pytest.raises(VerificationError):
        verify_signed_file(b"1.0.0\n", signature, ring(), "/installs/hex-1.x.csv")


# Tarballs.


def test_a_tarball_is_what_the_registry_names() -> None:
    (release,) = entry(signer().package("jason", [Rel("1.0.0", TARBALL)])).releases
    check_tarball(sha256(TARBALL), release, "jason 1.0.0")
    message = refused(
        "checksum", lambda: check_tarball(sha256(TARBALL + b"!"), release, "jason 1.0.0")
    )
    assert sha256(TARBALL) in message
    assert sha256(TARBALL + b"!") in message
    assert "jason 1.0.0" in message


def test_a_release_without_a_checksum_proves_nothing() -> None:
    release = Release("1.0.0", "", "")
    assert "cache.verify" in refused("checksum", lambda: check_tarball("", release, "jason 1.0.0"))
    refused("checksum", lambda: check_tarball(sha256(TARBALL), release, "jason 1.0.0"))
