"""The examples for Prometheus and Grafana stand on metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hexcache.records.metrics import Gauges, exposition
from hexcache.records.telemetry import Telemetry
from support.clients import require
from support.prometheus import Scrape, check

EXAMPLES = Path(__file__).parent.parent / "examples" / "monitoring"
ALERTS = EXAMPLES / "alerts.yml"


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Every metric that a Hexcache has, as Prometheus stores them."""
    telemetry = Telemetry()
    telemetry.requests["package", "hit"].add(0.01)
    with telemetry.question("hex") as answered:
        answered(200)
    gauges = Gauges(
        store_bytes=1,
        store_limit=2,
        evictions=0,
        damaged=0,
        entries={"package": 1},
        upstream={"hex": True},
        offline=False,
    )
    scrape = Scrape(exposition(telemetry, gauges).decode())
    return {sample.name for family in scrape.families.values() for sample in family.samples}


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    return content


def expressions() -> list[str]:
    """What the dashboard asks, with Grafana's variables filled in."""
    found = [t["expr"] for panel in dashboard()["panels"] for t in panel["targets"]]
    filled = [re.sub(r"\$__\w+", "5m", expr).replace("$instance", ".*") for expr in found]
    assert not [expr for expr in filled if "$" in expr]
    return filled


def test_promtool_takes_the_configuration() -> None:
    assert check("config", str(EXAMPLES / "prometheus.yml")) == ""
    assert check("rules", str(ALERTS)) == ""


def test_promtool_takes_the_dashboards_questions(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert check("rules", str(file)) == ""


def test_they_ask_for_what_there_is(names: set[str]) -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    for expr in [*expressions(), *(rule["expr"] for rule in rules)]:
        assert set(re.findall(r"hexcache_\w+", expr)) <= names, expr


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_alerts_fire(tmp_path: Path) -> None:
    """Each of them, by series in which what it is about happens."""
    require("promtool", install="apt-get install prometheus")
    instance = 'instance="a", job="hexcache"'
    bucket = f"hexcache_request_duration_seconds_bucket{{{instance}, outcome='hit', kind='package'"
    series = {
        f"up{{{instance}}}": "0x2000",
        f"hexcache_integrity_failures_total{{{instance}, check='signature'}}": "0x1990 1x10",
        f"hexcache_upstream_up{{{instance}, upstream='hex'}}": "0x2000",
        f"hexcache_requests_total{{{instance}, kind='package', outcome='error'}}": "0+1x2000",
        f"hexcache_requests_total{{{instance}, kind='package', outcome='hit'}}": "0+9x2000",
        f"{bucket}, le='0.25'}}": "0x2000",
        f"{bucket}, le='0.5'}}": "0+9x2000",
        f"{bucket}, le='+Inf'}}": "0+9x2000",
        f"hexcache_store_evictions_total{{{instance}}}": "0+1x2000",
        f"hexcache_store_entries{{{instance}, kind='package'}}": "100x2000",
        f"hexcache_offline{{{instance}}}": "1x2000",
    }
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    questions = [
        {
            "expr": f'count(ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}})',
            "eval_time": "2000m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for rule in rules
    ]
    test = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "promql_expr_test": questions,
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    result = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # And it can fail: nothing fires where nothing happens.
    test["tests"][0]["input_series"] = []  # type: ignore[index]
    file.write_text(yaml.safe_dump(test))
    result = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
