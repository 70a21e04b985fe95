"""A command on a terminal of a certain width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from support.commands import clean_environment

_STYLE = re.compile(r"\x1b\[[\d;]*m")


def shown(columns: int, *arguments: str, config: Path) -> list[str]:
    """What `hexcache` with these arguments shows, line by line, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in clean_environment().items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "hexcache", *arguments, "--config", config],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm"},
    )
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:
        pass  # EIO: the other end is closed
    finally:
        os.close(ours)
    assert process.wait(60) == 0, text
    return _STYLE.sub("", text.decode()).splitlines()
