"""Versions and requirements, against Elixir's own `Version` and Hex's own solver."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.errors import RequirementError
from hexcache.versions.requirements import Requirement, Version, newest
from support import clients, elixir

VERSIONS = [
    *("0.0.0", "0.0.0-0", "0.1.0", "0.9.9", "1.0.0", "1.0.0-0", "1.0.0-1", "1.0.0-2", "1.0.0-10"),
    *("1.0.0-a", "1.0.0-a.1", "1.0.0-a.1.0", "1.0.0-a.b", "1.0.0-A", "1.0.0-rc.1", "1.0.0-rc.10"),
    *("1.0.0-rc.2", "1.0.0-rc1", "1.0.0--", "1.0.0-0a", "1.0.0+b", "1.0.0-a+b", "1.0.1", "1.2.0"),
    *("1.2.0-dev", "1.2.3", "1.2.3-dev.4", "1.2.4-rc", "1.3.0-0", "1.3.0", "1.10.0", "2.0.0-0"),
    *(
        "2.0.0-dev",
        "2.0.0-rc.1",
        "2.0.0",
        "2.0.1",
        "2.1.0-a",
        "3.0.0",
        "10.0.0",
        "1.0.0-9999999999",
    ),
]
NO_VERSIONS = [
    *("", "1", "1.0", "1.0.0.0", "1.0.0.", ".1.0", "1..0", "v1.0.0", "01.0.0", "1.00.0", "1.0.01"),
    *("1.0.0-", "1.0.0+", "1.0.0-a.", "1.0.0-.a", "1.0.0-01", "1.0.0-00", "1.0.0-a_b", "1.0.0+a+b"),
    *("1.0.0+a.", " 1.0.0", "1.0.0 ", "1.0.0\n", "-1.0.0", "1.-0.0", "+1.0.0", "1.0.0-é", "٣.0.0"),
    *("1.0.0-٣", "1.0-a", "1.0.0-+b", "a.b.c", "1.0.0\0"),
]
TOKENS = [">=", "<=", "~>", ">", "<", "==", "!=", "!", "=", " and ", " or ", " ", "and", "or", ""]
TOKENS += ["1.0.0", "1.2", "2.0-dev", "1.2.3-rc.1", "1", "\t", "\n", "é", "-", "+", "x"]


def requirements() -> list[str]:
    """All single conditions, and many combinations, good and bad; the same ones each time."""
    ours = random.Random(5)
    operators = ["~> ", ">= ", "> ", "< ", "<= ", "== ", "!= ", "! ", "", "~>", "!", ">="]
    bounds = [*VERSIONS, "1.0", "1.2", "2.0-dev", "0.0", "1.0+b", "1.2-rc.1", *NO_VERSIONS]
    singles = [op + bound for op in operators for bound in bounds]
    good = [each for each in singles if not each.endswith(tuple(NO_VERSIONS[1:]))]
    joined = [
        "".join(
            part
            for condition in ours.choices(good, k=ours.randint(2, 4))
            for part in (condition, ours.choice([" and ", " or ", "  and  "]))
        ).rsplit(maxsplit=1)[0]
        for _ in range(400)
    ]
    noise = ["".join(ours.choices(TOKENS, k=ours.randint(1, 8))) for _ in range(600)]
    return list(dict.fromkeys(singles + joined + noise))


SCRIPT = """
[path] = System.argv()
lines = path |> File.read!() |> String.split("\\n", trim: true)
decode = fn "." <> hex -> Base.decode16!(hex) end
{versions, ["--" | requirements]} = Enum.split_while(lines, & &1 != "--")
parsed = for line <- versions do
  case Version.parse(decode.(line)) do
    {:ok, version} -> IO.puts("ok " <> to_string(version)); version
    :error -> IO.puts("error"); nil
  end
end
versions = Enum.filter(parsed, & &1)
for a <- versions do
  IO.puts(Enum.map_join(versions, " ", &to_string(Version.compare(a, &1))))
end
for line <- requirements do
  case Version.parse_requirement(decode.(line)) do
    {:ok, requirement} ->
      IO.puts(for version <- versions, pre <- [true, false] do
        if Version.match?(version, requirement, allow_pre: pre), do: "t", else: "f"
      end)
    :error -> IO.puts("error")
  end
end
"""


def ask(
    script: str,
    tmp_path: Path,
    versions: list[str],
    requirements: list[str],
    path: Path | None = None,
) -> list[str]:
    """What the script prints for the versions and requirements, which it gets in hexadecimal:
    they may hold anything."""
    question = tmp_path / "question"
    lines = ["." + text.encode().hex().upper() for text in versions]
    lines += ["--", *("." + text.encode().hex().upper() for text in requirements)]
    question.write_text("\n".join(lines))
    return elixir.run(script, question, path=path).splitlines()


def test_agrees_with_elixir(tmp_path: Path) -> None:
    asked = requirements()
    answers = iter(ask(SCRIPT, tmp_path, VERSIONS + NO_VERSIONS, asked))

    for text in VERSIONS + NO_VERSIONS:
        answer = next(answers)
        if answer == "error":
            with pytest.raises(RequirementError):
                Version.parse(text)
        else:
            assert "ok " + str(Version.parse(text)) == answer

    versions = [Version.parse(text) for text in VERSIONS]
    for version in versions:
        compared = [
            "lt" if version < other else "eq" if version == other else "gt" for other in versions
        ]
        assert compared == next(answers).split(), version

    parsed = 0
    for text in asked:
        answer = next(answers)
        try:
            requirement = Requirement.parse(text)
        except RequirementError:
            assert answer == "error", text
            continue
        if answer == "error" and "!" in text:
            continue  # deprecated since Elixir 1.11, and perhaps gone one day
        matched = [
            requirement.matches(version, allow_pre=pre)
            for version in versions
            for pre in (True, False)
        ]
        assert "".join("ft"[each] for each in matched) == answer, text
        parsed += 1
    assert parsed > 700
    assert next(answers, None) is None


SOLVER_SCRIPT = """
[path] = System.argv()
lines = path |> File.read!() |> String.split("\\n", trim: true)
decode = fn "." <> hex -> Base.decode16!(hex) end
{versions, ["--" | requirements]} = Enum.split_while(lines, & &1 != "--")
versions = for line <- versions, {:ok, version} <- [Version.parse(decode.(line))], do: version
for line <- requirements do
  constraint = try do
    Hex.Solver.Requirement.to_constraint(decode.(line))
  rescue
    _ -> :error
  end
  case constraint do
    {:ok, constraint} ->
      allowed = Enum.filter(versions, &Hex.Solver.Constraint.allows?(constraint, &1))
      best = allowed |> Enum.sort(&Hex.Solver.Constraints.Version.prioritize/2) |> List.first()
      IO.puts(Enum.join(["ok", best | allowed], " "))
    :error -> IO.puts("error")
  end
end
"""


def test_agrees_with_the_solver_of_hex_where_it_reads_the_requirement(tmp_path: Path) -> None:
    archive = clients.require_mix()
    beam = next(iter(archive.glob("**/Elixir.Hex.Solver.Requirement.beam")), None)
    if beam is None:
        pytest.skip("Hex before 2.0 has no such solver: mix local.hex")
    # Build metadata is compared there, and empty or doubled ranges, `!=` and a third `and`
    # are refused.
    plain = [text for text in VERSIONS if "+" not in text]
    versions = [Version.parse(text) for text in plain]
    asked = [text for text in requirements() if "+" not in text]
    answers = ask(SOLVER_SCRIPT, tmp_path, plain, asked, beam.parent)
    agreed = 0
    for text, answer in zip(asked, answers, strict=True):
        if answer == "error":
            continue
        requirement = Requirement.parse(text)
        _, best, *allowed = answer.split(" ")
        ours = [str(version) for version in versions if requirement.matches(version)]
        assert ours == allowed, text
        assert str(newest(versions, requirement) or "") == best, text
        agreed += 1
    assert agreed > 300


@pytest.mark.parametrize(
    ("requirement", "best"),
    [
        ("~> 1.0", "1.10.0"),
        ("~> 1.2.3", "1.2.3"),
        (">= 1.0.0 and < 2.0.0", "1.10.0"),
        ("~> 2.1-a", "2.1.0-a"),  # nothing stable there
        ("> 3.0.0 and < 10.0.0", None),
        ("> 2.1.0-0 and < 2.1.0", "2.1.0-a"),
    ],
)
def test_newest_is_stable_where_it_can_be(requirement: str, best: str | None) -> None:
    versions = map(Version.parse, VERSIONS)
    assert newest(versions, Requirement.parse(requirement)) == (best and Version.parse(best))


def test_newest_satisfies_every_requirement() -> None:
    versions = [Version.parse(text) for text in VERSIONS]
    both = [Requirement.parse("~> 1.0"), Requirement.parse("< 1.2.0 or == 1.2.3")]
    assert str(newest(versions, *both)) == "1.2.3"
    assert str(newest(versions)) == "10.0.0"
    assert newest([]) is None


def test_the_build_is_printed_but_not_compared() -> None:
    one, other = Version.parse("1.0.0+a.01"), Version.parse("1.0.0")
    assert one == other
    assert hash(one) == hash(other)
    assert str(one) == "1.0.0+a.01"
    assert one != "1.0.0"
    with pytest.raises(TypeError):
        _ = one < "1.0.0"


@pytest.mark.parametrize("text", ["9" * 5000, "1.0.0-" + "1" * 5000, "1.0." + "1" * 255])
def test_what_is_too_long_is_refused(text: str) -> None:
    with pytest.raises(RequirementError):
        Version.parse(text)
    with pytest.raises(RequirementError):
        Requirement.parse(f">= {text}")


def test_messages_say_what_to_write() -> None:
    with pytest.raises(RequirementError, match=r"^'1\.4' is not a version: write all three"):
        Version.parse("1.4")
    with pytest.raises(RequirementError, match=r"^'1\.4' in the requirement '>= 1\.4' is not"):
        Requirement.parse(">= 1.4")
    with pytest.raises(RequirementError, match=r"^'>= ' is not a version requirement: write"):
        Requirement.parse(">= ")
    with pytest.raises(RequirementError, match=r"too long for a requirement: shorten"):
        Requirement.parse("1.0.0 or " * 1000)


pieces = st.lists(st.sampled_from([*TOKENS, *VERSIONS, *NO_VERSIONS]), max_size=12).map("".join)
any_text = st.text() | st.text(".-+0123456789aZ") | pieces


def one_line(error: RequirementError) -> None:
    assert str(error).isprintable()


@given(any_text)
@settings(max_examples=500)
def test_any_text_is_a_version_or_an_error(text: str) -> None:
    try:
        version = Version.parse(text)
    except RequirementError as error:
        one_line(error)
    else:
        assert Version.parse(str(version)) == version


@given(any_text, st.booleans())
@settings(max_examples=500)
def test_any_text_is_a_requirement_or_an_error(text: str, allow_pre: bool) -> None:
    try:
        requirement = Requirement.parse(text)
    except RequirementError as error:
        one_line(error)
    else:
        assert str(requirement) == text
        requirement.matches(Version.parse("1.0.0-rc"), allow_pre=allow_pre)


@given(st.lists(st.sampled_from([Version.parse(text) for text in VERSIONS]), max_size=6))
def test_versions_are_totally_ordered(versions: list[Version]) -> None:
    for one, other in itertools.pairwise(sorted(versions)):
        assert one <= other
        assert not other < one
