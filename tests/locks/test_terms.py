"""Erlang's and Elixir's terms: what is read here is what their own readers read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hexcache.locks import elixir_terms, erlang_terms
from hexcache.locks.terms import Atom, List, Map, Source, Term, Tuple, text_of
from support import elixir

FIXTURES = Path(__file__).parent / "fixtures"
SOURCE = Source("x", "mend it")

# Terms in a form that has only one way to be written, the same as `canonical` below.
CANONICAL = """
defmodule Canonical do
  def of(x) when is_atom(x), do: "a" <> hex(Atom.to_string(x))
  def of(x) when is_binary(x), do: "b" <> hex(x)
  def of(x) when is_integer(x), do: "i" <> Integer.to_string(x)
  def of(x) when is_float(x), do: "f" <> hex(<<x::float>>)
  def of(x) when is_tuple(x), do: "{" <> all(Tuple.to_list(x)) <> "}"
  def of(x) when is_list(x), do: "[" <> all(x) <> "]"
  def of(x) when is_map(x) do
    "%{" <> (for({k, v} <- x, do: of(k) <> "=" <> of(v)) |> Enum.sort() |> Enum.join(",")) <> "}"
  end
  defp all(items), do: Enum.map_join(items, ",", &of/1)
  defp hex(bytes), do: Base.encode16(bytes)
end
"""


def canonical(term: Term) -> str:
    match term:
        case Atom(name):
            return "a" + name.encode().hex().upper()
        case bytes():
            return "b" + term.hex().upper()
        case int():
            return f"i{term}"
        case float():
            return "f" + struct.pack(">d", term).hex().upper()
        case Tuple(items):
            return "{" + ",".join(map(canonical, items)) + "}"
        case List(items):
            return "[" + ",".join(map(canonical, items)) + "]"
        case Map(pairs):
            unique = {canonical(pair.items[0]): canonical(pair.items[1]) for pair in pairs}
            return "%{" + ",".join(sorted(f"{key}={value}" for key, value in unique.items())) + "}"


def from_elixir(text: str) -> str:
    term = elixir_terms.parse(text, SOURCE)
    assert term is not None
    return canonical(term)


def test_fixtures_of_mix_are_read_as_elixir_reads_them() -> None:
    paths = sorted(FIXTURES.glob("*mix.lock"))
    script = """
    for path <- System.argv() do
      {term, _} = path |> File.read!() |> Code.eval_string()
      IO.puts(Canonical.of(term))
    end
    """
    answers = elixir.run(CANONICAL + script, *paths).splitlines()
    assert [from_elixir(path.read_text("utf-8")) for path in paths] == answers


def test_fixtures_of_rebar_are_read_as_erlang_reads_them() -> None:
    paths = sorted(FIXTURES.glob("*rebar.lock"))
    script = """
    for path <- System.argv() do
      {:ok, terms} = path |> String.to_charlist() |> :file.consult()
      IO.puts(Canonical.of(terms))
    end
    """
    answers = elixir.run(CANONICAL + script, *paths).splitlines()
    terms = [erlang_terms.parse(path.read_text("utf-8"), SOURCE) for path in paths]
    assert [canonical(List(each)) for each in terms] == answers


WRITE = """
:rand.seed(:exsss, {5, 5, 5})
pick = fn list -> Enum.at(list, :rand.uniform(length(list)) - 1) end
text = fn ->
  for _ <- 1..:rand.uniform(8)//1, into: "" do
    <<pick.([?a, ?z, ?_, ?@, ?!, ??, 0, 7, 9, 10, 13, 27, 127, 32, ?", ?', ?\\\\, ?#, ?{, ?}, ?%,
             ?~, ?$, ?^, ?0, ?x, ?:, 0x85, 0xE9, 0x3B1, 0x2028, 0x1F332])::utf8>>
  end
end
atom = fn ->
  pick.([:ok, nil, true, :ok?, :go!, :at@home, :"a b", :"1", :"é", Foo, Foo.Bar, :Foo, :"",
         :undefined, String.to_atom("a" <> text.())])
end
term = fn term, depth ->
  items = fn -> for _ <- 1..(:rand.uniform(4) - 1)//1, do: term.(term, depth - 1) end
  case :rand.uniform(if depth > 0, do: 13, else: 7) do
    1 -> atom.()
    2 -> text.()
    3 -> String.to_charlist(text.())
    4 -> :rand.bytes(:rand.uniform(5) - 1)
    5 -> :rand.uniform(pick.([9, 300, 99_999_999_999_999_999_999])) - 100
    6 -> (:rand.uniform() - 0.5) * :math.pow(10, :rand.uniform(60) - 30)
    7 -> pick.(["1.0.0", :hex, [], {}, %{}, "\\#{x}", 'abc'])
    8 -> List.to_tuple(items.())
    9 -> items.()
    10 -> for _ <- 1..3, do: {atom.(), term.(term, depth - 1)}
    11 -> Map.new(items.(), &{&1, term.(term, depth - 1)})
    12 -> Map.new(1..2, fn _ -> {atom.(), term.(term, depth - 1)} end)
    13 -> items.() ++ [{atom.(), 1}]
  end
end
line = fn text -> IO.puts(Base.encode16(text)) end
for _ <- 1..1500 do
  value = term.(term, 4)
  IO.puts(Canonical.of(value))
  line.(inspect(value, limit: :infinity, printable_limit: :infinity))
  line.(:unicode.characters_to_binary(:io_lib.format("~tp.~n", [value])))
  line.(:unicode.characters_to_binary(:io_lib.format("~w.~n", [value])))
end
"""


def test_what_elixir_and_erlang_write_is_read_back() -> None:
    answers = iter(elixir.run(CANONICAL + WRITE).splitlines())
    read = 0
    for wanted, *written in zip(answers, answers, answers, answers, strict=True):
        by_inspect, by_p, by_w = (bytes.fromhex(text).decode() for text in written)
        assert from_elixir(by_inspect) == wanted, by_inspect
        for text in (by_p, by_w):
            (term,) = erlang_terms.parse(text, SOURCE)
            assert canonical(term) == wanted, text
        read += 1
    assert read == 1500


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (b"a", "a"),
        (Atom("a"), "a"),
        (List((97, 98)), "ab"),
        (List(()), ""),
        (Atom("nil"), None),
        (Atom("undefined"), None),
        (b"\xff", None),
        (List((97, b"b")), None),
        (List((-1,)), None),
        (List((10**30,)), None),
        (1, None),
        (Tuple(()), None),
    ],
)
def test_text_of(term: Term, text: str | None) -> None:
    assert text_of(term) == text
