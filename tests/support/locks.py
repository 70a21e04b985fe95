"""Lock files of the tests' own repository, as the build tools write them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from support.repository import HexRepository


def checksums(tarball: bytes) -> tuple[str, str]:
    """The inner and the outer one, in capitals, as rebar3 writes them."""
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        member = archive.extractfile("CHECKSUM")
        assert member is not None
        return member.read().decode(), hashlib.sha256(tarball).hexdigest().upper()


def rebar_lock(path: Path, repository: HexRepository, releases: Mapping[str, str]) -> Path:
    """A rebar.lock in its format 1.2.0."""
    files = repository.files()
    sums = {
        name: checksums(files[f"/tarballs/{name}-{version}.tar"])
        for name, version in releases.items()
    }
    locks = ",\n ".join(
        f'{{<<"{name}">>,{{pkg,<<"{name}">>,<<"{version}">>}},0}}'
        for name, version in releases.items()
    )
    hashes = ",\n ".join(
        f"{{{attribute},[\n "
        + ",\n ".join(f'{{<<"{name}">>, <<"{each[index]}">>}}' for name, each in sums.items())
        + "]}"
        for index, attribute in enumerate(("pkg_hash", "pkg_hash_ext"))
    )
    path.write_text(f'{{"1.2.0",\n[{locks}]}}.\n[\n{hashes}\n].\n')
    return path
