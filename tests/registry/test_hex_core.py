"""hex_core, the reference implementation, agrees on what is signed, and on each field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from hexcache.proto import registry_pb2 as pb
from hexcache.registry import (
    Dependency,
    KeyRing,
    Package,
    Release,
    Retirement,
    decode_names,
    decode_versions,
)
from support.clients import require_rebar3
from support.hex_core import Atom, HexCore, Term
from support.registry import entry, refused, ring
from support.signing import other_signer, signer


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
