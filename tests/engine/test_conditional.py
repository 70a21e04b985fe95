"""Conditional and range requests, as RFC 9110 has them and as rebar3 and curl send them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.engine.conditional import Selection, select

ETAG = '"5d41402abc4b2a76"'
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
LATER = "Wed, 15 Nov 2023 22:13:20 GMT"
SIZE = 1000

WHOLE = Selection(200, 0, SIZE)
UNCHANGED = Selection(304, 0, 0)
UNSATISFIABLE = Selection(416, 0, 0)


def chosen(*, etag: str = ETAG, size: int = SIZE, **headers: str) -> Selection:
    """Header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return select(named, etag=etag, last_modified=MODIFIED, size=size)


def test_without_a_condition_the_whole_body() -> None:
    assert chosen() == WHOLE
    assert WHOLE.length == SIZE


@pytest.mark.parametrize(
    "condition",
    [
        ETAG,
        f"W/{ETAG}",
        "*",
        f'"other", {ETAG}',
        f'"other",{ETAG},"third"',
        f'W/"other" ,W/{ETAG}',
        f'"a, b", {ETAG}',
        f" {ETAG} ",
    ],
)
def test_a_copy_that_is_current_is_not_sent_again(condition: str) -> None:
    assert chosen(if_none_match=condition) == UNCHANGED


@pytest.mark.parametrize(
    "condition", ['"other"', 'W/"other"', "5d41402abc4b2a76", '"5d41402abc4b2a76', '""', ",", "**"]
)
def test_another_tag_gets_the_whole_body(condition: str) -> None:
    assert chosen(if_none_match=condition) == WHOLE


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_tag_means_that_there_is_no_copy(empty: str) -> None:
    # rebar3 sends it, and a 304 would break it.
    assert chosen(if_none_match=empty) == WHOLE


def test_a_tag_that_a_cdn_made_weak_still_matches() -> None:
    assert chosen(etag=f"W/{ETAG}", if_none_match=ETAG) == UNCHANGED
    assert chosen(etag=f"W/{ETAG}", if_none_match=f"W/{ETAG}") == UNCHANGED


def test_if_modified_since() -> None:
    assert chosen(if_modified_since=MODIFIED) == UNCHANGED
    assert chosen(if_modified_since="Mon, 01 Jan 2001 00:00:00 GMT") == WHOLE
    assert chosen(if_modified_since="yesterday") == WHOLE
    assert chosen(if_modified_since="") == WHOLE


def test_a_tag_goes_before_a_date() -> None:
    assert chosen(if_none_match='"other"', if_modified_since=MODIFIED) == WHOLE
    assert chosen(if_none_match=ETAG, if_modified_since=LATER) == UNCHANGED


def test_nothing_stored_of_a_date_matches_no_date() -> None:
    assert select({"if-modified-since": ""}, etag=ETAG, last_modified="", size=SIZE) == WHOLE
    headers = {"range": "bytes=0-9", "if-range": MODIFIED}
    assert select(headers, etag=ETAG, last_modified="", size=SIZE) == WHOLE


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=500-", 500, SIZE),
        ("bytes=999-", 999, SIZE),
        ("bytes=0-", 0, SIZE),
        ("bytes=900-5000", 900, SIZE),
        ("bytes=-1", 999, SIZE),
        ("bytes=-100", 900, SIZE),
        ("bytes=-5000", 0, SIZE),
    ],
)
def test_a_part(wanted: str, start: int, stop: int) -> None:
    assert chosen(range=wanted) == Selection(206, start, stop)


@pytest.mark.parametrize("wanted", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=5000-"])
def test_a_part_beyond_the_end(wanted: str) -> None:
    assert chosen(range=wanted) == UNSATISFIABLE


def test_nothing_has_no_part() -> None:
    assert chosen(size=0, range="bytes=0-") == UNSATISFIABLE
    assert chosen(size=0) == Selection(200, 0, 0)


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=9-0",
        "bytes=-",
        "bytes=",
        "bytes",
        "lines=0-9",
        "bytes=0-9,20-29",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=--5",
        "bytes=0-" + "9" * 5000,
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_a_range_that_is_not_understood_is_ignored(wanted: str) -> None:
    assert chosen(range=wanted) == WHOLE


def test_a_resume_goes_on_only_with_the_same_body() -> None:
    part = Selection(206, 500, SIZE)
    assert chosen(range="bytes=500-", if_range=ETAG) == part
    assert chosen(range="bytes=500-", if_range=MODIFIED) == part
    assert chosen(range="bytes=500-", if_range='"other"') == WHOLE
    assert chosen(range="bytes=500-", if_range=LATER) == WHOLE
    assert chosen(range="bytes=5000-", if_range='"other"') == WHOLE


def test_a_weak_tag_never_selects_a_part() -> None:
    weak = f"W/{ETAG}"
    assert chosen(range="bytes=500-", if_range=weak) == WHOLE
    assert chosen(etag=weak, range="bytes=500-", if_range=weak) == WHOLE
    assert chosen(etag=weak, range="bytes=500-", if_range=ETAG) == WHOLE


def test_a_condition_goes_before_a_range() -> None:
    assert chosen(if_none_match=ETAG, range="bytes=0-9") == UNCHANGED
    assert chosen(if_none_match='"other"', range="bytes=0-9") == Selection(206, 0, 10)


def test_a_head_request_has_no_part() -> None:
    headers = {"range": "bytes=0-9"}
    got = select(headers, etag=ETAG, last_modified=MODIFIED, size=SIZE, method="HEAD")
    assert got == WHOLE
    headers = {"range": "bytes=0-9", "if-none-match": ETAG}
    got = select(headers, etag=ETAG, last_modified=MODIFIED, size=SIZE, method="HEAD")
    assert got == UNCHANGED


numbers = st.one_of(st.just(""), st.integers(0, 2000).map(str), st.text("0123456789٣", max_size=40))
ranges = st.one_of(
    st.text(max_size=30),
    st.builds("bytes={}-{}".format, numbers, numbers),
    st.lists(st.builds("{}-{}".format, numbers, numbers)).map(lambda r: "bytes=" + ",".join(r)),
)
tags = st.one_of(st.text(max_size=20), st.sampled_from([ETAG, f"W/{ETAG}", "*", MODIFIED, ""]))


@settings(deadline=None)
@given(
    headers=st.fixed_dictionaries(
        {},
        optional={
            "range": ranges,
            "if-range": tags,
            "if-none-match": tags,
            "if-modified-since": tags,
        },
    ),
    etag=tags,
    last_modified=st.sampled_from([MODIFIED, ""]),
    size=st.integers(0, 1500),
)
def test_any_headers_select_something_inside_the_body(
    headers: dict[str, str], etag: str, last_modified: str, size: int
) -> None:
    selection = select(headers, etag=etag, last_modified=last_modified, size=size)
    assert selection.status in (200, 206, 304, 416)
    assert 0 <= selection.start <= selection.stop <= size
    match selection.status:
        case 200:
            assert selection.length == size
        case 206:
            assert selection.length > 0
            assert "range" in headers
        case 304:
            # A 304 without a validator breaks every client.
            assert any(headers.get(f"if-{x}", "").strip() for x in ("none-match", "modified-since"))
        case 416:
            assert "range" in headers


@given(first=st.integers(0, 1500), last=st.integers(0, 1500), size=st.integers(1, 1000))
def test_a_range_is_what_python_slices(first: int, last: int, size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    got = chosen(size=size, range=f"bytes={first}-{last}")
    if last < first:
        assert got == Selection(200, 0, size)
    elif first >= size:
        assert got == UNSATISFIABLE
    else:
        assert got.status == 206
        assert body[got.start : got.stop] == body[first : last + 1]
