"""What clients have to set, in the form that each place takes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hexcache.errors import SettingsError
from hexcache.seat.clients import Format, client_environment, render
from hexcache.settings import Listen, Settings
from hexcache.values import Address

NAMES = {"HTTPS_PROXY", "https_proxy", "HEX_CACERTS_PATH", "GLEAM_CACERTS_PATH"}


def text(form: Format, host: str | None = None, **settings: Any) -> str:
    made = Settings(**settings)
    return render(client_environment(made, form, host), form)


def evaluated(lines: str) -> dict[str, str]:
    """What a shell has after it."""
    sh = shutil.which("sh")
    assert sh is not None
    done = subprocess.run(
        [sh, "-c", f'{lines}\nexec env -0 "$@"'], env={}, capture_output=True, check=True
    )
    pairs = (item.partition("=") for item in done.stdout.decode().split("\0") if item)
    return {name: value for name, _, value in pairs if name in NAMES}


@pytest.mark.parametrize("name", ["data", 'it\'s $(touch x); `y` "z" # \\', "ein Büro"])
def test_a_shell_may_eval_it_whatever_the_path(name: str, tmp_path: Path) -> None:
    got = evaluated(text(Format.SHELL, data=tmp_path / name))
    assert set(got) == NAMES
    assert got["HEX_CACERTS_PATH"] == str(tmp_path / name / "ca/ca-bundle.pem")
    assert got["HTTPS_PROXY"] == got["https_proxy"] == "http://127.0.0.1:8080"
    assert list(tmp_path.iterdir()) == []


def test_everywhere_becomes_here_or_the_host_that_was_named() -> None:
    listen = Listen(proxy=Address("0.0.0.0", 3128), mirror=None)
    assert evaluated(text(Format.SHELL, listen=listen))["HTTPS_PROXY"] == "http://127.0.0.1:3128"
    named = text(Format.SHELL, host="2001:db8::1", listen=listen)
    assert evaluated(named)["HTTPS_PROXY"] == "http://[2001:db8::1]:3128"
    assert "HEX_MIRROR" not in named


def test_compose_takes_it(tmp_path: Path) -> None:
    got = yaml.safe_load(text(Format.COMPOSE))["environment"]
    assert set(got) == NAMES
    assert got["HTTPS_PROXY"] == "http://hexcache:8080"
    assert got["HEX_CACERTS_PATH"] == "/hexcache-ca/ca-bundle.pem"


def test_a_build_is_on_the_hosts_network() -> None:
    lines = text(Format.DOCKER).splitlines()
    assert 'ARG https_proxy="http://127.0.0.1:8080"' in lines
    assert all(line.startswith(("ARG ", "#")) for line in lines)


def test_github_takes_assignments_only() -> None:
    lines = text(Format.GITHUB_ACTIONS).splitlines()
    assert {line.partition("=")[0] for line in lines} == NAMES


@pytest.mark.parametrize("form", [Format.SHELL, Format.DOCKER, Format.COMPOSE])
def test_rebar3_and_old_elixirs_are_told(form: Format) -> None:
    got = text(form)
    assert "{ssl_cacerts_path, " in got
    assert "hexcache-ca.pem" in got


def test_rebars_line_is_a_term(tmp_path: Path) -> None:
    made = client_environment(Settings(data=tmp_path / 'a"b\\c'), Format.SHELL, None)
    quoted = made.rebar_config.removeprefix("{ssl_cacerts_path, ").removesuffix("}.")
    assert json.loads(quoted) == str(tmp_path / 'a"b\\c' / "ca/ca-bundle.pem")


@pytest.mark.parametrize("host", ["a b", "a;b", "http://x", "", "$(x)"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(SettingsError, match="--host"):
        text(Format.SHELL, host=host)


def test_a_path_of_two_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="data"):
        text(Format.GITHUB_ACTIONS, data=tmp_path / "a\nb")
