"""A plain HTTP client: curl, because it is a real one that does as it is told."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Got:
    """`status` 0: no whole answer; `error` is curl's exit status."""

    status: int
    headers: dict[str, str]
    body: bytes
    error: int


def curl(url: str, *arguments: str, proxy: str = "", ca: Path | None = None) -> Got:
    """GET unless `arguments` say otherwise."""
    command = ["curl", "--silent", "--max-time", "30", "--include", "--http1.1", *arguments]
    command += ["--suppress-connect-headers", "--noproxy", "" if proxy else "*"]
    if proxy:
        command += ["--proxy", proxy]
    if ca is not None:
        command += ["--cacert", str(ca)]
    result = subprocess.run([*command, url], capture_output=True, timeout=60, check=False)
    head, _, body = result.stdout.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/") else 0
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    return Got(status, headers, body, result.returncode)
