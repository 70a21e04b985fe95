"""What the registry has against a lock file, and how it is told."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hexcache.cli import main
from hexcache.locks.lockfiles import parse
from hexcache.proto import registry_pb2 as pb
from hexcache.registry import Advisory
from hexcache.stock.audit import Severity, audit, severity_of_advisory
from support.clock import Clock
from support.machines import Machine, publish
from support.signing import Rel
from support.upstream import Upstream

GOOD = Rel("1.0.0", b"good")
LOCK = """%{
  "good": {:hex, :good, "1.0.0", "", [:mix], [], "hexpm", "%s"},
  "holed": {:hex, :holed, "1.0.0", "", [:mix], [], "hexpm", ""},
  "old": {:hex, :old, "1.0.0", "", [:mix], [], "hexpm", ""},
  "mine": {:git, "https://example.org/mine.git", "abc", []},
}
""".replace("%s", GOOD.outer_checksum.hex())
ADVISORY = pb.SecurityAdvisory(
    id="EEF-CVE-2024-0001",
    summary="anybody can read anything \x1b[2J",
    html_url="https://example.org/EEF-CVE-2024-0001",
    severity=4,
    cvss_score=9.25,
    aliases=["CVE-2024-0001"],
)


@pytest.fixture
async def machine(tmp_path: Path, upstream: Upstream, clock: Clock) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path / "machine", upstream, clock)
    publish(upstream, "good", GOOD)
    publish(upstream, "holed", Rel("1.0.0", b"h", advisories=(0,)), advisories=[ADVISORY])
    publish(upstream, "old", Rel("1.0.0", b"o", retired=(3, "use good")))
    await machine.fetch("/packages/good", "/packages/holed", "/packages/old")
    (tmp_path / "proxy.yaml").write_text(
        f"data: {machine.settings.data}\n"
        f"upstream: {{public_key: {machine.settings.upstream.public_key}}}\n"
    )
    yield machine
    await machine.close()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """hexcache audit with a lock file of this text."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, lock: str = LOCK) -> Result:
        Path("mix.lock").write_text(lock)
        return CliRunner().invoke(main, ["audit", "mix.lock", *arguments])

    return run


def test_findings_are_listed_with_line_severity_and_link(
    machine: Machine, command: Callable[..., Result]
) -> None:
    result = command()
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "mix.lock:3: holed 1.0.0: critical: EEF-CVE-2024-0001: anybody can read anything \\x1b[2J: "
        "https://example.org/EEF-CVE-2024-0001",
        "mix.lock:4: old 1.0.0: low: retired (deprecated): use good: "
        "https://hex.pm/packages/old/1.0.0",
        "3 releases looked at, as the registry was at 2025-06-15T15:06:40Z: 2 findings, 0 unknown",
    ]
    assert "mix.lock: skipped mine: from git" in result.stderr


@pytest.mark.parametrize(
    ("severity", "findings", "status"),
    [("low", 2, 1), ("medium", 1, 1), ("critical", 1, 1)],
)
def test_only_what_is_severe_enough_counts(
    machine: Machine, command: Callable[..., Result], severity: str, findings: int, status: int
) -> None:
    result = command("--severity", severity, "--json")
    answer = json.loads(result.stdout)
    assert (len(answer["findings"]), result.exit_code) == (findings, status)
    assert (answer["ok"], answer["below"]) == (not status, 2 - findings)


def test_nothing_found_is_exit_status_0(machine: Machine, command: Callable[..., Result]) -> None:
    only_old = "\n".join(line for line in LOCK.splitlines() if "holed" not in line)
    result = command("--severity", "medium", lock=only_old)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert "0 findings, 1 below medium, 0 unknown" in result.stdout


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ('"absent": {:hex, :absent, "1.0.0"}', "its registry entry is not stored"),
        ('"good": {:hex, :good, "2.0.0"}', "the stored registry entry doesn't have it"),
        (
            '"corp": {:hex, :good, "1.0.0", "", [], [], "hexpm:acme", ""}',
            "it is from hexpm:acme, whose registry is never stored",
        ),
    ],
)
def test_what_is_not_known_is_said(
    machine: Machine, command: Callable[..., Result], entry: str, why: str
) -> None:
    result = command(lock=f"%{{{entry}}}")
    assert result.exit_code == 1
    assert f"unknown: {why}" in result.stdout
    helps = "--allow-unknown" if "acme" in entry else "run: hexcache warm mix.lock"
    assert [line for line in ("--allow-unknown", "hexcache warm") if line in result.stderr] == [
        helps.removeprefix("run: ").removesuffix(" mix.lock")
    ]
    assert helps in result.stderr
    allowed = command("--allow-unknown", lock=f"%{{{entry}}}")
    assert allowed.exit_code == 0
    assert "--allow-unknown" not in allowed.stderr


def test_each_unknown_gets_the_advice_that_helps_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mix.lock").write_text('%{"corp": {:hex, :corp, "1.0.0", "", [], [], "hexpm:acme", ""}}')
    ours = Path("our apps")
    ours.mkdir()
    (ours / "mix.lock").write_text('%{"absent": {:hex, :absent, "1.0.0"}}')
    arguments = ["audit", "mix.lock", "our apps/mix.lock", "--config", "proxy.yaml"]
    result = CliRunner().invoke(main, arguments)
    assert result.stderr.splitlines() == [
        "to know more, run: hexcache warm 'our apps/mix.lock' --config proxy.yaml",
        "1 of a private repository can't be known here: --allow-unknown doesn't count unknown ones",
    ]


def test_a_lock_with_another_checksum(machine: Machine, command: Callable[..., Result]) -> None:
    result = command(
        lock=f'%{{"good": {{:hex, :good, "1.0.0", "", [], [], "hexpm", "{"0" * 64}"}}}}'
    )
    assert result.exit_code == 1
    assert "good 1.0.0: high: the lock file's outer checksum is 000" in result.stdout


@pytest.mark.parametrize(
    ("reason", "severity"),
    [(0, "low"), (1, "medium"), (2, "high"), (3, "low"), (4, "low"), (99, "low")],
)
async def test_how_severe_a_retirement_is(machine: Machine, reason: int, severity: str) -> None:
    publish(machine.fake, "gone", Rel("1.0.0", b"", retired=(reason, "")))
    await machine.fetch("/packages/gone")
    found = audit(machine.library, parse("mix.lock", '%{"gone": {:hex, :gone, "1.0.0"}}')).findings
    assert [str(each.severity) for each in found] == [severity]


@pytest.mark.parametrize(
    ("severity", "score", "expected"),
    [
        (0, None, Severity.LOW),
        (2, 9.9, Severity.MEDIUM),
        (4, None, Severity.CRITICAL),
        (17, None, Severity.CRITICAL),
        (None, None, Severity.MEDIUM),
        (None, math.nan, Severity.MEDIUM),
        (None, 0.0, Severity.LOW),
        (None, 3.9, Severity.LOW),
        (None, 4.0, Severity.MEDIUM),
        (None, 7.0, Severity.HIGH),
        (None, 9.0, Severity.CRITICAL),
    ],
)
def test_how_severe_an_advisory_is(
    severity: int | None, score: float | None, expected: Severity
) -> None:
    advisory = Advisory("id", "summary", "", severity, score)
    assert severity_of_advisory(advisory) is expected


async def test_a_link_that_is_none_is_not_shown(
    machine: Machine, command: Callable[..., Result]
) -> None:
    advisory = pb.SecurityAdvisory(id="A", summary="", html_url="javascript:alert(1)")
    publish(machine.fake, "odd", Rel("1.0.0", b"", advisories=(0,)), advisories=[advisory])
    await machine.fetch("/packages/odd")
    result = command(lock='%{"odd": {:hex, :odd, "1.0.0"}}')
    assert "odd 1.0.0: medium: A: no summary: https://hex.pm/packages/odd/1.0.0" in result.stdout


def test_sarif(machine: Machine, command: Callable[..., Result]) -> None:
    """What the schema requires of each object, and what GitHub wants beside it."""
    result = command("--format", "sarif", lock=LOCK.replace("}\n", '  "x": {:hex, :x, "1.0.0"}}\n'))
    assert result.exit_code == 1
    log = json.loads(result.stdout)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "hexcache"
    assert [rule["id"] for rule in driver["rules"]] == ["EEF-CVE-2024-0001", "retired-deprecated"]
    for rule in driver["rules"]:
        assert re.fullmatch(r"https://\S+", rule["helpUri"])
        assert rule["shortDescription"]["text"]
        assert 0 <= float(rule["properties"]["security-severity"]) <= 10
    assert driver["rules"][0]["helpUri"] == "https://example.org/EEF-CVE-2024-0001"
    assert [each["level"] for each in run["results"]] == ["error", "note"]
    for number, each in enumerate(run["results"]):
        assert driver["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
        assert each["message"]["text"]
        place = each["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "mix.lock"
        assert place["region"]["startLine"] == number + 3
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    (note,) = invocation["toolExecutionNotifications"]
    assert note["message"]["text"] == "x 1.0.0: its registry entry is not stored"


def test_the_identity_of_a_finding_does_not_move_with_its_line(
    machine: Machine, command: Callable[..., Result]
) -> None:
    def prints(result: Result) -> list[str]:
        results = json.loads(result.stdout)["runs"][0]["results"]
        return [each["partialFingerprints"]["hexcache/v1"] for each in results]

    first = prints(command("--format", "sarif"))
    assert prints(command("--format", "sarif", lock=f"\n\n{LOCK}")) == first
    assert len(set(first)) == 2


def test_a_lock_file_that_is_none_is_one_line(
    machine: Machine, command: Callable[..., Result]
) -> None:
    result = command(lock="what is this?")
    assert result.exit_code == 1
    assert result.stderr.startswith("hexcache: mix.lock")
    assert result.stderr.count("\n") == 1
