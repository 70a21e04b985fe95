"""What is wrong, from a client's seat: `hexcache doctor`.

Each check says one thing that is so, and where it isn't as it should be, the line that mends it.
Nothing is changed but for a file that is written and removed to see whether the disk takes it, and
for what Hexcache stores when it asks upstream for the public key.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from hexcache.errors import HexcacheError
from hexcache.printing import printable
from hexcache.seat import probing
from hexcache.seat.checks import SET_CLOCK, Check, Seat, Server, State
from hexcache.seat.places import answers, check_server, own_servers
from hexcache.seat.probing import Answer, ProbeError, shown
from hexcache.seat.trusting import check_authority, check_trust
from hexcache.seat.variables import check_variables, way_of_mix, way_of_rebar3

_OK, _WARN, _FAIL = State.OK, State.WARN, State.FAIL

# For how long a server may ask upstream.
_UPSTREAM_SECONDS = 20.0
# Below this nothing can be stored any more.
_ROOM = 64 * 2**20
# TLS doesn't mind; times in logs and ages do. From a day on certificates seem expired.
_CLOCK_OFF = 300.0
_CLOCK_WRONG = 86400.0


def examine(seat: Seat) -> Iterator[Check]:
    """All checks, in an order in which the first failure is the cause of those that follow. Raises
    SettingsError."""
    mend = seat.eval_line
    yield from check_variables(seat.environment, has_rebar3=seat.installed("rebar3"), mend=mend)
    servers: list[Server] = []
    ready, checks = _readiness(seat)
    for server in _servers(seat):
        check = check_server(seat, server, is_ready=bool(ready and ready.get("ready")))
        yield check
        servers += [server] if check.state is _OK else []
    yield from checks
    yield from check_authority(seat)
    proxies = [server for server in servers if server.through]
    if proxies:
        yield from check_trust(seat, proxies[0])
    offline = bool(ready.get("offline")) if ready is not None else seat.settings.offline
    yield from _check_upstream(seat, servers, offline=offline, runs=ready is not None)
    if ready is not None or not servers or seat.settings.data.exists():
        yield from _check_disk(seat, written=ready is not None)


# Is it up?


def _servers(seat: Seat) -> list[Server]:
    """Where the clients of this environment go, and without one where it should listen."""
    found: dict[tuple[str | None, int | None, bool], Server] = {}
    for way in (way_of_mix(seat.environment), way_of_rebar3(seat.environment)):
        place = way.proxy or way.mirror
        if place is not None and not (way.proxy and place.scheme != "http"):
            key = place.hostname, place.port, way.proxy is not None
            found.setdefault(key, Server(place, way.proxy is not None))
    return list(found.values()) or own_servers(seat)


def _readiness(seat: Seat) -> tuple[Mapping[str, object] | None, list[Check]]:
    """What the server on this machine says of itself, if it has a status port."""
    address = seat.settings.listen.status
    place = probing.split(f"http://{address.reachable}") if address else None
    if place is None:
        return None, []
    try:
        answer = probing.ask(place, "/readyz")
        said = json.loads(answer.body)
    except (ProbeError, ValueError):
        return None, []
    if not isinstance(said, dict):
        return None, []
    if said.get("ready") is False:
        why = printable(said.get("why", "it doesn't say why"))
        return said, [Check("server", _FAIL, f"the server can't work: {why}")]
    if said.get("offline"):
        what = "the offline flag is set: what isn't stored can't be had"
        return said, [Check("server", _WARN, what, seat.line("offline off"))]
    return said, [Check("server", _OK, f"the server is ready (http://{address}/readyz)")]


# Is upstream reachable, and the clock right?


def _check_upstream(
    seat: Seat, servers: list[Server], *, offline: bool, runs: bool
) -> Iterator[Check]:
    """Through the server where there is one: it may reach what this seat doesn't, whatever the
    variables of this seat say."""
    if offline:
        return
    servers = servers or [each for each in own_servers(seat) if answers(each)]
    direct: Answer | None = None
    why = ""
    try:
        direct = seat.upstream()
    except HexcacheError as error:
        why = printable(error)
    if servers:
        yield _check_forwarded(servers[0])
    elif direct is None:
        place = probing.split(seat.settings.upstream.repo[0])
        mend = f"curl -v {shown(place)}" if place else ""
        yield Check("upstream", _FAIL, f"Hex can't be reached: {why}", mend)
    else:
        why = "the server couldn't be asked" if runs else "no server runs"
        yield Check("upstream", _OK, f"Hex answers (asked from here: {why})")
    yield _check_clock(seat, direct)


def _check_forwarded(server: Server) -> Check:
    try:
        answer = server.ask({"Cache-Control": "no-cache"}, _UPSTREAM_SECONDS)
    except ProbeError as error:
        return Check("upstream", _FAIL, f"the server doesn't get an answer of Hex: {error}")
    if answer.forwarded:
        return Check("upstream", _OK, "Hex answers the server")
    if answer.detail == "offline":
        return Check("upstream", _WARN, "the offline flag is set", "hexcache offline off")
    why = printable(answer.detail or f"status {answer.status}")
    return Check("upstream", _FAIL, f"the server doesn't get an answer of Hex: {why}")


def _check_clock(seat: Seat, upstream: Answer | None) -> Check:
    try:
        date = parsedate_to_datetime(upstream.headers["date"]) if upstream else None
    except (KeyError, ValueError, TypeError):
        date = None
    if date is None:
        return Check("clock", _OK, "nobody is there to compare the clock with")
    off = seat.now() - date.timestamp()
    if abs(off) < _CLOCK_OFF:
        return Check("clock", _OK, "the clock agrees with Hex's")
    state = _FAIL if abs(off) >= _CLOCK_WRONG else _WARN
    way = "fast" if off > 0 else "slow"
    return Check(
        "clock", state, f"the clock is {timedelta(seconds=int(abs(off)))} {way}", SET_CLOCK
    )


# Is there room?


def _check_disk(seat: Seat, *, written: bool) -> Iterator[Check]:
    """`written`: a server says that it can write."""
    data, limit = seat.settings.data, seat.settings.cache.size_limit
    name, quoted = printable(data), shlex.quote(str(data))
    if not data.is_dir():
        yield Check(
            "data", _WARN, f"{name} isn't there yet; the server makes it", seat.line("serve")
        )
        return
    try:
        room = seat.room(data)
    except OSError as error:
        yield Check("data", _FAIL, f"{name}: {error.strerror}")
        return
    left = f"{room / 1e9:.1f} GB are left for {name}"
    present = _size(data)
    if room < _ROOM:
        mend = f"df -h {quoted}  # then {seat.line('gc')}"
        yield Check(
            "disk", _FAIL, f"the disk is full: {room / 1e6:.0f} MB are left for {name}", mend
        )
    elif room + present < limit:
        what = f"{left}: the disk is full before cache.size_limit is reached"
        mend = f"export HEXCACHE_CACHE__SIZE_LIMIT={int((room + present) * 0.9 / 1e6)}MB"
        yield Check("disk", _WARN, what, f"{mend}  # for the server")
    else:
        yield Check("disk", _OK, left)
    if written:
        return
    try:
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        what = f"{name} can't be written by this user: {error.strerror}"
        yield Check("data", _FAIL, what, f'sudo chown -R "$(id -u)" {quoted}')
    else:
        yield Check("data", _OK, f"{name} can be written")


def _size(directory: Path) -> int:
    """What is there already, as far as it can be seen."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
