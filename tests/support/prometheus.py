"""What a Prometheus would make of a scrape."""

from __future__ import annotations

import subprocess

from prometheus_client.parser import text_string_to_metric_families

from support.clients import require


def check(*arguments: str, text: str = "") -> str:
    """What promtool finds to say; empty if it has nothing against it."""
    require("promtool", install="apt-get install prometheus")
    result = subprocess.run(
        ["promtool", "check", *arguments], input=text, capture_output=True, text=True, check=False
    )
    if arguments == ("metrics",):
        return result.stdout + result.stderr
    return "" if result.returncode == 0 else result.stdout + result.stderr


class Scrape:
    """The samples of an exposition."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def label_values(self) -> set[str]:
        return {
            value
            for family in self.families.values()
            for sample in family.samples
            for value in sample.labels.values()
        }
