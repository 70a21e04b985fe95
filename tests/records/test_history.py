"""The last day, across restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hexcache.messages import Outcome
from hexcache.records.answers import Answer
from hexcache.records.history import History
from support.clock import Clock

HIT = Answer(
    id="a-1",
    at=1_750_000_000.0,
    client="10.0.0.1",
    method="GET",
    kind="tarball",
    subject="tarball foo-1.0.0",
    outcome=Outcome.HIT,
    status=200,
    size=1000,
    seconds=0.002,
)
MISS = replace(HIT, outcome=Outcome.MISS, seconds=2.0)


def save(history: History) -> None:
    """What the server does now and then, and at the end."""
    if (content := history.encoded()) is not None:
        history.write(content)


@pytest.fixture
def history(tmp_path: Path, clock: Clock) -> History:
    return History.load(tmp_path, clock)


def again(tmp_path: Path, clock: Clock) -> History:
    return History.load(tmp_path, clock)


class TestBuckets:
    def test_minutes_of_the_last_hour(self, history: History, clock: Clock) -> None:
        history.answered(HIT)
        clock.advance(60)
        history.answered(MISS)
        history.fetched(400)
        hour = history.last_hour()
        assert len(hour) == 60
        assert [(b.requests, b.served, b.fetched) for b in hour[-2:]] == [
            (1, 1000, 0),
            (1, 1000, 400),
        ]
        assert sum(bucket.requests for bucket in hour) == 2
        assert hour[-1].start <= clock.now < hour[-1].start + 60

    def test_quarters_of_the_last_day(self, history: History, clock: Clock) -> None:
        for _ in range(24 * 60 - 15):
            history.answered(HIT)
            clock.advance(60)
        day = history.last_day()
        assert len(day) == 96
        assert {bucket.requests for bucket in day[1:-1]} == {15}
        assert day[1].start - day[0].start == 900 == day[0].seconds

    def test_what_is_older_is_forgotten(self, history: History, clock: Clock) -> None:
        for _ in range(3000):
            history.answered(HIT)
            clock.advance(60)
        content = history.encoded()
        assert content is not None
        assert len(json.loads(content)["minutes"]) <= 1500
        clock.advance(3 * 86400)
        assert history.total(history.last_day()).requests == 0

    def test_a_clock_that_was_wrong(self, history: History, clock: Clock) -> None:
        clock.advance(400 * 86400)
        history.answered(HIT)
        clock.advance(-400 * 86400)
        history.answered(HIT)
        assert history.total(history.last_hour()).requests == 1
        content = history.encoded()
        assert content is not None
        assert len(json.loads(content)["minutes"]) == 1

    def test_total_and_ratio(self, history: History) -> None:
        assert history.total(history.last_hour()).hit_ratio is None
        outcomes = (Outcome.HIT, Outcome.REVALIDATED, Outcome.MISS, Outcome.COALESCED)
        for outcome in (*outcomes, Outcome.PASSED, Outcome.ERROR):
            history.answered(replace(HIT, outcome=outcome))
        total = history.total(history.last_hour())
        assert (total.requests, total.hit_ratio) == (6, 0.5)
        history.answered(replace(HIT, outcome=Outcome.OFFLINE))
        history.answered(replace(HIT, outcome=Outcome.OFFLINE, status=504))
        history.answered(replace(MISS, status=404))
        total = history.total(history.last_hour())
        assert (total.hits, total.misses) == (3, 4)
        assert history.statistics()["hour"]["outcomes"]["hit"] == 1
        json.dumps(history.statistics(), allow_nan=False)


class TestSaved:
    def test_a_hit_saves_what_a_miss_of_its_kind_takes(self, history: History) -> None:
        history.answered(MISS)
        history.answered(replace(MISS, seconds=4.0))
        history.answered(HIT)
        assert history.total(history.last_hour()).saved == pytest.approx(2.998)

    def test_nothing_is_claimed_that_nobody_knows(self, history: History) -> None:
        history.answered(HIT)
        history.answered(MISS)
        history.answered(replace(HIT, kind="package"))
        history.answered(replace(HIT, seconds=50.0))
        for outcome in (Outcome.STALE, Outcome.REVALIDATED, Outcome.ERROR, Outcome.COALESCED):
            history.answered(replace(HIT, outcome=outcome))
        assert history.total(history.last_hour()).saved == 0

    def test_what_was_not_there_is_no_measure(self, history: History) -> None:
        history.answered(replace(MISS, status=404))
        history.answered(HIT)
        assert history.total(history.last_hour()).saved == 0

    def test_later_misses_count_more(self, history: History) -> None:
        for _ in range(5000):
            history.answered(MISS)
        for _ in range(2000):
            history.answered(replace(MISS, seconds=0.1))
        history.answered(HIT)
        assert history.total(history.last_hour()).saved < 0.3


class TestRecent:
    def test_the_newest_first_and_no_more_than_200(self, history: History) -> None:
        for number in range(250):
            history.answered(replace(HIT, subject=f"tarball foo-{number}"))
        recent = history.recent()
        assert (len(recent), recent[0].subject) == (200, "tarball foo-249")
        assert (recent[0].client, recent[0].size, recent[0].outcome) == ("10.0.0.1", 1000, "hit")


class TestFile:
    def test_a_restart(self, history: History, tmp_path: Path, clock: Clock) -> None:
        history.answered(MISS)
        history.answered(replace(HIT, detail="it's “odd”"))
        history.fetched(7)
        save(history)
        clock.advance(61)
        after = again(tmp_path, clock)
        assert after.recent() == history.recent()
        total = after.total(after.last_hour())
        assert (total.requests, total.fetched, total.hit_ratio) == (2, 7, 0.5)
        assert total.saved == pytest.approx(1.998)
        # What a miss takes is known too.
        after.answered(HIT)
        assert after.total(after.last_hour()).saved == pytest.approx(2 * 1.998)

    def test_small_however_much_happens(
        self, history: History, tmp_path: Path, clock: Clock
    ) -> None:
        for _ in range(2000):
            for outcome in Outcome:
                history.answered(replace(HIT, outcome=outcome, detail="x" * 500, size=10**9))
            clock.advance(60)
        save(history)
        assert (tmp_path / "history.json").stat().st_size < 500_000

    def test_unchanged_is_not_written(self, history: History, tmp_path: Path) -> None:
        save(history)
        assert not (tmp_path / "history.json").exists()
        history.answered(HIT)
        assert history.encoded() is not None
        assert history.encoded() is None

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"\x00\xff",
            b"[]",
            b"{}",
            b'{"format": 2}',
            b"[" * 100_000,
            b'{"format":1,"minutes":[[1]],"recent":[],"misses":{}}',
            b'{"format":1,"minutes":[[%d,{},0,0,0,0,0]],"recent":[],"misses":{}}' % 10**400,
            b'{"format":1,"minutes":[[1,{},-1,0,0,0,0]],"recent":[],"misses":{}}',
            b'{"format":1,"minutes":[[1,{},0,0,NaN,0,0]],"recent":[],"misses":{}}',
            b'{"format":1,"minutes":[],"recent":[[1]],"misses":{}}',
            b'{"format":1,"minutes":[],"recent":[[0,"\\u001b","","","",0,0,0,""]],"misses":{}}',
            b'{"format":1,"minutes":[],"recent":[],"misses":{"tarball":[1,"x"]}}',
            b'{"format":1,"minutes":[],"recent":[],"misses":[]}',
        ],
    )
    def test_a_damaged_one_starts_anew(
        self, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, damage: bytes
    ) -> None:
        (tmp_path / "history.json").write_bytes(damage)
        history = again(tmp_path, clock)
        (message,) = caplog.messages
        assert "the history starts anew" in message
        assert (history.recent(), history.total(history.last_day()).requests) == ([], 0)
        history.answered(HIT)
        save(history)
        assert len(again(tmp_path, clock).recent()) == 1

    def test_any_cut_is_noticed(self, history: History, tmp_path: Path, clock: Clock) -> None:
        history.answered(HIT)
        save(history)
        whole = (tmp_path / "history.json").read_bytes()
        for length in range(len(whole)):
            (tmp_path / "history.json").write_bytes(whole[:length])
            assert again(tmp_path, clock).recent() == []

    def test_no_disk_is_a_warning(
        self, history: History, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        history.answered(HIT)
        (tmp_path / ".history.json.new").mkdir()
        save(history)
        assert "history.json can't be written" in caplog.text
        assert len(history.recent()) == 1


class TestIncidents:
    def test_a_day_of_them_across_restarts(self, tmp_path: Path, clock: Clock) -> None:
        history = again(tmp_path, clock)
        for n in range(60):
            history.refused("checksum", f"tarball foo-{n}\u202e")
        save(history)
        history = again(tmp_path, clock)
        # Not more than fit onto a page.
        assert len(history.incidents()) == 50
        assert history.incidents()[0].subject == r"tarball foo-59\u202e"
        clock.advance(86_400)
        assert history.incidents() == []

    def test_a_history_of_before_there_were_any(self, tmp_path: Path, clock: Clock) -> None:
        history = again(tmp_path, clock)
        history.answered(HIT)
        save(history)
        path = tmp_path / "history.json"
        content = json.loads(path.read_bytes())
        del content["incidents"]
        path.write_text(json.dumps(content))
        assert len(again(tmp_path, clock).recent()) == 1
