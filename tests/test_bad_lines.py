"""Every fault that a line or a server can have, on a cold cache and with a stored copy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.clock import Clock
from support.engine import Bench, Got
from support.signing import Rel, other_signer, signer
from support.upstream import (
    Answer,
    CertificateAuthority,
    Fault,
    Upstream,
    closed,
    corrupt,
    cut,
    drip,
    hold,
    longer,
    one_after_another,
    replaced,
    status,
)

Make = Callable[..., Bench]
OLD, NEW = b"old tarball " * 10_000, b"new tarball " * 10_000
PACKAGE, TARBALL = "/packages/foo", "/tarballs/foo-1.0.0.tar"
LIMITS = {"timeout": 0.2, "stall": 0.2}


def huge_headers(answer: Answer) -> None:
    answer.headers["X-Huge"] = "x" * 100_000


def bomb(answer: Answer) -> None:
    compress = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    packed = b"".join(compress.compress(zeros) for _ in range(200)) + compress.flush()
    replaced(packed)(answer)


@dataclass(frozen=True)
class Trouble:
    """`fault` for so many requests (None: until it is healed). `wins`: the bytes can be had."""

    name: str
    fault: Fault
    times: int | None = None
    wins: bool = False


TROUBLES = [
    Trouble("first-byte hang, once", hold(), 1, wins=True),
    Trouble("stall mid-body, once", hold(50), 1, wins=True),
    Trouble("reset mid-body, again and again", cut(200, reset=True), 5, wins=True),
    Trouble("truncated, again and again", cut(200), 5, wins=True),
    Trouble("slow drip", drip(), wins=True),
    Trouble("extra bytes", longer(), 1),
    Trouble("corrupted byte", corrupt()),
    Trouble("closed", closed()),
    Trouble("closed, twice", closed(), 2, wins=True),
    Trouble("500", status(500)),
    Trouble("500, twice", status(500), 2, wins=True),
    Trouble("502", status(502)),
    Trouble("503", status(503)),
    Trouble("429", status(429)),
    Trouble("429, with Retry-After, twice", status(429, Retry_After="7"), 2, wins=True),
    Trouble("403", status(403)),
    Trouble("wrong signature", replaced(other_signer().package("foo"))),
    Trouble("gzip bomb", bomb),
    Trouble("huge headers", huge_headers),
]


def check_error(got: Got) -> None:
    assert got.status in (502, 504), got
    assert got.outcome == "error"
    assert got.body.startswith(b"hexcache: ")
    assert got.body.count(b"\n") == 1


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: t.name)
@pytest.mark.parametrize("path", [PACKAGE, TARBALL])
async def test_cold(bench: Make, trouble: Trouble, path: str) -> None:
    made = bench(upstream=LIMITS)
    made.publish("foo", Rel("1.0.0", NEW))
    made.fake.fault(path, trouble.fault, trouble.times)
    got = await made.get(path)
    if trouble.wins:
        assert (got.status, got.body) == (200, made.fake.files[path])
    elif got.status != 200 or got.body != made.fake.files[path]:
        check_error(got)
    made.fake.heal()
    made.fake.release()
    await made.until_up()
    await made.settled()
    assert (await made.get(path)).body == made.fake.files[path]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: t.name)
async def test_with_a_stored_copy(bench: Make, clock: Clock, trouble: Trouble) -> None:
    made = bench(upstream=LIMITS)
    made.publish("foo", Rel("1.0.0", OLD))
    old = await made.get(PACKAGE)
    assert (await made.get(TARBALL)).body == OLD
    made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
    made.fake.fault("/packages", trouble.fault, trouble.times)
    clock.advance(6)
    got = await made.get(PACKAGE)
    assert got.status == 200
    if trouble.wins:
        assert got.body == made.fake.files[PACKAGE]
    else:
        assert got.body in (old.body, made.fake.files[PACKAGE])
    # The tarball is good as long as the entry that we hold names it.
    assert (await made.get(TARBALL)).body == OLD
    made.fake.heal()
    made.fake.release()
    await made.until_up()
    await made.settled()
    clock.advance(6)
    assert (await made.get(PACKAGE)).body == made.fake.files[PACKAGE]
    assert (await made.get("/tarballs/foo-1.1.0.tar")).body == NEW


@contextlib.contextmanager
def never_accepting() -> Iterator[str]:
    """A port that takes no more connections: a SYN isn't answered."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.asynccontextmanager
async def unreachable(kind: str, directory: Path) -> AsyncIterator[dict[str, Any]]:
    """`upstream` settings with which nothing can be had."""
    with contextlib.ExitStack() as stack:
        match kind:
            case "refused":
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    url = f"http://127.0.0.1:{probe.getsockname()[1]}"
                yield {"repo": [url]}
            case "connect hang":
                yield {"repo": [stack.enter_context(never_accepting())], "timeout": 0.1}
            case "TLS":
                fake = stack.enter_context(Upstream(CertificateAuthority(directory)))
                yield {"repo": [fake.url]}
            case "DNS":
                yield {"repo": ["http://hex.invalid"], "nameservers": ["127.0.0.1"], "timeout": 1}


REASONS = {
    "refused": "no connection: Connection refused",
    "connect hang": "no answer in time",
    "TLS": "its TLS certificate was refused",
    "DNS": "the name can't be resolved",
}


@pytest.mark.parametrize("kind", REASONS)
async def test_unreachable(bench: Make, clock: Clock, tmp_path: Path, kind: str) -> None:
    """Cold it is an error that says why; with a copy it is the copy."""
    good = bench()
    good.publish("foo", Rel("1.0.0", OLD))
    body = (await good.get(PACKAGE)).body
    await good.get(TARBALL)
    await good.close()
    clock.advance(3600)
    async with unreachable(kind, tmp_path / "tls") as upstream:
        made = bench(upstream=upstream)
        assert (await made.get(PACKAGE)).body == body
        assert (await made.get(TARBALL)).body == OLD
        cold = await made.get("/packages/bar")
        check_error(cold)
        assert REASONS[kind] in cold.body.decode()
        await made.close()


async def test_redirect_loop(bench: Make) -> None:
    made = bench()
    made.fake.redirects["/installs/hex.ez"] = (302, f"{made.fake.url}/installs/hex.ez")
    got = await made.get("/installs/hex.ez")
    check_error(got)
    assert b"redirects more than" in got.body


@pytest.mark.parametrize("where", ["http://localhost:9/x", "http://10.0.0.1/x", "ftp://a.b/c"])
async def test_redirects_dont_lead_into_the_network_around_us(bench: Make, where: str) -> None:
    made = bench()
    made.fake.redirects["/installs/hex.ez"] = (302, where)
    got = await made.get("/installs/hex.ez")
    check_error(got)
    assert b"redirects to" in got.body


class TestResume:
    async def test_what_has_come_is_not_fetched_again(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, cut(30_000), times=3)
        assert (await made.get(TARBALL)).body == NEW
        ranges = [s.headers.get("range") for s in made.fake.requests if s.path == TARBALL]
        assert ranges == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]
        seen = [s for s in made.fake.requests if s.path == TARBALL][1]
        assert seen.headers["if-range"].startswith('"')

    async def test_across_a_restart(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, hold(100_000))
        client = asyncio.create_task(made.get(TARBALL))
        await asyncio.to_thread(made.fake.wait_until_holding)
        while not list(made.partial.glob("*.part")):
            await asyncio.sleep(0.001)
        while next(made.partial.glob("*.part")).stat().st_size < 100_000:
            await asyncio.sleep(0.001)
        client.cancel()
        await made.close()
        made.fake.heal()
        made.fake.release()
        again = bench()
        made.fake.requests.clear()
        assert (await again.get(TARBALL)).body == NEW
        (seen,) = [s for s in made.fake.requests if s.path == TARBALL]
        assert seen.headers["range"] == "bytes=100000-"

    async def test_a_server_that_ignores_range(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, cut(70_000), times=1)
        made.fake.ignore_range = True
        assert (await made.get(TARBALL)).body == NEW

    async def test_content_that_changed_meanwhile(self, bench: Make) -> None:
        """Another ETag: the part that we have is not a part of this."""
        made = bench()
        made.fake.files["/docs/foo-1.0.0.tar.gz"] = OLD
        made.fake.fault("/docs", one_after_another(cut(70_000), hold()))
        client = asyncio.create_task(made.get("/docs/foo-1.0.0.tar.gz"))
        await asyncio.to_thread(made.fake.wait_until_holding)
        made.fake.files["/docs/foo-1.0.0.tar.gz"] = NEW
        made.fake.release()
        while not client.done():
            made.fake.release()
            await asyncio.sleep(0.001)
        assert client.result().body in (OLD, NEW)

    async def test_a_wrong_part_is_thrown_away(self, bench: Make) -> None:
        """What was left half done is of something else: the whole is fetched once more."""
        made = bench()
        made.publish("foo", Rel("1.0.0", NEW))
        made.fake.fault(TARBALL, corrupt(5), times=1)
        made.fake.fault(TARBALL, cut(90_000), times=1)
        assert (await made.get(TARBALL)).body == NEW

    async def test_another_mirror_continues(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", NEW))
            second.files.update(upstream.files)
            upstream.fault(TARBALL, one_after_another(cut(70_000), closed()))
            assert (await made.get(TARBALL)).body == NEW
            (seen,) = [s for s in second.requests if s.path == TARBALL]
            assert seen.headers["range"] == "bytes=70000-"
            await made.close()


class TestBreaker:
    async def test_a_dead_line_costs_nothing(self, bench: Make, clock: Clock) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        await made.get(PACKAGE)
        made.fake.fault("/", status(500))
        clock.advance(6)
        assert (await made.get(PACKAGE)).outcome == "stale"
        made.fake.requests.clear()
        for _ in range(20):
            assert (await made.get(PACKAGE)).outcome == "stale"
            assert (await made.get("/packages/bar")).status == 504
        assert made.fake.count("/packages") == 0
        state = made.upstream.statistics()[made.fake.url.removeprefix("http://")]
        assert state["up"] is False
        assert "500" in str(state["why"])
        assert state["since"] is not None
        made.fake.heal()
        await made.until_up()
        made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        assert (await made.get(PACKAGE)).body == made.fake.files[PACKAGE]
        assert made.upstream.statistics()[made.fake.url.removeprefix("http://")]["up"] is True

    async def test_state_changes_are_logged_once(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = bench()
        made.fake.stop_listening()
        for _ in range(5):
            assert (await made.get(PACKAGE)).status == 504
        made.fake.start_listening()
        await made.until_up()
        lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert sum("is down: " in line for line in lines) == 1
        assert sum("is back" in line for line in lines) == 1

    async def test_who_waits_is_let_go_and_the_fetch_goes_on(self, bench: Make) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        made.fake.stop_listening()
        assert (await made.get(PACKAGE)).status == 504
        assert made.engine.is_busy
        made.fake.start_listening()
        await made.until_up()
        await made.settled()
        made.fake.requests.clear()
        assert (await made.get(PACKAGE)).outcome == "hit"


class TestMirrors:
    async def test_in_order_and_skipping_the_dead(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            second.files.update(upstream.files)
            assert (await made.get(PACKAGE)).status == 200
            assert second.requests == []
            upstream.stop_listening()
            assert (await made.get(TARBALL)).body == OLD
            await made.close()

    async def test_wrong_content_loses_its_turn(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            second.files.update(upstream.files)
            upstream.files[PACKAGE] = other_signer().package("foo")
            upstream.files[TARBALL] = b"wrong"
            assert (await made.get(PACKAGE)).body == second.files[PACKAGE]
            assert (await made.get(TARBALL)).body == OLD
            await made.close()

    async def test_a_lagging_mirror_takes_nothing_away(
        self, bench: Make, upstream: Upstream, clock: Clock
    ) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            second.files.update(upstream.files)
            made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
            newest = (await made.get(PACKAGE)).body
            upstream.fault("/", status(500))
            clock.advance(6)
            got = await made.get(PACKAGE)
            assert (got.status, got.body) == (200, newest)
            await made.close()

    async def test_a_replayed_older_entry(self, bench: Make, clock: Clock) -> None:
        made = bench()
        made.publish("foo", Rel("1.0.0", OLD))
        older = made.fake.files[PACKAGE]
        made.publish("foo", Rel("1.0.0", OLD), Rel("1.1.0", NEW))
        newest = (await made.get(PACKAGE)).body
        made.fake.files[PACKAGE] = older
        made.fake.modified[PACKAGE] = 1.6e9
        clock.advance(6)
        got = await made.get(PACKAGE)
        assert (got.outcome, got.body) == ("stale", newest)
        assert "older registry entry" in got.detail
        # A revert is newer, and takes away.
        made.fake.modified[PACKAGE] = 1.75e9
        clock.advance(6)
        assert (await made.get(PACKAGE)).body == older

    async def test_a_mirror_without_it_proves_nothing(
        self, bench: Make, upstream: Upstream, clock: Clock
    ) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            made.publish("foo", Rel("1.0.0", OLD))
            body = (await made.get(PACKAGE)).body
            upstream.fault("/", status(500))
            clock.advance(6)
            assert (await made.get(PACKAGE)).body == body
            await made.close()

    async def test_credentials_go_to_the_first_only(self, bench: Make, upstream: Upstream) -> None:
        with Upstream() as second:
            made = bench(upstream={"repo": [upstream.url, second.url]})
            upstream.stop_listening()
            got = await made.get("/repos/acme/names", Authorization="key")
            assert got.status == 504
            assert second.requests == []
            await made.close()


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
