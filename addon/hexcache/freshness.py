"""Serve, revalidate, fetch or refuse: the decision, without the doing.

Pure: a stored copy's age, the client's wishes and the network's state come in, a Decision goes
out. Upstream's `max-age` and `Age` play no part: Hex's CDN keeps objects for 7 days and purges
on publish, so both would call everything stale on arrival and still miss a release of now.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hexcache.resources import Kind


class Decision(Enum):
    SERVE = "serve the copy"
    SERVE_STALE = "serve the copy: upstream can't be asked"
    SERVE_REVALIDATE_BEHIND = "serve the copy, ask upstream behind"
    REVALIDATE = "ask upstream, within the patience"
    FETCH = "fetch, however long it takes"
    REFUSE = "there is no copy, and upstream can't be asked"


class Network(Enum):
    UP = "upstream may be asked"
    DOWN = "upstream is known to be down"
    PAUSED = "upstream wants to be asked later"
    OFFLINE = "the offline flag: nothing leaves for Hex"


@dataclass(frozen=True)
class Policy:
    """How long things stay fresh, in seconds; `max_stale=None` is without limit."""

    registry_fresh: float = 5.0
    max_stale: float | None = None
    patience: float = 2.0
    verify: bool = True

    def fresh_for(self, kind: Kind) -> float | None:
        """Seconds for which a copy needs no question; None: for ever.

        A tarball never ages: the registry entry that names its SHA-256 does. Where the registry
        isn't believed (`cache.verify: false`), a tarball is like any other file.
        """
        if kind is Kind.INSTALL or (kind is Kind.TARBALL and self.verify):
            return None
        return self.registry_fresh


@dataclass(frozen=True)
class Copy:
    """A stored copy, as far as freshness looks at it. `age`: seconds since upstream last said
    that it is current. `waited`: for how many seconds somebody has been waiting for upstream
    already."""

    kind: Kind
    age: float
    waited: float = 0.0


@dataclass(frozen=True)
class Wishes:
    """The client's Cache-Control (RFC 9111 §5.2.1). Hex and rebar3 send none; people with curl
    do."""

    no_cache: bool = False
    only_if_cached: bool = False


def decide(
    copy: Copy | None, policy: Policy, network: Network, wishes: Wishes | None = None
) -> Decision:
    """What to do for a client. Never a serving decision for a copy older than
    `policy.max_stale`, unless the offline flag is set: then what is stored counts as fresh."""
    wishes = wishes or Wishes()
    if copy is None:
        may_ask = network in (Network.UP, Network.PAUSED) and not wishes.only_if_cached
        return Decision.FETCH if may_ask else Decision.REFUSE
    if network is Network.OFFLINE:
        return Decision.SERVE
    if is_fresh(copy, policy) and not wishes.no_cache:
        return Decision.SERVE
    servable = may_serve_stale(copy, policy)
    if network is Network.DOWN or wishes.only_if_cached:
        return Decision.SERVE_STALE if servable else Decision.REFUSE
    if not servable:
        return Decision.FETCH
    if network is Network.PAUSED and not wishes.no_cache:
        return Decision.SERVE_STALE
    # The patience is spent once for all clients, not by each of them anew.
    if copy.waited >= policy.patience:
        return Decision.SERVE_REVALIDATE_BEHIND
    return Decision.REVALIDATE


def is_fresh(copy: Copy, policy: Policy) -> bool:
    """Whether the copy may be served without a question. A clock that was set back makes a
    negative age, which proves nothing."""
    limit = policy.fresh_for(copy.kind)
    return limit is None or 0 <= copy.age < limit


def may_serve_stale(copy: Copy, policy: Policy) -> bool:
    """Whether `cache.max_stale` lets this copy be served when upstream fails."""
    if policy.fresh_for(copy.kind) is None or policy.max_stale is None:
        return True
    return copy.age <= policy.max_stale
