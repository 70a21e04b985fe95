"""Bodies that are sent while they come in."""

from __future__ import annotations

import asyncio

import pytest

from support.engine import Make
from support.faults import corrupt, cut, hold
from support.signing import Rel

OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"


class TestStreaming:
    async def test_bytes_come_as_they_come_but_for_the_last(self, bench: Make) -> None:
        made = bench(upstream={"stall": 30})
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, hold(50_000))
        reply = await made.reply(TARBALL, "GET", "repo.hex.pm", "", b"", {})
        assert (reply.status, reply.body.length) == (200, len(NEW))
        chunks = reply.body.chunks()
        received = b""
        while len(received) < 50_000:
            received += await anext(chunks)
        made.fake.release()
        async for chunk in chunks:
            received += chunk
        assert received == NEW

    async def test_a_wrong_body_is_never_finished(self, bench: Make) -> None:
        made = bench(upstream={"stall": 30})
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, corrupt(5))
        made.fake.fault(TARBALL, hold(50_000))
        reply = await made.reply(TARBALL, "GET", "repo.hex.pm", "", b"", {})
        chunks = reply.body.chunks()
        received = await anext(chunks)
        made.fake.release()
        with pytest.raises(Exception, match="SHA-256"):
            async for chunk in chunks:
                received += chunk
        assert len(received) < len(NEW)

    async def test_a_body_that_changed_while_it_was_sent(self, bench: Make) -> None:
        """The first try was corrupted and broke off; the second is good, but not for this
        client, who has the beginning of the first."""
        made = bench(upstream={"stall": 30})
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.ignore_range = True
        made.fake.fault(TARBALL, hold(50_000), times=1)
        made.fake.fault(TARBALL, corrupt(5), times=1)
        made.fake.fault(TARBALL, cut(60_000), times=1)
        reply = await made.reply(TARBALL, "GET", "repo.hex.pm", "", b"", {})
        chunks = reply.body.chunks()
        received = await anext(chunks)
        made.fake.release()
        with pytest.raises(Exception, match="changed while it was sent"):
            async for chunk in chunks:
                received += chunk
        assert len(received) < len(NEW)
        await made.settled()
        assert (await made.get(TARBALL)).body == NEW

    async def test_pulled_only_after_the_fetch_has_landed(self, bench: Make) -> None:
        """A client that is slow to take the first byte gets the body all the same."""
        made = bench(upstream={"stall": 30})
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, hold(70_000))
        reply = await made.reply(TARBALL, "GET", "repo.hex.pm", "", b"", {})
        made.fake.release()
        await made.settled()
        for _ in range(5):
            await asyncio.sleep(0)
        received = b""
        async for chunk in reply.body.chunks():
            assert chunk
            received += chunk
        assert received == NEW
