"""Signed registry messages: what isn't true, or is none, is refused."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.errors import VerificationError
from hexcache.proto import registry_pb2 as pb
from hexcache.registry import (
    MAX_UNPACKED,
    KeyRing,
    decode_names,
    decode_package,
    decode_versions,
    unpack,
)
from support.registry import TARBALL, entry, refused, ring
from support.signing import Rel, other_signer, signer


def pack(signed: bytes) -> bytes:
    return gzip.compress(signed, mtime=0)


# What is refused.


def decoders() -> dict[str, tuple[Callable[[KeyRing | None, str], object], bytes]]:
    """How to decode a message of each kind, and the message."""
    package = signer().package("jason", [Rel("1.0.0", TARBALL)])
    names, versions = signer().names(["jason"]), signer().versions({"jason": ["1.0.0"]})
    return {
        "package": (
            lambda keys, repository: decode_package(
                package, keys, repository=repository, name="jason"
            ),
            package,
        ),
        "names": (lambda keys, repository: decode_names(names, keys, repository=repository), names),
        "versions": (
            lambda keys, repository: decode_versions(versions, keys, repository=repository),
            versions,
        ),
    }


@pytest.mark.parametrize("kind", ["package", "names", "versions"])
def test_somebody_else_s_signature(kind: str) -> None:
    decode, _ = decoders()[kind]
    stranger = KeyRing([other_signer().public_key])
    assert "not signed" in refused("signature", lambda: decode(stranger, "hexpm"))
    refused("signature", lambda: decode(KeyRing([]), "hexpm"))


@pytest.mark.parametrize("kind", ["package", "names", "versions"])
def test_a_message_of_another_repository(kind: str) -> None:
    decode, _ = decoders()[kind]
    message = refused("repository", lambda: decode(ring(), "acme"))
    assert "'hexpm'" in message
    assert "'acme'" in message
    refused("repository", lambda: decode(ring(), ""))


def test_an_entry_of_another_package() -> None:
    message = refused("name", lambda: entry(signer().package("poison")))
    assert "'poison'" in message
    assert "jason" in message


@pytest.mark.parametrize("kind", ["package", "names", "versions"])
def test_without_keys_neither_signature_nor_repository_matter(kind: str) -> None:
    decode, _ = decoders()[kind]
    assert decode(None, "acme")


def test_without_keys_the_name_matters_still() -> None:
    body = other_signer().package("poison")
    refused("name", lambda: decode_package(body, None, repository="hexpm", name="jason"))


@pytest.mark.parametrize("part", ["payload", "signature"])
def test_one_bit(part: str) -> None:
    signed = pb.Signed.FromString(gzip.decompress(signer().package("jason", [Rel("1.0.0")])))
    data = getattr(signed, part)
    setattr(signed, part, data[:-1] + bytes([data[-1] ^ 1]))
    refused("signature", lambda: entry(pack(signed.SerializeToString())))


@pytest.mark.parametrize("part", ["payload", "signature"])
def test_half_of_a_message(part: str) -> None:
    signed = pb.Signed.FromString(gzip.decompress(signer().package("jason")))
    signed.ClearField(part)
    refused("signature", lambda: entry(pack(signed.SerializeToString())))


def test_a_body_that_is_cut_off_anywhere() -> None:
    body = signer().package("jason", [Rel("1.0.0", TARBALL)])
    for length in range(len(body)):
        refused("gzip", lambda length=length: entry(body[:length]))  # type: ignore[misc]


@pytest.mark.parametrize("extra", [b"\0", b"surplus", gzip.compress(b"another", mtime=0)])
def test_bytes_behind_the_end(extra: bytes) -> None:
    refused("gzip", lambda: entry(signer().package("jason") + extra))


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Bad gateway</html>", b"\x1f\x8b", zlib.compress(b"x"), pack(b"x")[:-4] + b"1234"],
)
def test_what_is_no_gzip(body: bytes) -> None:
    refused("gzip", lambda: entry(body))


@pytest.mark.parametrize("message", [b"\x0a\x05ab", b"\xff" * 20, b"\x07", b"<html>"])
def test_what_is_no_message(message: bytes) -> None:
    refused("message", lambda: entry(pack(message)))
    # Signed nonsense is nonsense.
    refused("message", lambda: entry(signer().sign(message)))


def test_deeply_nested_nonsense() -> None:
    refused("message", lambda: entry(signer().sign(b"\x3b" * 100_000)))


def test_a_gzip_bomb() -> None:
    bomb = pack(bytes(MAX_UNPACKED + 1))
    assert len(bomb) < 2**20
    assert str(MAX_UNPACKED) in refused("gzip", lambda: entry(bomb))


def test_a_bomb_takes_no_memory() -> None:
    bomb = pack(bytes(32 * 2**20))
    tracemalloc.start()
    try:
        refused("gzip", lambda: unpack(bomb, "it", limit=1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_the_limit_of_unpacking() -> None:
    assert unpack(pack(b"x" * 100), "it", limit=100) == b"x" * 100
    refused("gzip", lambda: unpack(pack(b"x" * 101), "it", limit=100))
    assert unpack(pack(b""), "it", limit=0) == b""


INVALID = b"\xff\xfe"


@pytest.mark.parametrize(
    "field",
    ["version", "requirement", "package", "app", "repository", "message", "id", "summary", "alias"],
)
def test_text_that_is_not_utf_8(field: str) -> None:
    # proto2's runtimes let it pass, so it is put in behind their back.
    message = pb.Package(name="jason", repository="hexpm")
    message.advisories.add(id="@id", summary="@summary", html_url="u", aliases=["@alias"])
    release = message.releases.add(version="@version", advisory_indexes=[0])
    release.dependencies.add(
        package="@package", requirement="@requirement", app="@app", repository="@repository"
    )
    release.retired.message = "@message"
    payload = message.SerializeToString()
    assert entry(signer().sign(payload)).releases[0].version == "@version"
    marker = f"@{field}".encode()
    damaged = payload.replace(marker, INVALID + marker[2:])
    assert damaged != payload
    refused("message", lambda: entry(signer().sign(damaged)))


def test_names_that_are_not_utf_8() -> None:
    package = pb.Package(name="jason", repository="hexpm").SerializeToString()
    no_name = signer().sign(package.replace(b"jason", b"\xff\xfeson"))
    refused("name", lambda: entry(no_name))
    refused("message", lambda: entry(no_name, name=None))
    no_repository = signer().sign(package.replace(b"hexpm", b"\xff\xfexpm"))
    refused("repository", lambda: entry(no_repository))

    names = pb.Names(packages=[pb.Names.Package(name="jason")], repository="hexpm")
    body = signer().sign(names.SerializeToString().replace(b"jason", b"\xff\xfeson"))
    refused("message", lambda: decode_names(body, ring(), repository="hexpm"))
    versions = pb.Versions(
        packages=[pb.Versions.Package(name="jason", versions=["1.0.0"])], repository="hexpm"
    ).SerializeToString()
    for text in (b"jason", b"1.0.0"):
        damaged = signer().sign(versions.replace(text, b"\xff\xfe" + text[2:]))
        refused("message", lambda body=damaged: decode_versions(body, ring(), repository="hexpm"))  # type: ignore[misc]


# Any bytes.


messages = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(pack),
    st.builds(
        lambda payload, signature: pack(
            pb.Signed(payload=payload, signature=signature).SerializeToString()
        ),
        st.binary(max_size=200),
        st.binary(max_size=300),
    ),
)


@settings(deadline=None, max_examples=300)
@given(body=messages)
def test_any_unsigned_bytes_are_refused(body: bytes) -> None:
    for decode in (
        lambda: entry(body),
        lambda: decode_names(body, ring(), repository="hexpm"),
        lambda: decode_versions(body, ring(), repository="hexpm"),
    ):
        with pytest.raises(VerificationError):
            decode()


@settings(deadline=None, max_examples=300)
@given(payload=st.binary(max_size=200), sign=st.booleans())
def test_any_payload_is_read_or_refused(payload: bytes, sign: bool) -> None:
    keys = ring() if sign else None
    body = signer().sign(payload)
    for decode in (
        lambda: decode_package(body, keys, repository="hexpm", name=None),
        lambda: decode_names(body, keys, repository="hexpm"),
        lambda: decode_versions(body, keys, repository="hexpm"),
    ):
        try:
            decode()
        except VerificationError:
            continue


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_damage_is_noticed(data: st.DataObject) -> None:
    message = pb.Package(name="jason", repository="hexpm", releases=[pb.Release(version="1.0.0")])
    good = gzip.decompress(signer().sign(message.SerializeToString()))
    position = data.draw(st.integers(0, len(good) - 1))
    flipped = data.draw(st.integers(1, 255))
    bad = bytearray(good)
    bad[position] ^= flipped
    try:
        package = entry(pack(bytes(bad)))
    except VerificationError:
        return
    # Only where it says nothing else than before.
    assert package == entry(pack(good))
