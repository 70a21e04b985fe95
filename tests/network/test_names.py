"""Looking up names where no name server answers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hexcache.network.names import look_up_apart
from support.engine import Bench, Make
from support.signing import Rel

BIG = b"a tarball " * 40_000


class NameServers:
    """They answer when `back` is set."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.asked: list[str] = []
        self._really = socket.getaddrinfo

    def __call__(self, host: Any, *more: Any, **named: Any) -> Any:
        if not str(host).endswith(".test"):
            return self._really(host, *more, **named)
        self.asked.append(host)
        if host == "nobody.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.back.wait()
        return self._really("127.0.0.1", *more, **named)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers)
    yield servers
    servers.back.set()


async def test_what_is_stored_is_served_while_they_are_silent(
    bench: Make, silent: NameServers
) -> None:
    made: Bench = bench()
    made.publish("foo", Rel("1.0.0", BIG))
    await made.get("/packages/foo")
    await made.get("/tarballs/foo-1.0.0.tar")
    loop = asyncio.get_running_loop()
    tunnels = [
        asyncio.ensure_future(loop.getaddrinfo(f"host{number}.test", 443)) for number in range(100)
    ]
    async with asyncio.timeout(10):
        assert (await made.get("/tarballs/foo-1.0.0.tar")).body == BIG
    silent.back.set()
    await asyncio.gather(*tunnels)


def test_the_process_ends_while_they_are_silent(silent: NameServers) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        look_up_apart(loop)
        asking = asyncio.ensure_future(loop.getaddrinfo("repo.test", 443))
        while not silent.asked:
            await asyncio.sleep(0)
        asking.cancel()

    ended = threading.Event()

    def run() -> None:
        asyncio.run(main())
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(10)


async def test_a_question_is_asked_once(silent: NameServers) -> None:
    loop = asyncio.get_running_loop()
    look_up_apart(loop)
    look_up_apart(loop)
    asking = [asyncio.ensure_future(loop.getaddrinfo("repo.test", 443)) for _ in range(9)]
    while not silent.asked:
        await asyncio.sleep(0)
    asking[0].cancel()
    silent.back.set()
    answers: list[Any] = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {answer[0][4][:2] for answer in answers[1:]} == {("127.0.0.1", 443)}
    assert silent.asked == ["repo.test"]
    # And again when somebody wants to know later.
    await loop.getaddrinfo("repo.test", 443)
    assert silent.asked == ["repo.test"] * 2


@pytest.mark.parametrize("host", ["nobody.test", "a" * 64 + ".example"])
async def test_no_such_name(silent: NameServers, host: str) -> None:
    loop = asyncio.get_running_loop()
    look_up_apart(loop)
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo(host, 443)


async def test_there_is_an_end_to_the_threads(silent: NameServers) -> None:
    loop = asyncio.get_running_loop()
    look_up_apart(loop)
    asking = [asyncio.ensure_future(loop.getaddrinfo(f"{n}.test", 1)) for n in range(300)]
    while sum(each.done() for each in asking) < 44:
        await asyncio.sleep(0)
    silent.back.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(each, socket.gaierror) for each in answers) == 44


async def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have few. Later there may be some again."""
    loop = asyncio.get_running_loop()
    look_up_apart(loop)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("localhost", 443)
    assert await loop.getaddrinfo("localhost", 443)
