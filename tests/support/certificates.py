"""A throw-away authority for servers on loopback."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class CertificateAuthority:
    """A throw-away CA and a server certificate for `names`. One that `directory` holds already is
    taken as it is."""

    def __init__(
        self, directory: Path, names: tuple[str, ...] = ("localhost", "127.0.0.1")
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = directory / "upstream-ca.pem"
        self._chain = directory / "upstream-chain.pem"
        if self._chain.exists():
            return
        key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream's CA")])

        def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
            return (
                x509.CertificateBuilder()
                .issuer_name(issuer)
                .subject_name(name)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=30))
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False
                )
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            )

        ca = (
            builder(issuer, key.public_key())
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(
                x509.KeyUsage(True, False, False, False, False, True, True, False, False), True
            )
            .sign(key, hashes.SHA256())
        )
        server = (
            builder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]),
                server_key.public_key(),
            )
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        self.ca_file.write_bytes(ca.public_bytes(pem))
        self._chain.write_bytes(
            server_key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + server.public_bytes(pem)
        )

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain)
        return context


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
