"""Every job by its name."""

from __future__ import annotations

from collections.abc import Mapping

from hexcache import upkeep, warm
from hexcache.importing import import_bundle
from hexcache.jobs import Job

JOBS: Mapping[str, Job] = {
    "gc": upkeep.collect,
    "import": import_bundle,
    "refresh": upkeep.refresh,
    "rm": upkeep.remove,
    "verify": upkeep.verify,
    "warm": warm.job,
}
