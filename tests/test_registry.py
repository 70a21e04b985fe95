"""Signed registry messages: what is true is read, what isn't is refused, and hex_core agrees."""

from __future__ import annotations

import base64
import gzip
import hashlib
import shutil
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.errors import VerificationError
from hexcache.proto import registry_pb2 as pb
from hexcache.registry import (
    BUILDS_PUBLIC_KEY,
    HEXPM_PUBLIC_KEY,
    MAX_UNPACKED,
    Advisory,
    Dependency,
    KeyRing,
    Package,
    Release,
    Retirement,
    check_signature,
    check_tarball,
    decode_names,
    decode_package,
    decode_versions,
    is_older,
    unpack,
    verify_signed_file,
)
from support.clients import require_rebar3
from support.signing import Rel, other_signer, signer

TARBALL = b"a tarball"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ring() -> KeyRing:
    return KeyRing([signer().public_key])


def pack(signed: bytes) -> bytes:
    return gzip.compress(signed, mtime=0)


def entry(body: bytes, *, name: str | None = "jason", keys: KeyRing | None = None) -> Package:
    return decode_package(body, keys or ring(), repository="hexpm", name=name)


def refused(check: str, decode: Callable[[], object]) -> str:
    """The message of the VerificationError that `decode` raises: one line."""
    with pytest.raises(VerificationError) as caught:
        decode()
    assert caught.value.check == check
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is read.


def test_a_registry_entry() -> None:
    advisory = pb.SecurityAdvisory(
        id="GHSA-1", summary="bad", html_url="https://x", severity=3, cvss_score=7.5, aliases=["C"]
    )
    body = signer().package(
        "jason",
        [
            Rel("1.0.0", b"one", retired=(2, "use 1.1"), advisories=(0,)),
            Rel(
                "1.1.0-rc.1",
                TARBALL,
                deps=(("decimal", "~> 1.0 or ~> 2.0", True), ("ä", "", False)),
                published_at=1_700_000_000,
            ),
        ],
        advisories=[advisory],
    )
    package = entry(body)
    assert (package.name, package.repository) == ("jason", "hexpm")
    one, rc = package.releases
    assert one.version == "1.0.0"
    assert one.outer_checksum == sha256(b"one")
    assert one.retired == Retirement(2, "use 1.1")
    assert one.published_at is None
    assert one.advisories == (Advisory("GHSA-1", "bad", "https://x", 3, 7.5, ("C",)),)
    assert rc.dependencies == (
        Dependency("decimal", "~> 1.0 or ~> 2.0", optional=True),
        Dependency("ä", ""),
    )
    assert rc.retired is None
    assert rc.published_at == 1_700_000_000
    assert package.by_version == {"1.0.0": one, "1.1.0-rc.1": rc}


def test_what_the_registry_leaves_out() -> None:
    message = pb.Package(
        name="jason",
        repository="hexpm",
        releases=[pb.Release(version="0.1.0", advisory_indexes=[0, 7])],
        advisories=[pb.SecurityAdvisory(id="GHSA-1")],
    )
    (release,) = entry(signer().sign(message.SerializeToString())).releases
    assert release == Release("0.1.0", "", "", advisories=(Advisory("GHSA-1", "", ""),))
    assert release.advisories[0].severity is None
    assert release.advisories[0].cvss_score is None


def test_names_and_versions() -> None:
    names = decode_names(signer().names(["b", "a"]), ring(), repository="hexpm")
    assert (names.repository, names.packages) == ("hexpm", ("b", "a"))
    body = signer().versions({"b": ["2.0.0", "1.0.0"], "a": []})
    versions = decode_versions(body, ring(), repository="hexpm")
    assert versions.repository == "hexpm"
    assert versions.packages == {"b": ("2.0.0", "1.0.0"), "a": ()}


def test_a_package_without_releases() -> None:
    assert entry(signer().package("jason")).releases == ()


def test_any_of_several_keys() -> None:
    both = KeyRing([other_signer().public_key, signer().public_key])
    assert entry(signer().package("jason"), keys=both).name == "jason"
    assert entry(other_signer().package("jason"), keys=both).name == "jason"


def test_the_name_is_checked_only_where_it_is_known() -> None:
    assert entry(signer().package("jason"), name=None).name == "jason"


def test_what_came_after_this_program_was_written() -> None:
    """Fields and enumeration values that nobody here knows of."""
    future = b"\xca\x3e\x06future\xf8\x3f\x01"
    message = pb.Package(name="jason", repository="hexpm")
    release = message.releases.add(version="1.0.0", outer_checksum=b"\1" * 32)
    release.retired.reason = 99
    release.retired.message = "?"
    release.MergeFromString(future)
    message.advisories.add(id="GHSA-1", severity=99)
    release.advisory_indexes.append(0)
    (got,) = entry(signer().sign(message.SerializeToString() + future)).releases
    assert got.retired == Retirement(99, "?")
    assert got.advisories[0].severity == 99
    assert got.outer_checksum == "01" * 32


def test_the_keys_that_are_built_in_are_keys() -> None:
    KeyRing([HEXPM_PUBLIC_KEY, BUILDS_PUBLIC_KEY])
    refused("signature", lambda: entry(signer().package("jason"), keys=KeyRing([HEXPM_PUBLIC_KEY])))


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


# Keys.


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


# Two entries of one package.


def test_what_two_entries_are_compared_by() -> None:
    def known(*releases: Rel) -> frozenset[tuple[str, str]]:
        return entry(signer().package("jason", releases)).releases_known()

    one = known(Rel("1.0.0", b"a"), Rel("1.1.0", b"b"))
    assert one == known(Rel("1.1.0", b"b"), Rel("1.0.0", b"a", retired=(2, "unsafe")))
    assert one > known(Rel("1.0.0", b"a"))
    assert one != known(Rel("1.0.0", b"republished"), Rel("1.1.0", b"b"))


def test_the_older_of_two() -> None:
    older, newer = "Tue, 14 Nov 2023 22:13:20 GMT", "Wed, 15 Nov 2023 01:00:00 GMT"
    assert is_older(older, newer)
    assert not is_older(newer, older)
    assert not is_older(older, older)
    for nonsense in ("", "yesterday", "Tue, 99 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20"):
        assert not is_older(nonsense, newer)
        assert not is_older(newer, nonsense)


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


# hex_core, as it is inside rebar3.

# encode KIND TERMS KEY OUT: sign what TERMS holds. decode KIND BODY KEY NAME: print it as a term.
# fields: print the messages' fields.
HEX_CORE = r"""
main([Rebar3, Command | Arguments]) ->
    {ok, Sections} = escript:extract(Rebar3, []),
    {ok, Files} = zip:extract(proplists:get_value(archive, Sections), [memory]),
    [code:load_binary(list_to_atom(filename:basename(Path, ".beam")), Path, Beam)
     || {Path, Beam} <- Files, lists:prefix("r3_", filename:basename(Path)),
        filename:extension(Path) =:= ".beam"],
    run(Command, Arguments).

run("encode", [Kind, TermFile, KeyFile, Out]) ->
    {ok, [Term]} = file:consult(TermFile),
    {ok, Key} = file:read_file(KeyFile),
    Payload = case Kind of
        "package" -> r3_hex_registry:encode_package(Term);
        "names" -> r3_hex_registry:encode_names(Term);
        "versions" -> r3_hex_registry:encode_versions(Term)
    end,
    ok = file:write_file(Out, zlib:gzip(r3_hex_registry:sign_protobuf(Payload, Key)));
run("decode", [Kind, BodyFile, KeyFile, Name, ExpectedFile]) ->
    {ok, Body} = file:read_file(BodyFile),
    {ok, Key} = file:read_file(KeyFile),
    {ok, [Expected]} = file:consult(ExpectedFile),
    case r3_hex_registry:decode_and_verify_signed(zlib:gunzip(Body), Key) of
        {ok, Payload} ->
            {ok, Got} = decode(Kind, Payload, list_to_binary(Name)),
            case same(Got, Expected) of
                true -> io:format("same");
                false -> io:format("hex_core got~n~p~nand not~n~p~n", [Got, Expected])
            end;
        Error -> io:format("~p", [Error])
    end;
run("fields", []) ->
    Modules = [r3_hex_pb_signed, r3_hex_pb_package, r3_hex_pb_names, r3_hex_pb_versions],
    [io:format("~s ~s ~p ~w ~w~n",
               [re:replace(atom_to_list(Message), ".*\\.", ""), Name, Number, Type, Occurrence])
     || Module <- Modules, {{msg, Message}, Fields} <- Module:get_msg_defs(),
        #{name := Name, fnum := Number, type := Type, occurrence := Occurrence} <- Fields].

%% Newer versions give the whole message, older ones the list in it.
same(Got, #{releases := Expected}) when is_list(Got) -> same(Got, Expected);
same(Got, #{packages := Expected}) when is_list(Got) -> same(Got, Expected);
same(Got, Expected) when is_map(Got), is_map(Expected) ->
    lists:all(fun({Key, Value}) -> maps:is_key(Key, Got) andalso same(map_get(Key, Got), Value) end,
              maps:to_list(Expected));
same(Got, Expected) when is_list(Got), is_list(Expected) ->
    length(Got) =:= length(Expected) andalso
        lists:all(fun({G, E}) -> same(G, E) end, lists:zip(Got, Expected));
same(Got, Expected) -> Got =:= Expected.

decode("package", Payload, Name) -> r3_hex_registry:decode_package(Payload, <<"hexpm">>, Name);
decode("names", Payload, _) -> r3_hex_registry:decode_names(Payload, <<"hexpm">>);
decode("versions", Payload, _) -> r3_hex_registry:decode_versions(Payload, <<"hexpm">>).
"""


class Atom(str):
    """An Erlang atom."""


Term = bool | int | bytes | str | Sequence["Term"] | Mapping[str, "Term"]


def term(value: Term) -> str:
    """Erlang's text of a value: str and bytes are binaries, keys are atoms."""
    if isinstance(value, bool | Atom):
        return f"'{str(value).lower() if isinstance(value, bool) else value}'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return f"<<{','.join(map(str, data))}>>"
    if isinstance(value, Mapping):
        return f"#{{{','.join(f'{key} => {term(item)}' for key, item in value.items())}}}"
    return f"[{','.join(map(term, value))}]"


class HexCore:
    """The reference implementation."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._script = directory / "hex_core.escript"
        self._script.write_text(f"#!/usr/bin/env escript\n{HEX_CORE}")

    def file(self, name: str, content: str | bytes) -> str:
        path = self._directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def run(self, *arguments: str) -> str:
        rebar3 = shutil.which("rebar3")
        assert rebar3 is not None
        command = ["escript", str(self._script), rebar3, *arguments]
        result = subprocess.run(command, capture_output=True, timeout=60, check=False)
        output = result.stdout.decode(errors="replace")
        assert result.returncode == 0, output + result.stderr.decode(errors="replace")
        return output

    def encode(self, kind: str, value: Term) -> bytes:
        out = self._directory / "out"
        terms = self.file("terms", f"{term(value)}.\n")
        self.run("encode", kind, terms, self.file("key", signer().private_key), str(out))
        return out.read_bytes()

    def decode(self, kind: str, body: bytes, expected: Term, *, key: str = "") -> str:
        """ "same", or what is different."""
        return self.run(
            "decode",
            kind,
            self.file("body", body),
            self.file("key", key or signer().public_key),
            "jason",
            self.file("expected", f"{term(expected)}.\n"),
        )


@pytest.fixture
def hex_core(tmp_path: Path) -> HexCore:
    require_rebar3()
    return HexCore(tmp_path)


# No advisories, published_at and updated_at: hex_core of 2022 (Debian's rebar3) has none.
INNER, OUTER = b"\1" * 32, b"\xfe" * 32
PACKAGE: Mapping[str, Term] = {
    "repository": "hexpm",
    "name": "jason",
    "releases": [
        {
            "version": "1.0.0",
            "inner_checksum": INNER,
            "outer_checksum": OUTER,
            "dependencies": [],
            "retired": {"reason": Atom("RETIRED_SECURITY"), "message": "naïve, use 1.1"},
        },
        {
            "version": "1.1.0-rc.1+b",
            "inner_checksum": INNER,
            "outer_checksum": OUTER,
            "dependencies": [
                {
                    "package": "decimal",
                    "requirement": "~> 1.0 or ~> 2.0",
                    "optional": True,
                    "app": "decimal_app",
                    "repository": "acme",
                },
            ],
        },
    ],
}
DECODED = Package(
    "jason",
    "hexpm",
    (
        Release("1.0.0", INNER.hex(), OUTER.hex(), retired=Retirement(2, "naïve, use 1.1")),
        Release(
            "1.1.0-rc.1+b",
            INNER.hex(),
            OUTER.hex(),
            (Dependency("decimal", "~> 1.0 or ~> 2.0", True, "decimal_app", "acme"),),
        ),
    ),
)
NAMES: Mapping[str, Term] = {
    "repository": "hexpm",
    "packages": [{"name": "b"}, {"name": "a"}],
}
VERSIONS: Mapping[str, Term] = {
    "repository": "hexpm",
    "packages": [
        {"name": "b", "versions": ["2.0.0", "1.0.0"], "retired": [1]},
        {"name": "a", "versions": ["0.1.0"], "retired": []},
    ],
}


def test_what_hex_core_signs_is_read(hex_core: HexCore) -> None:
    assert entry(hex_core.encode("package", PACKAGE)) == DECODED
    names = decode_names(hex_core.encode("names", NAMES), ring(), repository="hexpm")
    assert names.packages == ("b", "a")
    body = hex_core.encode("versions", VERSIONS)
    versions = decode_versions(body, ring(), repository="hexpm")
    assert versions.packages == {"b": ("2.0.0", "1.0.0"), "a": ("0.1.0",)}


def test_what_is_signed_here_is_read_by_hex_core(hex_core: HexCore) -> None:
    package = pb.Package(name="jason", repository="hexpm")
    for release in DECODED.releases:
        message = package.releases.add(
            version=release.version, inner_checksum=INNER, outer_checksum=OUTER
        )
        for d in release.dependencies:
            message.dependencies.add(
                package=d.package,
                requirement=d.requirement,
                optional=d.optional,
                app=d.app,
                repository=d.repository,
            )
        if release.retired is not None:
            message.retired.reason = release.retired.reason
            message.retired.message = release.retired.message
    body = signer().sign(package.SerializeToString())
    assert hex_core.decode("package", body, PACKAGE) == "same"

    names = pb.Names(repository="hexpm", packages=[{"name": "b"}, {"name": "a"}])
    assert hex_core.decode("names", signer().sign(names.SerializeToString()), NAMES) == "same"

    versions = pb.Versions(repository="hexpm")
    versions.packages.add(name="b", versions=["2.0.0", "1.0.0"], retired=[1])
    versions.packages.add(name="a", versions=["0.1.0"])
    body = signer().sign(versions.SerializeToString())
    assert hex_core.decode("versions", body, VERSIONS) == "same"


def test_hex_core_refuses_what_is_refused_here(hex_core: HexCore) -> None:
    body = signer().package("jason")
    key = other_signer().public_key
    assert "unverified" in hex_core.decode("package", body, PACKAGE, key=key)
    refused("signature", lambda: entry(body, keys=KeyRing([key])))


ERLANG_TYPES = {
    "string": {FieldDescriptor.TYPE_STRING},
    "bytes": {FieldDescriptor.TYPE_BYTES},
    "bool": {FieldDescriptor.TYPE_BOOL},
    "int32": {FieldDescriptor.TYPE_INT32},
    "int64": {FieldDescriptor.TYPE_INT64},
    "uint32": {FieldDescriptor.TYPE_UINT32},
    "float": {FieldDescriptor.TYPE_FLOAT},
}


def test_the_fields_are_numbered_as_in_hex_core(hex_core: HexCore) -> None:
    descriptors = {
        "Signed": pb.Signed.DESCRIPTOR,
        "SecurityAdvisory": pb.SecurityAdvisory.DESCRIPTOR,
        "Timestamp": pb.Timestamp.DESCRIPTOR,
        "Release": pb.Release.DESCRIPTOR,
        "RetirementStatus": pb.RetirementStatus.DESCRIPTOR,
        "Dependency": pb.Dependency.DESCRIPTOR,
        "Names": pb.Names.DESCRIPTOR,
        "Versions": pb.Versions.DESCRIPTOR,
    }
    # The name stands for three messages: a registry entry and the rows of the two indexes.
    packages = (
        pb.Package.DESCRIPTOR,
        pb.Names.DESCRIPTOR.nested_types_by_name["Package"],
        pb.Versions.DESCRIPTOR.nested_types_by_name["Package"],
    )
    seen = 0
    for line in hex_core.run("fields").splitlines():
        message, name, number, kind, occurrence = line.split(" ", 4)
        candidates = packages if message == "Package" else (descriptors[message],)
        fields = [
            field
            for candidate in candidates
            if (field := candidate.fields_by_name.get(name)) and field.number == int(number)
        ]
        assert fields, line
        expected = ERLANG_TYPES.get(kind)
        assert any(
            field.is_repeated == (occurrence == "repeated")
            and (expected is None or field.type in expected)
            for field in fields
        ), line
        seen += 1
    assert seen > 20
