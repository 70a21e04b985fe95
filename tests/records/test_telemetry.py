"""What is counted, by an engine with a real store and a real upstream."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hexcache.errors import OfflineError, UpstreamError
from hexcache.network.upstream import Upstream
from hexcache.records.metrics import Gauges, exposition
from hexcache.records.telemetry import BUCKETS, Distribution, Telemetry
from hexcache.resources import Kind
from hexcache.settings import Settings
from hexcache.storage.reading import StoreReader
from support.clock import Clock
from support.engine import CONTENT, URL, Bench, Make
from support.faults import corrupt, hold, replaced, status
from support.prometheus import Scrape, check
from support.signing import Rel

NOTHING = Gauges(
    store_bytes=0, store_limit=0, evictions=0, damaged=0, entries={}, upstream={}, offline=False
)


def scrape(bench: Bench) -> Scrape:
    return Scrape(exposition(bench.telemetry, NOTHING).decode())


class TestUpstream:
    async def test_questions_by_code(self, foo: Bench) -> None:
        label = f"127.0.0.1:{foo.fake.port}"
        await foo.get("/packages/foo")
        await foo.get("/packages/foo", Cache_Control="no-cache")
        await foo.get("/packages/absent")
        seen = scrape(foo)
        codes = {
            code: seen("hexcache_upstream_requests_total", upstream=label, code=code)
            for code in ("200", "304", "404", "error")
        }
        assert codes == {"200": 1, "304": 1, "404": 1, "error": 0}
        assert seen("hexcache_upstream_duration_seconds_count", upstream=label) == 3

    async def test_no_answer_is_an_error(self, foo: Bench) -> None:
        foo.fake.stop_listening()
        await foo.get("/packages/foo")
        assert scrape(foo)("hexcache_upstream_requests_total", code="error") >= 1

    async def test_given_up_is_cancelled(self, foo: Bench) -> None:
        foo.fake.fault("/", hold())
        asking = asyncio.create_task(foo.get("/packages/foo"))
        await asyncio.to_thread(foo.fake.wait_until_holding)
        await foo.engine.close()
        await asking
        assert scrape(foo)("hexcache_upstream_requests_total", code="cancelled") == 1

    async def test_offline_nothing_was_asked(self, bench: Make) -> None:
        made = bench(offline=True)
        await made.get("/packages/foo")
        await made.get("/somewhere/else")
        assert scrape(made)("hexcache_upstream_requests_total") == 0

    async def test_bytes_of_bodies_passed_through_too(self, foo: Bench) -> None:
        await foo.get("/packages/foo")
        package = len(foo.fake.files["/packages/foo"])
        assert scrape(foo)("hexcache_bytes_total", direction="fetched") == package
        foo.fake.files["/repos/acme/names"] = b"private"
        await foo.get("/repos/acme/names")
        assert scrape(foo)("hexcache_bytes_total", direction="fetched") == package + 7

    async def test_probes_are_questions(self, foo: Bench) -> None:
        foo.fake.stop_listening()
        await foo.get("/packages/foo")
        foo.fake.start_listening()
        await foo.until_up()
        assert any(code != "error" for _, code in foo.telemetry.codes)

    async def test_the_label_has_no_password(self) -> None:
        base = "http://somebody:s3cret@127.0.0.1:1/mirror/"
        upstream = Upstream(Settings(upstream={"repo": [base]}))  # type: ignore[arg-type]
        assert "127.0.0.1:1/mirror" in upstream.statistics()
        await upstream.close()


class TestIntegrity:
    async def test_a_damaged_registry_entry(self, foo: Bench) -> None:
        foo.fake.fault("/packages", corrupt())
        await foo.get("/packages/foo")
        assert scrape(foo)("hexcache_integrity_failures_total") == 1

    async def test_a_tarball_that_is_another(self, foo: Bench) -> None:
        foo.fake.fault("/tarballs", replaced(b"planted"))
        assert (await foo.get(URL)).status == 502
        assert scrape(foo)("hexcache_integrity_failures_total", check="checksum") >= 1

    async def test_a_signature_that_is_missing_or_none(self, foo: Bench) -> None:
        foo.fake.files["/installs/hex-1.x.csv"] = b"a,b,c\n"
        await foo.get("/installs/hex-1.x.csv")
        assert scrape(foo)("hexcache_integrity_failures_total", check="pair") == 1
        foo.fake.files["/installs/hex-1.x.csv.signed"] = b"!"
        await foo.get("/installs/hex-1.x.csv")
        assert scrape(foo)("hexcache_integrity_failures_total", check="pair") == 2

    async def test_what_the_store_lost(self, foo: Bench, tmp_path: Path) -> None:
        await foo.get(URL)
        (path,) = (tmp_path / "store" / "entries").rglob("*.val")
        path.write_bytes(b"planted")
        await foo.get(URL)
        assert foo.store.statistics()["damaged"] == 1

    def test_each_check_is_there_before_it_fails(self) -> None:
        """`increase()` of what appears with a 1 is 0: no alert would come."""
        text = exposition(Telemetry(), NOTHING).decode()
        assert 'hexcache_integrity_failures_total{check="signature"} 0.0' in text
        assert 'hexcache_integrity_failures_total{check="stored"} 0.0' in text


class TestQuestion:
    def test_it_takes_until_the_answer_begins(self) -> None:
        clock = Clock(0.0)
        told = Telemetry(clock)
        with told.question("a") as answered:
            clock.advance(2)
            answered(200)
            clock.advance(50)
        assert (told.questions["a"].count, told.questions["a"].total) == (1, 2.0)

    def test_a_body_that_breaks_off_is_no_second_answer(self) -> None:
        told = Telemetry()
        with pytest.raises(UpstreamError), told.question("a") as answered:
            answered(200)
            raise UpstreamError("cut off")
        assert dict(told.codes) == {("a", "200"): 1}

    def test_the_gate(self) -> None:
        told = Telemetry()
        with pytest.raises(OfflineError), told.question("a"):
            raise OfflineError("offline")
        assert not told.codes


class TestDistribution:
    def test_a_limit_belongs_to_its_bucket(self) -> None:
        times = Distribution()
        for seconds in (0.0005, 0.001, 60, 61):
            times.add(seconds)
        cumulative = dict(times.cumulative())
        assert (cumulative["0.001"], cumulative["30.0"], cumulative["60.0"]) == (2, 2, 3)
        assert cumulative["+Inf"] == times.count == 4
        assert (BUCKETS[0], BUCKETS[-1]) == (0.001, 60)


class TestExposition:
    async def test_promtool(self, foo: Bench) -> None:
        await foo.get(URL)
        gauges = Gauges(
            store_bytes=5,
            store_limit=10,
            evictions=1,
            damaged=0,
            entries={"package": 1},
            upstream={'odd"one\\': True},
            offline=True,
        )
        text = exposition(foo.telemetry, gauges).decode()
        assert check("metrics", text=text) == ""
        seen = Scrape(text)
        assert seen("hexcache_upstream_up", upstream='odd"one\\') == 1
        assert (seen("hexcache_offline"), seen("hexcache_store_evictions_total")) == (1, 1)


async def test_entries_by_kind(foo: Bench, tmp_path: Path, clock: Clock) -> None:
    await foo.get(URL)
    foo.publish("foo", Rel("1.0.0", CONTENT), Rel("1.1.0", b"new"))
    clock.advance(10)
    await foo.get("/packages/foo")
    await foo.get("/names")
    await foo.settled()
    with StoreReader(tmp_path / "store", trust=foo.trust.name) as reader:
        # The entry before is kept beside the newest one, and is nothing that can be asked for.
        assert reader.get("repo/packages/foo#before") is not None
        assert reader.kinds() == {Kind.PACKAGE: 1, Kind.TARBALL: 1}
    with StoreReader(tmp_path / "store", trust="another") as reader:
        assert reader.kinds() == {}
    with StoreReader(tmp_path / "nowhere", trust="") as reader:
        assert reader.kinds() == {}


async def test_statistics_are_json(foo: Bench) -> None:
    foo.fake.fault("/packages/bar", status(500))
    await foo.get("/packages/foo")
    statistics = foo.telemetry.statistics()
    assert statistics["upstream_requests"] == {f"127.0.0.1:{foo.fake.port}": {"200": 1}}
    assert statistics["bytes"]["fetched"] == len(foo.fake.files["/packages/foo"])


async def test_what_is_being_fetched(foo: Bench) -> None:
    foo.fake.fault("/tarballs", hold(20_000))
    asking = asyncio.create_task(foo.get(URL))
    await asyncio.to_thread(foo.fake.wait_until_holding)
    async with asyncio.timeout(20):
        while not (fetches := foo.engine.fetches()) or not fetches[0].size:
            await asyncio.sleep(0.001)
    (fetch,) = fetches
    assert (fetch.subject, fetch.total) == ("tarball foo-1.0.0", len(CONTENT))
    assert 0 < fetch.size <= 20_000
    assert fetch.seconds > 0
    foo.fake.release()
    assert (await asking).body == CONTENT
    await foo.settled()
    assert foo.engine.fetches() == []
