"""Every job by its name."""

from __future__ import annotations

from collections.abc import Mapping

from hexcache import upkeep
from hexcache.jobs import Job

JOBS: Mapping[str, Job] = {
    "verify": upkeep.verify,
    "refresh": upkeep.refresh,
    "rm": upkeep.remove,
    "gc": upkeep.collect,
}
