"""Structured fields (RFC 9651), as far as Cache-Status needs them: strict, for nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_BOOLEAN = re.compile(r"\?[01]")


class Token(str):
    """Not a string: `hit`, not `"hit"`."""


Bare = Token | str | int | bool


@dataclass
class Member:
    """An item of a list."""

    value: Bare
    parameters: dict[str, Bare] = field(default_factory=dict)


def parse_list(text: str) -> list[Member]:
    """RFC 9651 §4.2.1, without inner lists. Raises ValueError."""
    members: list[Member] = []
    rest = text.strip(" ")
    while rest:
        member, rest = _item(rest)
        members.append(member)
        rest = rest.lstrip(" \t")
        if not rest:
            return members
        if rest[0] != ",":
            raise ValueError(f"a comma is wanted at {rest!r}")
        rest = rest[1:].lstrip(" \t")
        if not rest:
            raise ValueError("a comma at the end")
    return members


def _item(text: str) -> tuple[Member, str]:
    value, rest = _bare(text)
    member = Member(value)
    while rest.startswith(";"):
        rest = rest[1:].lstrip(" ")
        key = _KEY.match(rest)
        if key is None:
            raise ValueError(f"a key is wanted at {rest!r}")
        rest = rest[key.end() :]
        parameter: Bare = True
        if rest.startswith("="):
            parameter, rest = _bare(rest[1:])
        member.parameters[key[0]] = parameter
    return member, rest


def _bare(text: str) -> tuple[Bare, str]:
    if match := _STRING.match(text):
        return re.sub(r"\\(.)", r"\1", match[1]), text[match.end() :]
    if match := _INTEGER.match(text):
        return int(match[0]), text[match.end() :]
    if match := _BOOLEAN.match(text):
        return match[0] == "?1", text[match.end() :]
    if match := _TOKEN.match(text):
        return Token(match[0]), text[match.end() :]
    raise ValueError(f"no value at {text!r}")


_TYPES: dict[str, type] = {
    "hit": bool,
    "fwd": Token,
    "fwd-status": int,
    "ttl": int,
    "stored": bool,
    "collapsed": bool,
    "key": str,
    "detail": str,
}
# RFC 9211 §2.2.
_REASONS = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}


def cache_status(header: str) -> dict[str, Bare]:
    """What Hexcache says in a Cache-Status header, as the nearest cache, the last one. Raises
    ValueError for what RFC 9211 doesn't allow."""
    member = parse_list(header)[-1]
    if member.value != "hexcache":
        raise ValueError(f"it is from {member.value!r}")
    said = member.parameters
    for name, value in said.items():
        if name not in _TYPES or type(value) is not _TYPES[name]:
            raise ValueError(f"{name}={value!r}")
    if "fwd" in said and said["fwd"] not in _REASONS:
        raise ValueError(f"fwd={said['fwd']}")
    if "hit" in said and "fwd" in said:
        raise ValueError("it is forwarded or a hit, never both (§2.1)")
    for name in ("fwd-status", "stored", "collapsed"):
        if name in said and "fwd" not in said:
            raise ValueError(f"{name} without fwd")
    return said
