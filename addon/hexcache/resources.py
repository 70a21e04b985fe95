"""What a URL on the Hex hosts names.

`parse` is pure and total: any host and any request target give a Resource, which is cached and
verified, or None, which is passed through unstored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

REPO_HOST = "repo.hex.pm"
BUILDS_HOST = "builds.hex.pm"
HOSTS = (REPO_HOST, BUILDS_HOST)
# By this name Hexcache answers for itself, through its own proxy only: no DNS has it.
LOCAL_HOST = "hexcache.local"
PUBLIC_REPOSITORY = "hexpm"

_BEFORE = "#before"
# The URL that mini_repo's users have in their compose files ends in this.
_MINI_REPO_PREFIX = "/repos/hexpm_mirror"


def hex_host(name: str | None) -> str | None:
    """The host of Hex that a client means by `name`: DNS doesn't tell cases apart."""
    host = (name or "").lower().removesuffix(".")
    return host if host in HOSTS else None


class Origin(StrEnum):
    """Which of Hex's two hosts, or of their mirrors, has a resource."""

    REPO = "repo"
    BUILDS = "builds"


class Kind(StrEnum):
    NAMES = "names"
    VERSIONS = "versions"
    PACKAGE = "package"
    TARBALL = "tarball"
    DOCS = "docs"
    PUBLIC_KEY = "public_key"
    INSTALL = "install"  # a versioned file of builds.hex.pm: never changes
    CSV = "csv"  # an index of installs, signed by the SIGNATURE beside it
    SIGNATURE = "signature"
    BUILD = "build"  # any other file of builds.hex.pm: may change

    @property
    def is_registry(self) -> bool:
        """Signed registry messages, which decide what else is good."""
        return self in (Kind.NAMES, Kind.VERSIONS, Kind.PACKAGE)

    @property
    def is_opaque(self) -> bool:
        """Whether nobody looks into the body: it may be a file too large for memory."""
        return self in (Kind.TARBALL, Kind.DOCS, Kind.INSTALL, Kind.BUILD)

    @property
    def largest(self) -> int:
        """How many bytes such a body may have."""
        return 4 * 2**30 if self.is_opaque else 64 * 2**20


@dataclass(frozen=True)
class Resource:
    """`name` is a package, or the path below the host for `/installs` and `/builds`; `version`
    is set for tarballs and docs. `path` starts with a slash and is what upstream is asked."""

    kind: Kind
    path: str
    name: str = ""
    version: str = ""
    repository: str = PUBLIC_REPOSITORY

    @property
    def origin(self) -> Origin:
        in_builds = (Kind.INSTALL, Kind.CSV, Kind.SIGNATURE, Kind.BUILD)
        return Origin.BUILDS if self.kind in in_builds else Origin.REPO

    @property
    def key(self) -> str:
        """The store's key: the same for whoever asks, whatever headers came along."""
        return f"{self.origin}{self.path}"

    def __str__(self) -> str:
        """How logs and messages name it."""
        if self.kind in (Kind.TARBALL, Kind.DOCS):
            return f"{self.kind} {self.name}-{self.version}"
        if self.kind is Kind.PACKAGE:
            return f"package {self.name}"
        return self.path.lstrip("/")


def package(name: str) -> Resource:
    """The registry entry of a package of the public repository."""
    return Resource(Kind.PACKAGE, f"/packages/{quote(name, safe='')}", name)


def tarball(name: str, version: str) -> Resource:
    return Resource(Kind.TARBALL, f"/tarballs/{_release(name, version)}.tar", name, version)


def docs(name: str, version: str) -> Resource:
    return Resource(Kind.DOCS, f"/docs/{_release(name, version)}.tar.gz", name, version)


def key_before(about: Resource) -> str:
    """Where the store keeps the registry entry before the newest one (see picture)."""
    return f"{about.key}{_BEFORE}"


NAMES = Resource(Kind.NAMES, "/names")
VERSIONS = Resource(Kind.VERSIONS, "/versions")
PUBLIC_KEY = Resource(Kind.PUBLIC_KEY, "/public_key")


def signature_of(csv: Resource) -> Resource:
    """The `.signed` beside a CSV."""
    return Resource(Kind.SIGNATURE, f"{csv.path}.signed", f"{csv.name}.signed")


def csv_of(signature: Resource) -> Resource:
    """The CSV that a `.signed` signs."""
    return Resource(
        Kind.CSV, signature.path.removesuffix(".signed"), signature.name.removesuffix(".signed")
    )


# A package is `[a-z][a-z0-9_]*` on hex.pm (hexpm, Package.changeset); self-hosted repositories
# had capitals. Neither has a dash: the first one ends the name.
_NAME = r"[A-Za-z][A-Za-z0-9_]*"
PACKAGE_NAME = re.compile(_NAME)
_VERSION = r"[0-9A-Za-z][0-9A-Za-z.+-]*"
_PACKAGE = re.compile(rf"/packages/({_NAME})")
_TARBALL = re.compile(rf"/tarballs/({_NAME})-({_VERSION})\.tar")
_DOCS = re.compile(rf"/docs/({_NAME})-({_VERSION})\.tar\.gz")
_FILE = re.compile(r"/(?:installs|builds)(?:/(?!\.{1,2}(?:/|$))[0-9A-Za-z_.+~@-]+)+")
_VERSIONED = re.compile(r"-\d+\.\d+\.\d+[^/]*$")
_FIXED = {"/names": NAMES, "/versions": VERSIONS, "/public_key": PUBLIC_KEY}
_MAX_TARGET = 1024


def drop_mirror_prefix(target: str) -> str:
    """What a client of the mirror URL asks for, without mini_repo's path prefix."""
    if target.startswith(_MINI_REPO_PREFIX + "/"):
        return target[len(_MINI_REPO_PREFIX) :]
    return target


def origin_of(host: str, target: str) -> Origin:
    """Where a request is passed through to: `/installs` and `/builds` are redirected to
    builds.hex.pm by repo.hex.pm, so they start there."""
    if host == BUILDS_HOST or target.startswith(("/installs/", "/builds/")):
        return Origin.BUILDS
    return Origin.REPO


def parse(host: str, target: str) -> Resource | None:
    """The resource that a request target (path and query, as it came) names on a Hex host.

    None for what isn't part of Hex's public repository: private organizations, unknown paths,
    anything with a query.
    """
    if len(target) > _MAX_TARGET or "?" in target or "#" in target:
        return None
    try:
        path = unquote(target, errors="strict")
    except UnicodeDecodeError:
        return None
    if host == REPO_HOST:
        if fixed := _FIXED.get(path):
            return fixed
        if match := _PACKAGE.fullmatch(path):
            return package(match[1])
        if match := _TARBALL.fullmatch(path):
            return tarball(match[1], match[2])
        if match := _DOCS.fullmatch(path):
            return docs(match[1], match[2])
    if host in HOSTS and _FILE.fullmatch(path):
        return _file(path)
    return None


def of_key(key: str) -> Resource | None:
    """The resource whose `key` that is; None for what the store keeps beside them."""
    for origin, host in ((Origin.REPO, REPO_HOST), (Origin.BUILDS, BUILDS_HOST)):
        if key.startswith(f"{origin}/"):
            resource = parse(host, key.removeprefix(origin))
            return resource if resource is not None and resource.key == key else None
    return None


def subject_of(key: str) -> Resource | None:
    """The same, and for the key of a registry entry before the newest one what it is about."""
    resource = of_key(key.removesuffix(_BEFORE))
    if key.endswith(_BEFORE) and resource is not None and resource.kind is not Kind.PACKAGE:
        return None
    return resource


def _file(path: str) -> Resource:
    name = path.lstrip("/")
    if path.startswith("/installs/"):
        if path.endswith(".csv"):
            return Resource(Kind.CSV, path, name)
        if path.endswith(".csv.signed"):
            return Resource(Kind.SIGNATURE, path, name)
        if _VERSIONED.search(path):
            return Resource(Kind.INSTALL, path, name)
    return Resource(Kind.BUILD, path, name)


def _release(name: str, version: str) -> str:
    return quote(f"{name}-{version}", safe="+")
