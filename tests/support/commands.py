"""`hexcache` as a user runs it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.output.decode()


def clean_environment() -> dict[str, str]:
    """This process's, without what concerns proxies, Hex and Hexcache."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.upper().endswith(("_PROXY", "_CACERTS_PATH"))
        and not key.startswith(("HEXCACHE_", "HEX_"))
    }


def run(
    *arguments: str | Path,
    config: Path | None = None,
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Ran:
    """`data` is its standard input. `environment` goes beside a clean one."""
    command: list[str | Path] = [sys.executable, "-m", "hexcache", *arguments]
    if config is not None:
        command += ["--config", config]
    result = subprocess.run(
        command,
        input=data,
        capture_output=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**clean_environment(), **(environment or {})},
    )
    errors = result.stderr.decode()
    assert "Traceback" not in errors, errors
    return Ran(result.returncode, result.stdout, errors)
