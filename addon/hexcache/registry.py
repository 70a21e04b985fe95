"""Signed registry messages: unpack, verify, decode.

A registry file is the gzip of `Signed{payload, signature}`, the signature being RSA PKCS#1 v1.5
with SHA-512 over `payload` (hex_core, `hex_registry:decode_and_verify_signed/2`). The gzip is
the body that clients get: it is only looked into here, never made anew.

Every function is pure and raises VerificationError for bytes that can't be trusted, whatever
those bytes are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf.message import DecodeError, Message

from hexcache.errors import VerificationError
from hexcache.proto import registry_pb2 as pb

# /versions of hex.pm is about 3 MB unpacked; a gzip bomb must not be.
MAX_UNPACKED = 128 * 2**20

# https://hex.pm/docs/public_keys; also in Hex (lib/hex/repo.ex) and hex_core.
HEXPM_PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApqREcFDt5vV21JVe2QNB
Edvzk6w36aNFhVGWN5toNJRjRJ6m4hIuG4KaXtDWVLjnvct6MYMfqhC79HAGwyF+
IqR6Q6a5bbFSsImgBJwz1oadoVKD6ZNetAuCIK84cjMrEFRkELtEIPNHblCzUkkM
3rS9+DPlnfG8hBvGi6tvQIuZmXGCxF/73hU0/MyGhbmEjIKRtG6b0sJYKelRLTPW
XgK7s5pESgiwf2YC/2MGDXjAJfpfCd0RpLdvd4eRiXtVlE9qO9bND94E7PgQ/xqZ
J1i2xWFndWa6nfFnRxZmCStCOZWYYPlaxr+FZceFbpMwzTNs4g3d4tLNUcbKAIH4
0wIDAQAB
-----END PUBLIC KEY-----
"""

# The key that signs the CSV files of builds.hex.pm; built into Elixir (Mix.PublicKey).
BUILDS_PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAslPz1mAfyAvRv8W8xOdv
HQMbDJkDKfRhsL4JBGwGH7qw0xh+TbaUlNaM3pF+i8VUjS/4FeXjT/OAUEAHu5Y2
rBVlx00QcH8Dpbyf+H73XiCs0MXnTSecqDgzx6i6NMi8knklHT7yHySHtuuPmPuN
Po8QTKolCKftwPE/iNDeyZfwufd+hTCoCQdoTVcB01SElfNtvKRtoKbx35q80IPr
rOcGsALmr58+bWqCTY/51kFeRxzrPJ5LdcLU/AebyWddD4IUfPDxk16jTiCagMWA
JPSwo8NUrWDIBbD+rEUp06y0ek276rG5Tzm/3Bma56RN/u6nAqBTBE8F2Hu2QBKj
lQIDAQAB
-----END PUBLIC KEY-----
"""

_REASONS = ("other", "invalid", "security", "deprecated", "renamed")
_SEVERITIES = ("none", "low", "medium", "high", "critical")


@dataclass(frozen=True)
class Dependency:
    package: str
    requirement: str
    optional: bool = False
    app: str = ""
    repository: str = ""


@dataclass(frozen=True)
class Retirement:
    """`reason`: 0 other, 1 invalid, 2 security, 3 deprecated, 4 renamed; others may come."""

    reason: int
    message: str = ""

    @property
    def reason_name(self) -> str:
        return _named(self.reason, _REASONS)


@dataclass(frozen=True)
class Advisory:
    """`severity`: 0 none, 1 low, 2 medium, 3 high, 4 critical; None where it isn't said."""

    id: str
    summary: str
    html_url: str
    severity: int | None = None
    cvss_score: float | None = None
    aliases: tuple[str, ...] = ()

    @property
    def severity_name(self) -> str:
        """Empty where it isn't said."""
        return "" if self.severity is None else _named(self.severity, _SEVERITIES)


@dataclass(frozen=True)
class Release:
    """`outer_checksum`: SHA-256 of the tarball, lower-case hex, "" where the registry has none.
    `published_at`: seconds since the epoch, None where the registry doesn't say."""

    version: str
    inner_checksum: str
    outer_checksum: str
    dependencies: tuple[Dependency, ...] = ()
    retired: Retirement | None = None
    advisories: tuple[Advisory, ...] = ()
    published_at: float | None = None


@dataclass(frozen=True)
class Package:
    """A decoded registry entry; releases stand in the registry's order."""

    name: str
    repository: str
    releases: tuple[Release, ...]

    @cached_property
    def by_version(self) -> Mapping[str, Release]:
        return {release.version: release for release in self.releases}

    def releases_known(self) -> frozenset[tuple[str, str]]:
        """(version, outer checksum) of every release, to compare two entries with."""
        return frozenset((release.version, release.outer_checksum) for release in self.releases)


@dataclass(frozen=True)
class Names:
    repository: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Versions:
    """`packages`: name → versions, as /versions lists them."""

    repository: str
    packages: Mapping[str, tuple[str, ...]]


class KeyRing:
    """The public keys that a repository's messages may be signed with, as PEM texts.

    Raises VerificationError ("key") for a text that is no RSA public key.
    """

    def __init__(self, pems: Iterable[str]) -> None:
        self._keys: list[RSAPublicKey] = [_load_key(pem) for pem in pems]
        self._numbers = {key.public_numbers() for key in self._keys}

    @property
    def fingerprint(self) -> str:
        """The same for the same keys, in whatever order."""
        numbers = sorted(f"{key.n:x}:{key.e:x}" for key in self._numbers)
        return hashlib.sha256(",".join(numbers).encode()).hexdigest()[:16]

    def verify(self, payload: bytes, signature: bytes, what: str) -> None:
        """Raises VerificationError unless one of the keys made `signature` over `payload`."""
        for key in self._keys:
            try:
                key.verify(signature, payload, PKCS1v15(), SHA512())
            except InvalidSignature:
                continue
            return
        raise VerificationError("signature", f"{what} is not signed by the repository's key")

    def check_key(self, body: bytes) -> None:
        """Raises VerificationError unless `body` (what /public_key gave) is one of these keys."""
        try:
            key = _load_key(body.decode("ascii"))
        except UnicodeDecodeError:
            raise VerificationError("key", "/public_key is not a PEM text") from None
        if key.public_numbers() not in self._numbers:
            raise VerificationError(
                "key", "/public_key is not the key that upstream.public_key names"
            )


def decode_package(
    body: bytes, keys: KeyRing | None, *, repository: str, name: str | None
) -> Package:
    """Verify and decode `/packages/NAME`. With `keys=None` the signature and the repository's
    name aren't checked (`cache.verify: false`), the package's name still is.
    """
    what = f"the registry entry of {name}" if name else "the registry entry"
    message = _open(body, keys, pb.Package, what)
    if keys is not None:
        _check_repository(message.repository, repository, what)
    if name is not None and message.name != name:
        raise VerificationError("name", f"{what} is about another package, {message.name!r}")
    advisories = [_advisory(advisory) for advisory in message.advisories]
    releases = tuple(_release(release, advisories) for release in message.releases)
    return Package(_text(message.name), _text(message.repository), releases)


def decode_names(body: bytes, keys: KeyRing | None, *, repository: str) -> Names:
    """Verify and decode `/names`."""
    message = _open(body, keys, pb.Names, "/names")
    if keys is not None:
        _check_repository(message.repository, repository, "/names")
    return Names(
        _text(message.repository), tuple(_text(package.name) for package in message.packages)
    )


def decode_versions(body: bytes, keys: KeyRing | None, *, repository: str) -> Versions:
    """Verify and decode `/versions`."""
    message = _open(body, keys, pb.Versions, "/versions")
    if keys is not None:
        _check_repository(message.repository, repository, "/versions")
    return Versions(
        _text(message.repository),
        {_text(package.name): tuple(map(_text, package.versions)) for package in message.packages},
    )


def check_signature(body: bytes, keys: KeyRing, what: str) -> None:
    """Raises VerificationError unless `body` is a registry message that one of `keys` signed."""
    signed = _parse(pb.Signed, unpack(body, what), what)
    keys.verify(signed.payload, signed.signature, what)


def verify_signed_file(body: bytes, signature: bytes, keys: KeyRing, what: str) -> None:
    """Verify a file of builds.hex.pm with its `.signed`: base64 of RSA-SHA512 over the file, line
    breaks allowed (Elixir's Mix.Local). Raises VerificationError."""
    try:
        raw = base64.b64decode(b"".join(signature.split()), validate=True)
    except (binascii.Error, ValueError):
        raise VerificationError("pair", f"{what}.signed is not base64") from None
    keys.verify(body, raw, what)


def check_tarball(sha256: str, release: Release, what: str) -> None:
    """Raises VerificationError unless the registry names `sha256` (lower-case hex)."""
    if not release.outer_checksum:
        raise VerificationError(
            "checksum",
            f"the registry gives no outer checksum for {what}; a repository without them "
            "needs cache.verify: false",
        )
    if sha256 != release.outer_checksum:
        raise VerificationError(
            "checksum",
            f"{what} has SHA-256 {sha256}, the registry says {release.outer_checksum}",
        )


def is_older(last_modified: str, than: str) -> bool:
    """Compare two Last-Modified. False where one is missing or no date."""
    one, other = seconds(last_modified), seconds(than)
    return one is not None and other is not None and one < other


def seconds(date: str) -> float | None:
    """An HTTP date in seconds since the epoch; None for anything else."""
    try:
        at = parsedate_to_datetime(date)
        return None if at.tzinfo is None else at.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def unpack(body: bytes, what: str, limit: int = MAX_UNPACKED) -> bytes:
    """Gunzip `body`. Raises VerificationError for what is no single, whole gzip or is larger
    than `limit` bytes."""
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = inflate.decompress(body, limit + 1)
    except zlib.error:
        raise VerificationError("gzip", f"{what} is not a gzip file") from None
    if len(data) > limit:
        raise VerificationError("gzip", f"{what} unpacks to more than {limit} bytes")
    if not inflate.eof:
        raise VerificationError("gzip", f"{what} is cut off")
    if inflate.unused_data:
        raise VerificationError("gzip", f"{what} has bytes behind its end")
    return data


def _open[M: Message](body: bytes, keys: KeyRing | None, kind: type[M], what: str) -> M:
    signed = _parse(pb.Signed, unpack(body, what), what)
    if keys is not None:
        keys.verify(signed.payload, signed.signature, what)
    return _parse(kind, signed.payload, what)


def _parse[M: Message](kind: type[M], data: bytes, what: str) -> M:
    message = kind()
    try:
        message.ParseFromString(data)
    except (DecodeError, RecursionError):
        raise VerificationError("message", f"{what} is not a registry message") from None
    return message


def _text(value: str | bytes) -> str:
    # proto2 promises no UTF-8: the C runtime hands out bytes for what is none.
    if isinstance(value, str):
        return value
    raise VerificationError("message", "a registry message has text that is not UTF-8")


def _check_repository(got: str, expected: str, what: str) -> None:
    if got != expected:
        raise VerificationError(
            "repository", f"{what} is of the repository {got!r}, not of {expected!r}"
        )


def _load_key(pem: str) -> RSAPublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise VerificationError("key", "a public key is not a PEM text") from None
    if not isinstance(key, RSAPublicKey):
        raise VerificationError("key", "a public key is not an RSA key")
    return key


def _named(number: int, names: tuple[str, ...]) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _release(message: pb.Release, advisories: list[Advisory]) -> Release:
    return Release(
        version=_text(message.version),
        inner_checksum=message.inner_checksum.hex(),
        outer_checksum=message.outer_checksum.hex(),
        dependencies=tuple(
            Dependency(
                _text(d.package),
                _text(d.requirement),
                d.optional,
                _text(d.app),
                _text(d.repository),
            )
            for d in message.dependencies
        ),
        retired=(
            Retirement(message.retired.reason, _text(message.retired.message))
            if message.HasField("retired")
            else None
        ),
        advisories=tuple(
            advisories[index] for index in message.advisory_indexes if index < len(advisories)
        ),
        published_at=(
            message.published_at.seconds + message.published_at.nanos / 1e9
            if message.HasField("published_at")
            else None
        ),
    )


def _advisory(message: pb.SecurityAdvisory) -> Advisory:
    return Advisory(
        id=_text(message.id),
        summary=_text(message.summary),
        html_url=_text(message.html_url),
        severity=message.severity if message.HasField("severity") else None,
        cvss_score=message.cvss_score if message.HasField("cvss_score") else None,
        aliases=tuple(map(_text, message.aliases)),
    )
