"""hexcache doctor's checks of what needs no running Hexcache."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from hexcache.authority import Authority
from hexcache.errors import UpstreamError
from hexcache.seat.checks import Check, Seat, State
from hexcache.seat.doctor import examine
from hexcache.seat.probing import Answer, ProbeError, roots, split, through
from hexcache.seat.variables import check_variables
from hexcache.settings import Listen, Settings
from support.certificates import CertificateAuthority
from support.clock import Clock
from support.running import free_ports
from support.upstream import Upstream

PROXY, MIRROR = "http://127.0.0.1:8080", "http://127.0.0.1:4000"
BOTH = {"HTTPS_PROXY": PROXY, "https_proxy": PROXY}


def found(environment: Mapping[str, str], *, has_rebar3: bool = True) -> dict[str, tuple[str, str]]:
    checks = check_variables(environment, has_rebar3=has_rebar3, mend="SET ALL")
    return {check.name: (str(check.state), check.mend) for check in checks}


@pytest.mark.parametrize(
    ("environment", "mix", "rebar3"),
    [
        ({}, "fail", "fail"),
        (BOTH, "ok", "ok"),
        ({"HTTPS_PROXY": PROXY}, "ok", "warn"),
        ({"https_proxy": PROXY}, "ok", "ok"),
        ({"https_proxy": "127.0.0.1:8080"}, "ok", "ok"),
        ({"HEX_MIRROR": MIRROR}, "ok", "ok"),
        ({"HEX_CDN": MIRROR}, "fail", "ok"),
        ({"HTTPS_PROXY": "https://127.0.0.1:8080"}, "fail", "warn"),
        ({"https_proxy": "http://[::1"}, "fail", "fail"),
        ({"HTTPS_PROXY": ""}, "fail", "fail"),
    ],
)
def test_where_the_variables_send_clients(
    environment: dict[str, str], mix: str, rebar3: str
) -> None:
    checks = found(environment)
    assert (checks["mix"][0], checks["rebar3"][0]) == (mix, rebar3)
    for state, mend in (checks["mix"], checks["rebar3"]):
        assert mend == ("" if state == "ok" else "SET ALL")
    assert "rebar3" not in found(environment, has_rebar3=False)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("*", ""),
        ("localhost,.hex.pm", "localhost"),
        ("hex.pm", ""),
        ("REPO.HEX.PM:443 10.0.0.0/8", "10.0.0.0/8"),
        ("a.example, *.hex.pm, b.example", "a.example,b.example"),
        ("pm", ""),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_that_excludes_hex(name: str, value: str, kept: str) -> None:
    assert found({**BOTH, name: value})[name] == ("fail", f"export {name}='{kept}'")


@pytest.mark.parametrize(
    "value", ["", "localhost,127.0.0.1", "myhex.pm", "ex.pm", "hex.pm.example"]
)
def test_no_proxy_that_does_not(value: str) -> None:
    assert "NO_PROXY" not in found({**BOTH, "NO_PROXY": value})


def test_no_proxy_is_nothing_to_a_mirror() -> None:
    assert "NO_PROXY" not in found({"HEX_MIRROR": MIRROR, "NO_PROXY": "*"})


def test_switches_of_hex() -> None:
    checks = found({**BOTH, "HEX_OFFLINE": "1", "HEX_UNSAFE_HTTPS": "1"})
    assert checks["HEX_OFFLINE"] == ("warn", "unset HEX_OFFLINE")
    assert checks["HEX_UNSAFE_HTTPS"] == ("warn", "unset HEX_UNSAFE_HTTPS")


def test_no_password_is_shown() -> None:
    environment = {
        "HTTPS_PROXY": "https://me:secret@proxy.example:3128",
        "https_proxy": "http://me:secret@proxy.example:99999999",
        "HEX_CDN": "http://me:secret@mirror.example",
    }
    for check in check_variables(environment, has_rebar3=True, mend=""):
        assert "secret" not in check.what + check.mend


Doctor = Callable[..., dict[str, Check]]


def nobodys(data: Path, **more: Any) -> Settings:
    """Where nothing listens, whatever else runs on this machine."""
    names = ("proxy", "mirror", "status")
    listen: Any = {
        name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(3), strict=True)
    }
    return Settings(data=data, listen=listen, **more)


@pytest.fixture
def doctor(tmp_path: Path, clock: Clock) -> Doctor:
    """The checks by name, where no Hexcache runs. Keyword arguments: the seat's."""

    def examined(**changes: Any) -> dict[str, Check]:
        (tmp_path / "data").mkdir(exist_ok=True)
        seat = {
            "settings": nobodys(tmp_path / "data"),
            "environment": {},
            "home": tmp_path,
            "now": clock,
            "installed": lambda _: False,
            "room": lambda _: 100 * 2**30,
            "upstream": lambda: Answer(200, {"date": formatdate(clock.now, usegmt=True)}, b""),
            "options": " --config 'my proxy.yaml'",
        }
        return {check.name.split(" ")[0]: check for check in examine(Seat(**{**seat, **changes}))}

    return examined


def test_nothing_runs_and_nothing_is_set(doctor: Doctor) -> None:
    checks = doctor()
    assert checks["mix"].mend == """eval "$(hexcache env --config 'my proxy.yaml')\""""
    for name in ("proxy", "mirror"):
        assert checks[name].state is State.FAIL
        assert "Connection refused" in checks[name].what
        assert checks[name].mend == "hexcache serve --config 'my proxy.yaml'"
    good = ("upstream", "clock", "disk", "data")
    assert {checks[name].state for name in good} == {State.OK}


def test_the_ports_of_a_hexcache_elsewhere(doctor: Doctor, tmp_path: Path) -> None:
    """It is called as the client calls it."""
    settings = nobodys(tmp_path)
    mirror = settings.listen.mirror
    assert mirror is not None
    url = f"http://cache.invalid:{mirror.port}"
    check = doctor(environment={"HTTPS_PROXY": url}, settings=settings)["proxy"]
    right = f"http://cache.invalid:{settings.listen.proxy.port}"
    assert check.what.startswith(f"{url} is the mirror's port; the proxy is {right}; cache.invalid")
    assert check.mend == f"export HTTPS_PROXY={right} https_proxy={right}"
    # Whose port says nothing is no Hexcache of ours.
    (port,) = free_ports(1)
    environment = {"HEX_MIRROR": f"http://cache.invalid:{port}"}
    check = doctor(environment=environment, settings=settings)["mirror"]
    assert check.mend == f"export HEX_MIRROR=http://127.0.0.1:{mirror.port}"
    listen = Listen(proxy=settings.listen.proxy, mirror=None, status=None)
    off = settings.model_copy(update={"listen": listen})
    check = doctor(environment=environment, settings=off)["mirror"]
    assert check.mend.startswith("unset HEX_MIRROR && eval ")


@pytest.mark.parametrize(
    ("off", "state", "what"),
    [
        (0, State.OK, "agrees"),
        (299, State.OK, "agrees"),
        (301, State.WARN, "the clock is 0:05:01 fast"),
        (-7200, State.WARN, "the clock is 2:00:00 slow"),
        (-3 * 86400, State.FAIL, "the clock is 3 days, 0:00:00 slow"),
    ],
)
def test_the_clock(doctor: Doctor, clock: Clock, off: float, state: State, what: str) -> None:
    date = formatdate(clock.now - off, usegmt=True)
    check = doctor(upstream=lambda: Answer(200, {"date": date}, b""))["clock"]
    assert check.state is state
    assert what in check.what
    assert bool(check.mend) == (state is not State.OK)


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}])
def test_a_clock_that_nobody_can_judge(doctor: Doctor, headers: dict[str, str]) -> None:
    check = doctor(upstream=lambda: Answer(200, headers, b""))["clock"]
    assert (check.state, check.mend) == (State.OK, "")


def test_upstream_out_of_reach(doctor: Doctor) -> None:
    def fail() -> Answer:
        raise UpstreamError("repo.example: no route\x1b[2J")

    checks = doctor(upstream=fail)
    assert checks["upstream"].state is State.FAIL
    assert checks["upstream"].what == "Hex can't be reached: repo.example: no route\\x1b[2J"
    assert checks["upstream"].mend.startswith("curl -v https://")


def test_offline_asks_nobody(doctor: Doctor, tmp_path: Path) -> None:
    def fail() -> Answer:
        raise AssertionError("no packet leaves for Hex")

    checks = doctor(upstream=fail, settings=nobodys(tmp_path, offline=True))
    assert "upstream" not in checks
    assert "clock" not in checks


@pytest.mark.parametrize(
    ("room", "state", "mend"),
    [
        (10 * 2**20, State.FAIL, "df -h"),
        (2 * 2**30, State.WARN, "export HEXCACHE_CACHE__SIZE_LIMIT=1932MB"),
        (20 * 2**30, State.OK, ""),
    ],
)
def test_the_disk(doctor: Doctor, room: int, state: State, mend: str) -> None:
    check = doctor(room=lambda _: room)["disk"]
    assert check.state is state
    assert check.mend.startswith(mend)


def test_a_directory_that_cannot_be_looked_at(doctor: Doctor) -> None:
    def fail(_: Path) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    assert doctor(room=fail)["data"].what.endswith("Permission denied")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(doctor: Doctor, tmp_path: Path) -> None:
    doctor()
    (tmp_path / "data").chmod(0o500)
    check = doctor()["data"]
    assert check.state is State.FAIL
    assert "sudo chown" in check.mend


def test_a_directory_that_is_not_there_yet(doctor: Doctor, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "none")
    assert doctor(settings=settings)["data"].state is State.WARN


@pytest.mark.parametrize(
    ("days", "name", "state", "what"),
    [
        (-3, "clock", State.FAIL, "but the CA was made on"),
        (3640, "CA", State.WARN, "the CA expires on"),
        (4000, "CA", State.FAIL, "the CA expired on"),
    ],
)
def test_when_the_authority_is_valid(
    doctor: Doctor, tmp_path: Path, clock: Clock, days: int, name: str, state: State, what: str
) -> None:
    made = Authority.open(tmp_path / "data" / "ca")
    now = (made.expires.timestamp() - 3650 * 86400) + days * 86400
    checks = doctor(now=lambda: now, upstream=lambda: Answer(200, {}, b""))
    if name == "clock":  # the last word on it is that nobody else can judge
        settings = nobodys(tmp_path / "data", offline=True)
        checks = doctor(now=lambda: now, settings=settings)
    assert checks[name].state is state
    assert what in checks[name].what
    assert checks[name].mend


def test_roots_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        roots(tmp_path / "none.pem")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(ssl.SSLError):
        roots(tmp_path / "empty.pem")


def test_what_is_no_proxy_is_an_error_of_ours(tmp_path: Path, upstream: Upstream) -> None:
    """A web server, one with TLS, and nobody."""
    tls = CertificateAuthority(tmp_path / "tls")
    (port,) = free_ports(1)
    with Upstream(tls) as other:
        for url in (upstream.url, other.url, f"http://127.0.0.1:{port}", "http://none.invalid:1"):
            place = split(url)
            assert place is not None
            with pytest.raises(ProbeError) as caught:
                through(place, None, {}, 5)
            assert str(caught.value).isprintable()
