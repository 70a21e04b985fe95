"""The house: which rooms know which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hexcache

HOUSE = Path(hexcache.__file__).parent


def imports() -> Iterator[tuple[str, str]]:
    """(module below hexcache, module that it imports, whole)."""
    for path in HOUSE.rglob("*.py"):
        module = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    yield module, f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield module, alias.name


def room(module: str) -> str:
    """The package or the single module right below hexcache."""
    return module.removeprefix("hexcache.").split(".")[0]


def test_rooms_depend_downwards_only() -> None:
    floors: dict[str, set[str]] = {}
    for module, imported in imports():
        if imported.startswith("hexcache.") and room(module) != room(imported):
            floors.setdefault(room(module), set()).add(room(imported))
    try:
        TopologicalSorter(floors).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_only_the_top_floor_knows_mitmproxy() -> None:
    knowing = {room(module) for module, imported in imports() if room(imported) == "mitmproxy"}
    assert knowing <= {"front", "server"}
