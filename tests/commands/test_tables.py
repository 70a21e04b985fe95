"""How a table is laid out in a certain width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexcache.commands.tables import fitted, print_table

TABLE = [
    ("PACKAGE", "SIZE", "RELEASES", "NOTES"),
    ("phoenix", "1.2 MB", "1.7.14, 1.7.12, 1.7.10 and 45 more", "pinned, retired 1.7.10"),
    ("x", "-", "-", ""),
]


def test_side_by_side_where_there_is_room() -> None:
    assert [lines for row in fitted(TABLE, 80, 2) for lines in row] == [
        "PACKAGE  SIZE    RELEASES                            NOTES",
        "phoenix  1.2 MB  1.7.14, 1.7.12, 1.7.10 and 45 more  pinned, retired 1.7.10",
        "x        -       -",
    ]


def test_columns_break_between_words() -> None:
    assert list(fitted(TABLE, 56, 2))[1] == [
        "phoenix  1.2 MB  1.7.14, 1.7.12,        pinned, retired",
        "                 1.7.10 and 45 more     1.7.10",
    ]


def test_below_where_there_is_none() -> None:
    header, phoenix, x = fitted(TABLE, 40, 2)
    assert header == ["PACKAGE  SIZE    RELEASES", "    NOTES"]
    assert phoenix == [
        "phoenix  1.2 MB  1.7.14, 1.7.12, 1.7.10",
        "                 and 45 more",
        "    pinned, retired 1.7.10",
    ]
    assert x == ["x        -       -"]


@given(
    st.lists(st.tuples(*[st.text("ab -", max_size=60)] * 4), min_size=1),
    st.integers(1, 200),
    st.integers(0, 4),
)
def test_nothing_is_lost(rows: list[tuple[str, ...]], width: int, breaking: int) -> None:
    for row, lines in zip(rows, fitted(rows, width, breaking), strict=True):
        shown = "".join(lines).replace(" ", "").replace("-", "")
        assert sorted(shown) == sorted("".join(row).replace(" ", "").replace("-", ""))


def test_what_is_very_long_pads_nobody_s_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("x" * 500, "1"), ("y", "2")])
    _, long, short = capsys.readouterr().out.splitlines()
    assert long == "x" * 500 + "  1"
    assert short == "y" + " " * 41 + "2"
