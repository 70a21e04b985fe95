"""What a lock file or `hexcache warm` named: eviction takes it last."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hexcache.files import write_whole

logger = logging.getLogger(__name__)

_NAME = "pins.json"


@dataclass(frozen=True)
class Pin:
    """`keys` are the store's; `at` is when they were named last, in seconds since the epoch."""

    keys: frozenset[str]
    at: float


class Pins:
    """Groups of keys by label: a lock file's path, or what was asked for by name. They lie in a
    file of their own beside the entries, so that they may name what isn't there (yet)."""

    def __init__(self, path: Path, groups: dict[str, Pin]) -> None:
        self._path = path
        self._groups = groups
        self._lock = threading.Lock()

    @classmethod
    def load(cls, directory: Path) -> Pins:
        """Those of the store in `directory`. A file that can't be read counts as none, with a
        warning: it costs no more than the order of eviction."""
        path = directory / _NAME
        try:
            content = json.loads(path.read_bytes())
            groups = {
                str(label): Pin(frozenset(map(str, pin["keys"])), float(pin["at"]))
                for label, pin in content["groups"].items()
            }
        except FileNotFoundError:
            groups = {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            logger.warning("%s can't be read, nothing is pinned: %s", path, error)
            groups = {}
        return cls(path, groups)

    @property
    def groups(self) -> dict[str, Pin]:
        with self._lock:
            return dict(self._groups)

    @property
    def keys(self) -> frozenset[str]:
        """All of them."""
        return frozenset().union(*(pin.keys for pin in self.groups.values()))

    def pin(self, label: str, keys: Iterable[str], *, at: float) -> None:
        """Replace what `label` named before. Raises OSError, and then nothing has changed."""
        with self._lock:
            self._save({**self._groups, label: Pin(frozenset(keys), at)})

    def unpin(self, labels: Iterable[str]) -> None:
        """Forget groups. Raises OSError, and then nothing has changed."""
        gone = frozenset(labels)
        with self._lock:
            self._save({label: pin for label, pin in self._groups.items() if label not in gone})

    def forget(self, keys: Iterable[str]) -> None:
        """Forget single keys, whichever group names them, and groups without any. Raises OSError,
        and then nothing has changed."""
        gone = frozenset(keys)
        with self._lock:
            self._save(
                {
                    label: Pin(pin.keys - gone, pin.at)
                    for label, pin in self._groups.items()
                    if pin.keys - gone
                }
            )

    def _save(self, groups: dict[str, Pin]) -> None:
        if groups == self._groups:
            return
        content = {label: {"keys": sorted(pin.keys), "at": pin.at} for label, pin in groups.items()}
        write_whole(self._path, json.dumps({"groups": content}).encode(), 0o600)
        self._groups = groups
