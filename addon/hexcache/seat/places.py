"""Whether what the variables of an environment name is a Hexcache, in the role in which it is
asked: `hexcache doctor`."""

from __future__ import annotations

import shlex

from hexcache.printing import printable
from hexcache.seat import probing
from hexcache.seat.checks import ONLY_HERE, SECONDS, Check, Seat, Server, State
from hexcache.seat.probing import ProbeError, shown
from hexcache.values import bracketed

_MIRROR_VARIABLES = ("HEX_TRUSTED_MIRROR", "HEX_MIRROR", "HEX_CDN")
_HERE = ("localhost", "::1")


def own_servers(seat: Seat) -> list[Server]:
    """Where it should listen by the settings."""
    proxy, mirror = probing.split(seat.client.proxy), probing.split(seat.client.mirror or "")
    return [
        *([Server(proxy, True)] if proxy else []),
        *([Server(mirror, False)] if mirror else []),
    ]


def answers(server: Server) -> bool:
    """Whether a Hexcache does. Nothing is asked of upstream for this."""
    try:
        return server.ask(ONLY_HERE, SECONDS).is_hexcache
    except ProbeError:
        return False


def check_server(seat: Seat, server: Server, *, is_ready: bool) -> Check:
    """`is_ready`: a server with these settings says that it is. The state is "ok" if a Hexcache
    answers in this role."""
    name, place = f"{_role(server)} {shown(server.place)}", shown(server.place)
    mend = _line_to_ours(seat, server)
    try:
        # Nothing is asked of upstream for this.
        answer = server.ask(ONLY_HERE, SECONDS)
    except ProbeError as error:
        if confusion := _confusion(seat, server):
            what = confusion if _is_here(server) else f"{confusion}; {error}"
            return Check(name, State.FAIL, what, mend)
        what = f"no Hexcache answers: {error}"
        if _port(seat, _role(server)) != server.place.port:
            return Check(name, State.FAIL, what, mend)
        if is_ready:
            what = f"{what}, although the server is ready: restart it, if the settings have changed"
            return Check(name, State.FAIL, what)
        return Check(name, State.FAIL, what, seat.line("serve"))
    # A proxy that is asked as if it were the mirror refuses.
    if answer.is_hexcache and answer.status != 403:
        return Check(name, State.OK, f"Hexcache answers at {place}")
    if confusion := _confusion(seat, server):
        return Check(name, State.FAIL, confusion, mend)
    if answer.is_hexcache:
        what = f"Hexcache refuses at {place}: {answer.detail or 'status 403'}"
        return Check(name, State.FAIL, printable(what), mend)
    issued = f", with a certificate of {answer.issuer}" if answer.issuer else ""
    return Check(name, State.FAIL, f"what answers at {place}{issued} is not Hexcache", mend)


def _role(server: Server) -> str:
    return "proxy" if server.through else "mirror"


def _port(seat: Seat, role: str) -> int | None:
    listen = seat.settings.listen
    addresses = {"proxy": listen.proxy, "mirror": listen.mirror, "status page": listen.status}
    address = addresses[role]
    return address.port if address else None


def _role_of_port(seat: Seat, server: Server) -> str:
    """What listens at this port of a Hexcache, by the settings; empty if nothing does."""
    roles = (_role(server), "proxy", "mirror", "status page")
    port = server.place.port
    return next((role for role in roles if port is not None and port == _port(seat, role)), "")


def _confusion(seat: Seat, server: Server) -> str:
    """How one of Hexcache's ports is taken for another; empty if it isn't one, or the right one."""
    wanted, place = _role(server), server.place
    role, url = _role_of_port(seat, server), _url(seat, server)
    if role == wanted:
        is_tls = not server.through and place.scheme == "https"
        return f"the mirror speaks http:// only: {url}" if is_tls else ""
    right = f"is {url}" if url else "is off (listen.mirror)"
    return f"{shown(place)} is the {role}'s port; the {wanted} {right}" if role else ""


def _is_here(server: Server) -> bool:
    host = server.place.hostname or ""
    return host in _HERE or host.startswith("127.")


def _is_ours_elsewhere(seat: Seat, server: Server) -> bool:
    """Whether this seems to be a Hexcache on another machine, with ports as in these settings."""
    return not _is_here(server) and bool(_role_of_port(seat, server))


def _url(seat: Seat, server: Server) -> str:
    """Of our own proxy or mirror, as this client calls the machine; empty if it is off."""
    url = seat.client.proxy if server.through else seat.client.mirror or ""
    if url and _is_ours_elsewhere(seat, server):
        host = bracketed(server.place.hostname or "")
        return printable(f"http://{host}:{_port(seat, _role(server))}")
    return url


def _line_to_ours(seat: Seat, server: Server) -> str:
    """The line that sends this environment's clients to Hexcache instead. A variable for a mirror
    goes before all that `hexcache env` sets, so it has to be set right, or to go."""
    url = shlex.quote(_url(seat, server))
    if server.through:
        elsewhere = _is_ours_elsewhere(seat, server) and _confusion(seat, server)
        return f"export HTTPS_PROXY={url} https_proxy={url}" if elsewhere else seat.eval_line
    wrong = [name for name in _MIRROR_VARIABLES if seat.environment.get(name)]
    if not wrong:
        return seat.eval_line
    if _url(seat, server):
        return "export " + " ".join(f"{name}={url}" for name in wrong)
    return f"unset {' '.join(wrong)} && {seat.eval_line}"
