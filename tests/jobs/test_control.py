"""The control socket: what a command and a server say to each other, on a real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hexcache.assembly import Core, assemble_core
from hexcache.errors import ControlError, HexcacheError, NoServerError, StoreError
from hexcache.jobs import remote
from hexcache.jobs.base import Event, Job, Order, Report
from hexcache.jobs.control import Control
from hexcache.settings import Settings, UpstreamSettings
from support.upstream import Upstream


async def count(core: Core, order: Order, report: Report) -> None:
    for n in range(order.arguments["to"]):
        report({"event": "number", "n": n})


async def fail(core: Core, order: Order, report: Report) -> None:
    report({"event": "begun"})
    raise StoreError("the disk is full")


async def crash(core: Core, order: Order, report: Report) -> None:
    raise KeyError("oops")


async def look_at_upload(core: Core, order: Order, report: Report) -> None:
    assert order.upload is not None
    content = await asyncio.to_thread(order.upload.read_bytes)
    report({"size": len(content), "name": order.upload.name, "arguments": dict(order.arguments)})


class Endless:
    """A job that tells when it begins and when it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def __call__(self, core: Core, order: Order, report: Report) -> None:
        report({"event": "begun"})
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class Servers:
    """Starts Control with jobs; all are ended with the test."""

    def __init__(self, data: Path, upstream: Upstream, stack: AsyncExitStack) -> None:
        self.data = data
        self._stack = stack
        urls = UpstreamSettings(repo=(upstream.url,), builds=(upstream.url,))
        self._settings = Settings(data=data, upstream=urls)

    async def start(self, **jobs: Job) -> Core:
        core = assemble_core(self._settings)
        self._stack.push_async_callback(core.close)
        control = Control(core, jobs)
        await control.start()
        self._stack.push_async_callback(control.close)
        return core


@pytest.fixture
async def servers(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        yield Servers(tmp_path / "data", upstream, stack)


async def events_of(
    data: Path, name: str, arguments: Mapping[str, Any] | None = None, upload: Path | None = None
) -> list[Event]:
    running = remote.run_job(data, name, arguments or {}, upload)
    async with contextlib.aclosing(running) as events:
        return [event async for event in events]


async def raw(data: Path, request: bytes) -> bytes:
    """What the server answers to anything at all."""
    reader, writer = await asyncio.open_unix_connection(data / "control.sock")
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


async def test_events_come_in_order_and_whole(servers: Servers) -> None:
    await servers.start(count=count)
    assert await events_of(servers.data, "count", {"to": 2000}) == [
        {"event": "number", "n": n} for n in range(2000)
    ]
    assert await events_of(servers.data, "count", {"to": 0}) == []


async def test_events_come_as_they_happen(servers: Servers) -> None:
    endless = Endless()
    await servers.start(endless=endless)
    async with contextlib.aclosing(remote.run_job(servers.data, "endless", {})) as events:
        assert await asyncio.wait_for(anext(events), 30) == {"event": "begun"}
        assert not endless.cancelled.is_set()


async def test_a_job_that_fails_says_why(servers: Servers) -> None:
    await servers.start(fail=fail)
    seen = []
    with pytest.raises(ControlError, match=r"^the disk is full$"):
        async for event in remote.run_job(servers.data, "fail", {}):
            seen.append(event)
    assert seen == [{"event": "begun"}], "what came before is told"


async def test_a_job_that_crashes_says_where_to_look(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    await servers.start(crash=crash, count=count)
    with pytest.raises(ControlError, match=r"KeyError.*the server's log may say more"):
        await events_of(servers.data, "crash")
    assert "crash failed:" in caplog.text
    assert len(await events_of(servers.data, "count", {"to": 3})) == 3, "the server goes on"


async def test_a_job_that_the_server_does_not_know(servers: Servers) -> None:
    await servers.start(count=count)
    with pytest.raises(ControlError, match="refuses: the server is of another version"):
        await events_of(servers.data, "dance")


async def test_who_hangs_up_ends_the_job(servers: Servers) -> None:
    """Ctrl-C in `hexcache warm` ends the fetching too."""
    endless = Endless()
    await servers.start(endless=endless)
    running = remote.run_job(servers.data, "endless", {})
    assert await anext(running) == {"event": "begun"}
    await running.aclose()
    await asyncio.wait_for(endless.cancelled.wait(), 30)


async def test_a_client_that_is_killed_ends_the_job(servers: Servers) -> None:
    endless = Endless()
    await servers.start(endless=endless)
    reader, writer = await asyncio.open_unix_connection(servers.data / "control.sock")
    writer.write(
        b"POST /jobs/endless HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    await reader.readuntil(b"begun")
    writer.transport.abort()
    await asyncio.wait_for(endless.cancelled.wait(), 30)


async def test_a_server_that_ends_in_the_middle_is_no_success(tmp_path: Path) -> None:
    """Its job isn't done, whatever came before."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        line = b'{"event": "begun"}\n'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + line)
        writer.close()

    server = await asyncio.start_unix_server(half, tmp_path / "control.sock")
    with pytest.raises(ControlError, match="the server ended meanwhile"):
        await events_of(tmp_path, "warm")
    server.close()
    await server.wait_closed()


async def test_an_upload_is_there_while_the_job_runs(servers: Servers, tmp_path: Path) -> None:
    await servers.start(look=look_at_upload)
    archive = tmp_path / "archive.tar"
    archive.write_bytes(b"x" * 5_000_000)
    ((event),) = await events_of(servers.data, "look", upload=archive)
    assert (event["size"], event["arguments"]) == (5_000_000, {})
    assert not list(servers.data.glob(".upload-*")), "it goes with the job"


async def test_an_upload_that_breaks_off_is_no_upload(servers: Servers) -> None:
    looked = []

    async def look(core: Core, order: Order, report: Report) -> None:
        looked.append(order)

    await servers.start(look=look)
    _, writer = await asyncio.open_unix_connection(servers.data / "control.sock")
    writer.write(
        b"POST /jobs/look HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
        b"Content-Length: 1000\r\n\r\nonly this"
    )
    await writer.drain()
    writer.close()
    # Whoever comes after it finds that the server has dealt with it.
    for _ in range(100):
        assert await remote.ask(servers.data, "GET", "/health") == {"well": True}
        if not list(servers.data.glob(".upload-*")):
            break
    assert not list(servers.data.glob(".upload-*"))
    assert looked == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/json", b""),
        (b"application/json", b"[]"),
        (b"application/json", b"{"),
        (b"application/json", b'"text"'),
        (b"application/json; charset=nonsense", b"{}"),
        (b"text/plain", b"\xff\xfe"),
    ],
)
async def test_arguments_that_are_none_are_refused(
    servers: Servers, kind: bytes, body: bytes
) -> None:
    await servers.start(count=count)
    answer = await raw(
        servers.data,
        b"POST /jobs/count HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (kind, len(body), body),
    )
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b"a JSON object is wanted")


async def test_no_server(tmp_path: Path) -> None:
    """So that a command may do the work by itself."""
    for data in (tmp_path / "none", tmp_path):
        with pytest.raises(NoServerError, match="start it with `hexcache serve`"):
            await events_of(data, "warm")
    (tmp_path / "control.sock").write_bytes(b"")
    with pytest.raises(NoServerError):
        await events_of(tmp_path, "warm")


async def test_only_its_owner_can_use_it(servers: Servers) -> None:
    await servers.start()
    mode = (servers.data / "control.sock").lstat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_the_state_of_the_server(servers: Servers, upstream: Upstream) -> None:
    core = await servers.start()
    found = await remote.ask(servers.data, "GET", "/statistics")
    assert found["offline"] is False
    assert found["store"] == core.store.statistics()
    assert [state["up"] for state in found["upstream"].values()] == [True]
    await remote.ask(servers.data, "PUT", "/offline", {"offline": True})
    assert (await remote.ask(servers.data, "GET", "/statistics"))["offline"] is True
    assert core.engine.offline
    json.dumps(found)
    assert upstream.requests == []


async def test_errors_are_the_users(servers: Servers) -> None:
    await servers.start()
    for method, path, body in (
        ("PUT", "/offline", {"offline": "yes"}),
        ("PUT", "/offline", []),
        ("GET", "/nothing", None),
        ("POST", "/jobs/", {}),
    ):
        with pytest.raises(HexcacheError, match="the server refuses"):
            await remote.ask(servers.data, method, path, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b'{"event": "begun"}\n',
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b'{"event": "beg',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n{"event": "begun"}\n\r\n',
    ],
)
async def test_a_server_that_goes_away_is_named_as_that(tmp_path: Path, answer: bytes) -> None:
    """However far it came."""

    async def ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(ending, tmp_path / "control.sock")
    with pytest.raises(ControlError, match=r"^the server ended meanwhile; run it again, it goes"):
        await events_of(tmp_path, "warm")
    server.close()
    await server.wait_closed()
