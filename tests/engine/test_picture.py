"""A consistent picture while upstream fails."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hexcache.resources import package
from support.clock import Clock
from support.engine import Bench, Make
from support.faults import hold, replaced, status
from support.signing import Rel, other_signer, signer

OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"


class TestConsistentPicture:
    async def _two(self, made: Bench, clock: Clock) -> tuple[bytes, bytes]:
        """A pair that is stored whole, and a newer entry whose tarball is not."""
        made.publish("foo", Rel("1.0.0", OLD))
        first = (await made.get(PACKAGE)).body
        assert (await made.get(TARBALL)).body == OLD
        made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        clock.advance(6)
        second = (await made.get(PACKAGE)).body
        assert first != second
        return first, second

    async def test_the_older_pair_while_upstream_fails(self, bench: Make, clock: Clock) -> None:
        made = bench()
        first, second = await self._two(made, clock)
        made.fake.fault("/", status(500))
        clock.advance(6)
        for _ in range(2):
            assert (await made.get(PACKAGE)).body == first
        assert (await made.get(TARBALL)).body == OLD
        made.fake.heal()
        await made.until_up()
        assert (await made.get(PACKAGE)).body == second

    async def test_also_while_the_new_entry_is_fresh(self, bench: Make, clock: Clock) -> None:
        """The line breaks a moment after the entry has come."""
        made = bench()
        first, _ = await self._two(made, clock)
        made.fake.fault("/", status(500))
        for name in "abc":
            await made.get(f"/packages/{name}")
        assert (await made.get(PACKAGE)).body == first

    async def test_not_if_somebody_has_fetched_the_new_one(self, bench: Make, clock: Clock) -> None:
        made = bench()
        _, second = await self._two(made, clock)
        assert (await made.get("/tarballs/foo-1.1.0.tar")).body == NEW
        made.fake.fault("/", status(500))
        clock.advance(6)
        assert (await made.get(PACKAGE)).body == second

    async def test_replaced_release(self, bench: Make, clock: Clock) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        first = (await made.get(PACKAGE)).body
        await made.get(TARBALL)
        made.publish("foo", Rel("1.0.0", NEW))
        clock.advance(6)
        await made.get(PACKAGE)
        made.fake.fault("/", status(500))
        clock.advance(6)
        assert (await made.get(PACKAGE)).body == first
        assert (await made.get(TARBALL)).body == OLD

    async def test_offline(self, bench: Make, clock: Clock) -> None:
        made = bench()
        first, _ = await self._two(made, clock)
        await made.close()
        offline = bench(offline=True)
        assert (await offline.get(PACKAGE)).body == first
        assert (await offline.get(TARBALL)).body == OLD

    async def test_not_because_upstream_is_slow(self, bench: Make, clock: Clock) -> None:
        """This client has seen the newest entry: an older one breaks its lock file."""
        made = bench(upstream={"patience": "20ms"})
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        await made.get(TARBALL)
        made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        clock.advance(6)
        await made.get(PACKAGE)
        await made.settled()
        newest = made.fake.files[PACKAGE]
        assert (await made.get(PACKAGE)).body == newest
        made.fake.fault("/packages", hold())
        clock.advance(6)
        got = await made.get(PACKAGE)
        assert (got.detail, got.body == newest) == ("upstream is slow", True)
        made.fake.release()

    async def test_a_planted_picture_is_not_believed(self, bench: Make, clock: Clock) -> None:
        """Signed by somebody else, or about another package."""
        made = bench()
        _, second = await self._two(made, clock)
        before = made.store.get("repo/packages/foo#before")
        assert before is not None
        for planted in (
            other_signer().package("foo", [Rel("1.0.0", OLD)]),
            signer().package("bar", [Rel("1.0.0", OLD)]),
        ):
            sha256 = hashlib.sha256(planted).hexdigest()
            await made.store.put((replace(before, sha256=sha256, size=len(planted)), planted))
            made.fake.fault("/", status(500))
            clock.advance(6)
            assert (await made.get(PACKAGE)).body == second

    async def test_after_recovery_only_the_newest(self, bench: Make, clock: Clock) -> None:
        """Who has got the new entry is not sent the old tarball."""
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        await made.get(TARBALL)
        made.publish("foo", Rel("1.0.0", NEW))
        clock.advance(6)
        second = (await made.get(PACKAGE)).body
        made.fake.fault("/packages", status(500))
        clock.advance(6)
        assert (await made.get(PACKAGE)).body != second
        made.fake.heal()
        await made.until_up()
        clock.advance(6)
        assert (await made.get(PACKAGE)).body == second
        made.fake.fault("/tarballs", status(500))
        assert (await made.get(TARBALL)).status in (502, 504)


class TestRubbish:
    """Upstream answers, but not with what it is asked for: a captive portal."""

    async def test_the_tarball_of_the_entry_before(self, bench: Make, clock: Clock) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        first = (await made.get(PACKAGE)).body
        await made.get(TARBALL)
        made.publish("foo", Rel("1.0.0", NEW))
        clock.advance(6)
        await made.get(PACKAGE)
        made.fake.fault("/", replaced(b"<html>sorry</html>"))
        clock.advance(6)
        assert (await made.get(PACKAGE)).body == first
        got = await made.get(TARBALL)
        assert (got.status, got.body) == (200, OLD), got.detail

    async def test_a_tarball_whose_entry_was_lost(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        await made.get(TARBALL)
        await made.store.delete(package("foo").key)
        made.fake.fault("/", replaced(b"<html>sorry</html>"))
        assert (await made.get(TARBALL)).status == 200
