"""Lock files of every shape, broken and hostile ones, and the terms inside them against Elixir's
and Erlang's own readers."""

from __future__ import annotations

import contextlib
import time
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hexcache.errors import LockFileError
from hexcache.locks.lockfiles import LockedRelease, LockFile, LockKind, Skipped, parse

MIX, REBAR = "mix.lock", "rebar.lock"
FIXTURES = Path(__file__).parent / "fixtures"


def read(name: str) -> LockFile:
    """A fixture, under the name that its kind of lock file has: `old.mix.lock` is a mix.lock."""
    return parse(".".join(name.split(".")[-2:]), (FIXTURES / name).read_text("utf-8"))


def inner(package: str) -> str:
    return sha256(f"inner {package}".encode()).hexdigest()


def outer(package: str) -> str:
    return sha256(f"outer {package}".encode()).hexdigest()


def locked(
    name: str, version: str, line: int, repository: str = "hexpm", sums: str = ""
) -> LockedRelease:
    """`sums` says which checksums there are: i, o or both."""
    return LockedRelease(
        name,
        version,
        repository,
        inner(name) if "i" in sums else None,
        outer(name) if "o" in sums else None,
        line,
    )


def test_mix_as_hex_writes_it() -> None:
    assert read("current.mix.lock") == LockFile(
        LockKind.MIX,
        (
            locked("birch", "2.1.0", 2, sums="io"),
            locked("hazel", "0.3.0-rc.1+build.5", 4, "hexpm:orchard", "io"),
            locked("maple", "1.18.1", 5, sums="io"),
            locked("oak", "1.8.1", 6, sums="io"),  # under its package's name, not its app's
        ),
        (Skipped("elm", "from git (https://github.com/example/elm.git), not from Hex"),),
    )


def test_mix_as_hex_wrote_it_over_the_years() -> None:
    assert read("old-shapes.mix.lock") == LockFile(
        LockKind.MIX,
        (
            locked("ash", "0.1.0", 2),
            locked("beech", "1.0.0", 3),
            locked("cedar", "1.1.0", 5, sums="i"),
            locked("cedar_nil", "1.1.1", 7),
            locked("fir", "1.2.0", 9, sums="i"),
            locked("gum", "1.3.0", 10, "acme", "i"),
            locked("larch", "1.4.0", 12, sums="io"),
        ),
        (
            Skipped("nested", "from git (git@example.com:nested.git), not from Hex"),
            Skipped("secret", "from git (https://example.com/secret.git), not from Hex"),
            Skipped("sibling", "from path (../sibling), not from Hex"),
            Skipped("ancient", "from git, not from Hex"),
        ),
    )


def test_mix_as_people_and_elixir_may_write_it() -> None:
    lock = read("edited.mix.lock")
    # The last `pine` counts, as in the map that Mix makes of it.
    assert lock.releases == (
        locked("yew", "1.0.0", 2),
        locked("spruce", "2.0.0", 8),
        locked("pine", "1.0.2", 10),
    )
    assert [each.name for each in lock.skipped] == ["deep", "quoted name?"]
    assert read("keywords.mix.lock") == LockFile(
        LockKind.MIX,
        (locked("ash", "0.1.0", 1),),
        (Skipped("elm", "from git (git://example.com/elm.git), not from Hex"),),
    )


@pytest.mark.parametrize(("version", "sums"), [("1.0", ""), ("1.1", "i"), ("1.2", "io")])
def test_rebar_of_each_format(version: str, sums: str) -> None:
    releases = read(f"{version}.rebar.lock").releases
    assert releases[0] == locked("ash", "0.1.0", 2, sums=sums)
    # Its checksums are kept under the app's name.
    assert all(each == locked("oak", "1.8.1", each.line, sums=sums) for each in releases[1:])


def test_rebar_without_a_format_and_with_other_sources() -> None:
    assert read("0.rebar.lock") == LockFile(
        LockKind.REBAR,
        (locked("ash", "0.1.0", 1), locked("oak", "1.8.1", 6)),
        (Skipped("elm", "from git (https://example.com/elm.git), not from Hex"),),
    )
    assert read("1.2.rebar.lock").skipped == (
        Skipped("elm", "from git_subdir (https://example.com/elm.git), not from Hex"),
        Skipped("raw", "from raw, not from Hex"),
    )


def test_rebar_as_people_and_the_future_may_write_it() -> None:
    lock = read("edited.rebar.lock")
    assert lock.releases == (
        locked("ash", "0.1.0", 3, sums="i"),
        locked("birch", "2.1.0", 4, "hexpm:orchard", "o"),
        locked("cedar", "1.1.0", 5, "acme"),
    )
    assert lock.skipped[0].why.startswith('from hg (\'a "quoted" A\\xe9A')


def test_rebar_with_attributes_that_nobody_knows() -> None:
    lock = '{"1.2.0", [{<<"ash">>, {pkg, <<"ash">>, <<"1.0.0">>}, 0}]}.'
    attributes = '[a, {b, 1}, {pkg_hash, [c, {<<"ash">>, undefined}]}, {pkg_hash_ext, d}].'
    for text in (lock, f"{lock} {attributes}", f"{lock} e."):
        assert parse(REBAR, text).releases == (locked("ash", "1.0.0", 1),)


def test_gleam() -> None:
    assert read("manifest.toml") == LockFile(
        LockKind.GLEAM,
        (locked("ash", "0.34.0", 5, sums="o"), locked("oak", "2.0.0-rc1", 7, sums="o")),
        (
            Skipped("elm", "from git (https://example.com/elm.git), not from Hex"),
            Skipped("yew", "from path (../yew), not from Hex"),
        ),
    )
    assert read("tables.manifest.toml").releases == (
        locked("ash", "0.17.1", 7, sums="o"),
        locked("oak", "1.8.1", 12),
    )


@pytest.mark.parametrize("path", sorted(FIXTURES.iterdir()), ids=lambda path: path.name)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_kind_is_seen_without_the_name(path: Path, ending: str) -> None:
    text = path.read_text("utf-8").replace("\n", ending)
    assert parse("elsewhere", text) == parse(".".join(path.name.split(".")[-2:]), text)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mix.lock", LockKind.MIX),
        ("apps/web/rebar.lock", LockKind.REBAR),
        (r"C:\app\manifest.toml", LockKind.GLEAM),
    ],
)
def test_an_empty_file_locks_nothing(name: str, kind: LockKind) -> None:
    for text in ("", " \n", "\ufeff"):
        assert parse(name, text) == LockFile(kind)


def test_empty_locks() -> None:
    assert parse("mix.lock", "%{}\n") == parse("x", "%{\n}") == LockFile(LockKind.MIX)
    assert parse("rebar.lock", "[].\n") == parse("x", "%% no\n[].") == LockFile(LockKind.REBAR)
    assert parse("manifest.toml", "packages = []\n") == LockFile(LockKind.GLEAM)


def failure(name: str, text: str) -> str:
    with pytest.raises(LockFileError) as caught:
        parse(name, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (MIX, "%{\n<<<<<<< HEAD\n", "mix.lock, line 2: a merge conflict; settle it"),
        ("x", "<<<<<<< HEAD\r\n%{\n", "x, line 1: a merge conflict; settle it"),
        ("app/" + REBAR, "[\n=======\n", "app/rebar.lock, line 2: a merge conflict; settle"),
        ("manifest.toml", "a = 1\n>>>>>>> x\n", "line 2: a merge conflict"),
        (MIX, "%{||||||| base", "line 1: unexpected '|'"),
        ("x", "hello", "x, line 1: not known what kind of lock file this is; name it mix.lock"),
        ("x\ny", "hello", r"'x\ny', line 1: not known"),
        (MIX, "x" * 1_100_000, "line 1: a lock file of more than 1,048,576 characters; is this"),
        # Elixir
        (MIX, "%{\n  a: {:hex,", "line 2: expected a term, found the end of the file; take it"),
        (MIX, '%{a: "x\n', "line 1: a quoted text that doesn't end, or that computes something"),
        (MIX, '%{a: "#{1}"}', "line 1: a quoted text that doesn't end, or that computes"),
        (MIX, '%{a: """\nx\n"""}', "line 1: expected a term, found '\"\"\"'"),
        (MIX, "%{a: System.halt()}", "line 1: unexpected '.'"),
        (MIX, "%{a: foo}", "line 1: expected a term, found 'foo'"),
        (MIX, "%{a: {1 2}}", "line 1: expected ',' or '}', found '2'"),
        (MIX, "%{a: 1, b => 2}", "line 1: a `key => value` pair after `key: value` pairs"),
        (MIX, "%{:a 1}", "line 1: expected '=>', found '1'"),
        (MIX, "%{a: [b: 1, 2]}", "line 1: a plain item after `key: value` items"),
        (MIX, "%{a: [,]}", "line 1: expected a term, found ','"),
        (MIX, "%{} %{}", "line 1: expected the end of the file, found '%{'"),
        (MIX, '%{a: "\\u12"}', "line 1: an escape that is cut short"),
        (MIX, '%{a: "\\u{D800}"}', "line 1: an escape that names no character: 'D800'"),
        (MIX, '%{a: "\\u{110000}"}', "line 1: an escape that names no character: '110000'"),
        (MIX, "%{a: " + "1" * 2000 + "}", "is not a number that can be read"),
        (MIX, "%{a: <<:b>>}", "line 1: expected a byte or a string, found ':b'"),
        (MIX, "[" * 100_000, "line 1: terms nested more than 32 deep"),
        (MIX, "{:hex}", "line 1: a map %{…} is wanted"),
        (MIX, "[1]", "line 1: a list of `app: {…}` is wanted"),
        (MIX, "%{1 => 2}", "line 1: an entry whose key is no name"),
        (MIX, "%{a: 1}", "line 1: the entry 'a' is no {:hex, …} or {:git, …}"),
        (MIX, "%{\na: {:hex, :a}}", "line 2: the entry 'a' has no version; take it from version"),
        (MIX, "%{a: {:hex}}", "line 1: the entry 'a' has no package name"),
        (MIX, "%{a: {:hex, :a, [x: 1]}}", "line 1: a text is wanted where the entry has"),
        (MIX, '%{a: {:hex, :a, "../../etc"}}', "line 1: '../../etc' is no version (entry 'a')"),
        (MIX, '%{a: {:hex, "a/b", "1.0.0"}}', "line 1: 'a/b' is no package name (entry 'a')"),
        (MIX, '%{a: {:hex, :a, "1.0.0", "12"}}', "line 1: '12' is no checksum (entry 'a')"),
        (MIX, '%{a: {:hex, :a, "1.0.0", nil, [], [], "/"}}', "line 1: '/' is no repository"),
        # Erlang
        (REBAR, "[]", "line 1: expected a full stop, found the end of the file; take it"),
        (REBAR, '"', "line 1: a quoted text that doesn't end"),
        (REBAR, "[a|b].", "line 1: expected ',' or ']', found '|'"),
        (REBAR, "[a,].", "line 1: expected a term, found ']'"),
        (REBAR, "\n\n[Variable].", "line 3: unexpected 'V'"),
        (REBAR, "- a.", "line 1: expected a number, found 'a'"),
        (REBAR, "1#0.", "line 1: '0' is not a number that can be read"),
        (REBAR, "2#9.", "line 1: '9' is not a number that can be read"),
        (REBAR, '"\\x".', "line 1: an escape that is cut short"),
        (REBAR, "<<a>>.", "line 1: expected a byte or a string, found 'a'"),
        (REBAR, '<<"a"/float>>.', "line 1: expected utf8, the one type of binary that is read"),
        (REBAR, "#{" * 100, "line 1: terms nested more than 32 deep"),
        (REBAR, "a.", "line 1: a list of locks, or {Version, Locks}, is wanted"),
        (REBAR, "\n[a].", "line 2: a lock is wanted: {Name, Source, Level}"),
        (REBAR, '[{<<"a">>, b, 0}].', "line 1: the lock 'a' has no source: {pkg, …}, {git, …}"),
        (REBAR, '[\n{<<"a">>, {pkg}, 0}].', "line 2: the entry 'a' has no package name"),
        # TOML
        ("manifest.toml", "a = \n", "line 1: not TOML: Invalid value; take it from"),
        ("manifest.toml", 'a = "', "line 1: not TOML: "),
        ("manifest.toml", "\na = " + "1" * 5000, "line 1: not TOML: "),
        ("manifest.toml", "a = " + "[" * 100_000, "line 1: it is nested too deeply"),
        ("manifest.toml", "\n" + "a." * 500_000 + "a = 1", "line 2: a key of too many parts"),
        ("manifest.toml", "packages = 1", "line 1: `packages` is no list"),
        ("manifest.toml", "packages = [1]", "line 1: a package without a name"),
        ("manifest.toml", '[[packages]]\nname = "a"', "line 2: the package 'a' has no source"),
        (
            "manifest.toml",
            '[[packages]]\nname = "a"\nversion = 1\nsource = "hex"',
            "line 2: version of the package 'a' is no text",
        ),
    ],
)  # fmt: skip
def test_messages_say_where_and_what(name: str, text: str, message: str) -> None:
    began = time.monotonic()
    said = failure(name, text)
    assert message in said
    assert said.isprintable()
    assert "; " in said  # and what to do
    assert time.monotonic() - began < 2


SAMPLES = [path.read_text("utf-8") for path in sorted(FIXTURES.iterdir())]
pieces = st.sampled_from(
    [
        *(
            '%{"a": ',
            "a: ",
            "{:hex, :a, ",
            '"1.0.0"',
            "}",
            "]",
            "[",
            "{",
            "%{",
            ",",
            "=>",
            ":a",
            "nil",
        ),
        *(
            "<<",
            ">>",
            '<<"a">>',
            "{pkg,",
            "{git,",
            "0",
            "}.",
            "].",
            ".",
            "\n",
            " ",
            '"',
            "'",
            "#",
            "%",
        ),
        *(
            "packages = ",
            "[[packages]]\n",
            'name = "a"',
            'source = "hex"',
            "\\",
            "\\x",
            "?",
            "$",
            "-",
        ),
        *("~c", ":", "/utf8", "16#FF", "1.5", "|", "#{", "é", "\0", "\ud800"),
    ]
)
texts = st.text() | st.lists(pieces, max_size=25).map("".join)
names = st.sampled_from([*LockKind, "x"])


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A real lock file with a cut and something put in."""
    sample = draw(st.sampled_from(SAMPLES))
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(sample))] * 2)))
    return sample[:begin] + draw(texts) + sample[end if draw(st.booleans()) else begin :]


@given(names, texts | damaged())
@settings(max_examples=1500, deadline=1000)
@example("mix.lock", "\ud800")
def test_any_text_is_a_lock_file_or_an_error(name: str, text: str) -> None:
    try:
        lock = parse(name, text)
    except LockFileError as error:
        message = str(error)
        assert message.isprintable(), message
    else:
        for each in lock.skipped:
            assert (each.name + each.why).isprintable()


PIECES = (
    *(
        "[",
        "{",
        "%{",
        "#{",
        "<<",
        '"',
        "'",
        "\\",
        "a",
        "1",
        "1_",
        ":",
        ":a",
        "a: ",
        " ",
        "#",
        "%",
        "\n",
    ),
    *('"a"', '""', "''", '"\\', "a,", "1,", "{},", "[],", "a.", "a=1\n", "[[a]]\n", "~c", "?", "$"),
    *(
        "-",
        "a={",
        'name = "a"\n',
        "{git,a},",
        "=",
        "<",
        "|",
        "\ufeff",
        '"a".',
        "'a'.",
        "a=[[",
        "[a.a]\n",
    ),
)


@pytest.mark.parametrize("piece", PIECES)
def test_much_of_anything_takes_bounded_time(piece: str) -> None:
    # Whole, and behind what makes a reader go on. Of what takes quadratic time 100 KB would take
    # minutes (a pattern that begins anew at each character did).
    for name in LockKind:
        for opening in ("", "%{a: [", "packages = ["):
            text = (opening + piece * (100_000 // len(piece)))[:100_000]
            began = time.monotonic()
            with contextlib.suppress(LockFileError):
                parse(name, text)
            assert time.monotonic() - began < 4


def test_a_large_lock_file_is_read_quickly() -> None:
    line = (FIXTURES / "current.mix.lock").read_text().splitlines()[1]
    text = "%{" + "\n".join(line.replace("birch", f"birch{n}") for n in range(2000)) + "}"
    began = time.monotonic()
    assert len(parse("mix.lock", text).releases) == 2000
    assert time.monotonic() - began < 5
