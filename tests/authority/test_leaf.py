"""The leaf that clients see, and when it is renewed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL

from hexcache.authority import HEX_HOSTS, Authority
from hexcache.errors import AuthorityError
from support.authority import contents
from support.clock import Calendar
from support.handshakes import python_connection, serving, unverified


def presented_leaf(context: SSL.Context) -> x509.Certificate:
    with serving(context) as port, python_connection(unverified(), "x", port) as connection:
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def test_the_leaf(authority: Authority) -> None:
    leaf = presented_leaf(authority.server_context())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == list(HEX_HOSTS)
    assert len(list(names.value)) == len(HEX_HOSTS)
    assert leaf.not_valid_before_utc < datetime.now(UTC) - timedelta(days=1)
    assert timedelta(days=29) < leaf.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=30)


def test_the_leaf_is_renewed_in_time(tmp_path: Path, clock: Calendar) -> None:
    authority = Authority.open(tmp_path, now=clock)
    before = contents(tmp_path)
    first = authority.server_context()
    clock.set(days=19)
    assert authority.server_context() is first
    clock.set(days=21)
    second = authority.server_context()
    assert second is not first
    assert authority.server_context() is second
    old, new = presented_leaf(first), presented_leaf(second)
    assert new.not_valid_after_utc - old.not_valid_after_utc == timedelta(days=21)
    assert new.public_key() != old.public_key()
    assert contents(tmp_path) == before


def test_a_leaf_from_the_future_is_renewed(tmp_path: Path, clock: Calendar) -> None:
    authority = Authority.open(tmp_path, now=clock)
    clock.set(days=15)
    wrong = authority.server_context()
    clock.set(days=0)
    assert presented_leaf(authority.server_context()).not_valid_before_utc <= clock.start
    assert authority.server_context() is not wrong


def test_the_last_leaf_ends_with_the_authority(tmp_path: Path, clock: Calendar) -> None:
    authority = Authority.open(tmp_path, now=clock)
    clock.set(days=3645)
    context = authority.server_context()
    assert presented_leaf(context).not_valid_after_utc == authority.expires
    clock.set(days=3649)
    assert authority.server_context() is context
    clock.set(days=3650)
    with pytest.raises(AuthorityError, match="expired on"):
        authority.server_context()
