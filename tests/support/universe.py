"""Small made-up registries for the tests of the solver."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping

from hexcache.registry import Dependency, Package, Release
from hexcache.versions.requirements import Requirement, Version

# Package → version → what it needs: (package, requirement, optional).
type Needs = tuple[tuple[str, str, bool], ...]
type Spec = Mapping[str, Mapping[str, Needs]]


def package(name: str, releases: Mapping[str, Needs]) -> Package:
    return Package(
        name,
        "hexpm",
        tuple(
            Release(
                version,
                "",
                "",
                tuple(Dependency(package, text, optional) for package, text, optional in needs),
            )
            for version, needs in releases.items()
        ),
    )


NAMES = ("aa", "bb", "cc", "dd", "ee", "ff")
VERSIONS = ("1.0.0", "1.1.0", "1.2.0-rc.1", "2.0.0", "2.1.0", "3.0.0-dev")
REQUIREMENTS = (
    *("~> 1.0", "~> 2.0", ">= 0.0.0", "~> 1.1", "< 2.0.0", ">= 1.1.0", "== 1.0.0"),
    *("~> 1.0 or ~> 2.1", "> 2.0.0", "~> 3.0-dev", "~> 1.2-rc"),
)


def random_spec(ours: random.Random, *, optional: bool = True) -> Spec:
    """A package may need one that isn't there."""
    names = ours.sample(NAMES, ours.randint(2, len(NAMES)))
    spec = {}
    for name in names:
        versions = sorted(ours.sample(VERSIONS, ours.randint(1, 4)), key=VERSIONS.index)
        others = [each for each in names if each != name]
        if ours.random() < 0.05:
            others.append("absent")
        spec[name] = {version: _needs(ours, others, optional) for version in versions}
    return spec


def _needs(ours: random.Random, others: list[str], optional: bool) -> Needs:
    number = min(ours.choice((0, 0, 1, 1, 2, 3)), len(others))
    return tuple(
        (each, ours.choice(REQUIREMENTS), optional and ours.random() < 0.25)
        for each in sorted(ours.sample(others, number))
    )


def is_solution(spec: Spec, demands: Mapping[str, str], chosen: Mapping[str, str]) -> bool:
    """By the definition: every wish and every need met, and no package without a cause."""
    wanted = list(demands.items())
    needed = set(demands)
    for name, version in chosen.items():
        for other, text, optional in spec[name][version]:
            if not optional or other in chosen:
                wanted.append((other, text))
            if not optional:
                needed.add(other)
    return needed == set(chosen) and all(
        Requirement.parse(text).matches(Version.parse(chosen[name])) for name, text in wanted
    )


def solutions(spec: Spec, demands: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """All of them, by trying everything."""
    choices = [[None, *spec[name]] for name in spec]
    for versions in itertools.product(*choices):
        chosen = {
            name: version
            for name, version in zip(spec, versions, strict=True)
            if version is not None
        }
        if set(demands) <= set(chosen) and is_solution(spec, demands, chosen):
            yield chosen
