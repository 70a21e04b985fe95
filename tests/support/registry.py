"""What the registry's tests ask of signed messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from hexcache.errors import VerificationError
from hexcache.registry import KeyRing, Package, decode_package
from support.signing import signer

TARBALL = b"a tarball"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ring() -> KeyRing:
    return KeyRing([signer().public_key])


def entry(body: bytes, *, name: str | None = "jason", keys: KeyRing | None = None) -> Package:
    return decode_package(body, keys or ring(), repository="hexpm", name=name)


def refused(check: str, decode: Callable[[], object]) -> str:
    """The message of the VerificationError that `decode` raises: one line."""
    with pytest.raises(VerificationError) as caught:
        decode()
    assert caught.value.check == check
    assert "\n" not in str(caught.value)
    return str(caught.value)
