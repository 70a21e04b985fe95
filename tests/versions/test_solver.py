"""The solver, against trying everything and against Hex's own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.versions.requirements import Requirement, Version
from hexcache.versions.solver import Universe, Unsolvable, outside, solve
from support import clients, elixir
from support.universe import NAMES, REQUIREMENTS, Spec, is_solution, package, random_spec, solutions


def solved(spec: Spec, demands: Mapping[str, str], max_steps: int = 20_000) -> dict[str, str]:
    """The solution, with the registry looked up as it is asked for."""
    universe = Universe()

    def learn(names: frozenset[str]) -> None:
        for name in names:
            assert name not in universe
            universe.add(name, package(name, spec[name]) if name in spec else None)

    learn(frozenset(demands))
    edges = {
        name: outside(universe.allowed(name, Requirement.parse(text)), text)
        for name, text in demands.items()
    }
    solving = solve(universe, edges, max_steps)
    try:
        while True:
            learn(next(solving))
    except StopIteration as end:
        solution: dict[str, str] = end.value
        return solution


def order(version: str) -> tuple[bool, Version]:
    parsed = Version.parse(version)
    return not parsed.is_pre, parsed


specs = st.randoms(use_true_random=False).map(random_spec)
wanted = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(REQUIREMENTS), min_size=1, max_size=2
)


@given(specs, wanted)
@settings(max_examples=400, deadline=None)
def test_finds_a_solution_where_there_is_one(spec: Spec, demands: dict[str, str]) -> None:
    known = list(solutions(spec, demands))
    try:
        found = solved(spec, demands)
    except Unsolvable:
        assert not known
        return
    assert found in known
    # No release can be replaced by one that Hex prefers, the others being what they are.
    for name, version in found.items():
        for other in spec[name]:
            if order(other) > order(version):
                assert not is_solution(spec, demands, {**found, name: other})


def literal(spec: Spec, demands: Mapping[str, str]) -> str:
    """As an Elixir term."""
    packages = ", ".join(
        f'"{name}" => %{{'
        + ", ".join(
            f'"{version}" => ['
            + ", ".join(f'{{"{n}", "{text}", {str(opt).lower()}}}' for n, text, opt in needs)
            + "]"
            for version, needs in releases.items()
        )
        + "}"
        for name, releases in spec.items()
    )
    wishes = ", ".join(f'{{"{name}", "{text}", false}}' for name, text in demands.items())
    return f"{{%{{{packages}}}, [{wishes}]}}"


SCRIPT = """
defmodule Known do
  @behaviour Hex.Solver.Registry
  def prefetch(_), do: :ok
  def versions(_, name) do
    case Process.get(:spec) do
      %{^name => releases} ->
        {:ok, releases |> Map.keys() |> Enum.map(&Version.parse!/1) |> Enum.sort(Version)}
      _ -> :error
    end
  end
  def dependencies(_, name, version) do
    {:ok, Enum.map(Process.get(:spec)[name][to_string(version)], &dependency/1)}
  end
  def dependency({name, text, optional}) do
    %{repo: nil, name: name, constraint: Hex.Solver.parse_constraint!(text),
      optional: optional, label: name, dependencies: []}
  end
end
[path] = System.argv()
Logger.configure(level: :none)
{cases, _} = Code.eval_string(File.read!(path))
for {spec, wishes} <- cases do
  Process.put(:spec, spec)
  case Hex.Solver.run(Known, Enum.map(wishes, &Known.dependency/1), [], []) do
    {:ok, found} ->
      IO.puts(Enum.map_join(found, " ", fn {name, {version, _}} -> "#{name}@#{version}" end))
    {:error, _} -> IO.puts("none")
  end
end
"""


@pytest.mark.parametrize("optional", [False, True])
def test_agrees_with_the_solver_of_hex(tmp_path: Path, optional: bool) -> None:
    archive = clients.require_mix()
    beam = next(iter(archive.glob("**/Elixir.Hex.Solver.beam")), None)
    if beam is None:
        pytest.skip("Hex before 2.0 has no such solver: mix local.hex")
    ours = random.Random(20)
    cases = []
    for _ in range(400):
        spec = random_spec(ours, optional=optional)
        names = ours.sample(sorted(spec), ours.randint(1, 2))
        cases.append((spec, {name: ours.choice(REQUIREMENTS) for name in names}))
    question = tmp_path / "question.exs"
    question.write_text("[" + ",\n".join(literal(*case) for case in cases) + "]")
    answers = elixir.run(SCRIPT, question, path=beam.parent).splitlines()
    same = without_conflict = none = 0
    for (spec, demands), answer in zip(cases, answers, strict=True):
        if answer == "none":
            none += 1
            # Where optional dependencies are in conflict, Hex finds fewer solutions than there are.
            if not optional:
                with pytest.raises(Unsolvable):
                    solved(spec, demands)
            continue
        theirs = dict(each.split("@") for each in answer.split())
        found = solved(spec, demands)
        assert optional or found == theirs
        same += found == theirs
        with contextlib.suppress(Unsolvable):
            # One decision for each package: there was no conflict.
            assert solved(spec, demands, max_steps=len(found)) == theirs
            without_conflict += 1
    assert same >= without_conflict > 80
    assert none > 50
