"""A cache, or a part of one, as a tar archive: written from a store, and read back as a list.

Unpacked under a web server the archive is a static Hex mirror: its names are the URL paths. In
`hexcache.json` stands what no tar header has room for. Nothing here decides what is good: a
reader gets claims, which `importing` verifies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

from hexcache import resources
from hexcache.errors import BundleError
from hexcache.locks.lockfiles import LockFile
from hexcache.printing import printable
from hexcache.resources import REPO_HOST, Kind, Resource
from hexcache.stock import completeness, tar
from hexcache.storage.entries import Entry
from hexcache.storage.library import Library
from hexcache.storage.trust import UNVERIFIED

FORMAT = 1
METADATA = "hexcache.json"

# Whatever vouches for something else goes before it.
_ORDER = (
    Kind.PUBLIC_KEY,
    Kind.NAMES,
    Kind.VERSIONS,
    Kind.PACKAGE,
    Kind.CSV,
    Kind.SIGNATURE,
    Kind.TARBALL,
    Kind.DOCS,
    Kind.INSTALL,
    Kind.BUILD,
)
_CHUNK = 2**20
_MAX_METADATA = 64 * 2**20
# More of these, and it isn't an archive of ours.
_MAX_REFUSED = 1_000
_LATEST_MTIME = 8**11 - 1
_CONTENT_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}(?:; ?charset=[\w-]{1,40})?", re.ASCII)

type Item = tuple[Resource, Entry]


@dataclass(frozen=True)
class Everything:
    """`good` is all that clients of this store can be given without a question to upstream;
    `missing` what they could be given if it, or what vouches for it, weren't damaged, and why they
    can't; `left_out` of how many things more there is a body that nothing vouches for."""

    good: tuple[Item, ...]
    missing: dict[Resource, str]
    left_out: int


def everything(library: Library) -> Everything:
    """Raises StoreError."""
    holdings = sorted(library.holdings(), key=_place)
    good = tuple(item for item in holdings if _is_of_use(library, *item))
    harm = {
        resource.name: why
        for resource, entry in holdings
        if resource.kind is Kind.PACKAGE and (why := _harm(library, resource, entry))
    }
    # Where nothing is verified, nothing has to vouch for a tarball.
    kept = {resource for resource, _ in good}
    missing = {}
    for resource, _ in holdings:
        if resource in kept or resource.name not in harm:
            continue
        if resource.kind is Kind.PACKAGE:
            missing[resource] = f"the stored copy {harm[resource.name]}"
        elif resource.kind is Kind.TARBALL:
            why = f"the stored registry entry of {resource.name} {harm[resource.name]}"
            missing[resource] = why
    return Everything(good, missing, len(holdings) - len(good) - len(missing))


def _harm(library: Library, about: Resource, entry: Entry) -> str:
    """What is wrong with a stored registry entry."""
    if library.package(about.name) is not None:
        return ""
    return "can't be believed" if library.is_intact(entry) else "is damaged"


def docs(library: Library, lock: LockFile) -> list[Item]:
    """The documentation that is stored of the releases of a lock file."""
    found = (resources.docs(each.name, each.version) for each in completeness.public(lock))
    return [(each, entry) for each in found if (entry := library.entry(each)) is not None]


def tools(library: Library) -> list[Item]:
    """What is stored for `mix local.hex` and `mix local.rebar`, and the repository's key."""
    kinds = (Kind.PUBLIC_KEY, Kind.CSV, Kind.SIGNATURE, Kind.INSTALL, Kind.BUILD)
    found = (item for item in library.holdings() if item[0].kind in kinds)
    return [item for item in found if _is_of_use(library, *item)]


def _is_of_use(library: Library, resource: Resource, entry: Entry) -> bool:
    if _named(resource.path[1:]) != resource:
        return False
    match resource.kind:
        case Kind.PACKAGE:
            return library.package(resource.name) is not None
        case Kind.TARBALL:
            return library.tarball(resource.name, resource.version) == entry
        case Kind.CSV:
            signature = library.entry(resources.signature_of(resource))
            if signature is None:
                return entry.trust == UNVERIFIED
            return signature.generation == entry.sha256
        case Kind.SIGNATURE:
            csv = library.entry(resources.csv_of(resource))
            return csv is not None and csv.sha256 == entry.generation
    return True


@dataclass(frozen=True)
class Written:
    """`members` and their `size` in bytes; what was to be written, but is `damaged`."""

    members: int
    size: int
    damaged: tuple[Resource, ...]


def write(library: Library, items: Iterable[Item], out: BinaryIO) -> Written:
    """Write an archive: the same bytes for the same items. Raises OSError or StoreError."""
    damaged: list[Resource] = []
    files: dict[str, dict[str, Any]] = {}
    size = 0
    for resource, entry in sorted(items, key=_place):
        with library.reader.body(entry) as body:
            if body is None:
                damaged.append(resource)
                continue
            name = resource.path[1:]
            out.write(tar.header(name, entry.size, _mtime(entry)))
            _copy(body, entry.size, out)
        size += entry.size
        files[name] = {
            "sha256": entry.sha256,
            "etag": entry.etag,
            "last_modified": entry.last_modified,
            "content_type": entry.content_type,
            "stored_at": entry.stored_at,
            "checked_at": entry.checked_at,
        }
    metadata = json.dumps({"format": FORMAT, "files": files}, separators=(",", ":")).encode()
    out.write(tar.header(METADATA, len(metadata), 0) + metadata + tar.padding(len(metadata)))
    out.write(tar.END)
    return Written(len(files), size, tuple(damaged))


def _place(item: Item) -> tuple[int, str]:
    return _ORDER.index(item[0].kind), item[0].path


def _mtime(entry: Entry) -> int:
    """When the content is from. The same for all would be simpler, but web servers make ETags of
    time and size: a newer registry entry of the same size would pass for the old one."""
    try:
        seconds = parsedate_to_datetime(entry.last_modified).timestamp()
    except (ValueError, TypeError, OverflowError):
        seconds = entry.stored_at
    return int(min(max(seconds, 0), _LATEST_MTIME))


def _copy(body: BinaryIO | bytes, size: int, out: BinaryIO) -> None:
    if isinstance(body, bytes):
        out.write(body)
    else:
        left = size
        while left:
            chunk = body.read(min(left, _CHUNK))
            if not chunk:
                raise OSError("a stored file got shorter while it was read")
            out.write(chunk)
            left -= len(chunk)
    out.write(tar.padding(size))


@dataclass(frozen=True, slots=True)
class Claim:
    """A member, and what the archive says of it; none of it is verified. Times are seconds since
    the epoch, 0 where it doesn't say; `sha256` and the other texts are then empty."""

    resource: Resource
    offset: int
    size: int
    sha256: str = ""
    last_modified: str = ""
    content_type: str = ""
    checked_at: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """`name` and `why` are printable."""

    name: str
    why: str


class Bundle:
    """An archive whose headers have been read. `claims` stand in the order in which they can be
    verified, whatever the order in the archive."""

    def __init__(
        self, file: BinaryIO, claims: tuple[Claim, ...], refused: tuple[Refusal, ...]
    ) -> None:
        self._file = file
        self.claims = claims
        self.refused = refused

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Raises BundleError: `path` can't be read, or isn't a whole archive."""
        try:
            file = path.open("rb")
        except OSError as error:
            raise BundleError(f"the archive can't be read: {error.strerror}") from None
        try:
            return cls(file, *_index(file))
        except OSError as error:
            file.close()
            raise BundleError(f"the archive can't be read: {error.strerror}") from None
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def chunks(self, claim: Claim) -> Iterator[bytes]:
        """The body of a member. Raises BundleError where the file has changed meanwhile."""
        position, end = claim.offset, claim.offset + claim.size
        while position < end:
            try:
                self._file.seek(position)
                chunk = self._file.read(min(end - position, _CHUNK))
            except OSError as error:
                raise BundleError(f"the archive can't be read: {error.strerror}") from None
            if not chunk:
                raise BundleError("the archive got shorter while it was read")
            position += len(chunk)
            yield chunk


def _index(file: BinaryIO) -> tuple[tuple[Claim, ...], tuple[Refusal, ...]]:
    found: dict[str, tar.Member] = {}
    refused: list[Refusal] = []
    claims: dict[str, Resource] = {}
    for member in tar.members(file):
        name = member.name.removeprefix("./")
        resource = _named(name)
        if member.odd:
            why = f"it is {member.odd}"
        elif name in found:
            why = "the name is there twice"
        elif name == METADATA:
            why = ""
        elif resource is None:
            why = _no_path(name)
        elif member.size > resource.kind.largest:
            why = f"{member.size:,} bytes are too many for it"
        else:
            claims[name] = resource
            why = ""
        if not why:
            found[name] = member
            continue
        refused.append(Refusal(printable(member.name[:200]) or "(no name)", why))
        if len(refused) > _MAX_REFUSED:
            raise BundleError(
                f"more than {_MAX_REFUSED:,} members can't be Hex's ({refused[0].name}: "
                f"{refused[0].why}): this is no archive of `hexcache export`"
            )
    told = _metadata(file, found.get(METADATA))
    made = [_claim(resource, found[name], told.get(name)) for name, resource in claims.items()]
    made.sort(key=lambda claim: (_ORDER.index(claim.resource.kind), claim.resource.path))
    return tuple(made), tuple(refused)


def _named(name: str) -> Resource | None:
    """What a member is the body of, by its name."""
    resource = resources.parse(REPO_HOST, f"/{name}")
    return resource if resource is not None and resource.path == f"/{name}" else None


def _no_path(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        return "its name leads out of the archive"
    return "no file of Hex has such a name"


def _metadata(file: BinaryIO, member: tar.Member | None) -> Mapping[str, Any]:
    """What is said of each member; nothing where an archive says nothing."""
    if member is None:
        return {}
    if member.size > _MAX_METADATA:
        raise BundleError(f"its {METADATA} has {member.size:,} bytes: not Hexcache's")
    file.seek(member.offset)
    try:
        told = json.loads(file.read(member.size))
        version, files = told["format"], told["files"]
        if type(version) is not int or not isinstance(files, dict):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BundleError(f"its {METADATA} is damaged; export it again") from None
    if version != FORMAT:
        raise BundleError(f"it has format {version}, this Hexcache reads {FORMAT}: use a newer one")
    return files


def _claim(resource: Resource, member: tar.Member, told: Any) -> Claim:
    told = told if isinstance(told, dict) else {}

    def text(key: str, longest: int = 100) -> str:
        value = told.get(key)
        good = isinstance(value, str) and value.isprintable() and len(value) <= longest
        return value if good else ""

    checked_at = told.get("checked_at")
    content_type = text("content_type")
    return Claim(
        resource,
        member.offset,
        member.size,
        sha256=text("sha256"),
        last_modified=text("last_modified"),
        content_type=content_type if _CONTENT_TYPE.fullmatch(content_type) else "",
        checked_at=checked_at if type(checked_at) in (int, float) else 0.0,
    )
