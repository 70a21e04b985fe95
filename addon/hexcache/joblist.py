"""Every job by its name."""

from __future__ import annotations

from collections.abc import Mapping

from hexcache import upkeep, warm
from hexcache.jobs import Job

JOBS: Mapping[str, Job] = {
    "gc": upkeep.collect,
    "refresh": upkeep.refresh,
    "rm": upkeep.remove,
    "verify": upkeep.verify,
    "warm": warm.job,
}
