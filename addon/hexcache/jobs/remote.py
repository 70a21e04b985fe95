"""A running server, asked through its control socket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from hexcache.errors import ControlError, HexcacheError, NoServerError, reason_of
from hexcache.jobs.base import Event
from hexcache.jobs.unix_socket import NAME, PULSE_SECONDS, UPLOAD, within_reach
from hexcache.values import Address

_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
# Whoever listens to a job waits longer than that takes to say something.
_LISTEN = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=6 * PULSE_SECONDS)
_MAX_EVENT = 2**20
_GONE = "the server ended meanwhile; run it again, it goes on where it was"


async def run_job(
    data: Path, name: str, arguments: Mapping[str, Any], upload: Path | None = None
) -> AsyncGenerator[Event]:
    """The events of a job in the server that runs with this data directory. Raises NoServerError
    before anything has happened, ControlError if the server refuses, fails or goes away."""
    async with contextlib.AsyncExitStack() as stack:
        async with _explained(data / NAME):
            session = await stack.enter_async_context(_session(data / NAME, _LISTEN))
            if upload is None:
                sent = session.post(f"http://hexcache/jobs/{name}", json=arguments)
            else:
                file = stack.enter_context(upload.open("rb"))
                sent = session.post(
                    f"http://hexcache/jobs/{name}", data=file, headers={"Content-Type": UPLOAD}
                )
            response = await stack.enter_async_context(sent)
            if response.status != 200:
                raise ControlError(f"the server refuses: {(await response.text()).strip()[:200]}")
        while True:
            async with _explained(data / NAME):
                line = await response.content.readline()
                # The last event ends its line.
                event = json.loads(line) if line.endswith(b"\n") else {"end": _GONE}
            if event is None:
                continue
            if "end" in event:
                if event["end"] is not None:
                    raise ControlError(str(event["end"]))
                return
            yield event


async def ask(data: Path, method: str, path: str, body: object = None) -> Any:
    """What the server that runs with this data directory answers, decoded. Raises ControlError:
    there is none, it isn't ours, or it refuses."""
    place = data / NAME
    async with (
        _explained(place),
        _session(place, _TIMEOUT) as session,
        session.request(method, f"http://hexcache{path}", json=body) as response,
    ):
        text = await response.text()
        if response.status != 200:
            raise ControlError(f"the server refuses: {text.strip()[:200]}")
        return json.loads(text)


@contextlib.asynccontextmanager
async def _session(place: Path, limits: aiohttp.ClientTimeout) -> AsyncIterator[Any]:
    with within_reach(place) as reachable:
        connector = aiohttp.UnixConnector(path=reachable)
        async with aiohttp.ClientSession(
            connector=connector, timeout=limits, read_bufsize=_MAX_EVENT
        ) as session:
            yield session


@contextlib.asynccontextmanager
async def _explained(place: Path) -> AsyncIterator[None]:
    """Raises ControlError for what goes wrong on the way to the server."""
    try:
        yield
    except TimeoutError:
        raise ControlError(f"the server behind {place} gives no answer") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _unreachable(place, error) from None


def _unreachable(place: Path, error: Exception) -> ControlError:
    os_error = getattr(error, "os_error", error)
    if isinstance(os_error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        return NoServerError(
            f"no Hexcache runs with the data in {place.parent} (start it with `hexcache serve`)"
        )
    if isinstance(os_error, PermissionError):
        return ControlError(
            f"{place} is another user's: run this as the user that runs the server, or as root"
        )
    gone = aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionError
    if isinstance(error, gone) or isinstance(os_error, gone):
        return ControlError(_GONE)
    return ControlError(f"{place}: {reason_of(os_error)}")


async def ask_health(address: Address, seconds: float = 3.0) -> None:
    """Ask /healthz of a server that listens at `address`. Raises HexcacheError if it isn't well."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(f"http://{address.reachable}/healthz", allow_redirects=False) as response,
        ):
            status = response.status
    except TimeoutError:
        raise HexcacheError(f"{address} gives no answer within {seconds:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        reason = reason_of(getattr(error, "os_error", error))
        raise HexcacheError(f"no Hexcache answers at {address} (listen.status): {reason}") from None
    if status != 200:
        raise HexcacheError(f"{address} answers {status}")
