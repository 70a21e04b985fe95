"""The files of an authority."""

from __future__ import annotations

from pathlib import Path


def key_file(directory: Path) -> Path:
    return directory / "mitmproxy-ca.pem"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
