"""Conditional and range requests on a stored representation (RFC 9110 §13 and §14).

Pure: what is stored and what the client's headers say come in, the status and the part of the
body to send go out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# A digit string longer than this names no byte of any file; int() of a longer one is slow.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_ETAG = re.compile(r'(?:W/)?"[^"]*"')


@dataclass(frozen=True)
class Selection:
    """What to answer: `status` 200, 206, 304 or 416, and the body's part [start, stop)."""

    status: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def select(
    headers: Mapping[str, str], *, etag: str, last_modified: str, size: int, method: str = "GET"
) -> Selection:
    """Evaluate the preconditions in the order of RFC 9110 §13.2.2.

    An empty `If-None-Match` means none: rebar3 sends it when it has no copy. `headers` are
    looked up in lower case.
    """
    whole = Selection(200, 0, size)
    if_none_match = headers.get("if-none-match", "").strip()
    if if_none_match:
        if _matches(if_none_match, etag):
            return Selection(304, 0, 0)
    elif last_modified and headers.get("if-modified-since", "").strip() == last_modified:
        # Whoever sends it sends back what it got: an exact comparison needs no clock.
        return Selection(304, 0, 0)
    # §14.2: Range is defined for GET only.
    wanted = headers.get("range", "").strip() if method == "GET" else ""
    if not wanted or not _if_range_holds(headers.get("if-range", ""), etag, last_modified):
        return whole
    return _range(wanted, size) or whole


def _matches(if_none_match: str, etag: str) -> bool:
    if if_none_match == "*":
        return True
    # Weak comparison (§8.8.3.2): a CDN may have put W/ before the same tag.
    opaque = etag.removeprefix("W/")
    return any(tag.removeprefix("W/") == opaque for tag in _ETAG.findall(if_none_match))


def _if_range_holds(if_range: str, etag: str, last_modified: str) -> bool:
    if_range = if_range.strip()
    if not if_range:
        return True
    if if_range.startswith(('"', "W/")):
        # Strong comparison (§13.1.5): a weak tag never selects a part.
        return if_range == etag and not etag.startswith("W/")
    return bool(last_modified) and if_range == last_modified


def _range(wanted: str, size: int) -> Selection | None:
    match = _RANGE.fullmatch(wanted)
    if match is None:
        return None  # another unit or several ranges: allowed to be ignored (§14.2)
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None  # invalid, hence ignored (§14.1.1)
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    if start >= stop:
        return Selection(416, 0, 0)
    return Selection(206, start, stop)
