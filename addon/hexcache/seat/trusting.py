"""Whether the clients of an environment trust Hexcache's CA: `hexcache doctor`."""

from __future__ import annotations

import shlex
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from hexcache.errors import LockFileError
from hexcache.locks import erlang_terms
from hexcache.locks.terms import Atom, List, Source, Tuple, text_of
from hexcache.printing import printable
from hexcache.seat import probing
from hexcache.seat.checks import ONLY_HERE, SECONDS, SET_CLOCK, Check, Seat, Server, State
from hexcache.seat.clients import rebar_config
from hexcache.seat.probing import ProbeError
from hexcache.seat.variables import way_of_mix, way_of_rebar3
from hexcache.values import bracketed

_OK, _WARN, _FAIL = State.OK, State.WARN, State.FAIL
_EXPIRES_SOON = timedelta(days=30)


def check_authority(seat: Seat) -> Iterator[Check]:
    """The CA's certificate, where it lies on this machine."""
    path = Path(seat.client.certificate)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return
    now = datetime.fromtimestamp(seat.now(), UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        what = f"the clock says {now:%Y-%m-%d}, but the CA was made on {begins:%Y-%m-%d}"
        yield Check("clock", _FAIL, what, SET_CLOCK)
    elif ends - now < _EXPIRES_SOON:
        state, verb = (_FAIL, "expired") if ends < now else (_WARN, "expires")
        what = f"{path}: the CA {verb} on {ends:%Y-%m-%d}; a new one has to be trusted anew"
        mend = f"rm -r {shlex.quote(str(seat.settings.data / 'ca'))}  # then start the server"
        yield Check("CA", state, what, mend)


@dataclass(frozen=True)
class _File:
    """One of the server's files, for lines to paste: `shell` is its path for a shell, `brought`
    what has to come before it, up to the `&&`."""

    path: str
    shell: str
    brought: str = ""


def _file(seat: Seat, server: Server, path: str) -> _File:
    """Where it is, or, on another machine than the server's, where it may be put: the server has
    it for everybody."""
    status = seat.settings.listen.status
    if Path(path).is_file() or status is None:
        return _File(path, shlex.quote(path))
    name = Path(path).name
    kept = seat.home / (name if name.startswith("hexcache-") else f"hexcache-{name}")
    shell = shlex.quote(str(kept))
    url = f"http://{bracketed(server.place.hostname or '')}:{status.port}/{name}"
    return _File(str(kept), shell, f"curl -fsSo {shell} {shlex.quote(url)} && ")


def check_trust(seat: Seat, server: Server) -> Iterator[Check]:
    """Real handshakes through a proxy, with the roots that each of its clients has."""
    environment = seat.environment
    clients = [("HEX_CACERTS_PATH", "mix")] if way_of_mix(environment).proxy else []
    if "GLEAM_CACERTS_PATH" in environment or seat.installed("gleam"):
        clients.append(("GLEAM_CACERTS_PATH", "gleam"))
    for variable, program in clients:
        yield from _check_variable(seat, server, variable, program)
    rebar3 = way_of_rebar3(environment)
    if seat.installed("rebar3") and not rebar3.mirror:
        check = _check_rebar_config(seat, server)
        if check.state is _FAIL and not rebar3.proxy:
            # It may not be used at all.
            what = f"{check.what}; rebar3 needs that once it goes here"
            check = replace(check, state=_WARN, what=what)
        yield check
    certificate = _file(seat, server, seat.client.certificate)
    mend = (
        f"{certificate.brought}sudo cp {certificate.shell} "
        "/usr/local/share/ca-certificates/hexcache.crt && sudo update-ca-certificates"
    )
    check = _handshake(server, "system", None, "curl trusts", mend)
    if check.state is not _OK:
        what = f"{check.what}; only curl and mix local.hex before Elixir 1.17 need that"
        check = Check("system", _WARN, what, mend)
    yield check


def _check_variable(seat: Seat, server: Server, variable: str, program: str) -> Iterator[Check]:
    bundle = _file(seat, server, seat.client.bundle)
    mend = f"{bundle.brought}export {variable}={bundle.shell}"
    file = seat.environment.get(variable)
    if not file:
        what = f"{variable} is not set: {program} doesn't trust Hexcache's CA"
        yield Check(variable, _FAIL, what, mend)
        return
    check = _handshake(server, variable, Path(file), f"{program} trusts", mend)
    if check.state is _OK and _certificates(Path(file)) == 1:
        what = f"{file} has Hexcache's CA alone: {program} trusts no other host, hex.pm neither"
        check = Check(variable, _WARN, printable(what), mend)
    yield check


def _handshake(server: Server, name: str, file: Path | None, trusts: str, mend: str) -> Check:
    shown_file = printable(file or "the system's store of roots")
    try:
        server.ask(ONLY_HERE, SECONDS, probing.roots(file))
    except ProbeError as error:
        what = f"{shown_file}: {error}"
        if error.untrusted:
            what = f"{shown_file} doesn't vouch for this Hexcache: {error}"
        return Check(name, _FAIL, what, mend)
    except OSError as error:
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        return Check(name, _FAIL, f"{shown_file}: {why}", mend)
    return Check(name, _OK, f"{trusts} Hexcache's CA ({shown_file})")


def _certificates(file: Path) -> int:
    try:
        return file.read_bytes().count(b"-----BEGIN CERTIFICATE-----")
    except OSError:
        return 0


def _check_rebar_config(seat: Seat, server: Server) -> Check:
    """rebar3 reads its CA from its global configuration and nowhere else (rebar_utils:ssl_opts)."""
    home = Path(seat.environment.get("REBAR_GLOBAL_CONFIG_DIR") or seat.home)
    path = home / ".config/rebar3/rebar.config"
    bundle = _file(seat, server, seat.client.bundle)
    line = rebar_config(bundle.path)
    mend = (
        f"{bundle.brought}mkdir -p {shlex.quote(str(path.parent))} && "
        f"echo {shlex.quote(line)} >> {shlex.quote(str(path))}"
    )
    name = printable(path)
    try:
        file = _ssl_cacerts_path(path)
    except (LockFileError, UnicodeDecodeError):
        return Check("rebar.config", _WARN, f"{name} is not understood: does rebar3?")
    except OSError as error:
        return Check("rebar.config", _FAIL, f"{name}: {error.strerror}", mend)
    if file is None:
        return Check("rebar.config", _FAIL, f"{name} has no ssl_cacerts_path", mend)
    # A second line of it would not be read: this one has to be changed.
    mend = f"{bundle.brought}${{EDITOR:-vi}} {shlex.quote(str(path))}  # {line}"
    return _handshake(server, "rebar.config", file, "rebar3 trusts", mend)


def _ssl_cacerts_path(path: Path) -> Path | None:
    """Raises OSError, UnicodeDecodeError, LockFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    for term in erlang_terms.parse(text, Source(str(path), "")):
        match term:
            case Tuple((Atom("ssl_cacerts_path"), List() as value)):
                # One path, or a list of them.
                first = value.items[0] if value.items else value
                name = text_of(first if isinstance(first, List | bytes) else value)
                return Path(name) if name else None
            case _:
                pass
    return None
