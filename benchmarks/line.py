"""A bad line between two TUN devices: a link emulator in user space.

Delay, loss, rate and queue are this file's, not the kernel's: `sch_netem` is a module that many
kernels lack, and one that is there differs from version to version. /dev/net/tun is everywhere,
so the line is the same on every machine, its losses come from a seed, and it can be cut and mended
while connections are open.

`Direction` is the scheduling, pure: times are passed in. `carry` is the process that moves packets;
`Line` is the handle to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

_PACKET = 2**16
# Packets that are read before time is looked at again.
_BATCH = 64


@dataclass(frozen=True)
class Conditions:
    """Of each direction. `delay` in seconds, one way; `loss` as a share; `rate` in bits per second
    (None: unlimited); `queue`: bytes that may wait for their turn at that rate, and what comes on
    top is dropped. One second's worth at 256 kbit/s is what the routers of such lines have, or
    more."""

    delay: float = 0.0
    loss: float = 0.0
    rate: float | None = None
    queue: int = 32_000


GOOD = Conditions()
BAD = Conditions(delay=0.150, loss=0.05, rate=256_000)
DEAD = Conditions(loss=1.0)


@dataclass
class Statistics:
    """Packets `carried`, `lost` by chance and `overflowed` the queue; `bytes` were carried."""

    carried: int = 0
    lost: int = 0
    overflowed: int = 0
    bytes: int = 0


class Direction:
    """One way of the line. `now` is any clock in seconds that doesn't go back."""

    def __init__(self, conditions: Conditions, seed: int | str) -> None:
        self._conditions = conditions
        self._random = random.Random(seed)  # noqa: S311  # chance, not a secret
        # A queue: nothing overtakes, also when the conditions change.
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self._idle_from = 0.0
        self.statistics = Statistics()

    def change(self, conditions: Conditions) -> None:
        """From now on. A line that is cut delivers nothing more, not even what is on the way."""
        self._conditions = conditions
        if conditions.loss >= 1:
            self.statistics.lost += len(self._on_the_way)
            self._on_the_way.clear()

    def offer(self, now: float, packet: bytes) -> None:
        """A packet enters: it is lost by chance, or finds the queue full, or will be delivered."""
        conditions = self._conditions
        # Drawn for each packet, so that the losses of a seed don't depend on the queue.
        if self._random.random() < conditions.loss:
            self.statistics.lost += 1
            return
        sent = now
        if conditions.rate is not None:
            begins = max(now, self._idle_from)
            waiting = (begins - now) * conditions.rate / 8
            if waiting + len(packet) > max(conditions.queue, len(packet)):
                self.statistics.overflowed += 1
                return
            sent = self._idle_from = begins + len(packet) * 8 / conditions.rate
        self._on_the_way.append((sent + conditions.delay, packet))

    @property
    def next_at(self) -> float | None:
        """When the next packet arrives; None if nothing is on the way."""
        return self._on_the_way[0][0] if self._on_the_way else None

    def take(self, now: float) -> list[bytes]:
        """The packets that have arrived by now, in order."""
        arrived = []
        while self._on_the_way and self._on_the_way[0][0] <= now:
            packet = self._on_the_way.popleft()[1]
            self.statistics.carried += 1
            self.statistics.bytes += len(packet)
            arrived.append(packet)
        return arrived


def carry(near: int, far: int, control: int, seed: int) -> None:
    """Carry packets between two TUN descriptors until `control` ends. A line on `control` holds
    Conditions as JSON, or nothing; each is answered on standard output with both directions'
    statistics, when it is in force."""
    for descriptor in (near, far, control):
        os.set_blocking(descriptor, False)
    ways = {
        near: (Direction(GOOD, f"{seed} up"), far),
        far: (Direction(GOOD, f"{seed} down"), near),
    }
    orders = b""
    with selectors.DefaultSelector() as selector:
        for descriptor in (near, far, control):
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            due = [way.next_at for way, _ in ways.values() if way.next_at is not None]
            timeout = max(min(due) - time.monotonic(), 0.0) if due else None
            ready = {key.fd for key, _ in selector.select(timeout)}
            # What was sent before an order came is carried under the conditions before.
            for source, (way, sink) in ways.items():
                if source in ready:
                    for packet in _read(source):
                        way.offer(time.monotonic(), packet)
                for packet in way.take(time.monotonic()):
                    # A device that isn't up takes nothing: to its sender that is one more loss.
                    with contextlib.suppress(OSError):
                        os.write(sink, packet)
            if control in ready:
                came = os.read(control, _PACKET)
                if not came:
                    return
                *lines, orders = (orders + came).split(b"\n")
                for line in lines:
                    _obey(line, [way for way, _ in ways.values()])


def _read(descriptor: int) -> list[bytes]:
    packets: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while len(packets) < _BATCH:
            packets.append(os.read(descriptor, _PACKET))
    return packets


def _obey(line: bytes, ways: list[Direction]) -> None:
    order = json.loads(line)
    for way in ways:
        if order is not None:
            way.change(Conditions(**order))
    print(json.dumps([asdict(way.statistics) for way in ways]), flush=True)


class Line:
    """The line between two TUN descriptors, GOOD at first, while it is entered: a process of its
    own, so that nothing that is measured holds it up. It ends with its owner."""

    def __init__(self, near: int, far: int, seed: int) -> None:
        self._descriptors = (near, far)
        self._seed = seed
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        near, far = self._descriptors
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(near), str(far), str(self._seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=self._descriptors,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def become(self, conditions: Conditions) -> None:
        """Return when `conditions` are in force."""
        self._order(json.dumps(asdict(conditions)))

    def statistics(self) -> tuple[Statistics, Statistics]:
        """Of the way from near to far, and back, since the line was entered."""
        up, down = self._order("null")
        return Statistics(**up), Statistics(**down)

    def _order(self, order: str) -> list[dict[str, int]]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the line's process is gone")
        result: list[dict[str, int]] = json.loads(answer)
        return result


if __name__ == "__main__":
    carry(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.fileno(), int(sys.argv[3]))
