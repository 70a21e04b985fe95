"""Every job by its name."""

from __future__ import annotations

from collections.abc import Mapping

from hexcache.importing import import_bundle
from hexcache.jobs import Job

JOBS: Mapping[str, Job] = {"import": import_bundle}
