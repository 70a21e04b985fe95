"""The keys that registry messages are signed with, and what is none."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.errors import VerificationError
from hexcache.registry import KeyRing, check_signature
from support.registry import entry, refused, ring
from support.signing import other_signer, signer


def test_the_repository_s_own_key() -> None:
    ring().check_key(signer().public_key.encode())
    # Written in another way, it is the same key.
    ring().check_key(signer().public_key.replace("\n", "\r\n").encode())
    both = KeyRing([other_signer().public_key, signer().public_key])
    both.check_key(other_signer().public_key.encode())


def _public_pem(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


# A SubjectPublicKeyInfo with the object identifier 1.2.3.4.
UNKNOWN_ALGORITHM = (
    "-----BEGIN PUBLIC KEY-----\n"
    + base64.b64encode(bytes.fromhex("300b3005 06032a0304 03020001")).decode()
    + "\n-----END PUBLIC KEY-----\n"
)


def not_keys() -> dict[str, str]:
    curve = _public_pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    return {
        "empty": "",
        "html": "<html>",
        "cut off": signer().public_key[:200],
        "damaged": signer().public_key.replace("MII", "AAA", 1),
        "a private key": signer().private_key,
        "another algorithm": curve,
        "an algorithm that nobody knows": UNKNOWN_ALGORITHM,
        "a surrogate": "\udcff",
    }


@pytest.mark.parametrize("what", list(not_keys()))
def test_what_is_no_public_key(what: str) -> None:
    text = not_keys()[what]
    refused("key", lambda: KeyRing([text]))
    refused("key", lambda: ring().check_key(text.encode("utf-8", "surrogateescape")))


def test_another_key_is_not_handed_on() -> None:
    other = other_signer().public_key.encode()
    assert "upstream.public_key" in refused("key", lambda: ring().check_key(other))


@settings(deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes_as_a_key_are_refused(body: bytes) -> None:
    with pytest.raises(VerificationError):
        ring().check_key(body)


def test_a_key_too_small_for_the_signature_verifies_nothing() -> None:
    """512 bits hold no SHA-512 signature."""
    small = rsa.RSAPublicNumbers(65537, (2**256 - 189) * (2**256 - 357)).public_key()
    body = signer().package("jason")

    def decode() -> None:
        entry(body, keys=KeyRing([_public_pem(small)]))

    with pytest.raises(VerificationError):
        decode()


def test_a_ring_is_known_by_its_keys() -> None:
    one, other = signer().public_key, other_signer().public_key
    assert KeyRing([one, other]).fingerprint == KeyRing([other, one, one]).fingerprint
    prints = {KeyRing(keys).fingerprint for keys in ([], [one], [other], [one, other])}
    assert len(prints) == 4


def test_a_signature_without_a_look_at_what_is_signed() -> None:
    check_signature(signer().sign(b"anything"), ring(), "it")
    refused("signature", lambda: check_signature(other_signer().sign(b"x"), ring(), "it"))
    refused("gzip", lambda: check_signature(b"x", ring(), "it"))
