"""The status page's parts that need no server."""

from __future__ import annotations

import pytest

from hexcache.page import charts, words
from hexcache.page.hosts import host_of, is_ours


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("127.0.0.1:8081", "127.0.0.1"),
        ("[::1]:8081", "::1"),
        ("[::1]", "::1"),
        ("localhost", "localhost"),
        ("HexCache:8081", "hexcache"),
        ("hexcache.local.", "hexcache.local"),
        ("my_host.lan:80", "my_host.lan"),
        ("", None),
        ("a b", None),
        ("user@host", None),
        ("host:port", None),
        ('"><script>', None),
        ("a..b", None),
        ("-a", None),
    ],
)
def test_the_host_in_a_header(header: str, host: str | None) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("192.168.1.7", True),
        ("::1", True),
        ("localhost", True),
        ("hexcache", True),
        ("hexcache.local", True),
        ("cache.team.internal", True),
        ("hexcache.default.svc", True),
        ("hexcache.default.svc.cluster.local", True),
        ("rebind.example.com", False),
        ("127.0.0.1.nip.io", False),
        ("localhost.evil.net", False),
        ("local", True),
        ("notlocal.com", False),
        ("cache.example.com", True),
    ],
)
def test_a_name_that_somebody_else_can_own_is_not_ours(host: str, ours: bool) -> None:
    assert is_ours(host, ("cache.example.com",)) is ours


def test_stacked_bars_fill_the_height_and_lie_on_each_other() -> None:
    chart = charts.stacked(
        [("12:00", (1, 3)), ("12:01", (0, 2))],
        names=("a", "b"),
        unit=words.number,
        summary="six in all",
    )
    first, second, third = chart.bars
    assert (first.series, second.series, third.series) == (0, 1, 1)
    assert first.y + first.height == pytest.approx(charts.HEIGHT)
    assert second.y + second.height == pytest.approx(first.y)
    assert second.y == pytest.approx(0)
    assert third.height == pytest.approx(charts.HEIGHT / 2)
    assert first.x < third.x < charts.WIDTH
    assert first.title == "12:00: 1 a, 3 b"
    assert (chart.top, chart.begin, chart.end) == ("4", "12:00", "12:01")


def test_overlaid_bars_are_drawn_with_the_smaller_in_front() -> None:
    chart = charts.overlaid(
        [("12:00", (10, 40)), ("12:01", (40, 10))], names=("a", "b"), unit=str, summary=""
    )
    assert [bar.series for bar in chart.bars] == [1, 0, 0, 1]
    assert all(bar.y + bar.height == pytest.approx(charts.HEIGHT) for bar in chart.bars)


def test_nothing_to_draw() -> None:
    for draw in (charts.stacked, charts.overlaid):
        chart = draw([("12:00", (0, 0))], names=("a", "b"), unit=words.number, summary="")
        assert chart.bars == ()
        assert draw([], names=(), unit=words.number, summary="").begin == ""


def test_little_is_still_seen() -> None:
    chart = charts.stacked([("", (1,)), ("", (1_000_000,))], names=("a",), unit=str, summary="")
    assert chart.bars[0].height >= 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (123_456, "123 kB"),
        (999_600, "1.0 MB"),
        (1.5e9, "1.5 GB"),
        (2e18, "2000 PB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert words.size(count) == text


def test_times() -> None:
    assert words.ago(0.4) == "just now"
    assert words.ago(1) == "1 second ago"
    assert words.ago(119) == "1 minute ago"
    assert words.ago(7200) == "2 hours ago"
    assert words.span(86400) == "1 day"
    assert words.duration(0.0031) == "3.1 ms"
    assert words.duration(0.25) == "250 ms"
    assert words.duration(2.34) == "2.3 s"


def test_shares() -> None:
    assert words.percent(0, 0) == "-"
    assert words.percent(1, 3) == "33 %"
    assert words.percent(9999, 10000) == "99.9 %"
    assert words.percent(7, 7) == "100 %"
