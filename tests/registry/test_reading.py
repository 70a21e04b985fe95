"""Signed registry messages: what is true is read."""

from __future__ import annotations

from hexcache.proto import registry_pb2 as pb
from hexcache.registry import (
    BUILDS_PUBLIC_KEY,
    HEXPM_PUBLIC_KEY,
    Advisory,
    Dependency,
    KeyRing,
    Release,
    Retirement,
    decode_names,
    decode_versions,
    is_older,
)
from support.registry import TARBALL, entry, refused, ring, sha256
from support.signing import Rel, other_signer, signer

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
