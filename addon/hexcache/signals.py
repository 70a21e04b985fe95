"""Signals for a process that may be the first of a container. From that one the kernel keeps every
signal that has no handler (pid_namespaces(7)): the default action, the end, never comes."""

from __future__ import annotations

import os
import signal
from types import FrameType


def end_at_once(number: signal.Signals) -> None:
    """From now on this signal ends the process, without any tidying up, with the exit status that
    a shell gives such an end."""
    signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
