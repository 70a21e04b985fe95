"""The certificate authority that answers for Hex's hosts, and for nothing else.

A root, which clients trust, signs one intermediate and its private key is dropped; the
intermediate, whose key stays on disk, is confined to Hex's hosts by name constraints
(RFC 5280 §4.2.1.10). Who steals the directory can impersonate those hosts to clients that
trust the root, and no other. The constraints stand on the intermediate because clients need not
apply those of a trust anchor (RFC 5280 §6.1), and Erlang doesn't.

One gap is Erlang's: it takes the host from the subject's common name if a certificate has no
alternative names, and doesn't apply DNS constraints to that. A constraint on the subject wouldn't
close it, since what is permitted may be followed by a common name; and older versions of rustls
(Gleam's) refuse any subject below such a constraint.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from hexcache.errors import AuthorityError
from hexcache.files import write_whole

HEX_HOSTS: Final = ("repo.hex.pm", "builds.hex.pm")

_PUBLIC_FILES: Final = ("hexcache-ca.pem", "ca-bundle.pem")

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_WARN_BEFORE: Final = timedelta(days=30)
_LEAF_LIFE: Final = timedelta(days=30)
_RENEW_BEFORE: Final = timedelta(days=10)
# For clients whose clock is slow, as containers' are after the host has slept.
_BACKDATED: Final = timedelta(days=2)

# What a P-256 leaf can use in TLS 1.2 that isn't CBC; Erlang has them since OTP 20. TLS 1.3's
# suites are OpenSSL's own.
_TLS12_CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"
)

_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """An opened authority. `expires` is when clients stop accepting it (aware, UTC); `name` is
    the root's subject, which tells two authorities apart. Not for several threads at once."""

    def __init__(
        self, directory: Path, chain: _Chain, hosts: Sequence[str], now: Callable[[], datetime]
    ) -> None:
        """Use `open`."""
        self.certificate_path, self.bundle_path = (directory / name for name in _PUBLIC_FILES)
        self.name = chain.root.subject.rfc4514_string()
        self.expires = chain.expires
        self._directory = directory
        self._chain = chain
        self._hosts = hosts
        self._now = now
        self._context: SSL.Context | None = None
        self._use_from = self._use_until = self.expires

    @classmethod
    def open(
        cls,
        directory: Path,
        hosts: Sequence[str] = HEX_HOSTS,
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> Self:
        """Load the authority in `directory`, or make one there if there is none.

        `hosts` are DNS names, at least one; `now` returns aware datetimes. The files:

        - `mitmproxy-ca.pem` (0600): intermediate key, intermediate, root, as mitmproxy reads them
        - `hexcache-ca.pem` (0644): the root, the file that clients trust
        - `ca-bundle.pem` (0644): the same and certifi's roots, for clients whose setting replaces
          all roots

        The first holds everything and is written first, so that a start killed at any point
        leaves no authority or a whole one; the others are derived from it where they're missing,
        the bundle also where it differs. A whole directory can be read-only.

        Raises `AuthorityError` if the directory can't be used, or if what is in it is damaged,
        expired, or made for other hosts: clients have trusted it, so it's never replaced.
        """
        if not hosts:
            raise ValueError("an authority without hosts would be unconstrained")
        directory = directory.absolute()
        key_path = directory / "mitmproxy-ca.pem"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with _locked(directory):
                # A link to a volume that isn't mounted is no reason for a new authority.
                if os.path.lexists(key_path):
                    chain = _Chain.load(key_path, hosts, now())
                elif any(os.path.lexists(directory / name) for name in _PUBLIC_FILES):
                    raise _unusable(key_path, "is missing, but its root's certificate is there")
                else:
                    chain = _Chain.make(hosts, now())
                    write_whole(key_path, chain.pem(), 0o600)
                self = cls(directory, chain, hosts, now)
                self._publish()
        except OSError as error:
            raise AuthorityError(
                f"can't use the certificate authority's directory {directory}: {error}; "
                "make it readable and writable for the user that runs Hexcache, "
                "or set another `data` directory"
            ) from error
        return self

    def server_context(self) -> SSL.Context:
        """A context that presents the leaf for the hosts, with the intermediate.

        The same object, so that clients can resume sessions, until the leaf nears its end; then
        one with a new leaf. Leaf keys are in memory only. Raises `AuthorityError` once the
        authority has expired.
        """
        now = self._now()
        if now >= self.expires:
            raise _expired(self._directory / "mitmproxy-ca.pem", self.expires)
        # Also when the clock was wrong at first, and has been set back since.
        if self._context is None or not self._use_from <= now < self._use_until:
            key, leaf = self._chain.issue(self._hosts, now)
            self._context = _server_context(key, leaf, self._chain.intermediate)
            self._use_from = leaf.not_valid_before_utc
            self._use_until = leaf.not_valid_after_utc
            if self._use_until < self.expires:
                self._use_until -= _RENEW_BEFORE
        return self._context

    def expiry_warning(self) -> str | None:
        """One line for the log if the authority expires within 30 days."""
        if self._now() < self.expires - _WARN_BEFORE:
            return None
        return (
            f"the certificate authority {self.name} expires on {self.expires:%Y-%m-%d}: "
            f"{_start_over(self._directory)}"
        )

    def publish(self, directory: Path) -> None:
        """Copy what clients trust, and no key, to `directory`, readable for everybody. Raises
        `AuthorityError`."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path in (self.certificate_path, self.bundle_path):
                copy, content = directory / path.name, path.read_bytes()
                # The volume may be read-only by now.
                if not copy.is_file() or copy.read_bytes() != content:
                    write_whole(copy, content, 0o644)
        except OSError as error:
            raise AuthorityError(
                f"publish_ca: {directory} can't be written: {error.strerror}; make it writable for "
                "the user that runs Hexcache, or set another directory"
            ) from error

    def _publish(self) -> None:
        root = self._chain.root
        pem = root.public_bytes(Encoding.PEM)
        if not self.certificate_path.exists():
            write_whole(self.certificate_path, pem, 0o644)
        else:
            try:
                published = x509.load_pem_x509_certificates(self.certificate_path.read_bytes())
            except ValueError as error:
                raise _unusable(self.certificate_path, "is damaged") from error
            if published != [root]:
                raise _unusable(self.certificate_path, "isn't the root of mitmproxy-ca.pem")
        bundle = b"# %s\n%s\n%s" % (self.name.encode(), pem, certifi.contents().encode())
        if not self.bundle_path.exists() or self.bundle_path.read_bytes() != bundle:
            write_whole(self.bundle_path, bundle, 0o644)


@dataclass(frozen=True, repr=False)
class _Chain:
    """What `mitmproxy-ca.pem` holds."""

    key: ec.EllipticCurvePrivateKey
    intermediate: x509.Certificate
    root: x509.Certificate

    @property
    def expires(self) -> datetime:
        return min(self.intermediate.not_valid_after_utc, self.root.not_valid_after_utc)

    @classmethod
    def make(cls, hosts: Sequence[str], now: datetime) -> Self:
        """A new root and intermediate. The root's key ends with this call: nothing else can ever
        be signed with it, not even by us."""
        root_key, key = _new_key(), _new_key()
        until = now + _AUTHORITY_LIFE
        root_name, name = _name("CA", root_key), _name("intermediate", key)
        # RFC 5280 §4.2.1.9: one intermediate below the root, none below the intermediate.
        root = (
            _builder(root_name, root_name, root_key, root_key, now, until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        intermediate = (
            _builder(name, root_name, key, root_key, now, until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(_SERVER_AUTH, critical=False)
            .add_extension(_constraints(hosts), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        return cls(key, intermediate, root)

    @classmethod
    def load(cls, path: Path, hosts: Sequence[str], now: datetime) -> Self:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                os.fchmod(file.fileno(), 0o600)
            pem = file.read()
        try:
            key = load_pem_private_key(pem, None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise TypeError(type(key))
            intermediate, root = x509.load_pem_x509_certificates(pem)
            root.verify_directly_issued_by(root)
            intermediate.verify_directly_issued_by(root)
            constraints = {item.value for item in intermediate.extensions}
        except _PARSE_ERRORS as error:
            raise _unusable(path, "isn't a key with its certificate and a root's") from error
        if key.public_key() != intermediate.public_key():
            raise _unusable(path, "holds a key that isn't its certificate's")
        if _constraints(hosts) not in constraints:
            raise _unusable(path, f"isn't confined to {' and '.join(hosts)}")
        chain = cls(key, intermediate, root)
        if now >= chain.expires:
            raise _expired(path, chain.expires)
        begins = max(intermediate.not_valid_before_utc, root.not_valid_before_utc)
        if now < begins:
            raise AuthorityError(
                f"{path} is valid from {begins:%Y-%m-%d %H:%M} UTC, but this machine's clock says "
                f"{now:%Y-%m-%d %H:%M}: set the clock"
            )
        return chain

    def pem(self) -> bytes:
        return (
            self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
            + self.intermediate.public_bytes(Encoding.PEM)
            + self.root.public_bytes(Encoding.PEM)
        )

    def issue(
        self, hosts: Sequence[str], now: datetime
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """A server's key and certificate."""
        key = _new_key()
        until = min(now + _LEAF_LIFE, self.expires)
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        leaf = (
            _builder(x509.Name([]), self.intermediate.subject, key, self.key, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(_SERVER_AUTH, critical=False)
            # Critical because the subject is empty (RFC 5280 §4.2.1.6).
            .add_extension(names, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return key, leaf


_SERVER_AUTH: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(role: str, key: ec.EllipticCurvePrivateKey) -> x509.Name:
    # The first digits of the certificate's subject key identifier.
    digits = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest[:4].hex()
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hexcache {role} {digits}")])


def _constraints(hosts: Sequence[str]) -> x509.NameConstraints:
    """Names below a host are permitted too: RFC 5280 §4.2.1.10 has no way to permit less. A kind
    of name that isn't mentioned would be free, so IP addresses are excluded."""
    permitted = [x509.DNSName(host) for host in sorted(hosts)]
    excluded = [x509.IPAddress(ipaddress.ip_network(net)) for net in ("0.0.0.0/0", "::/0")]
    return x509.NameConstraints(permitted, excluded)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    # In RFC 5280's order: a leaf signs handshakes (0), an authority certificates and CRLs (5, 6).
    return x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        # RFC 5280 §4.2.1.1 and §4.2.1.2, which Python's VERIFY_X509_STRICT insists on.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )


def _server_context(
    key: ec.EllipticCurvePrivateKey, leaf: x509.Certificate, intermediate: x509.Certificate
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_TLS12_CIPHERS)
    context.set_options(
        SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION
    )
    context.set_alpn_select_callback(_select_http1)
    context.use_privatekey(key)
    context.use_certificate(leaf)
    # Not the root: the client has it or doesn't trust it (RFC 8446 §4.4.2).
    context.add_extra_chain_cert(intermediate)
    return context


def _select_http1(_: SSL.Connection, offers: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    # Without an answer a client that offers only h2 goes on with HTTP/1.1, or hangs up itself.
    return b"http/1.1" if b"http/1.1" in offers else SSL.NO_OVERLAPPING_PROTOCOLS


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep two starts at once from making two authorities."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems have no locks; a start without one is as safe as any alone.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start_over(directory: Path) -> str:
    return (
        f"stop Hexcache, delete the directory {directory} and start again; "
        f"clients must then trust the new {directory / 'hexcache-ca.pem'}"
    )


def _unusable(path: Path, problem: str) -> AuthorityError:
    return AuthorityError(f"{path} {problem}: restore it, or {_start_over(path.parent)}")


def _expired(path: Path, expires: datetime) -> AuthorityError:
    return AuthorityError(f"{path} expired on {expires:%Y-%m-%d}: {_start_over(path.parent)}")
