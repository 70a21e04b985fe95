"""Which of two registry entries is the newer one.

Both are rightly signed, and a signature has no date. A mirror that lags, an edge of a CDN that
lags or a replay mustn't take back what was seen: a project whose lock file names it would fail
hard. But hexpm takes releases back, too (replace, revert), and that has to get through.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexcache import registry
from hexcache.network.transfer import Download
from hexcache.registry import Package, Release
from hexcache.storage.entries import Entry

# An edge lags by minutes. What the first base URL doesn't have for a day it won't have.
_LONGEST_LAG = 24 * 3600.0


def is_older(
    download: Download,
    package: Package,
    entry: Entry,
    held: Package,
    *,
    bases: Sequence[str],
    now: float,
) -> bool:
    """Whether `package`, which came as `download`, is older than `held`, which is stored as
    `entry`. `bases` are the base URLs in their order; the first one has the say.

    One server's dates are compared. Two servers' dates say little: a mirror's may be of the file
    or of its copy. Then no release may be missing that isn't known to be taken back."""
    is_first = download.base == bases[0]
    written, seen = (registry.seconds(d.last_modified) for d in (download, entry))
    by_date = written is not None and seen is not None and written < seen
    if download.base == entry.base and (is_first or None not in (written, seen)):
        return by_date
    times = [r.published_at for r in package.releases if r.published_at is not None]
    if is_first and written is not None:
        times.append(written)
    # Written then or later; what was published before that, and is missing, was taken back.
    at_least = max(times, default=None)
    missing = [r for r in _lacking(package, held) if not _is_published(r, at_least)]
    if is_first:
        is_newer = written is not None and seen is not None and written > seen
        return bool(missing) and not is_newer and now - entry.stored_at < _LONGEST_LAG
    # An earlier date counts, unless there is something that is newer than the later one.
    return bool(missing) or (
        by_date and all(_is_published(release, seen) for release in _lacking(held, package))
    )


def _lacking(package: Package, other: Package) -> list[Release]:
    """The releases of `other` that `package` hasn't, or has as they were published before."""
    return [
        release
        for release in other.releases
        if (own := package.by_version.get(release.version)) is None
        or (
            own.published_at is not None
            and release.published_at is not None
            and own.published_at < release.published_at
        )
    ]


def _is_published(release: Release, before: float | None) -> bool:
    """Whether it is known to have been published before then."""
    return before is not None and release.published_at is not None and release.published_at < before
