"""A real client on a bad line, with and without Hexcache: `make bench`.

Two namespaces with benchmarks/line.py between them: a signed repository behind TLS in far, the
client and Hexcache in near. What is measured is the time until the project has its dependencies;
a client that gives up is started again at once, as its user would, keeping what it has, and that
is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import shape
from benchmarks.line import BAD, DEAD, GOOD, Conditions, Line
from benchmarks.projects import Project, Route, clients
from support.certificates import CertificateAuthority
from support.namespaces import Namespace, tun_unavailable
from support.running import Running
from support.upstream import Upstream

# sysexits' EX_NOPERM, and what test drivers take for "skipped".
CANNOT = 77
NEAR, FAR = "10.77.0.1", "10.77.0.2"
# Erlang's TLS takes no address for a name.
FAR_NAME = "far.test"
# A registry entry of this age is asked about again (`cache.registry_fresh` is 5 s).
_OLDER = 6.0
Client = Callable[[Path, shape.Shape, Route], Project]


@dataclass(frozen=True)
class Sample:
    """`seconds` is None if it never succeeded; `kilobytes` came down the line meanwhile."""

    seconds: float | None
    failed: int
    kilobytes: float


# Row → what was measured in one run.
Rows = dict[str, Sample]


@dataclass
class Rig:
    """The world that is measured in. A try lasts at most `limit` seconds."""

    near: Namespace
    line: Line
    authority: CertificateAuthority
    upstream: Upstream
    shape: shape.Shape
    bad: Conditions
    tries: int
    limit: float

    def measure(self, project: Project) -> Sample:
        """From nothing at the client's to all dependencies."""
        project.wipe()
        before = self.line.statistics()[1].bytes
        started = time.monotonic()
        failed = 0
        with self.near.entered():
            while failed < self.tries and not project.fetch(self.limit):
                failed += 1
        seconds = time.monotonic() - started
        kilobytes = (self.line.statistics()[1].bytes - before) / 1000
        return Sample(None if failed == self.tries else seconds, failed, kilobytes)

    @contextlib.contextmanager
    def hexcache(self, directory: Path) -> Iterator[Running]:
        """A Hexcache without a copy of anything. Its log stays in `directory`."""
        settings: dict[str, Any] = {
            "upstream": {
                "repo": [self.upstream.url],
                "builds": [self.upstream.url],
                "ca_file": str(self.authority.ca_file),
                "public_key": str(self.shape.public_key_file),
            },
            "log": {"level": "debug"},
        }
        running = Running(directory, settings)
        with self.near.entered():
            running.start()
        try:
            yield running
        finally:
            running.kill()
            (directory / "hexcache.log").write_text(running.log)

    def direct(self, client: Client, directory: Path) -> Project:
        mirror = f"https://{FAR_NAME}:{self.upstream.port}"
        route = Route(self.authority.ca_file, mirror=mirror, hosts={FAR_NAME: FAR})
        return client(directory, self.shape, route)

    def through(self, client: Client, directory: Path, hexcache: Running) -> Project:
        return client(directory, self.shape, Route(hexcache.bundle, proxy=hexcache.proxy))


@contextlib.contextmanager
def rig(arguments: argparse.Namespace, directory: Path) -> Iterator[Rig]:
    built = shape.build(
        directory / "repository",
        scale=arguments.scale,
        versions_size=arguments.versions_size,
        seed=arguments.seed,
    )
    authority = CertificateAuthority(directory / "upstream", (FAR, FAR_NAME))
    with contextlib.ExitStack() as stack:
        near, far = (stack.enter_context(contextlib.closing(Namespace())) for _ in range(2))
        tuns = near.tun("line", f"{NEAR}/24"), far.tun("line", f"{FAR}/24")
        for descriptor in tuns:
            stack.callback(os.close, descriptor)
        line = stack.enter_context(Line(*tuns, seed=arguments.seed))
        upstream = Upstream(authority, FAR)
        with far.entered():
            stack.enter_context(upstream)
        upstream.files.update(built.files)
        bad = Conditions(
            arguments.delay / 1000, arguments.loss / 100, arguments.rate * 1000, arguments.queue
        )
        yield Rig(
            near=near,
            line=line,
            authority=authority,
            upstream=upstream,
            shape=built,
            bad=bad,
            tries=arguments.tries,
            limit=arguments.limit,
        )


def run(rig: Rig, client: Client, directory: Path, tell: Callable[[str, Sample], None]) -> Rows:
    """Every row once. The rows of one run see one and the same line, one after another."""
    rows: Rows = {}

    def note(row: str, project: Project) -> None:
        rows[row] = rig.measure(project)
        tell(row, rows[row])

    rig.line.become(rig.bad)
    direct = rig.direct(client, directory / "direct")
    note("bad line: direct", direct)
    with rig.hexcache(directory / "hexcache-bad") as hexcache:
        project = rig.through(client, directory / "through-bad", hexcache)
        note("bad line: Hexcache, cold", project)
        time.sleep(_OLDER)
        note("bad line: Hexcache, warm, 5 s old", project)
        time.sleep(_OLDER)
        note("bad line: the same again", project)
        rig.line.become(DEAD)
        time.sleep(_OLDER)
        note("dead line: Hexcache, warm", project)
        note("dead line: the same again", project)
        rig.line.become(rig.bad)
        hexcache.stop()
        with rig.near.entered():
            hexcache.start(environment={"HEXCACHE_CACHE__REGISTRY_FRESH": "1h"})
        note("bad line: Hexcache, warm, fresh", project)
    rig.line.become(GOOD)
    note("good line: direct", direct)
    with rig.hexcache(directory / "hexcache-good") as hexcache:
        project = rig.through(client, directory / "through-good", hexcache)
        note("good line: Hexcache, cold", project)
        time.sleep(_OLDER)
        note("good line: Hexcache, warm, 5 s old", project)
    return rows


def table(runs: list[Rows]) -> str:
    """Markdown: medians over the runs that succeeded; a ratio is that to "direct" on the same
    line in the same run, where there is one."""
    lines = [
        "| | seconds | of direct | failed tries | kB |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in runs[0]:
        samples = [rows[row] for rows in runs]
        seconds = [sample.seconds for sample in samples if sample.seconds is not None]
        line = row.partition(":")[0].replace("dead", "bad")
        ratios = [
            sample.seconds / base
            for sample, base in ((rows[row], rows[f"{line}: direct"].seconds) for rows in runs)
            if sample.seconds is not None and base is not None
        ]
        kilobytes = statistics.median(sample.kilobytes for sample in samples)
        lines.append(
            f"| {row} | {_median(seconds, '.1f')} | {_median(ratios, '.2f')}"
            f" | {sum(sample.failed for sample in samples)} | {kilobytes:.0f} |"
        )
    return "\n".join(lines)


def _median(values: list[float], form: str) -> str:
    return format(statistics.median(values), form) if values else "never"


def parse(argv: list[str] | None) -> argparse.Namespace:
    known = clients()
    parser = argparse.ArgumentParser(description=__doc__, prog="bad_line")
    add = parser.add_argument
    add("-n", "--runs", type=int, default=3, help="medians are over so many (%(default)s)")
    add("--client", choices=sorted(known), action="append", help="default: all that are here")
    add("--scale", type=float, default=0.6, help="of the tarballs, 1 is about 1 MB (%(default)s)")
    add(
        "--versions-size",
        type=int,
        default=1_000_000,
        help="bytes of /versions, 0: none (%(default)s)",
    )
    add("--delay", type=float, default=BAD.delay * 1000, help="ms, one way (%(default)s)")
    add("--loss", type=float, default=BAD.loss * 100, help="%% each way (%(default)s)")
    add("--rate", type=float, default=256, help="kbit/s each way (%(default)s)")
    add("--queue", type=int, default=BAD.queue, help="bytes before the line (%(default)s)")
    add("--seed", type=int, default=1, help="of the losses (%(default)s)")
    add("--tries", type=int, default=5, help="starts of a client per measurement (%(default)s)")
    add("--limit", type=float, default=180, help="seconds for one try (%(default)s)")
    add("--directory", type=Path, help="keep everything here, Hexcache's logs too")
    add("--quick", action="store_true", help="small, once: does it work at all?")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        small = {"runs": 1, "scale": 0.1, "versions_size": 30_000, "tries": 2, "limit": 60}
        vars(arguments).update(small)
    return arguments


def main(argv: list[str] | None = None) -> int:
    """77 where it can't be measured, 1 if a client never succeeded through Hexcache."""
    arguments = parse(argv)
    known = clients()
    reason = tun_unavailable() or ("" if known else "it needs a client: rebar3, or mix with Hex")
    if reason:
        print(f"bad_line: {reason}", file=sys.stderr)
        return CANNOT
    # What was started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    never = False
    with contextlib.ExitStack() as stack:
        directory = arguments.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bad_line-")))
        directory = directory.resolve()
        world = stack.enter_context(rig(arguments, directory))
        for name in arguments.client or sorted(known):
            runs = []
            for number in range(1, arguments.runs + 1):

                def tell(row: str, sample: Sample, label: str = f"{name} {number}") -> None:
                    seconds = "never" if sample.seconds is None else f"{sample.seconds:.1f} s"
                    print(
                        f"{label}: {row}: {seconds}, {sample.failed} failed,"
                        f" {sample.kilobytes:.0f} kB",
                        file=sys.stderr,
                        flush=True,
                    )

                runs.append(run(world, known[name], directory / f"{name}-{number}", tell))
            print(_heading(name, arguments, world))
            print(table(runs) + "\n", flush=True)
            never |= any(
                sample.seconds is None
                for rows in runs
                for row, sample in rows.items()
                if "direct" not in row
            )
    return 1 if never else 0


def _heading(client: str, arguments: argparse.Namespace, rig: Rig) -> str:
    return (
        f"{client}, {arguments.runs} runs; {2 * arguments.delay:g} ms round trip,"
        f" {arguments.loss:g} % loss and {arguments.rate:g} kbit/s each way;"
        f" {len(rig.shape.packages)} tarballs of {rig.shape.tarball_bytes / 1000:.0f} kB,"
        f" /versions of {len(rig.shape.files.get('/versions', b'')) / 1000:.0f} kB\n"
    )


if __name__ == "__main__":
    sys.exit(main())
