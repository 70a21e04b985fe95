"""Where an environment sends mix and rebar3 for Hex's files. Pure: variables in, checks out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

from hexcache.resources import HOSTS
from hexcache.seat.checks import Check, State
from hexcache.seat.probing import shown, split


@dataclass(frozen=True)
class Way:
    """How a client gets to Hex's repository: by a proxy, by a mirror, or (neither) straight.
    `variable` says so."""

    variable: str = ""
    proxy: SplitResult | None = None
    mirror: SplitResult | None = None


def way_of_mix(environment: Mapping[str, str]) -> Way:
    """As Hex.State reads them: a mirror is plain HTTP, for which no HTTPS_PROXY is asked."""
    return _way(environment, ("HEX_TRUSTED_MIRROR", "HEX_MIRROR"), ("https_proxy", "HTTPS_PROXY"))


def way_of_rebar3(environment: Mapping[str, str]) -> Way:
    """rebar3 knows no HTTPS_PROXY."""
    return _way(environment, ("HEX_CDN", "HEX_MIRROR"), ("https_proxy",))


def _way(environment: Mapping[str, str], mirrors: tuple[str, ...], proxies: tuple[str, ...]) -> Way:
    for name in mirrors:
        if value := environment.get(name):
            return Way(name, mirror=split(value))
    for name in proxies:
        if value := environment.get(name):
            return Way(name, proxy=split(value))
    return Way()


def check_variables(
    environment: Mapping[str, str], *, has_rebar3: bool, mend: str
) -> Iterator[Check]:
    """`mend` is the line that sets all variables."""
    mix, rebar3 = way_of_mix(environment), way_of_rebar3(environment)
    yield from _check_way("mix", mix, mend, State.FAIL)
    if has_rebar3:
        # Who has only mix in mind need not care.
        lesser = State.WARN if mix.variable and not rebar3.variable else State.FAIL
        yield from _check_way("rebar3", rebar3, mend, lesser)
    if mix.proxy or (has_rebar3 and rebar3.proxy):
        yield from _check_no_proxy(environment)
    if environment.get("HEX_OFFLINE") in ("1", "true"):
        what = "HEX_OFFLINE is set: mix asks nobody"
        yield Check("HEX_OFFLINE", State.WARN, what, "unset HEX_OFFLINE")
    if environment.get("HEX_UNSAFE_HTTPS") in ("1", "true"):
        what = "HEX_UNSAFE_HTTPS is set: mix believes any certificate"
        yield Check("HEX_UNSAFE_HTTPS", State.WARN, what, "unset HEX_UNSAFE_HTTPS")


def _check_way(client: str, way: Way, mend: str, state: State) -> Iterator[Check]:
    place = way.proxy or way.mirror
    if not way.variable:
        yield Check(
            client, state, f"{client} goes straight to Hex: no variable sends it here", mend
        )
    elif place is None:
        # Not shown: it may hold a password.
        yield Check(client, State.FAIL, f"{way.variable} is set to what is no URL", mend)
    elif way.proxy is not None and place.scheme != "http":
        what = f"{way.variable} is {shown(place)}: {client} speaks to a proxy by http:// only"
        yield Check(client, State.FAIL, what, mend)
    else:
        yield Check(client, State.OK, f"{client} goes to {shown(place)} ({way.variable})")


def _check_no_proxy(environment: Mapping[str, str]) -> Iterator[Check]:
    for name in ("NO_PROXY", "no_proxy"):
        value = environment.get(name, "")
        kept = [each for each in value.replace(",", " ").split() if not _excludes_hex(each)]
        if len(kept) < len(value.replace(",", " ").split()):
            what = f"{name} keeps clients from asking the proxy for Hex's files"
            mend = f"export {name}={_quoted(','.join(kept))}"
            yield Check(name, State.FAIL, what, mend)


def _excludes_hex(pattern: str) -> bool:
    """As Hex, curl and Python read them: `*`, a host, or the end of one, with or without a dot or
    an asterisk before it."""
    bare = pattern.lower().partition(":")[0].removeprefix("*").lstrip(".")
    return pattern == "*" or bool(bare and any(f".{host}".endswith(f".{bare}") for host in HOSTS))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
