"""Every job by its name."""

from __future__ import annotations

from collections.abc import Mapping

from hexcache.jobs import Job

JOBS: Mapping[str, Job] = {}
