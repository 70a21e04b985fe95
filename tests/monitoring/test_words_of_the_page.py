"""What the page says, without a server."""

from __future__ import annotations

import time

import pytest

from hexcache import resources
from hexcache.locks.lockfiles import Skipped
from hexcache.monitoring.page import words
from hexcache.monitoring.page.check import verdict_on
from hexcache.monitoring.page.packages import package_view
from hexcache.monitoring.page.rendering import Pages
from hexcache.monitoring.page.state import savings, state_of, warnings
from hexcache.monitoring.status import Readiness
from hexcache.proto import registry_pb2 as pb
from hexcache.records.answers import STORED
from hexcache.records.history import Bucket, Incident
from hexcache.settings import Settings, UpstreamSettings
from hexcache.stock.completeness import Completeness, Gap
from hexcache.storage.library import Library
from support.engine import Make
from support.entries import entry_of
from support.signing import Rel, signer

NOW = time.mktime((2026, 3, 4, 7, 46, 0, 0, 0, -1))


class TestState:
    def test_what_can_not_be_stored_is_no_reason_not_to_answer(self) -> None:
        why = "the store can't be written: [Errno 28] No space left on device: '/data/probe'"
        up: dict[str, dict[str, object]] = {"repo.hex.pm": {"up": True, "since": None, "why": ""}}
        full = Readiness(why, False, up, "the disk is full")
        state = state_of(full, UpstreamSettings(), NOW)
        assert state.colour == "warn"
        assert state.sentence == "Nothing new can be kept: the disk is full. Clients are answered."
        assert not any("Errno" in each or "probe" in each for each in state.details)
        assert full.report() == {"ready": False, "why": why}
        # The other things that are so are said too.
        offline = state_of(Readiness(why, True, up, "the disk is full"), UpstreamSettings(), NOW)
        assert "Offline, because the offline flag is set." in offline.details

    def test_savings(self) -> None:
        day = Bucket(start=0, hits=2064, misses=180, served=300_000_000, fetched=86_000_000)
        day.saved = 33 * 60 + 10
        assert savings(day) == (
            "In the last 24 hours 92 % of 2,244 requests came from here: 214 MB not downloaded, "
            "33 minutes saved."
        )
        assert savings(Bucket(start=0)) == "Nothing was asked for in the last 24 hours."
        assert savings(Bucket(start=0, misses=1, fetched=5)) == (
            "In the last 24 hours 0 % of 1 request came from here."
        )

    def test_what_failed_a_check(self) -> None:
        def incident(subject: str, check: str = "checksum", ago: float = 60) -> Incident:
            return Incident(at=NOW - ago, check=check, subject=subject)

        assert warnings([], NOW) == []
        once = [incident("tarball pkg_230-1.0.0"), incident("tarball pkg_230-1.0.0", ago=61)]
        assert warnings(once, NOW) == [
            "1 file from upstream failed its checksum at 07:45 and was not served: "
            "tarball pkg_230-1.0.0."
        ]
        many = [incident(name, ago=86_000) for name in "abcde"]
        assert warnings(many, NOW) == [
            "5 files from upstream failed their checksum, the last at 07:52 on 2026-03-03, and "
            "were not served: a, b, c and 2 more."
        ]
        stored = [incident("package b", STORED), incident("package a", "signature")]
        assert warnings(stored, NOW) == [
            "1 file from upstream failed the check of its signature at 07:45 and was not served: "
            "package a.",
            "1 stored file was found damaged at 07:45 and is served no longer: package b.",
        ]


class TestVerdict:
    FOUND = ((resources.package("a"), entry_of("repo/packages/a", b"a")),) * 12
    SKIPPED = (Skipped("b", "from git"),)

    @pytest.mark.parametrize(
        ("found", "skipped", "colour", "title"),
        [
            ((), (), "off", "mix.lock names no Hex packages"),
            ((), SKIPPED, "off", "mix.lock names no Hex packages"),
            (FOUND, (), "good", "mix.lock is complete"),
            (FOUND, SKIPPED, "good", "mix.lock is complete but for 1 that Hexcache never has"),
        ],
    )
    def test_nothing_is_missing(
        self, found: tuple[()], skipped: tuple[()], colour: str, title: str
    ) -> None:
        verdict = verdict_on("mix.lock", Completeness(found, (), skipped))
        assert (verdict.colour, verdict.title) == (colour, title)
        assert "All 0" not in verdict.text
        assert ("12 files" in verdict.text) == bool(found)

    def test_something_is_missing(self) -> None:
        gaps = tuple(Gap(f"tarball a-1.0.{n}", "not stored", n) for n in range(6000))
        verdict = verdict_on("mix.lock", Completeness(self.FOUND, gaps, ()))
        assert verdict.title == "6,000 files are missing"
        assert (verdict.warm, verdict.update) == (True, "")
        assert (len(verdict.gaps), verdict.more) == (300, "5,700")
        one = verdict_on("mix.lock", Completeness((), gaps[:1], ()))
        assert one.title == "1 file is missing"

    def test_what_fetching_does_not_mend(self) -> None:
        why = f"the lock file's outer checksum is {'a' * 64}"
        gaps = (Gap("tarball a-1.0.0", why, 1, is_disagreement=True), Gap("tarball b-1", "x", 2))
        both = verdict_on("manifest.toml", Completeness((), gaps, ()))
        assert both.title == "1 file is missing, 1 checksum isn't the registry's"
        assert (both.warm, both.update) == (True, "gleam update PACKAGE")
        assert both.gaps[0].why == "the lock file's outer checksum is aaaaaaaaaaaa…"
        assert both.gaps[0].full_why == why
        only = verdict_on("mix.lock", Completeness((), gaps[:1], ()))
        assert (only.warm, only.update) == (False, "mix deps.update PACKAGE")


async def test_no_text_of_the_registry_turns_the_page_around(bench: Make, shelf: Settings) -> None:
    made = bench()
    release = Rel("1.0.0", b"foo", retired=(2, "for\u202egnp.exe"), advisories=(0, 1))
    made.publish("foo", release)
    advisories = [
        pb.SecurityAdvisory(
            id=f"GHSA-{name}", summary=f"{name}\u2066 \u202eeruces", html_url="x", severity=severity
        )
        for name, severity in (("critical", 4), ("medium", 2))
    ]
    body = signer().package("foo", [release], advisories=advisories)
    made.fake.files["/packages/foo"] = body
    await made.get("/packages/foo")
    with Library(shelf, made.clock) as library:
        page = package_view(library, "foo", made.clock)
    assert page is not None
    text = Pages().answer("package", package=page).text
    assert text is not None
    assert not {"\u202e", "\u2066"} & set(text)
    assert r"for\u202egnp.exe" in text
    # And what is worse looks worse.
    assert [each.colour for each in page.advisories] == ["worst", "warn"]


def test_moments() -> None:
    moment = words.since(NOW - 60, NOW)
    assert moment.text == "1 minute ago"
    assert moment.exact.startswith("2026-03-04 07:45:00")
    assert words.since(None, NOW, "not yet") == words.Moment("not yet", "", "")
    assert words.day(None) is None
    published = words.day(1_700_000_000)
    assert published is not None
    assert (published.text, published.exact) == ("2023-11-14", "2023-11-14 22:13:20 UTC")
