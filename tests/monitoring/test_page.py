"""The status page's parts that need no server."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from hexcache.monitoring.page import charts, words
from hexcache.monitoring.page.hosts import host_of, is_ours
from hexcache.monitoring.page.packages import package_view, packages_view
from hexcache.monitoring.page.state import state_of
from hexcache.monitoring.status import Readiness
from hexcache.settings import Settings, UpstreamSettings
from hexcache.storage.library import Library
from support.clock import Clock
from support.engine import Bench, Make
from support.signing import Rel
from support.upstream import Upstream


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
        ("localhost:99999", None),
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


UPSTREAM = UpstreamSettings()
NOW = time.mktime((2026, 3, 4, 7, 33, 30, 0, 0, -1))


def readiness(**states: str) -> Readiness:
    """By upstream, with its dots written as underscores: why it is down, or nothing."""
    return Readiness(
        "",
        False,
        {
            name.replace("_", "."): {"up": not why, "since": 90.0 if why else None, "why": why}
            for name, why in states.items()
        },
    )


def test_the_state_says_what_can_not_be_had() -> None:
    fine = state_of(readiness(repo_hex_pm="", builds_hex_pm=""), UPSTREAM, NOW)
    assert (fine.colour, fine.sentence) == ("good", "Online.")
    down = state_of(readiness(repo_hex_pm="no route", builds_hex_pm=""), UPSTREAM, NOW)
    assert down.sentence == "Degraded since 07:32: repo.hex.pm is down."
    assert down.details[0] == "Because no route."
    assert down.details[1].startswith("Of packages, what is stored is served")
    assert len(down.details) == 2
    tools = state_of(readiness(repo_hex_pm="", builds_hex_pm="no route"), UPSTREAM, NOW)
    assert tools.details[1].startswith("Of mix's own tools")
    mirrored = UpstreamSettings(repo=("https://repo.hex.pm", "https://mirror.test/hex"))
    state = Readiness(
        "",
        False,
        {
            **readiness(repo_hex_pm="no route", builds_hex_pm="").upstream,
            "mirror.test/hex": {"up": True, "since": None, "why": ""},
        },
    )
    assert state_of(state, mirrored, NOW).details[1] == (
        "Nobody misses anything: packages come from mirror.test/hex."
    )
    offline = state_of(Readiness("", True, {}), UPSTREAM, NOW)
    assert offline.colour == "off"
    broken = state_of(Readiness("the disk is full", False, {}), UPSTREAM, NOW)
    assert (broken.colour, broken.sentence) == (
        "bad",
        "Clients can't be answered: the disk is full",
    )


async def test_only_what_is_shown_is_looked_into(bench: Make, shelf: Settings) -> None:
    made = bench()
    for name in ("foo", "foo_bar", "bar"):
        made.publish(name, Rel("1.0.0", name.encode() * 10), Rel("1.1.0", b"x"))
        await made.get(f"/packages/{name}")
        await made.get(f"/tarballs/{name}-1.0.0.tar")
    with Library(shelf, made.clock) as library:
        values = packages_view(library, "foo", False, made.clock)
        assert [row.name for row in values["packages"]] == ["foo", "foo_bar"]
        assert values["summary"].startswith("2 packages with 'foo' in their names, 2 releases, ")
        page = package_view(library, "foo", made.clock)
        assert page is not None
        stored = {release.version: release.stored for release in page.releases}
        assert stored == {"1.1.0": "not stored", "1.0.0": "stored"}
        assert package_view(library, "nobody", made.clock) is None


async def test_times_that_are_not_known_are_none(foo: Bench, shelf: Settings) -> None:
    """Neither 1970, nor the moment when something was stored ahead of any question."""
    await foo.get("/packages/foo")
    entry = foo.store.get("repo/packages/foo")
    assert entry is not None
    with Library(shelf, foo.clock) as library:
        (row,) = packages_view(library, "", False, foo.clock)["packages"]
        assert (row.registry_age.text, row.used.text) == ("just now", "not yet")
        await foo.store.update(replace(entry, checked_at=0.0))
        (row,) = packages_view(library, "", False, foo.clock)["packages"]
        assert row.registry_age.text == "not known"
        page = package_view(library, "foo", foo.clock)
        assert page is not None
        assert "current at a time that isn't known." in page.about
        assert page.about.endswith("not used yet.")
        foo.clock.advance(120)
        await foo.get("/packages/foo")
        await foo.store.flush()
        (row,) = packages_view(library, "", False, foo.clock)["packages"]
        assert row.used.text == "just now"


async def test_no_password_of_an_upstream_is_shown(
    tmp_path: Path, upstream: Upstream, clock: Clock, shelf: Settings
) -> None:
    secret = upstream.url.replace("://", "://bob:hunter2@")
    made = Bench(tmp_path / "store", upstream, clock, {"upstream": {"repo": [secret]}})
    made.publish("foo", Rel("1.0.0", b"foo"))
    assert (await made.get("/packages/foo")).status == 200
    with Library(shelf, clock) as library:
        page = package_view(library, "foo", clock)
    await made.close()
    assert page is not None
    assert "hunter2" not in page.about
    assert "127.0.0.1" in page.about
