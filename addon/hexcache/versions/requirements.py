"""Versions and version requirements, as Elixir's `Version` and Hex understand them.

The rules are those of Elixir's `Version` module since 1.11 (`Version.parse/1`,
`Version.parse_requirement/1`, `Version.match?/3`; lib/elixir/lib/version.ex). Clients differ in
what they make of pre-releases, and both ways are here:

- Hex 2 never asks for `allow_pre: false`. Its solver takes every version inside the range, but a
  stable one before any pre-release (hex_solver, `PackageLister.pick_package/2` and
  `Constraints.Version.prioritize/2`): `newest`.
- Hex 0.12 to 1.x matched with `allow_pre: false` (`Hex.Version.match?/3`): a pre-release counts
  only where the requirement itself names one: `Requirement.matches(…, allow_pre=False)`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import total_ordering
from typing import Self

from hexcache.errors import RequirementError
from hexcache.printing import quoted

# hexpm keeps both in columns of 255 characters; int() refuses 4301 digits with a ValueError.
_MAX_VERSION = 255
_MAX_REQUIREMENT = 1000

_NUMBER = r"(0|[1-9][0-9]*)"
_IDENTIFIERS = r"([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}(?:\.{_NUMBER})?(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?"
)
_DIGITS = re.compile(r"[0-9]+")

# Longest first. `!` is the old spelling of `!=`; Elixir 1.11 deprecated both and reads them still.
_OPERATOR = r">=|<=|~>|>|<|==|!=|!"
# Only spaces separate, and `or` and `and` are operators only between two of them.
_LEXEME = re.compile(rf"({_OPERATOR})| (or|and) | |((?:(?!{_OPERATOR})[^ ])+)")

type _Key = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


@total_ordering
@dataclass(frozen=True, eq=False)
class Version:
    """A SemVer 2 version. `pre` holds its pre-release identifiers, the numeric ones as int;
    `build` is kept for printing and plays no part in comparing or hashing
    (`Version.compare/2`)."""

    major: int
    minor: int
    patch: int
    pre: tuple[int | str, ...] = ()
    build: str | None = None
    _key: _Key = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Erlang's order of terms, which `Version.compare/2` uses for the lists of identifiers:
        # numbers before binaries, a list before those that it begins. No pre-release is highest.
        identifiers = tuple(
            (False, part, "") if isinstance(part, int) else (True, 0, part) for part in self.pre
        )
        key = (self.major, self.minor, self.patch, not self.pre, identifiers)
        object.__setattr__(self, "_key", key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """All three numbers, no `v`, no leading zeros, ASCII only. Raises RequirementError."""
        if (parsed := _parse(text)) is not None:
            major, minor, patch, pre, build = parsed
            if patch is not None:
                return cls(major, minor, patch, pre, build)
        raise RequirementError(
            f"{quoted(text)} is not a version: write all three numbers, as in 1.4.0 or 2.0.0-rc.1"
        )

    @property
    def is_pre(self) -> bool:
        """Whether it is a pre-release."""
        return bool(self.pre)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._key < other._key if isinstance(other, Version) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        pre = "-" + ".".join(str(part) for part in self.pre) if self.pre else ""
        build = "+" + self.build if self.build else ""
        return f"{self.major}.{self.minor}.{self.patch}{pre}{build}"


@dataclass(frozen=True)
class _Condition:
    """One operator with its version. `below` is the open upper end of a `~>`."""

    operator: str
    version: Version
    below: Version | None = None

    def holds(self, version: Version, allow_pre: bool) -> bool:
        if not _COMPARE[self.operator](version, self.version):
            return False
        if self.below is not None and not version < self.below:
            return False
        # Only these three look at it: `<`, `<=`, `==` and `!=` take a pre-release in any case
        # (Version.Requirement.match_op?/3).
        if self.operator in ("~>", ">", ">="):
            return allow_pre or self.version.is_pre or not version.is_pre
        return True


_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "~>": operator.ge,
}


@dataclass(frozen=True)
class Requirement:
    """A parsed requirement: one of `alternatives` must hold with all of its conditions. `and`
    binds tighter than `or`, in Elixir since 1.11 and in Hex's solver."""

    source: str
    alternatives: tuple[tuple[_Condition, ...], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`~> 1.2`, `>= 1.0.0 and < 2.0.0`, `~> 1.0 or ~> 2.0-dev`, `1.0.0` (that is `== 1.0.0`),
        `!= 1.0.0`. Only `~>` may leave the patch number out. Raises RequirementError."""
        if len(text) > _MAX_REQUIREMENT:
            raise RequirementError(
                f"{quoted(text)} is too long for a requirement: "
                f"shorten it to {_MAX_REQUIREMENT} characters"
            )
        alternatives: list[tuple[_Condition, ...]] = []
        conditions: list[_Condition] = []
        pending: str | None = None  # an operator that waits for its version
        expected = True  # whether a condition may begin here
        for lexeme in _LEXEME.finditer(text):
            op, link, version = lexeme.groups()
            if link:
                if expected:
                    raise _malformed(text)
                if link == "or":
                    alternatives.append(tuple(conditions))
                    conditions = []
                expected = True
            elif op:
                if not expected or pending is not None:
                    raise _malformed(text)
                pending = "!=" if op == "!" else op
            elif version:
                if not expected:
                    raise _malformed(text)
                conditions.append(_condition(text, pending or "==", version))
                pending, expected = None, False
        if expected:
            raise _malformed(text)
        return cls(text, (*alternatives, tuple(conditions)))

    def matches(self, version: Version, *, allow_pre: bool = True) -> bool:
        """`Version.match?(version, self, allow_pre: allow_pre)`, the default included. With
        False a pre-release satisfies `~>`, `>` and `>=` only where they name one themselves."""
        return any(
            all(condition.holds(version, allow_pre) for condition in conditions)
            for conditions in self.alternatives
        )

    def __str__(self) -> str:
        return self.source


def newest(versions: Iterable[Version], *requirements: Requirement) -> Version | None:
    """The version that Hex 2 tries first among those that satisfy every requirement: the highest
    stable one, else the highest pre-release; None where none satisfies."""
    allowed = (
        version for version in versions if all(each.matches(version) for each in requirements)
    )
    return max(allowed, key=lambda version: (not version.is_pre, version), default=None)


type _Parsed = tuple[int, int, int | None, tuple[int | str, ...], str | None]


def _parse(text: str) -> _Parsed | None:
    """The parts of a version, the patch number possibly missing; None for no version."""
    match = _VERSION.fullmatch(text) if len(text) <= _MAX_VERSION else None
    if match is None:
        return None
    major, minor, patch, dotted, build = match.groups()
    pre: list[int | str] = []
    for part in dotted.split(".") if dotted else ():
        if _DIGITS.fullmatch(part) is None:
            pre.append(part)
        elif part.startswith("0") and part != "0":
            return None
        else:
            pre.append(int(part))
    return int(major), int(minor), None if patch is None else int(patch), tuple(pre), build


def _condition(requirement: str, op: str, text: str) -> _Condition:
    parsed = _parse(text)
    if parsed is None or (parsed[2] is None and op != "~>"):
        raise RequirementError(
            f"{quoted(text)} in the requirement {quoted(requirement)} is not a version: "
            "write all three numbers; only ~> takes two"
        )
    major, minor, patch, pre, build = parsed
    version = Version(major, minor, patch or 0, pre, build)
    if op != "~>":
        return _Condition(op, version)
    # The upper end is itself a pre-release, so that 2.0.0-dev is not below 2.0.
    upper = (major + 1, 0, 0) if patch is None else (major, minor + 1, 0)
    return _Condition(op, version, below=Version(*upper, pre=(0,)))


def _malformed(text: str) -> RequirementError:
    return RequirementError(
        f"{quoted(text)} is not a version requirement: write it as in mix.exs, "
        "for instance '~> 1.2' or '>= 1.0.0 and < 2.0.0'"
    )
