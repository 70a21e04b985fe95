"""Every job by its name."""

from __future__ import annotations

from collections.abc import Mapping

from hexcache.jobs import upkeep, warm
from hexcache.jobs.base import Job
from hexcache.jobs.importing import import_bundle

JOBS: Mapping[str, Job] = {
    "gc": upkeep.collect,
    "import": import_bundle,
    "refresh": upkeep.refresh,
    "rm": upkeep.remove,
    "verify": upkeep.verify,
    "warm": warm.job,
}
