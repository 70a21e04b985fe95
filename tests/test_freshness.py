"""What is done with a stored copy: examples that a user would tell, and rules that always hold."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hexcache.freshness import Copy, Decision, Network, Policy, Wishes, decide
from hexcache.resources import Kind

ANSWERS = {Decision.SERVE, Decision.SERVE_STALE, Decision.SERVE_REVALIDATE_BEHIND}
ASKS = {Decision.FETCH, Decision.REVALIDATE, Decision.SERVE_REVALIDATE_BEHIND}
# What can end in an old copy being served: REVALIDATE does when upstream fails or is slow.
MAY_BE_STALE = (ANSWERS | {Decision.REVALIDATE}) - {Decision.SERVE}

POLICY = Policy(registry_fresh=5, max_stale=60, patience=2)

# Small numbers too: what is wrong is wrong at a border.
small = st.integers(0, 9).map(float)
kinds = st.sampled_from(Kind)
ages = small | st.floats(-1e6, 1e9)
networks = st.sampled_from(Network)
wishes_ = st.builds(Wishes, no_cache=st.booleans(), only_if_cached=st.booleans())
policies = st.builds(
    Policy,
    registry_fresh=small | st.floats(0, 1e6),
    max_stale=st.none() | small | st.floats(0, 1e6),
    patience=small | st.floats(0, 100),
    verify=st.booleans(),
)
copies = st.builds(Copy, kind=kinds, age=ages, waited=small | st.floats(0, 1000))


def package(age: float, waited: float = 0) -> Copy:
    return Copy(Kind.PACKAGE, age, waited)


def test_nothing_stored_is_fetched() -> None:
    assert decide(None, POLICY, Network.UP) is Decision.FETCH


def test_nothing_stored_and_nobody_to_ask() -> None:
    assert decide(None, POLICY, Network.DOWN) is Decision.REFUSE
    assert decide(None, POLICY, Network.OFFLINE) is Decision.REFUSE
    assert decide(None, POLICY, Network.UP, Wishes(only_if_cached=True)) is Decision.REFUSE


def test_a_registry_entry_is_asked_for_again_after_five_seconds() -> None:
    assert decide(package(0), POLICY, Network.UP) is Decision.SERVE
    assert decide(package(4.9), POLICY, Network.UP) is Decision.SERVE
    assert decide(package(5), POLICY, Network.UP) is Decision.REVALIDATE
    assert decide(package(60), POLICY, Network.UP) is Decision.REVALIDATE


def test_with_freshness_zero_each_request_asks() -> None:
    assert decide(package(0), Policy(registry_fresh=0), Network.UP) is Decision.REVALIDATE


def test_a_clock_that_was_set_back_proves_nothing() -> None:
    assert decide(package(-1), POLICY, Network.UP) is Decision.REVALIDATE
    assert decide(package(-1), POLICY, Network.DOWN) is Decision.SERVE_STALE


def test_the_patience_is_spent_once_for_all_clients() -> None:
    assert decide(package(30, waited=0.5), POLICY, Network.UP) is Decision.REVALIDATE
    behind = Decision.SERVE_REVALIDATE_BEHIND
    assert decide(package(30, waited=2), POLICY, Network.UP) is behind
    assert decide(package(30, waited=100), POLICY, Network.UP) is behind


def test_while_upstream_is_down_a_copy_is_served_whatever_its_age() -> None:
    for age in (10.0, 1e9):
        assert decide(package(age), Policy(), Network.DOWN) is Decision.SERVE_STALE


def test_while_upstream_wants_to_be_asked_later_only_who_has_nothing_waits() -> None:
    assert decide(package(10), POLICY, Network.PAUSED) is Decision.SERVE_STALE
    assert decide(package(1), POLICY, Network.PAUSED) is Decision.SERVE
    assert decide(package(1000), POLICY, Network.PAUSED) is Decision.FETCH
    assert decide(None, POLICY, Network.PAUSED) is Decision.FETCH
    insists = Wishes(no_cache=True)
    assert decide(package(10), POLICY, Network.PAUSED, insists) is Decision.REVALIDATE


def test_a_copy_older_than_max_stale_is_fetched_anew_or_refused() -> None:
    assert decide(package(1000), POLICY, Network.UP) is Decision.FETCH
    assert decide(package(1000, waited=9), POLICY, Network.UP) is Decision.FETCH
    assert decide(package(1000), POLICY, Network.DOWN) is Decision.REFUSE


def test_offline_what_is_stored_counts_as_fresh() -> None:
    assert decide(package(1e9), POLICY, Network.OFFLINE) is Decision.SERVE
    assert decide(package(1e9), POLICY, Network.OFFLINE, Wishes(no_cache=True)) is Decision.SERVE


def test_a_user_can_insist_on_the_newest() -> None:
    assert decide(package(1), POLICY, Network.UP, Wishes(no_cache=True)) is Decision.REVALIDATE
    tarball = Copy(Kind.TARBALL, 1)
    assert decide(tarball, POLICY, Network.UP, Wishes(no_cache=True)) is Decision.REVALIDATE


def test_only_if_cached_asks_nobody() -> None:
    wishes = Wishes(only_if_cached=True)
    assert decide(package(1), POLICY, Network.UP, wishes) is Decision.SERVE
    assert decide(package(30), POLICY, Network.UP, wishes) is Decision.SERVE_STALE
    assert decide(package(1000), POLICY, Network.UP, wishes) is Decision.REFUSE


def test_what_never_ages() -> None:
    for kind in (Kind.TARBALL, Kind.INSTALL):
        assert decide(Copy(kind, 1e9), POLICY, Network.UP) is Decision.SERVE


def test_without_verification_no_registry_entry_vouches_for_a_tarball() -> None:
    policy = Policy(registry_fresh=5, verify=False)
    assert decide(Copy(Kind.TARBALL, 10), policy, Network.UP) is Decision.REVALIDATE
    assert decide(Copy(Kind.INSTALL, 1e9), policy, Network.UP) is Decision.SERVE


@settings(deadline=None)
@given(copy=copies, policy=policies, network=networks, wishes=wishes_)
def test_max_stale_is_kept(copy: Copy, policy: Policy, network: Network, wishes: Wishes) -> None:
    """proxy.yaml: how old a copy may be that is served because upstream fails."""
    decision = decide(copy, policy, network, wishes)
    ages_at_all = policy.fresh_for(copy.kind) is not None
    if decision in MAY_BE_STALE and ages_at_all and policy.max_stale is not None:
        assert copy.age <= policy.max_stale


@given(copy=copies, policy=policies, network=networks, wishes=wishes_)
def test_what_counts_as_fresh_is_fresh(
    copy: Copy, policy: Policy, network: Network, wishes: Wishes
) -> None:
    decision = decide(copy, policy, network, wishes)
    if decision is Decision.SERVE and network is not Network.OFFLINE:
        limit = policy.fresh_for(copy.kind)
        assert 0 <= copy.age < limit if limit is not None else True
        assert not wishes.no_cache


@given(copy=st.none() | copies, policy=policies, network=networks, wishes=wishes_)
def test_nobody_is_asked_who_may_not_be(
    copy: Copy | None, policy: Policy, network: Network, wishes: Wishes
) -> None:
    decision = decide(copy, policy, network, wishes)
    may_be_asked = network is Network.UP
    if network is Network.PAUSED:
        # Later, for whoever can't do without.
        may_be_asked = wishes.no_cache or decision is Decision.FETCH
    if not may_be_asked or wishes.only_if_cached:
        assert decision not in ASKS


@given(copy=copies, policy=policies, wishes=wishes_)
def test_offline_a_copy_is_always_served(copy: Copy, policy: Policy, wishes: Wishes) -> None:
    assert decide(copy, policy, Network.OFFLINE, wishes) is Decision.SERVE


@given(copy=copies, policy=policies)
def test_fresh_never_asks(copy: Copy, policy: Policy) -> None:
    limit = policy.fresh_for(copy.kind)
    decision = decide(copy, policy, Network.UP)
    if limit is None or 0 <= copy.age < limit:
        assert decision is Decision.SERVE
    else:
        assert decision in ASKS


@given(policy=policies, network=networks, wishes=wishes_)
def test_without_a_copy_nothing_is_served(policy: Policy, network: Network, wishes: Wishes) -> None:
    assert decide(None, policy, network, wishes) in (Decision.FETCH, Decision.REFUSE)


@given(kind=kinds, policy=policies, network=networks, wishes=wishes_)
def test_an_age_that_is_no_number_is_never_fresh(
    kind: Kind, policy: Policy, network: Network, wishes: Wishes
) -> None:
    decision = decide(Copy(kind, math.nan), policy, network, wishes)
    if policy.fresh_for(kind) is not None and network is not Network.OFFLINE:
        assert decision is not Decision.SERVE
