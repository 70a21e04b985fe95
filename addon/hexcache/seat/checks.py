"""What the checks of `hexcache doctor` have in common."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import SplitResult

from hexcache.seat import probing
from hexcache.seat.clients import ClientEnvironment, Format, client_environment
from hexcache.seat.probing import Answer
from hexcache.settings import Settings

# What a client waits for.
SECONDS = 5.0
SET_CLOCK = "sudo timedatectl set-ntp true"
# A question for which upstream isn't asked.
ONLY_HERE = {"Cache-Control": "only-if-cached"}


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """`what` is one line for a user; `mend` is a line to paste, empty if there is none."""

    name: str
    state: State
    what: str
    mend: str = ""


@dataclass(frozen=True)
class Seat:
    """Who asks, and what is around. `installed` tells whether there is such a program; `room` is
    how many bytes fit into a directory (it may raise OSError); `upstream` asks Hex itself, without
    Hexcache, and raises HexcacheError. `options` are the user's, for lines to paste."""

    settings: Settings
    environment: Mapping[str, str]
    home: Path
    now: Callable[[], float]
    installed: Callable[[str], bool]
    room: Callable[[Path], int]
    upstream: Callable[[], Answer]
    options: str = ""

    @property
    def client(self) -> ClientEnvironment:
        """What this environment should have. Raises SettingsError."""
        return client_environment(self.settings, Format.SHELL, None)

    def line(self, subcommand: str) -> str:
        return f"hexcache {subcommand}{self.options}"

    @property
    def eval_line(self) -> str:
        return f'eval "$({self.line("env")})"'


@dataclass(frozen=True)
class Server:
    """A Hexcache that answers as `place`; `through` it is a proxy, else a mirror."""

    place: SplitResult
    through: bool

    def ask(
        self, headers: Mapping[str, str], seconds: float, trusted: ssl.SSLContext | None = None
    ) -> Answer:
        """Raises ProbeError."""
        if self.through:
            return probing.through(self.place, trusted, headers, seconds)
        return probing.ask(self.place, probing.PATH, headers, seconds)
