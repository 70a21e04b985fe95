"""SARIF 2.1.0 (OASIS, sarif-v2.1.0-errata01), as code scanners hand their findings on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hexcache import __version__
from hexcache.stock.audit import Finding, Severity, Unknown

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
# What GitHub sorts by, where an advisory has no score of its own: the middle of each band.
_SCORES = {
    Severity.LOW: 2.0,
    Severity.MEDIUM: 5.5,
    Severity.HIGH: 8.0,
    Severity.CRITICAL: 9.5,
}
_HELP = {
    "retired": "https://hexdocs.pm/hex/Mix.Tasks.Hex.Retire.html",
    "checksum": "https://github.com/hexpm/specifications/blob/main/registry-v2.md",
}


def log(findings: Sequence[tuple[Path, Finding]], unknown: Iterable[tuple[Path, Unknown]]) -> Any:
    """A log of one run, to be written as JSON. What is unknown is a notification, not a result."""
    rules: dict[str, dict[str, Any]] = {}
    for _, finding in findings:
        rules.setdefault(finding.rule, _rule(finding))
    order = list(rules)
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "hexcache",
                        "semanticVersion": __version__,
                        "rules": list(rules.values()),
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {
                                "level": "warning",
                                "message": {"text": f"{each.package} {each.version}: {each.why}"},
                                "locations": [_location(path, each.line)],
                            }
                            for path, each in unknown
                        ],
                    }
                ],
                "results": [
                    _result(path, finding, order.index(finding.rule)) for path, finding in findings
                ],
            }
        ],
    }


def _rule(finding: Finding) -> dict[str, Any]:
    kind = finding.rule.split("-")[0]
    text = f"{kind} release" if kind == "retired" else finding.summary
    if kind == "checksum":
        text = "The lock file and the registry name different tarballs"
    score = _SCORES[finding.severity] if finding.score is None else finding.score
    return {
        "id": finding.rule,
        "shortDescription": {"text": text},
        "helpUri": _HELP.get(kind, finding.url),
        "defaultConfiguration": {"level": _LEVELS[finding.severity]},
        "properties": {
            "security-severity": f"{score:.1f}",
            "tags": list(dict.fromkeys(("security", *finding.aliases))),
        },
    }


def _result(path: Path, finding: Finding, index: int) -> dict[str, Any]:
    subject = f"{finding.package} {finding.version}"
    # The line isn't part of it: it moves with every other dependency.
    identity = f"{finding.rule} {subject} {path.name}"
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{subject}: {finding.summary} ({finding.severity}): {finding.url}"},
        "locations": [_location(path, finding.line)],
        "partialFingerprints": {"hexcache/v1": hashlib.sha256(identity.encode()).hexdigest()},
    }


def _location(path: Path, line: int) -> dict[str, Any]:
    # RFC 3986 §4.2: a colon in the first segment would end a scheme; quote takes it.
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    return {
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}},
    }
