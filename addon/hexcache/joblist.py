"""Every job by its name."""

from __future__ import annotations

from collections.abc import Mapping

from hexcache import warm
from hexcache.jobs import Job

JOBS: Mapping[str, Job] = {
    "warm": warm.job,
}
