"""What a URL names, and that no URL names what it shouldn't."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.resources import (
    BUILDS_HOST,
    HOSTS,
    NAMES,
    PUBLIC_KEY,
    REPO_HOST,
    VERSIONS,
    Kind,
    Origin,
    Resource,
    csv_of,
    docs,
    drop_mirror_prefix,
    key_before,
    of_key,
    origin_of,
    package,
    parse,
    signature_of,
    subject_of,
    tarball,
)

# What upstream is asked: a plain absolute path, nothing that a server could read in two ways.
PLAIN_PATH = re.compile(r"(/[0-9A-Za-z_.+~@-]+)+")


def host_of(resource: Resource) -> str:
    return BUILDS_HOST if resource.origin is Origin.BUILDS else REPO_HOST


def test_the_registry() -> None:
    assert parse(REPO_HOST, "/names") == NAMES
    assert parse(REPO_HOST, "/versions") == VERSIONS
    assert parse(REPO_HOST, "/public_key") == PUBLIC_KEY
    found = parse(REPO_HOST, "/packages/phoenix_live_view")
    assert found == package("phoenix_live_view")
    assert found == Resource(Kind.PACKAGE, "/packages/phoenix_live_view", "phoenix_live_view")
    assert (str(found), found.origin) == ("package phoenix_live_view", Origin.REPO)


@pytest.mark.parametrize(
    ("file", "name", "version"),
    [
        ("jason-1.4.4", "jason", "1.4.4"),
        ("foo-1.0.0-rc.1", "foo", "1.0.0-rc.1"),
        ("foo-1.0.0-rc-1-2", "foo", "1.0.0-rc-1-2"),
        ("foo-1.0.0+build.5", "foo", "1.0.0+build.5"),
        ("foo-1.0.0%2Bbuild.5", "foo", "1.0.0+build.5"),
        ("foo-1.0.0%2D%72c.1", "foo", "1.0.0-rc.1"),
        ("Self_Hosted2-0.0.1-dev", "Self_Hosted2", "0.0.1-dev"),
        ("foo-1.0.0.tar", "foo", "1.0.0.tar"),
    ],
)
def test_the_first_dash_ends_a_package_s_name(file: str, name: str, version: str) -> None:
    assert parse(REPO_HOST, f"/tarballs/{file}.tar") == tarball(name, version)
    assert parse(REPO_HOST, f"/docs/{file}.tar.gz") == docs(name, version)
    found = tarball(name, version)
    assert (found.name, found.version) == (name, version)
    assert str(found) == f"tarball {name}-{version}"
    assert str(docs(name, version)) == f"docs {name}-{version}"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/installs/hex-1.x.csv", Kind.CSV),
        ("/installs/hex-1.x.csv.signed", Kind.SIGNATURE),
        ("/installs/rebar3-1.x.csv", Kind.CSV),
        ("/installs/rebar3-1.x.csv.signed", Kind.SIGNATURE),
        ("/installs/hex.csv", Kind.CSV),
        ("/installs/1.18.0/hex-2.1.0.ez", Kind.INSTALL),
        ("/installs/1.18.4/hex-2.2.0-otp-27.ez", Kind.INSTALL),
        ("/installs/1.18.4/hex-2.2.0-rc.1.ez", Kind.INSTALL),
        ("/installs/1.14.0/rebar3-3.20.0", Kind.INSTALL),
        ("/installs/1.18.4/rebar3-3.25.1-otp-27", Kind.INSTALL),
        # These have no version in their name: they may change.
        ("/installs/1.14.0/rebar3", Kind.BUILD),
        ("/installs/1.14.0/hex.ez", Kind.BUILD),
        ("/installs/list.csv.txt", Kind.BUILD),
        ("/installs/hex-1.0.0/latest", Kind.BUILD),
        ("/builds/elixir/builds.txt", Kind.BUILD),
        ("/builds/otp/ubuntu-22.04/OTP-27.0.tar.gz", Kind.BUILD),
        ("/builds/elixir/v1.18.0.zip", Kind.BUILD),
        ("/builds/list.csv", Kind.BUILD),
    ],
)
def test_installs_and_builds_come_from_builds_hex_pm(host: str, target: str, kind: Kind) -> None:
    found = parse(host, target)
    assert found is not None
    assert (found.kind, found.path, found.origin) == (kind, target, Origin.BUILDS)
    assert str(found) == target.lstrip("/")


def test_a_csv_and_its_signature_find_each_other() -> None:
    csv = parse(BUILDS_HOST, "/installs/hex-1.x.csv")
    signature = parse(BUILDS_HOST, "/installs/hex-1.x.csv.signed")
    assert csv is not None
    assert signature is not None
    assert signature_of(csv) == signature
    assert csv_of(signature) == csv


@pytest.mark.parametrize("kind", Kind)
def test_what_decides_about_the_rest(kind: Kind) -> None:
    assert kind.is_registry == (kind in {Kind.NAMES, Kind.VERSIONS, Kind.PACKAGE})


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/",
        "names",
        "/names/",
        "//names",
        "/Names",
        "/names?x=1",
        "/names#x",
        "/names%00",
        "/packages",
        "/packages/",
        "/packages/a/b",
        "/packages/a%2Fb",
        "/packages/a%252Fb",
        "/packages/a-b",
        "/packages/1a",
        "/packages/_a",
        "/packages/..",
        "/packages/a%0A",
        "/packages/a\n",
        "/packages/ä",
        "/packages/%C3%A4",
        "/packages/%FF",
        "/packages/a?next=1",
        "/packages/../names",
        "/tarballs/a.tar",
        "/tarballs/a-.tar",
        "/tarballs/-1.0.0.tar",
        "/tarballs/a-1.0.0",
        "/tarballs/a-1.0.0.tar.gz",
        "/tarballs/a-../../names.tar",
        "/tarballs/a-1.0.0%2F..%2F..%2Fb.tar",
        "/tarballs/a-1.0.0%20.tar",
        "/docs/a-1.0.0.tar",
        "/installs",
        "/installs/",
        "/installs/..",
        "/installs/../names",
        "/installs/%2e%2e/names",
        "/installs/.%2E/.%2E/etc/passwd",
        "/installs/1.18.0/../hex.ez",
        "/installs/1.18.0/./hex.ez",
        "/installs//hex.ez",
        "/installs/hex.ez/",
        "/installs/a b",
        "/installs/a%5Cb",
        "/installs/hex-1.x.csv?x",
        "/repos/acme/names",
        "/repos/acme/packages/secret",
        "/repos/hexpm_mirror/names",
        "/policies/a",
        "/api/packages/a",
        "/" + "a" * 5000,
        "/packages/" + "a" * 5000,
        "https://repo.hex.pm/names",
        "*",
    ],
)
def test_other_targets_are_passed_through(target: str) -> None:
    assert parse(REPO_HOST, target) is None


@pytest.mark.parametrize(
    "target", ["/names", "/packages/a", "/tarballs/a-1.0.0.tar", "/public_key"]
)
def test_builds_hex_pm_has_no_registry(target: str) -> None:
    assert parse(BUILDS_HOST, target) is None


@pytest.mark.parametrize("host", ["hex.pm", "example.org", "", "repo.hex.pm.", "REPO.HEX.PM:443"])
def test_other_hosts_have_nothing(host: str) -> None:
    assert parse(host, "/names") is None
    assert parse(host, "/installs/hex-1.x.csv") is None


def test_the_prefix_of_mini_repo_s_users() -> None:
    assert drop_mirror_prefix("/repos/hexpm_mirror/packages/a") == "/packages/a"
    assert drop_mirror_prefix("/repos/hexpm_mirror/installs/hex-1.x.csv") == "/installs/hex-1.x.csv"
    assert drop_mirror_prefix("/repos/hexpm_mirror/names?x=1") == "/names?x=1"
    for other in (
        "/names",
        "/repos/hexpm_mirror",
        "/repos/hexpm_mirrors/names",
        "/repos/acme/names",
    ):
        assert drop_mirror_prefix(other) == other
    twice = "/repos/hexpm_mirror/repos/hexpm_mirror/names"
    assert drop_mirror_prefix(twice) == "/repos/hexpm_mirror/names"


def test_where_other_paths_are_passed_to() -> None:
    assert origin_of(REPO_HOST, "/repos/acme/names") is Origin.REPO
    assert origin_of(REPO_HOST, "/installs/a?b") is Origin.BUILDS
    assert origin_of(REPO_HOST, "/builds/a?b") is Origin.BUILDS
    assert origin_of(REPO_HOST, "/installsx") is Origin.REPO
    assert origin_of(BUILDS_HOST, "/anything") is Origin.BUILDS


def percent(text: str) -> str:
    """Every byte encoded, which a client may do."""
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "replace"))


hosts = st.sampled_from([*HOSTS, "hex.pm"]) | st.text(max_size=20)
words = st.text(st.sampled_from("abzAZ019_-.+~@%/\\ \n?#2eEfF\x00ä\ud800"), max_size=12)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True)
versions = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,20}", fullmatch=True)
releases = st.builds("{}-{}".format, names, versions)
segments = st.from_regex(r"[0-9A-Za-z_.+~@-]{1,12}", fullmatch=True) | st.just("hex-1.2.3.ez")
# Most of these are nearly a resource.
targets = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["/packages/", "/tarballs/", "/docs/", "/installs/", "/builds/", "/", ""]),
        st.one_of(words, words.map(percent), names, releases, releases.map(percent)),
        st.sampled_from(["", ".tar", ".tar.gz", ".csv", ".csv.signed"]),
    ),
    st.builds(
        "{}/{}".format,
        st.sampled_from(["/installs", "/builds"]),
        st.lists(segments, max_size=4).map("/".join),
    ),
)


@settings(deadline=None, max_examples=500)
@given(host=hosts, target=targets)
def test_any_url_names_a_plain_path_or_nothing(host: str, target: str) -> None:
    found = parse(host, target)
    drop_mirror_prefix(target)
    origin_of(host, target)
    if found is None:
        return
    assert host in HOSTS
    assert PLAIN_PATH.fullmatch(found.path)
    assert posixpath.normpath(found.path) == found.path
    # It is what the client asked for, written plainly.
    assert unquote(target) == found.path
    assert found.key == f"{found.origin}{found.path}"
    assert str(found).isprintable()


@settings(deadline=None, max_examples=500)
@given(host=hosts, target=targets)
def test_a_resource_s_own_path_gives_it_back(host: str, target: str) -> None:
    found = parse(host, target)
    if found is not None:
        assert parse(host_of(found), found.path) == found


@settings(deadline=None)
@given(name=names, version=versions)
def test_releases_survive_their_url(name: str, version: str) -> None:
    assert parse(REPO_HOST, package(name).path) == package(name)
    assert parse(REPO_HOST, tarball(name, version).path) == tarball(name, version)
    assert parse(REPO_HOST, docs(name, version).path) == docs(name, version)
    # However much of it a client encodes.
    assert parse(REPO_HOST, f"/tarballs/{percent(f'{name}-{version}')}.tar") == tarball(
        name, version
    )


@settings(deadline=None, max_examples=500)
@given(one=targets, other=targets, host=hosts)
def test_different_resources_have_different_keys(one: str, other: str, host: str) -> None:
    first, second = parse(host, one), parse(host, other)
    if first is not None and second is not None:
        assert (first.key == second.key) == (first == second)


@settings(deadline=None, max_examples=500)
@given(host=hosts, target=targets)
def test_a_key_gives_its_resource_back(host: str, target: str) -> None:
    found = parse(host, target)
    if found is not None:
        assert of_key(found.key) == found
        assert subject_of(found.key) == found


def test_the_entry_before_is_no_resource_of_its_own() -> None:
    before = key_before(package("foo"))
    assert of_key(before) is None, "no client can ask for it"
    assert subject_of(before) == package("foo")
    assert subject_of(f"{tarball('foo', '1.0.0').key}#before") is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "repo",
        "repo/",
        "packages/foo",
        "/packages/foo",
        "other/packages/foo",
        "repo/packages/foo/../bar",
        "repo/packages/fo%6f",
        "repo/packages/foo?x",
        "repo/installs/hex-1.x.csv",  # of builds.hex.pm, whoever was asked
        "builds/packages/foo",
        "repo//packages/foo",
    ],
)
def test_what_is_nobody_s_key(key: str) -> None:
    assert of_key(key) is None


def test_the_two_hosts_and_all_kinds_have_keys_of_their_own() -> None:
    found = [
        NAMES,
        VERSIONS,
        PUBLIC_KEY,
        package("names"),
        package("versions"),
        tarball("names", "1.0.0"),
        docs("names", "1.0.0"),
        parse(REPO_HOST, "/installs/names"),
        parse(REPO_HOST, "/builds/names"),
    ]
    keys = {resource.key for resource in found if resource is not None}
    assert len(keys) == len(found)


def test_upstream_is_asked_as_plainly_as_a_client_asks() -> None:
    assert package("jason").path == "/packages/jason"
    assert tarball("foo", "1.0.0-rc.1+b").path == "/tarballs/foo-1.0.0-rc.1+b.tar"
    assert docs("foo", "1.0.0-rc.1+b").path == "/docs/foo-1.0.0-rc.1+b.tar.gz"


def test_a_key_does_not_depend_on_how_a_url_is_written() -> None:
    plain = parse(REPO_HOST, "/tarballs/foo-1.0.0+b.tar")
    encoded = parse(REPO_HOST, "/tarballs/%66oo-1.0.0%2bb.tar")
    assert plain is not None
    assert encoded is not None
    assert plain.key == encoded.key


@settings(deadline=None)
@given(target=targets)
def test_a_pair_is_found_from_either_side(target: str) -> None:
    found = parse(BUILDS_HOST, target)
    if found is None:
        return
    if found.kind is Kind.CSV:
        signature = signature_of(found)
        assert parse(BUILDS_HOST, signature.path) == signature
        assert csv_of(signature) == found
    elif found.kind is Kind.SIGNATURE:
        assert parse(BUILDS_HOST, csv_of(found).path) == csv_of(found)
