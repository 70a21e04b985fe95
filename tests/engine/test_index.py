"""One question instead of sixteen."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace
from typing import Any

import pytest

from hexcache import registry
from support.clock import Clock
from support.engine import Bench, Make
from support.faults import hold
from support.signing import Rel, other_signer, signer


class TestOneQuestion:
    LONG_AGO = 1_500_000_000

    def _publish(self, made: Bench, *names: str, **published: int) -> None:
        for name in names:
            at = published.get(name, self.LONG_AGO)
            made.publish(name, Rel("1.0.0", name.encode(), published_at=at))
        made.fake.files["/versions"] = signer().versions({name: ["1.0.0"] for name in names})

    async def test_warm_costs_one_request(self, bench: Make, clock: Clock) -> None:
        made = bench()
        names = [f"p{number}" for number in range(16)]
        self._publish(made, *names)
        for name in names:
            await made.get(f"/packages/{name}")
        clock.advance(60)
        await made.get(f"/packages/{names[0]}")
        clock.advance(60)
        made.fake.requests.clear()
        replies = await asyncio.gather(*(made.get(f"/packages/{name}") for name in names))
        assert {reply.status for reply in replies} == {200}
        assert [(seen.path, seen.status) for seen in made.fake.requests] == [("/versions", 304)]

    async def test_what_it_cannot_show_is_asked_for(self, bench: Make, clock: Clock) -> None:
        made = bench()
        self._publish(made, "old", "new", new=int(clock.now) - 3600)
        for name in ("old", "new"):
            await made.get(f"/packages/{name}")
        clock.advance(60)
        made.fake.requests.clear()
        for name in ("old", "new"):
            assert (await made.get(f"/packages/{name}")).outcome == "revalidated"
        assert made.fake.count("/packages/old") == 0
        assert made.fake.count("/packages/new", status=304) == 1
        # Retirement and advisories don't show in /versions.
        clock.advance(601)
        await made.get("/packages/old")
        assert made.fake.count("/packages/old", status=304) == 1

    async def test_a_new_release(self, bench: Make, clock: Clock) -> None:
        made = bench()
        self._publish(made, "p")
        await made.get("/packages/p")
        release = Rel("1.1.0", b"", published_at=self.LONG_AGO)
        made.fake.files["/versions"] = signer().versions({"p": ["1.0.0", "1.1.0"]})
        # The CDN lags: the entry is asked for until it has what /versions names.
        for _ in range(2):
            clock.advance(6)
            await made.get("/packages/p")
        assert made.fake.count("/packages/p", status=304) == 2
        made.publish("p", Rel("1.0.0", b"p", published_at=self.LONG_AGO), release)
        clock.advance(6)
        assert (await made.get("/packages/p")).body == made.fake.files["/packages/p"]

    @pytest.mark.parametrize("versions", [None, b"nonsense"])
    async def test_without_a_readable_index(
        self, bench: Make, clock: Clock, versions: bytes | None
    ) -> None:
        made = bench()
        self._publish(made, "p")
        if versions is None:
            del made.fake.files["/versions"]
        else:
            made.fake.files["/versions"] = versions
        await made.get("/packages/p")
        for _ in range(3):
            clock.advance(6)
            assert (await made.get("/packages/p")).outcome == "revalidated"
        assert made.fake.count("/packages/p", status=304) == 3
        assert made.fake.count("/versions") == 1

    async def test_nobody_asks_nothing_is_asked(self, bench: Make, clock: Clock) -> None:
        made = bench()
        self._publish(made, "p")
        await made.get("/packages/p")
        assert made.fake.count("/versions") == 0

    async def test_an_older_index_is_refused(self, bench: Make, clock: Clock) -> None:
        """A mirror that lags, or a replay, would vouch for what is out of date."""
        made = bench()
        self._publish(made, "p", "q")
        older = made.fake.files["/versions"]
        for name in "pq":
            await made.get(f"/packages/{name}")
        made.fake.files["/versions"] = signer().versions({"p": ["1.0.0", "1.1.0"], "q": ["1.0.0"]})
        clock.advance(60)
        await made.get("/packages/q")
        newest = Rel("1.1.0", b"", published_at=self.LONG_AGO)
        made.publish("p", Rel("1.0.0", b"p", published_at=self.LONG_AGO), newest)
        made.fake.files["/versions"] = older
        made.fake.modified["/versions"] = 1.6e9
        clock.advance(6)
        assert (await made.get("/packages/p")).body == made.fake.files["/packages/p"]

    async def test_who_insists_is_not_put_off_with_its_word(
        self, bench: Make, clock: Clock
    ) -> None:
        """A new release that /versions doesn't name yet is asked for while an entry's refresh is
        under way that would be content with /versions."""
        made = bench()
        self._publish(made, "p")
        await made.get("/packages/p")
        clock.advance(6)
        made.publish(
            "p",
            Rel("1.0.0", b"p", published_at=self.LONG_AGO),
            Rel("1.1.0", b"new", published_at=self.LONG_AGO),
        )
        made.fake.fault("/versions", hold(), times=1)
        entry = asyncio.create_task(made.get("/packages/p"))
        await asyncio.to_thread(made.fake.wait_until_holding)
        tarball = asyncio.create_task(made.get("/tarballs/p-1.1.0.tar"))
        for _ in range(5):
            await asyncio.sleep(0)
        made.fake.release()
        got = await tarball
        assert (got.status, got.body) == (200, b"new")
        await entry

    async def test_given_up_where_it_takes_too_long(self, bench: Make, clock: Clock) -> None:
        made = bench(upstream={"patience": 0.2})
        self._publish(made, "p")
        await made.get("/packages/p")
        made.fake.fault("/versions", hold(3))
        asked = []
        for seconds in (6, 6, 590, 6, 590, 590, 30):
            clock.advance(seconds)
            await made.get("/packages/p")
            # It isn't in the way of anything else: nothing goes on behind.
            await asyncio.wait_for(made.settled(), 10)
            asked.append(made.fake.count("/versions"))
        assert asked == [1, 1, 1, 2, 2, 2, 3]

    async def test_it_is_waited_for_once(self, bench: Make, clock: Clock) -> None:
        """Not by each entry anew, for as long as a megabyte takes."""
        made = bench(upstream={"patience": 30})
        self._publish(made, "p", "q")
        for name in "pq":
            await made.get(f"/packages/{name}")
        made.fake.fault("/versions", hold(3))
        clock.advance(6)
        first = asyncio.create_task(made.get("/packages/p"))
        await asyncio.to_thread(made.fake.wait_until_holding)
        made.time.advance(16)
        second = await asyncio.wait_for(made.get("/packages/q"), 10)
        assert second.outcome == "revalidated"
        made.fake.release()
        await first

    async def test_it_goes_on_a_little_longer_than_anybody_waits(
        self, bench: Make, clock: Clock
    ) -> None:
        made = bench(upstream={"patience": 0.4})
        self._publish(made, "p")
        await made.get("/packages/p")
        made.fake.fault("/versions", hold(3), times=1)
        clock.advance(6)
        assert (await made.get("/packages/p")).outcome == "revalidated"
        made.fake.release()
        await made.settled()
        assert made.store.get("repo/versions") is not None

    async def test_not_given_up_under_a_client(self, bench: Make, clock: Clock) -> None:
        made = bench(upstream={"patience": 0.1})
        self._publish(made, "p")
        await made.get("/packages/p")
        made.fake.fault("/versions", hold(3), times=1)
        clock.advance(6)
        entry = asyncio.create_task(made.get("/packages/p"))
        await asyncio.to_thread(made.fake.wait_until_holding)
        client = asyncio.create_task(made.get("/versions"))
        await entry
        # Long enough for the index to have lost its patience.
        assert not (await asyncio.wait({client}, timeout=0.5))[0]
        made.fake.release()
        assert (await client).status == 200

    async def test_not_fetched_for_each_entry_where_it_cannot_be_kept(
        self, bench: Make, clock: Clock
    ) -> None:
        made = bench(cache={"size_limit": 2**20})
        names = [f"p{number}" for number in range(6)]
        self._publish(made, *names)
        noise = {f"n{number}": [random.randbytes(9).hex()] for number in range(90_000)}
        made.fake.files["/versions"] = signer().versions(noise | {n: ["1.0.0"] for n in names})
        assert len(made.fake.files["/versions"]) > 2**20
        for name in names:
            await made.get(f"/packages/{name}")
        clock.advance(6)
        for name in names:
            await made.get(f"/packages/{name}")
        assert made.fake.count("/versions") == 1

    async def test_its_word_is_as_old_as_it_is(self, bench: Make, clock: Clock) -> None:
        """A release is seen after 5 seconds, not after twice that."""
        made = bench()
        self._publish(made, "p", "q")
        for name in "pq":
            await made.get(f"/packages/{name}")
        clock.advance(6)
        await made.get("/packages/p")
        newest = Rel("1.1.0", b"", published_at=self.LONG_AGO)
        made.publish("q", Rel("1.0.0", b"q", published_at=self.LONG_AGO), newest)
        made.fake.files["/versions"] = signer().versions({"p": ["1.0.0"], "q": ["1.0.0", "1.1.0"]})
        clock.advance(4.9)
        await made.get("/packages/q")
        clock.advance(0.2)
        assert (await made.get("/packages/q")).body == made.fake.files["/packages/q"]

    async def test_who_wants_no_cache_gets_no_hearsay(self, bench: Make, clock: Clock) -> None:
        """A retirement doesn't show in /versions (RFC 9111 §5.2.1.4)."""
        made = bench()
        self._publish(made, "p")
        await made.get("/packages/p")
        retired = Rel("1.0.0", b"p", published_at=self.LONG_AGO, retired=(1, "use another"))
        made.publish("p", retired)
        clock.advance(6)
        got = await made.get("/packages/p", Cache_Control="no-cache")
        assert got.body == made.fake.files["/packages/p"]

    async def test_decoded_once(
        self, bench: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = bench()
        names = [f"p{number}" for number in range(20)]
        self._publish(made, *names)
        for name in names:
            await made.get(f"/packages/{name}")
        decoded: list[object] = []
        decode = registry.decode_versions

        def counting(*args: Any, **rest: Any) -> registry.Versions:
            decoded.append(args)
            return decode(*args, **rest)

        monkeypatch.setattr(registry, "decode_versions", counting)
        clock.advance(6)
        await asyncio.gather(*(made.get(f"/packages/{name}") for name in names))
        assert len(decoded) <= 2  # verified, and put to use

    async def test_a_planted_one_is_not_believed(self, bench: Make, clock: Clock) -> None:
        made = bench()
        self._publish(made, "p")
        await made.get("/packages/p")
        clock.advance(6)
        await made.get("/packages/p")
        entry = made.store.get("repo/versions")
        assert entry is not None
        planted = other_signer().versions({"p": ["1.0.0"]})
        sha256 = hashlib.sha256(planted).hexdigest()
        newest = Rel("1.1.0", b"", published_at=self.LONG_AGO)
        made.publish("p", Rel("1.0.0", b"p", published_at=self.LONG_AGO), newest)
        del made.fake.files["/versions"]
        clock.advance(5.5)
        fresh = replace(entry, sha256=sha256, size=len(planted), checked_at=clock.now)
        await made.store.put((fresh, planted))
        assert (await made.get("/packages/p")).body == made.fake.files["/packages/p"]
