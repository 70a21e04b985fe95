"""From wishes to releases: what a project with such dependencies would be given by Hex today."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hexcache.errors import HexcacheError
from hexcache.printing import printable
from hexcache.registry import Package
from hexcache.resources import PACKAGE_NAME
from hexcache.versions.solver import (
    MAX_STEPS,
    Conflict,
    Edge,
    Mask,
    Unavailable,
    Universe,
    Unsolvable,
    indexes,
    outside,
    solve,
)
from hexcache.versions.wishes import Wish

# The registry entry of a package; None where there is none. HexcacheError: it can't be had.
type Lookup = Callable[[str], Awaitable[Package | None]]


@dataclass(frozen=True)
class Resolution:
    """`releases`: (name, version) of what is to be fetched. `entries`: the packages whose registry
    entries Hex asks for on the way there, optional dependencies included. `problems`: one line
    each, fit for a terminal."""

    releases: frozenset[tuple[str, str]]
    entries: frozenset[str]
    problems: tuple[str, ...]


async def resolve(
    wishes: Sequence[Wish],
    lookup: Lookup,
    *,
    latest: int = 1,
    all_versions: bool = False,
    max_steps: int = MAX_STEPS,
) -> Resolution:
    """The newest `latest` releases that each wish allows (`all_versions`: all of them), each with
    the dependencies that a project with nothing else would get. Pre-releases count among the
    newest only where a wish allows no stable release. Beside that, what a project gets that has
    all wishes together, if they go together. Every package is looked up once.
    """
    work = _Work(lookup, max_steps)
    try:
        return await work.run(wishes, latest, all_versions)
    finally:
        await work.close()


class _Work:
    def __init__(self, lookup: Lookup, max_steps: int) -> None:
        self._lookup = lookup
        self._max_steps = max_steps
        self._universe = Universe()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, str] = {}

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def run(self, wishes: Sequence[Wish], latest: int, all_versions: bool) -> Resolution:
        await self._learn(wish.name for wish in wishes)
        problems = [problem for wish in wishes for problem in self._refused(wish)]
        good = [wish for wish in wishes if self._allowed(wish)]
        roots = dict.fromkeys(
            (wish.name, index)
            for wish in good
            for index in self._roots(self._allowed(wish), wish.name, latest, all_versions)
        )
        alone = await asyncio.gather(*(self._alone(*root) for root in roots))
        together = await asyncio.gather(*map(self._solved, self._projects(good)))
        found = {(name, self._universe.version_text(name, index)) for name, index in roots}
        for solution, _ in [*alone, *together]:
            found |= solution.items()
        # A project that can't have all its wishes is no concern of who wished for each.
        problems += [problem for _, problem in alone]
        problems += [problem for release in sorted(found) for problem in self._foreign(*release)]
        problems += [printable(f"{name}: {why}") for name, why in sorted(self._failures.items())]
        lines = tuple(dict.fromkeys(problem for problem in problems if problem))
        return Resolution(frozenset(found), self._universe.names, lines)

    async def _learn(self, names: Iterable[str]) -> None:
        """Have the universe know `names`."""
        wanted = sorted(set(names))
        for name in wanted:
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._ask(name), name=f"look up {name}")
        await asyncio.gather(*(self._tasks[name] for name in wanted))

    async def _ask(self, name: str) -> None:
        if PACKAGE_NAME.fullmatch(name) is None:
            self._universe.add(name, None)
            return
        try:
            self._universe.add(name, await self._lookup(name))
        except HexcacheError as error:
            self._failures[name] = str(error)
            self._universe.fail(name)

    def _allowed(self, wish: Wish) -> Mask:
        return self._universe.allowed(wish.name, wish.requirement)

    def _roots(self, allowed: Mask, name: str, latest: int, all_versions: bool) -> Sequence[int]:
        chosen = list(indexes(allowed))
        if all_versions:
            return chosen
        versions = self._universe.versions(name)
        stable = [index for index in chosen if not versions[index].is_pre]
        return (stable or chosen)[:latest]

    def _refused(self, wish: Wish) -> Iterator[str]:
        """Why a wish can't be had by itself."""
        if wish.name in self._failures or self._allowed(wish):
            return
        if not self._universe.exists(wish.name):
            yield f"{wish.source}: there is no package {wish.name}"
        elif versions := self._universe.versions(wish.name):
            yield f"{wish.source}: no such release; the newest of {wish.name} is {versions[0]}"
        else:
            yield f"{wish.source}: {wish.name} has no releases"

    async def _alone(self, name: str, index: int) -> tuple[Mapping[str, str], str]:
        text = self._universe.version_text(name, index)
        solution, problem = await self._solved({name: outside(1 << index, f"== {text}")})
        if not problem:
            return solution, ""
        release = f"{name} {text}"
        return solution, problem if problem.startswith(f"{release} ") else f"{release}: {problem}"

    def _projects(self, wishes: Sequence[Wish]) -> list[dict[str, Edge]]:
        """Wishes for different packages together. Those for the same one are alternatives: the
        first ones make a project, the second ones, where there are any, another."""
        by_name: dict[str, list[Edge]] = {}
        for wish in wishes:
            text = str(wish.requirement or "")
            by_name.setdefault(wish.name, []).append(outside(self._allowed(wish), text))
        return [
            {name: edges[min(number, len(edges) - 1)] for name, edges in by_name.items()}
            for number in range(max(map(len, by_name.values()), default=0))
        ]

    async def _solved(self, demands: Mapping[str, Edge]) -> tuple[Mapping[str, str], str]:
        """A solution, or why there is none."""
        solving = solve(self._universe, demands, self._max_steps)
        try:
            while True:
                names = next(solving)
                await (self._learn(names) if names else asyncio.sleep(0))
        except StopIteration as end:
            solution: Mapping[str, str] = end.value
            return solution, ""
        except Unavailable as missing:
            return {}, f"not resolved, for want of the registry entry of {printable(missing.name)}"
        except Unsolvable as error:
            if error.conflict is None:
                return {}, f"given up after {self._max_steps:,} steps; ask for a narrower range"
            return {}, self._explained(error.conflict)

    def _explained(self, conflict: Conflict) -> str:
        name = printable(conflict.package)
        needs = [self._need(edge, name) for edge in conflict.edges]
        if len(needs) > 1:
            return f"no release of {name} satisfies all: " + "; ".join(needs)
        if self._universe.exists(conflict.package):
            return f"{needs[0]}, and there is no such release"
        return f"{needs[0]}, and there is no such package"

    def _need(self, edge: Edge, name: str) -> str:
        who = f"{edge.by} {edge.version} needs" if edge.by else "wanted is"
        return f"{who} {name} {printable(edge.text)}".rstrip()

    def _foreign(self, name: str, version: str) -> Iterator[str]:
        for package, repository in self._universe.foreign(name, version):
            yield (
                f"{name} {version} needs {printable(package)} of the repository "
                f"{printable(repository)}, which isn't cached"
            )
