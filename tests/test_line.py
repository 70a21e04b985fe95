"""The bad line of benchmarks/: its scheduling on a clock that is passed in, and the whole of it
between two namespaces where that can be had."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import bad_line
from benchmarks.line import BAD, DEAD, GOOD, Conditions, Direction, Line
from support import namespaces
from support.namespaces import Namespace, tun_unavailable

PACKET = b"p" * 1000


def arrivals(way: Direction) -> list[tuple[float, bytes]]:
    """Everything that is on the way, and when it comes."""
    result: list[tuple[float, bytes]] = []
    while (at := way.next_at) is not None:
        result += [(at, packet) for packet in way.take(at)]
    return result


def test_a_good_line_delivers_at_once() -> None:
    way = Direction(GOOD, 1)
    way.offer(5.0, PACKET)
    assert way.next_at == 5.0
    assert way.take(5.0) == [PACKET]
    assert way.next_at is None


def test_packets_come_in_order_after_the_delay_and_not_before() -> None:
    way = Direction(Conditions(delay=0.15), 1)
    way.offer(1.0, b"first")
    way.offer(1.1, b"second")
    assert way.take(1.149) == []
    assert way.take(1.15) == [b"first"]
    assert way.take(9.0) == [b"second"]


def test_nothing_overtakes_when_the_delay_becomes_shorter() -> None:
    way = Direction(Conditions(delay=1.0), 1)
    way.offer(0.0, b"first")
    way.change(GOOD)
    way.offer(0.5, b"second")
    assert arrivals(way) == [(1.0, b"first"), (1.0, b"second")]


def test_the_stated_share_is_lost_and_a_seed_repeats_it() -> None:
    def lost(seed: int) -> set[int]:
        way = Direction(Conditions(loss=0.05), seed)
        for number in range(20_000):
            way.offer(0.0, number.to_bytes(4))
        came = {int.from_bytes(packet) for packet in way.take(0.0)}
        assert way.statistics.lost + way.statistics.carried == 20_000
        return set(range(20_000)) - came

    # Five standard deviations around 1000.
    assert 846 < len(lost(1)) < 1154
    assert lost(1) == lost(1)
    assert lost(1) != lost(2)


def test_the_rate_is_kept_and_idle_time_is_not_saved_up() -> None:
    way = Direction(Conditions(delay=0.1, rate=256_000, queue=10**6), 1)
    for _ in range(32):
        way.offer(0.0, PACKET)
    came = arrivals(way)
    # 1000 bytes take 1/32 s at 256 kbit/s.
    assert [at for at, _ in came] == pytest.approx([0.1 + n / 32 for n in range(1, 33)])

    way.offer(100.0, PACKET)
    way.offer(100.0, PACKET)
    assert [at for at, _ in arrivals(way)] == pytest.approx([100.1 + 1 / 32, 100.1 + 2 / 32])


def test_a_full_queue_drops_what_comes_last() -> None:
    way = Direction(Conditions(rate=8000, queue=3000), 1)
    for name in (b"a", b"b", b"c", b"d"):
        way.offer(0.0, name * 1000)
    assert way.statistics.overflowed == 1
    # Half of the first packet is out after half a second: not yet room; then there is.
    way.offer(0.5, b"e" * 1000)
    way.offer(1.0, b"f" * 1000)
    assert [packet[:1] for _, packet in arrivals(way)] == [b"a", b"b", b"c", b"f"]
    assert way.statistics.overflowed == 2


def test_a_packet_larger_than_the_queue_passes_alone() -> None:
    way = Direction(Conditions(rate=8000, queue=100), 1)
    way.offer(0.0, PACKET)
    assert arrivals(way) == [(1.0, PACKET)]


def test_a_cut_line_delivers_nothing_not_even_what_is_on_the_way() -> None:
    way = Direction(BAD, 1)
    way.offer(0.0, PACKET)
    way.change(DEAD)
    way.offer(0.0, PACKET)
    assert way.next_at is None
    way.change(GOOD)
    way.offer(1.0, b"mended")
    assert arrivals(way) == [(1.0, b"mended")]


def test_who_may_not_make_a_line_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "setns", None, raising=False)  # as if this were Linux
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert bad_line.main(["--quick"]) == bad_line.CANNOT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "need root" in printed.err


def test_a_kernel_without_tun_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "setns", None, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces, "TUN", tmp_path / "tun")
    monkeypatch.setattr(namespaces, "unavailable", lambda: "")
    assert "modprobe tun" in tun_unavailable()


def sample(seconds: float | None, failed: int = 0, kilobytes: float = 100) -> bad_line.Sample:
    return bad_line.Sample(seconds, failed, kilobytes)


def test_the_table_has_medians_ratios_within_a_run_and_counts_failures() -> None:
    runs = [
        {"bad line: direct": sample(10.0), "dead line: warm": sample(1.0)},
        {"bad line: direct": sample(20.0, 1), "dead line: warm": sample(4.0)},
        {"bad line: direct": sample(None, 5), "dead line: warm": sample(9.0)},
    ]
    assert bad_line.table(runs).splitlines()[2:] == [
        "| bad line: direct | 15.0 | 1.00 | 6 | 100 |",
        "| dead line: warm | 4.0 | 0.15 | 0 | 100 |",
    ]


@pytest.fixture
def ends() -> Iterator[tuple[Line, socket.socket, socket.socket]]:
    """A line, a UDP socket in near, and one in far at 10.77.0.2:7777."""
    if reason := tun_unavailable():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        tuns, sockets = [], []
        for address in ("10.77.0.1", "10.77.0.2"):
            namespace = stack.enter_context(contextlib.closing(Namespace()))
            tuns.append(namespace.tun("line", f"{address}/24"))
            stack.callback(os.close, tuns[-1])
            with namespace.entered():
                sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            stack.enter_context(sockets[-1])
            sockets[-1].bind((address, 7777))
            sockets[-1].settimeout(20)
        line = stack.enter_context(Line(tuns[0], tuns[1], seed=1))
        yield line, sockets[0], sockets[1]


def test_real_packets_go_both_ways_until_the_line_is_cut(
    ends: tuple[Line, socket.socket, socket.socket],
) -> None:
    line, near, far = ends
    near.sendto(b"question", ("10.77.0.2", 7777))
    question, asker = far.recvfrom(100)
    far.sendto(b"answer", asker)
    assert (question, near.recv(100)) == (b"question", b"answer")

    line.become(DEAD)
    near.sendto(b"into the void", ("10.77.0.2", 7777))
    line.become(Conditions(delay=0.05, rate=1e6))
    near.sendto(b"mended", ("10.77.0.2", 7777))
    assert far.recv(100) == b"mended"
    up, down = line.statistics()
    assert (up.carried, up.lost, down.carried, down.lost) == (2, 1, 1, 0)
