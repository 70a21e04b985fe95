"""What the stored registry has against the releases of a lock file: `hexcache audit`.

Pure but for the Library: nothing is fetched. The registry carries both what owners say of their
releases (retirement) and what the Erlang ecosystem's advisories say of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from hexcache import resources
from hexcache.locks.lockfiles import PUBLIC_REPOSITORY, LockedRelease, LockFile
from hexcache.registry import Advisory, Release, Retirement
from hexcache.stock.completeness import disagreement
from hexcache.storage.library import Library


class Severity(IntEnum):
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """`rule` is the advisory's id, `retired-REASON` or `checksum-mismatch`. Texts are as the
    registry has them: `url` is empty where it has no link, else an http(s) URL."""

    rule: str
    package: str
    version: str
    severity: Severity
    summary: str
    url: str
    line: int
    aliases: tuple[str, ...] = ()
    score: float | None = None


@dataclass(frozen=True)
class Unknown:
    """A release of which nothing can be said. Of the public `repository` more can be known once
    its registry entry is fetched."""

    package: str
    version: str
    why: str
    line: int
    repository: str = PUBLIC_REPOSITORY

    @property
    def is_private(self) -> bool:
        return self.repository != PUBLIC_REPOSITORY


@dataclass(frozen=True)
class Audit:
    """`looked_at` counts the releases that the registry knows; `as_of` is when the oldest of the
    registry entries that were asked was last known to be current, in seconds since the epoch,
    None if none was asked, 0 if it isn't known of one of them."""

    findings: tuple[Finding, ...]
    unknown: tuple[Unknown, ...]
    looked_at: int
    as_of: float | None


def audit(library: Library, lock: LockFile) -> Audit:
    """Both lists in the order of the file. Raises StoreError."""
    findings: list[Finding] = []
    unknown: list[Unknown] = []
    times: list[float] = []
    for locked in lock.releases:
        about = library.entry(resources.package(locked.name))
        release = library.release(locked.name, locked.version)
        if why := _why_unknown(library, locked, release):
            which = locked.name, locked.version
            unknown.append(Unknown(*which, why, locked.line, locked.repository))
        elif release is not None:
            findings += _findings(locked, release)
            times += [about.checked_at] if about else []
    return Audit(tuple(findings), tuple(unknown), len(times), min(times, default=None))


def _why_unknown(library: Library, locked: LockedRelease, release: Release | None) -> str:
    if locked.repository != PUBLIC_REPOSITORY:
        return f"it is from {locked.repository}, whose registry is never stored"
    if library.package(locked.name) is None:
        return "its registry entry is not stored"
    if release is None:
        return "the stored registry entry doesn't have it: it is older, or the release was reverted"
    return ""


def _findings(locked: LockedRelease, release: Release) -> Iterator[Finding]:
    def found(
        rule: str,
        severity: Severity,
        summary: str,
        url: str,
        aliases: tuple[str, ...] = (),
        score: float | None = None,
    ) -> Finding:
        where = locked.name, locked.version
        return Finding(rule, *where, severity, summary, url, locked.line, aliases, score)

    page = f"https://hex.pm/packages/{locked.name}/{locked.version}"
    if why := disagreement(locked, release):
        yield found("checksum-mismatch", Severity.HIGH, why, page)
    if retired := release.retired:
        reason = retired.reason_name
        text = f"retired ({reason})" + (f": {retired.message}" if retired.message else "")
        yield found(f"retired-{reason}", severity_of_retirement(retired), text, page)
    for advisory in dict.fromkeys(release.advisories):
        url = advisory.html_url if _is_link(advisory.html_url) else page
        yield found(
            advisory.id or "advisory-without-id",
            severity_of_advisory(advisory),
            advisory.summary or "no summary",
            url,
            advisory.aliases,
            _score(advisory),
        )


def severity_of_retirement(retired: Retirement) -> Severity:
    """`security` is a hole that its owner knows of, `invalid` a release that doesn't work; the
    others say that there is something newer."""
    return {"security": Severity.HIGH, "invalid": Severity.MEDIUM}.get(
        retired.reason_name, Severity.LOW
    )


def severity_of_advisory(advisory: Advisory) -> Severity:
    """As the advisory says; else by its score (CVSS 3.1 §5, "none" is low); an advisory that says
    neither may be about anything, and is taken for a medium one."""
    if advisory.severity is not None:
        return Severity(min(max(advisory.severity, Severity.LOW), Severity.CRITICAL))
    score = _score(advisory)
    if score is None:
        return Severity.MEDIUM
    for least, severity in (
        (9.0, Severity.CRITICAL),
        (7.0, Severity.HIGH),
        (4.0, Severity.MEDIUM),
    ):
        if score >= least:
            return severity
    return Severity.LOW


def _score(advisory: Advisory) -> float | None:
    """From 0 to 10 in tenths; the registry has it in single precision."""
    score = advisory.cvss_score
    if score is None or math.isnan(score):
        return None
    return round(min(max(score, 0.0), 10.0), 1)


def _is_link(url: str) -> bool:
    good = url.isascii() and url.isprintable() and not set(url) & set(' "<>\\^`{|}')
    return good and url.startswith(("https://", "http://"))
