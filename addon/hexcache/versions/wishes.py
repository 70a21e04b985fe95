"""What somebody wants without a lock file: a package, a release, or a range of releases."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hexcache.errors import RequirementError
from hexcache.printing import quoted
from hexcache.resources import PACKAGE_NAME
from hexcache.versions.requirements import Requirement, Version


@dataclass(frozen=True)
class Wish:
    """`requirement` None: whatever is newest. `source` is how it is written for `parse_wish`, fit
    for a message."""

    name: str
    requirement: Requirement | None
    source: str


_HOW = "write a name, NAME@VERSION or 'NAME REQUIREMENT', for instance 'plug ~> 1.14'"

# The name, then `@VERSION`, or a requirement, which begins with a space or an operator.
_WISH = re.compile(rf"({PACKAGE_NAME.pattern})(?:@(.*)|(?=[\s=!<>~]|$)(.*))", re.DOTALL)


def parse_wish(text: str) -> Wish:
    """`phoenix`, `phoenix@1.5.6`, `plug ~> 1.14`, `plug >= 1.0.0 and < 2.0.0`. Raises
    RequirementError."""
    source = " ".join(text.split())
    match = _WISH.fullmatch(source)
    if match is None:
        raise RequirementError(f"{quoted(text)} names no package: {_HOW}")
    name, version, requirement = match.groups()
    if version is not None:
        return _release(name, version)
    requirement = requirement.strip()
    return Wish(name, Requirement.parse(requirement) if requirement else None, source)


def parse_packages(text: str) -> tuple[Wish, ...]:
    """The environment variable PACKAGES, as mini_repo's Docker fork had it: names between spaces,
    each with an optional `-VERSION`. Raises RequirementError."""
    return tuple(map(_package, text.split()))


def _package(word: str) -> Wish:
    # No name has a dash, so the first one ends it; a version may have more.
    name, dash, version = word.partition("-")
    if PACKAGE_NAME.fullmatch(name) is None:
        raise RequirementError(
            f"{quoted(word)} names no package: write names between spaces, each with an optional "
            "-VERSION, for instance decimal phoenix-1.5.6"
        )
    return _release(name, version) if dash else Wish(name, None, name)


def _release(name: str, version: str) -> Wish:
    parsed = Version.parse(version)
    return Wish(name, Requirement.parse(f"== {parsed}"), f"{name}@{parsed}")
