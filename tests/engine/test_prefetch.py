"""Registry ahead of the question."""

from __future__ import annotations

from support.clock import Clock
from support.engine import Bench, Make
from support.signing import Rel


class TestAhead:
    def _tree(self, made: Bench) -> None:
        made.publish("a", Rel("1.0.0", b"a", (("b", "~> 1.0", False), ("c", "~> 1.0", True))))
        made.publish("b", Rel("1.0.0", b"b", (("d", "~> 1.0", False),)))
        made.publish("c", Rel("1.0.0", b"c"))
        made.publish("d", Rel("1.0.0", b"d", (("a", "~> 1.0", False),)))

    async def test_dependencies_are_there_before_they_are_asked_for(self, bench: Make) -> None:
        made = bench()
        self._tree(made)
        await made.get("/packages/a")
        await made.settled()
        made.fake.stop_listening()
        for name in "bcd":
            assert (await made.get(f"/packages/{name}")).outcome == "hit"
        assert made.fake.count("/packages") == 4
        assert made.fake.count("/tarballs") == 0

    async def test_turned_off(self, bench: Make) -> None:
        made = bench(prefetch=False)
        self._tree(made)
        await made.get("/packages/a")
        await made.settled()
        assert made.fake.count("/packages") == 1

    async def test_bounded(self, bench: Make) -> None:
        made = bench()
        names = [f"p{number}" for number in range(300)]
        made.publish("a", Rel("1.0.0", b"", tuple((name, ">= 0.0.0", False) for name in names)))
        await made.get("/packages/a")
        await made.settled()
        assert made.fake.count("/packages") <= 80

    async def test_bounded_in_depth_too(self, bench: Make) -> None:
        made = bench()
        for number in range(400):
            deps = ((f"p{number + 1}", "~> 1.0", False),)
            made.publish(f"p{number}", Rel("1.0.0", b"", deps))
        await made.get("/packages/p0")
        await made.settled()
        assert 200 < made.fake.count("/packages") <= 257
        # Whoever asks on is helped on.
        await made.get("/packages/p300")
        await made.settled()
        assert (await made.get("/packages/p350")).outcome == "hit"

    async def test_what_is_stored_is_looked_after_as_it_is_asked_for(
        self, bench: Make, clock: Clock
    ) -> None:
        """Without /versions each entry costs a question: not one after the other."""
        made = bench()
        self._tree(made)
        await made.get("/packages/a")
        await made.settled()
        clock.advance(6)
        assert (await made.get("/packages/a")).outcome == "revalidated"
        await made.settled()
        made.fake.requests.clear()
        for name in "bc":
            assert (await made.get(f"/packages/{name}")).outcome == "hit"
        # Of what nobody has asked for, no more than that: the circle a, b, d, a ends.
        assert made.fake.count("/packages") == 0
