"""Which releases go together: a small version solver that prefers what Hex prefers.

As Hex's solver (hex_solver, vendored in hex/lib/hex/solver) it decides on one package after the
other, the one with the fewest versions left first, and takes the highest stable version that is
left, else the highest pre-release (`PackageLister.pick_package/2`). It looks back in another way:
by backjumping over the decisions that a conflict has nothing to do with. Without a conflict both
choose the same. After one they did so too on 3,000 made-up registries, unless optional dependencies
were involved: there Hex's solver finds fewer solutions than there are.

Retired releases are taken like any other: Hex prints a warning for them (`Hex.RemoteConverger.
print_status/7`) and hides none from its solver, unless an organization's policy tells it to.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hexcache.errors import RequirementError
from hexcache.registry import Package
from hexcache.resources import PUBLIC_REPOSITORY
from hexcache.versions.requirements import Requirement, Version

# Decisions before giving up. A Phoenix application with everything takes about 60.
MAX_STEPS = 20_000
# Decisions between two pauses, a few milliseconds.
_PAUSE = 32

# Sets of a package's versions are integers: bit n is the n-th version in the order of preference.
type Mask = int


class Edge(NamedTuple):
    """A requirement: `by` and `version` name the release that has it, or are empty for what is
    wanted from outside. `text` is the requirement."""

    by: str
    version: str
    text: str
    mask: Mask


class _Dependency(NamedTuple):
    name: str
    optional: bool
    edge: Edge


@dataclass(frozen=True)
class Conflict:
    """Requirements on one package that no version of it satisfies together; only one where it is
    impossible by itself."""

    package: str
    edges: tuple[Edge, ...]


class Unsolvable(Exception):  # noqa: N818 # an outcome, which the caller makes into words
    """`conflict` is the first that was met; None where the number of steps was used up."""

    def __init__(self, conflict: Conflict | None) -> None:
        super().__init__(conflict)
        self.conflict = conflict


class Unavailable(Exception):  # noqa: N818 # as above
    """It takes the registry entry of `name`, which can't be had."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Universe:
    """The registry entries known so far, with what a solver wants to know of them."""

    def __init__(self) -> None:
        self._versions: dict[str, tuple[Version, ...]] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._packages: dict[str, Package | None] = {}
        self._masks: dict[tuple[str, str], Mask] = {}
        self.failed: set[str] = set()

    def add(self, name: str, package: Package | None) -> None:
        """None: there is no such package."""
        versions = []
        for release in package.releases if package else ():
            try:
                versions.append((Version.parse(release.version), release.version))
            except RequirementError:
                continue  # Hex couldn't name it either
        # The order of hex_solver's Constraints.Version.prioritize/2.
        versions.sort(key=lambda pair: (not pair[0].is_pre, pair[0]), reverse=True)
        self._packages[name] = package
        self._versions[name] = tuple(version for version, _ in versions)
        self._texts[name] = tuple(text for _, text in versions)

    def fail(self, name: str) -> None:
        """The entry can't be had: whether there is such a package isn't known."""
        self.add(name, None)
        self.failed.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._packages

    def exists(self, name: str) -> bool:
        return self._packages.get(name) is not None

    @property
    def names(self) -> frozenset[str]:
        """The packages that exist."""
        return frozenset(name for name in self._packages if self.exists(name))

    def versions(self, name: str) -> tuple[Version, ...]:
        """In the order in which Hex tries them. The package must be known."""
        return self._versions[name]

    def version_text(self, name: str, index: int) -> str:
        """A version as the registry has it."""
        return self._texts[name][index]

    def allowed(self, name: str, requirement: Requirement | None) -> Mask:
        return sum(
            1 << index
            for index, version in enumerate(self._versions[name])
            if requirement is None or requirement.matches(version)
        )

    def dependencies(self, name: str, index: int) -> Iterator[_Dependency]:
        """What a release needs of the public repository; where those packages are known yet, the
        masks count. A requirement that can't be read allows nothing."""
        package, text = self._packages[name], self._texts[name][index]
        assert package is not None
        for each in package.by_version[text].dependencies:
            if each.repository not in ("", PUBLIC_REPOSITORY):
                continue
            edge = Edge(name, text, each.requirement, self._mask(each.package, each.requirement))
            yield _Dependency(each.package, each.optional, edge)

    def foreign(self, name: str, text: str) -> Iterator[tuple[str, str]]:
        """The packages that a release needs of other repositories, each with the repository."""
        package = self._packages[name]
        assert package is not None
        for each in package.by_version[text].dependencies:
            if each.repository not in ("", PUBLIC_REPOSITORY) and not each.optional:
                yield each.package, each.repository

    def _mask(self, name: str, text: str) -> Mask:
        if name not in self:
            return 0
        key = (name, text)
        if key not in self._masks:
            try:
                # Hex.Registry.Server puts the same in place of none.
                requirement = Requirement.parse(text or ">= 0.0.0")
            except RequirementError:
                self._masks[key] = 0
            else:
                self._masks[key] = self.allowed(name, requirement)
        return self._masks[key]


@dataclass
class _State:
    """`edges`: what limits a package, whether it is needed or not."""

    allowed: dict[str, Mask] = field(default_factory=dict)
    edges: dict[str, tuple[Edge, ...]] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()
    decided: dict[str, int] = field(default_factory=dict)

    def copy(self) -> _State:
        return _State(self.allowed.copy(), self.edges.copy(), self.needed, self.decided.copy())

    def limit(self, name: str, edge: Edge, *, optional: bool) -> None:
        self.allowed[name] = self.allowed.get(name, -1) & edge.mask
        self.edges[name] = (*self.edges.get(name, ()), edge)
        if not optional:
            self.needed |= {name}

    def is_stuck(self, name: str) -> bool:
        if name not in self.needed:
            return False
        chosen = self.decided.get(name)
        return not self.allowed[name] if chosen is None else not self.allowed[name] >> chosen & 1

    def blamed(self, name: str) -> set[str]:
        """The decisions that leave `name` what it has left."""
        return {edge.by for edge in self.edges[name]}


@dataclass
class _Frame:
    """A package that is being decided on: `left` are the versions not tried yet, `state` is how
    it was before, `guilty` the earlier decisions that versions failed by."""

    name: str
    state: _State
    left: Mask
    guilty: set[str] = field(default_factory=set)


type Solving = Generator[frozenset[str], None, dict[str, str]]


def solve(universe: Universe, demands: Mapping[str, Edge], max_steps: int = MAX_STEPS) -> Solving:
    """The releases (name → version) that satisfy `demands` and all that they need: the package of
    an optional dependency is not taken for it, but must suit it if something else needs it.

    A generator: it yields the names whose entries it needs next, to be added to the universe
    before it goes on; sometimes none, when it has been at it for a while. Raises Unsolvable and
    Unavailable.
    """
    state = _State()
    for name, edge in demands.items():
        state.limit(name, edge, optional=False)
    first: Conflict | None = None
    frames: list[_Frame] = []
    steps = 0
    for name in demands:
        if state.is_stuck(name):
            raise Unsolvable(_conflict(state, name))
    while (following := _next(state)) is not None:
        frames.append(_Frame(following, state, state.allowed[following]))
        while True:
            frame = frames[-1]
            if not frame.left:
                frames.pop()
                guilty = frame.guilty | frame.state.blamed(frame.name)  # by what is not in `left`
                while frames and frames[-1].name not in guilty:
                    frames.pop()
                if not frames:
                    raise Unsolvable(first)
                frames[-1].guilty |= guilty
                continue
            steps += 1
            if steps > max_steps:
                raise Unsolvable(None)
            if steps % _PAUSE == 0:
                yield frozenset()
            index = (frame.left & -frame.left).bit_length() - 1
            frame.left &= frame.left - 1
            names = {each.name for each in universe.dependencies(frame.name, index)}
            # Hex asks for optional ones too (PackageLister.dependencies_as_incompatibilities/4).
            if unknown := frozenset(name for name in names if name not in universe):
                yield unknown
            tried = frame.state.copy()
            tried.decided[frame.name] = index
            dependencies = sorted(universe.dependencies(frame.name, index))
            for each in dependencies:
                tried.limit(each.name, each.edge, optional=each.optional)
            stuck = [each.name for each in dependencies if tried.is_stuck(each.name)]
            if not stuck:
                state = tried
                break
            if failed := universe.failed & set(stuck):
                raise Unavailable(min(failed))
            if first is None:
                first = _conflict(tried, stuck[0])
            frame.guilty |= (tried.blamed(stuck[0]) | {stuck[0]}) - {frame.name}
    return {name: universe.version_text(name, index) for name, index in state.decided.items()}


def _next(state: _State) -> str | None:
    """Few versions first, so that a conflict comes early."""
    open_ones = sorted(state.needed - state.decided.keys())
    return min(open_ones, key=lambda name: state.allowed[name].bit_count(), default=None)


def _conflict(state: _State, name: str) -> Conflict:
    edges = state.edges[name]
    last = edges[-1]
    if not last.mask:
        return Conflict(name, (last,))
    against = next((edge for edge in edges if not edge.mask & last.mask), None)
    return Conflict(name, (against, last) if against else edges)


def outside(mask: Mask, text: str) -> Edge:
    """What is wanted from outside of a package."""
    return Edge("", "", text, mask)


def indexes(mask: Mask) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1
