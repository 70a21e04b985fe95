"""Which registry entry is the newer one, where several base URLs have a say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hexcache.resources import package
from hexcache.storage.entries import Entry
from support.clock import Clock
from support.engine import Bench, Got, Make
from support.faults import status, without
from support.signing import Rel, signer
from support.upstream import Upstream

P = "/packages/foo"
OLD, NEW = b"old tarball", b"new tarball"
DAY = 86400.0
# When the fake upstream's files were modified, unless something else is said.
MODIFIED = 1_700_000_000


@pytest.fixture
def mirror() -> Iterator[Upstream]:
    with Upstream() as mirror:
        yield mirror


@pytest.fixture
def made(bench: Make, upstream: Upstream, mirror: Upstream) -> Bench:
    return bench(upstream={"repo": [upstream.url, mirror.url]})


def entry_of(*releases: Rel) -> bytes:
    return signer().package("foo", releases)


def at(mirror: Upstream, *releases: Rel, modified: float = MODIFIED) -> bytes:
    mirror.files[P], mirror.modified[P] = entry_of(*releases), modified
    return mirror.files[P]


async def later(made: Bench, clock: Clock) -> Got:
    clock.advance(6)
    return await made.get(P)


async def from_mirror(made: Bench, clock: Clock) -> Got:
    """The answer when the first base URL is of no use."""
    made.fake.fault("/", status(500))
    await later(made, clock)
    await made.settled()
    got = await later(made, clock)
    await made.settled()
    made.fake.heal()
    return got


def stored(made: Bench) -> Entry:
    entry = made.store.get(package("foo").key)
    assert entry is not None
    return entry


class TestAMirrorThatLags:
    """It loses its turn, whatever was done since to what it has."""

    @pytest.mark.parametrize(
        ("newest", "lagging"),
        [
            # 1.0.0 was replaced
            ([Rel("1.0.0", NEW), Rel("1.1.0", NEW)], [Rel("1.0.0", OLD)]),
            ([Rel("1.0.0", NEW)], [Rel("1.0.0", OLD)]),
            # a release was reverted
            ([Rel("1.0.0"), Rel("1.2.0")], [Rel("1.0.0"), Rel("1.1.0")]),
            # one was retired
            ([Rel("1.0.0", OLD, retired=(2, "CVE"))], [Rel("1.0.0", OLD)]),
            # one was reverted and published anew
            ([Rel("1.0.0", NEW, published_at=2000)], [Rel("1.0.0", OLD, published_at=1000)]),
            # the newest was reverted: it stands only where the entry is an old one
            ([Rel("1.0.0", OLD)], [Rel("1.0.0", OLD), Rel("1.1.0", NEW, published_at=2000)]),
        ],
    )
    async def test_takes_nothing_back(
        self, made: Bench, mirror: Upstream, clock: Clock, newest: list[Rel], lagging: list[Rel]
    ) -> None:
        made.publish("foo", *newest)
        at(mirror, *lagging, modified=1.6e9)
        first = (await made.get(P)).body
        made.fake.stop_listening()
        clock.advance(6)
        await made.get(P)
        await made.settled()
        got = await later(made, clock)
        made.fake.start_listening()
        assert (got.status, got.body) == (200, first)
        assert stored(made).base == made.fake.url

    async def test_nor_with_the_date_of_the_copy(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        made.publish("foo", Rel("1.0.0", NEW), Rel("1.1.0", NEW))
        first = (await made.get(P)).body
        at(mirror, Rel("1.0.0", OLD), modified=1.75e9)
        assert (await from_mirror(made, clock)).body == first

    async def test_nor_from_itself_where_it_gives_no_dates(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        mirror.fault(P, without("Last-Modified"))
        made.fake.fault("/", status(500))
        newest = at(mirror, Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        assert (await made.get(P)).body == newest
        at(mirror, Rel("1.0.0", OLD))
        assert (await later(made, clock)).body == newest


class TestAMirrorThatIsNewer:
    @pytest.mark.parametrize(
        ("releases", "modified"),
        [
            ([Rel("1.0.0", OLD), Rel("1.1.0", NEW)], MODIFIED),
            ([Rel("1.0.0", OLD, retired=(2, "CVE"))], MODIFIED + 60),
            ([Rel("1.0.0", NEW)], MODIFIED + 60),
            # All its files have one date, as in a reproducible image.
            ([Rel("1.0.0", OLD), Rel("1.1.0", NEW)], 0),
            ([Rel("1.0.0", OLD), Rel("1.1.0", NEW, published_at=MODIFIED + 60)], 0),
        ],
    )
    async def test_is_believed(
        self, made: Bench, mirror: Upstream, clock: Clock, releases: list[Rel], modified: float
    ) -> None:
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(P)
        newer = at(mirror, *releases, modified=modified)
        assert (await from_mirror(made, clock)).body == newer

    async def test_a_revert_that_a_later_release_proves(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        """Who has what was published later, and not 1.1.0, knows that 1.1.0 was taken back."""
        reverted = Rel("1.1.0", NEW, published_at=MODIFIED - 10)
        made.publish("foo", Rel("1.0.0", OLD, published_at=1000), reverted)
        await made.get(P)
        newest = Rel("1.1.1", NEW, published_at=MODIFIED + 10)
        newer = at(mirror, Rel("1.0.0", OLD, published_at=1000), newest)
        assert (await from_mirror(made, clock)).body == newer

    async def test_its_own_revert(self, made: Bench, mirror: Upstream, clock: Clock) -> None:
        """Some reach nothing but a mirror, ever."""
        made.fake.fault("/", status(500))
        at(mirror, Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        await made.get(P)
        newer = at(mirror, Rel("1.0.0", OLD), modified=MODIFIED + 60)
        assert (await later(made, clock)).body == newer

    async def test_an_edge_of_the_first_that_lags_takes_nothing_back(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        made.publish("foo", Rel("1.0.0", OLD, published_at=1000))
        await made.get(P)
        newer = at(mirror, Rel("1.0.0", NEW), Rel("1.1.0", NEW, published_at=MODIFIED + 10))
        assert (await from_mirror(made, clock)).body == newer
        assert (await later(made, clock)).body == newer
        made.publish("foo", Rel("1.0.0", NEW), Rel("1.1.0", NEW), Rel("1.2.0", NEW))
        assert (await later(made, clock)).body == made.fake.files[P]


class TestTheFirst:
    """What it takes back is gone, wherever the stored entry came from."""

    @pytest.mark.parametrize("base", ["", "https://mirror.invalid"])
    async def test_a_revert_since_the_import(self, bench: Make, clock: Clock, base: str) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        await made.get(P)
        await made.store.update(replace(stored(made), base=base))
        made.publish("foo", Rel("1.0.0", OLD))
        made.fake.modified[P] = 1.8e9
        got = await later(made, clock)
        assert (got.outcome, got.body) == ("miss", made.fake.files[P]), got.detail

    async def test_the_date_of_a_mirror_is_no_proof_against_it(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        """Copied before the revert, dated after it."""
        at(mirror, Rel("1.0.0"), Rel("1.1.0", published_at=MODIFIED - 10), modified=1.75e9)
        await from_mirror(made, clock)
        assert stored(made).base == mirror.url
        made.publish("foo", Rel("1.0.0"))
        assert (await later(made, clock)).body == made.fake.files[P]

    async def test_for_want_of_dates_it_is_right_after_a_day(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        newer = at(mirror, Rel("1.0.0"), Rel("1.1.0"))
        await from_mirror(made, clock)
        made.publish("foo", Rel("1.0.0"))
        made.fake.fault(P, without("Last-Modified"))
        assert (await later(made, clock)).body == newer
        clock.advance(DAY)
        assert (await later(made, clock)).body == made.fake.files[P]

    async def test_an_edge_that_lags_takes_no_import_back(self, bench: Make, clock: Clock) -> None:
        made = bench()
        newer = [Rel("1.0.0", NEW), Rel("1.1.0", NEW)]
        made.publish("foo", *newer)
        await made.get(P)
        await made.store.update(replace(stored(made), base=""))
        made.publish("foo", Rel("1.0.0", OLD))
        made.fake.modified[P] = MODIFIED - 60
        got = await later(made, clock)
        assert (got.outcome, got.body) == ("stale", entry_of(*newer))


class TestNothingNew:
    """A 304 says whose copy it is, too; base URL and date stay a pair."""

    async def test_the_first_makes_it_its_own(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        at(mirror, Rel("1.0.0"), Rel("1.1.0"), modified=1.9e9)
        await from_mirror(made, clock)
        made.publish("foo", Rel("1.0.0"), Rel("1.1.0"))
        assert (await later(made, clock)).outcome == "revalidated"
        assert made.fake.count(P, status=304) == 1
        assert stored(made).base == made.fake.url
        # It is judged by its own dates from now on.
        made.publish("foo", Rel("1.0.0"))
        made.fake.modified[P] = MODIFIED + 60
        assert (await later(made, clock)).body == made.fake.files[P]

    async def test_without_a_date_it_stays_whose_it_was(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        at(mirror, Rel("1.0.0"))
        await from_mirror(made, clock)
        made.publish("foo", Rel("1.0.0"))
        made.fake.fault(P, without("Last-Modified"))
        assert (await later(made, clock)).outcome == "revalidated"
        assert stored(made).base == mirror.url

    async def test_a_mirror_takes_only_what_is_nobodys(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        made.publish("foo", Rel("1.0.0"))
        await made.get(P)
        at(mirror, Rel("1.0.0"), modified=1.75e9)
        await from_mirror(made, clock)
        assert mirror.count(P, status=304) > 0
        assert stored(made).base == made.fake.url
        await made.store.update(replace(stored(made), base=""))
        await from_mirror(made, clock)
        assert stored(made).base == mirror.url
        assert stored(made).last_modified.startswith("Sun, 15 Jun 2025")

    async def test_the_first_isnt_asked_by_a_mirrors_date(
        self, made: Bench, mirror: Upstream, clock: Clock
    ) -> None:
        """What the first has may have been written before the mirror copied what was there before
        that: "not modified since" would be no answer."""
        mirror.fault(P, without("ETag"))
        at(mirror, Rel("1.0.0"), modified=1.75e9)
        await from_mirror(made, clock)
        made.publish("foo", Rel("1.0.0"), Rel("1.1.0"))
        assert (await later(made, clock)).body == made.fake.files[P]
        assert all("if-modified-since" not in seen.headers for seen in made.fake.requests)
