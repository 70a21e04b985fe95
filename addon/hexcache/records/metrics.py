"""What is counted, in Prometheus' words. The names are part of what Hexcache promises: dashboards
and alerts stand on them (examples/monitoring)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from hexcache import __version__
from hexcache.records.answers import STORED
from hexcache.records.telemetry import Telemetry

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """How it is at the moment. `entries` by kind, `upstream` by label; `damaged` and `evictions`
    are the store's, since the start."""

    store_bytes: int
    store_limit: int
    evictions: int
    damaged: int
    entries: Mapping[str, int]
    upstream: Mapping[str, bool]
    offline: bool


def exposition(telemetry: Telemetry, gauges: Gauges) -> bytes:
    """The answer to a scrape, as CONTENT_TYPE. The registry is its own: nobody else's metrics get
    in, and nothing is global."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Families(telemetry, gauges))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, telemetry: Telemetry, gauges: Gauges) -> None:
        self._telemetry = telemetry
        self._gauges = gauges

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._upstream()
        yield from self._store()
        yield InfoMetricFamily("hexcache_build", "This Hexcache", value={"version": __version__})

    def _requests(self) -> Iterator[Metric]:
        told, labels = self._telemetry, ["kind", "outcome"]
        requests = CounterMetricFamily(
            "hexcache_requests", "Requests that were answered", labels=labels
        )
        durations = HistogramMetricFamily(
            "hexcache_request_duration_seconds",
            "From a request's arrival until the last byte of its answer was handed over",
            labels=labels,
        )
        for (kind, outcome), times in sorted(told.requests.items()):
            requests.add_metric([kind, outcome], times.count)
            durations.add_metric([kind, outcome], times.cumulative(), times.total)
        yield requests
        yield durations
        size = CounterMetricFamily(
            "hexcache_bytes",
            "Bytes of bodies: served to clients, fetched from upstream",
            labels=["direction"],
        )
        size.add_metric(["served"], told.bytes_served)
        size.add_metric(["fetched"], told.bytes_fetched)
        yield size
        yield GaugeMetricFamily(
            "hexcache_in_flight", "Requests that are being answered", told.in_flight
        )

    def _upstream(self) -> Iterator[Metric]:
        told, gauges = self._telemetry, self._gauges
        codes = CounterMetricFamily(
            "hexcache_upstream_requests",
            "Requests to upstreams by status code, or error, or cancelled",
            labels=["upstream", "code"],
        )
        for (upstream, code), count in sorted(told.codes.items()):
            codes.add_metric([upstream, code], count)
        yield codes
        durations = HistogramMetricFamily(
            "hexcache_upstream_duration_seconds",
            "From a request to an upstream until its answer began",
            labels=["upstream"],
        )
        for upstream, times in sorted(told.questions.items()):
            durations.add_metric([upstream], times.cumulative(), times.total)
        yield durations
        up = GaugeMetricFamily(
            "hexcache_upstream_up", "1 unless the upstream is known to be down", labels=["upstream"]
        )
        for upstream, is_up in sorted(gauges.upstream.items()):
            up.add_metric([upstream], int(is_up))
        yield up
        yield GaugeMetricFamily(
            "hexcache_offline", "1 while the offline flag is set", int(gauges.offline)
        )
        checks = CounterMetricFamily(
            "hexcache_integrity_failures",
            "Bodies that failed a check and were not served, or served no longer",
            labels=["check"],
        )
        for check, count in sorted({**told.refusals, STORED: gauges.damaged}.items()):
            checks.add_metric([check], count)
        yield checks

    def _store(self) -> Iterator[Metric]:
        gauges = self._gauges
        yield GaugeMetricFamily(
            "hexcache_store_bytes", "What the store takes on the disk", gauges.store_bytes
        )
        yield GaugeMetricFamily(
            "hexcache_store_limit_bytes", "cache.size_limit", gauges.store_limit
        )
        entries = GaugeMetricFamily("hexcache_store_entries", "Stored entries", labels=["kind"])
        for kind, count in sorted(gauges.entries.items()):
            entries.add_metric([kind], count)
        yield entries
        yield CounterMetricFamily(
            "hexcache_store_evictions", "Entries that made room for others", gauges.evictions
        )
