"""The authority's files: what is in them, and who may read them."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from mitmproxy.certs import CertStore

from hexcache.authority import HEX_HOSTS, Authority
from support.authority import contents, key_file
from support.handshakes import python_accepts, serving


def test_the_authority(authority: Authority, tmp_path: Path) -> None:
    pem = key_file(tmp_path / "ca").read_bytes()
    intermediate, root = x509.load_pem_x509_certificates(pem)
    assert x509.load_pem_x509_certificate(authority.certificate_path.read_bytes()) == root
    for certificate, length in ((root, 1), (intermediate, 0)):
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert basic.value == x509.BasicConstraints(True, length)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        assert (usage.critical, usage.value.key_cert_sign) == (True, True)
        assert not usage.value.digital_signature
        years = (certificate.not_valid_after_utc - datetime.now(UTC)).days / 365
        assert 9.9 < years <= 10
        assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(days=1)
    constraints = intermediate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == sorted(map(x509.DNSName, HEX_HOSTS), key=str)
    excluded = [str(tree.value) for tree in constraints.value.excluded_subtrees or []]
    assert excluded == ["0.0.0.0/0", "::/0"]
    other = Authority.open(tmp_path / "other")
    assert authority.name.startswith("CN=Hexcache CA ")
    assert authority.name != other.name


def test_mitmproxy_reads_it(authority: Authority, tmp_path: Path) -> None:
    key, dh = key_file(authority.certificate_path.parent), tmp_path / "dh.pem"
    store = CertStore.from_files(key, dh)
    intermediate, root = x509.load_pem_x509_certificates(key.read_bytes())
    chain = [certificate.to_cryptography() for certificate in store.default_chain_certs]
    assert chain == [intermediate, root]


def test_the_bundle(authority: Authority) -> None:
    def trusted(path: Path | str) -> set[bytes]:
        return set(ssl.create_default_context(cafile=path).get_ca_certs(binary_form=True))

    ours, public = trusted(authority.certificate_path), trusted(certifi.where())
    assert len(ours) == 1
    assert len(public) > 100
    assert trusted(authority.bundle_path) == ours | public


def test_a_reopened_authority_is_the_same(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()}
    again = Authority.open(directory)
    assert (again.name, again.expires) == (authority.name, authority.expires)
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()} == before
    with serving(again.server_context()) as port:
        assert python_accepts(authority.certificate_path, "repo.hex.pm", port)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Authority.open(tmp_path / "ca")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "ca").iterdir()}
    assert modes == {
        "mitmproxy-ca.pem": 0o600,
        "hexcache-ca.pem": 0o644,
        "ca-bundle.pem": 0o644,
    }


def test_a_readable_key_is_tightened(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    key_file(directory).chmod(0o640)
    Authority.open(directory)
    assert key_file(directory).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["hexcache-ca.pem", "ca-bundle.pem"])
def test_a_missing_derived_file_is_written_again(authority: Authority, name: str) -> None:
    directory = authority.certificate_path.parent
    before = contents(directory)
    (directory / name).unlink()
    Authority.open(directory)
    assert contents(directory) == before


def test_an_old_bundle_is_rewritten(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    before = contents(directory)
    authority.bundle_path.write_bytes(authority.certificate_path.read_bytes())
    Authority.open(directory)
    assert contents(directory) == before
