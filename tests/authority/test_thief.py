"""What a thief of the authority's directory can do: be Hex, and nobody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from hexcache.authority import Authority
from support.authority import contents, key_file
from support.handshakes import CURL, ERLANG, PYTHON, Client, serving


class Thief:
    """Signs whatever it likes with the files of an authority."""

    def __init__(self, authority: Authority) -> None:
        pem = key_file(authority.certificate_path.parent).read_bytes()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        self.intermediate = x509.load_pem_x509_certificates(pem)[0]

    def certificate(
        self,
        names: Sequence[x509.GeneralName],
        common_name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        names_extension = x509.SubjectAlternativeName(names)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(
                x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False),
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        return builder.add_extension(names_extension, False) if names else builder

    def context(self, names: Sequence[x509.GeneralName], common_name: str = "x") -> SSL.Context:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self.certificate(names, common_name, key)
        return _context(key, [_signed(builder, self.intermediate.subject, self.key)], self)

    def context_below_own_authority(self, host: str) -> SSL.Context:
        own_key = ec.generate_private_key(ec.SECP256R1())
        own_builder = self.certificate([], "own", own_key, ca=True)
        own = _signed(own_builder, self.intermediate.subject, self.key)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _signed(self.certificate([x509.DNSName(host)], "x", key), own.subject, own_key)
        return _context(key, [leaf, own], self)


def _signed(
    builder: x509.CertificateBuilder, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.issuer_name(issuer).add_extension(identifier, critical=False)
    return builder.sign(key, hashes.SHA256())


def _context(
    key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate], thief: Thief
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_privatekey(key)
    context.use_certificate(chain[0])
    for certificate in [*chain[1:], thief.intermediate]:
        context.add_extra_chain_cert(certificate)
    return context


EVIL = x509.DNSName("evil.example")
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
def test_the_thief_is_accepted_where_it_may_be(authority: Authority, accepts: Client) -> None:
    """So that the refusals below are for the names."""
    with serving(Thief(authority).context([x509.DNSName("repo.hex.pm")])) as port:
        assert accepts(authority.certificate_path, "repo.hex.pm", port)


@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
@pytest.mark.parametrize(
    ("names", "host"),
    [
        pytest.param([EVIL], "evil.example", id="other"),
        pytest.param([x509.DNSName("repo.hex.pm"), EVIL], "repo.hex.pm", id="both"),
        pytest.param([x509.DNSName("*.evil.example")], "a.evil.example", id="wildcard"),
        pytest.param([x509.DNSName("hex.pm")], "hex.pm", id="parent"),
        pytest.param([x509.DNSName("*.hex.pm")], "repo.hex.pm", id="parent-wildcard"),
        pytest.param([LOOPBACK], "127.0.0.1", id="ip"),
        pytest.param([x509.DNSName("127.0.0.1")], "127.0.0.1", id="ip-as-dns"),
    ],
)
def test_clients_refuse_what_a_thief_signs(
    authority: Authority, accepts: Client, names: list[x509.GeneralName], host: str
) -> None:
    with serving(Thief(authority).context(names)) as port:
        assert not accepts(authority.certificate_path, host, port)


# Erlang accepts this one: see hexcache.authority's docstring.
@pytest.mark.parametrize("accepts", [PYTHON, CURL])
def test_clients_refuse_a_common_name_alone(authority: Authority, accepts: Client) -> None:
    with serving(Thief(authority).context([], "evil.example")) as port:
        assert not accepts(authority.certificate_path, "evil.example", port)


@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
def test_clients_refuse_an_authority_below_ours(authority: Authority, accepts: Client) -> None:
    with serving(Thief(authority).context_below_own_authority("repo.hex.pm")) as port:
        assert not accepts(authority.certificate_path, "repo.hex.pm", port)


def test_no_file_holds_the_roots_key(authority: Authority) -> None:
    files = contents(authority.certificate_path.parent)
    keys = {name for name, content in files.items() if b"PRIVATE KEY" in content}
    assert keys == {"mitmproxy-ca.pem"}
    assert files["mitmproxy-ca.pem"].count(b"BEGIN EC PRIVATE KEY") == 1
    root = x509.load_pem_x509_certificate(files["hexcache-ca.pem"])
    assert Thief(authority).key.public_key() != root.public_key()
