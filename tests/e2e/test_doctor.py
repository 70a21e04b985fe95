"""hexcache doctor and completion as a user runs them, beside a real Hexcache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from e2e.conftest import World
from support.certificates import CertificateAuthority
from support.commands import Ran, run
from support.running import Running
from support.upstream import Upstream

Start = Callable[..., Running]
Doctor = Callable[..., Ran]


@pytest.fixture
def proxy(hexcache: Start) -> Running:
    return hexcache()


@pytest.fixture
def doctor(proxy: Running, tmp_path: Path) -> Doctor:
    """Run where no rebar3 is, unless one is put into `bin`."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()

    def examine(*arguments: str, **variables: str) -> Ran:
        around = {"HOME": str(home), "PATH": str(programs), "SSL_CERT_FILE": "", **variables}
        return run("doctor", *arguments, config=proxy.config, environment=around)

    return examine


def set_up(proxy: Running) -> dict[str, str]:
    """What `hexcache env` sets."""
    return {
        "HTTPS_PROXY": proxy.proxy,
        "https_proxy": proxy.proxy,
        "HEX_CACERTS_PATH": str(proxy.bundle),
    }


def lines(ran: Ran, state: str) -> list[str]:
    return [line[6:] for line in ran.text.splitlines() if line.startswith(state)]


def checks(ran: Ran) -> Mapping[str, Mapping[str, str]]:
    return {check["name"].split(" ")[0]: check for check in json.loads(ran.text)["checks"]}


def test_all_is_well(proxy: Running, doctor: Doctor) -> None:
    ran = doctor(**set_up(proxy), SSL_CERT_FILE=str(proxy.bundle))
    assert ran.status == 0, ran.text
    assert lines(ran, "fail") == []
    well = "\n".join(lines(ran, "ok"))
    assert f"mix goes to {proxy.proxy} (https_proxy)" in well
    assert f"Hexcache answers at {proxy.proxy}" in well
    assert f"mix trusts Hexcache's CA ({proxy.bundle})" in well
    assert "curl trusts Hexcache's CA" in well
    assert "Hex answers the server" in well


def test_the_line_that_mends_it_does(proxy: Running, doctor: Doctor) -> None:
    broken = doctor("--json")
    assert broken.status == 1
    assert json.loads(broken.text)["ok"] is False
    mend = checks(broken)["mix"]["mend"]
    assert mend == f'eval "$(hexcache env --config {proxy.config})"'
    hexcache = f"{sys.executable} -m hexcache"
    printed = subprocess.run(
        ["bash", "-c", f"{mend.replace('hexcache', hexcache, 1)}; env"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    variables = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    wanted = {"HTTPS_PROXY", "https_proxy", "HEX_CACERTS_PATH", "GLEAM_CACERTS_PATH"}
    assert doctor(**{name: variables[name] for name in wanted}).status == 0


def test_by_the_mirror_no_certificate_is_needed(proxy: Running, doctor: Doctor) -> None:
    ran = doctor(HEX_MIRROR=f"{proxy.mirror}/repos/hexpm_mirror")
    assert ran.status == 0, ran.text
    assert "CACERTS" not in ran.text
    assert "Hex answers the server" in ran.text


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file or directory"),
        ("nothing", "it holds no certificate"),
        ("other", "doesn't vouch for this Hexcache"),
    ],
)
def test_a_ca_that_is_not_trusted(
    proxy: Running, doctor: Doctor, tmp_path: Path, content: str | None, what: str
) -> None:
    file = tmp_path / "roots.pem"
    if content == "other":
        file.write_bytes(CertificateAuthority(tmp_path / "other").ca_file.read_bytes())
    elif content is not None:
        file.write_text(content)
    for variable in ("HEX_CACERTS_PATH", "GLEAM_CACERTS_PATH"):
        ran = doctor("--json", **{**set_up(proxy), variable: str(file)})
        assert ran.status == 1
        check = checks(ran)[variable]
        assert (check["state"], what in check["what"]) == ("fail", True), check
        assert check["mend"] == f"export {variable}={proxy.bundle}"


def test_the_root_alone_is_too_little(proxy: Running, doctor: Doctor) -> None:
    ran = doctor("--json", **{**set_up(proxy), "HEX_CACERTS_PATH": str(proxy.ca)})
    assert (ran.status, checks(ran)["HEX_CACERTS_PATH"]["state"]) == (0, "warn")


def test_rebar3(proxy: Running, doctor: Doctor, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "rebar3"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    ran = doctor("--json", **set_up(proxy))
    check = checks(ran)["rebar.config"]
    assert check["state"] == "fail"
    subprocess.run(
        ["/bin/sh", "-c", check["mend"]], check=True, timeout=60, env={"PATH": "/usr/bin:/bin"}
    )
    ran = doctor("--json", **set_up(proxy))
    assert (ran.status, checks(ran)["rebar.config"]["state"]) == (0, "ok"), ran.text

    config = tmp_path / "home/.config/rebar3/rebar.config"
    config.write_text('{ssl_cacerts_path, ["/no/such.pem"]}.\n')
    check = checks(doctor("--json", **set_up(proxy)))["rebar.config"]
    assert check["state"] == "fail"
    assert "/no/such.pem: No such file" in check["what"]
    config.write_text("{deps, [")
    assert checks(doctor("--json", **set_up(proxy)))["rebar.config"]["state"] == "warn"


def test_something_else_answers(proxy: Running, doctor: Doctor) -> None:
    with Upstream() as other:
        ran = doctor("--json", HTTPS_PROXY=f"http://me:secret@127.0.0.1:{other.port}")
        assert ran.status == 1
        assert "no Hexcache answers" in checks(ran)["proxy"]["what"]
        assert "secret" not in ran.text + ran.errors
        other.files["/public_key"] = b"a key"
        ran = doctor("--json", HEX_MIRROR=other.url)
        assert checks(ran)["mirror"]["what"].endswith("is not Hexcache")


def test_upstream_is_gone(world: World, proxy: Running, doctor: Doctor) -> None:
    world.upstream.stop_listening()
    ran = doctor("--json", **set_up(proxy))
    assert ran.status == 1
    check = checks(ran)["upstream"]
    assert check["state"] == "fail"
    assert "the server doesn't get an answer of Hex: 127.0.0.1" in check["what"]
    assert checks(ran)["proxy"]["state"] == "ok"


def test_the_offline_flag(world: World, proxy: Running, doctor: Doctor) -> None:
    assert run("offline", "on", config=proxy.config).status == 0
    world.upstream.requests.clear()
    ran = doctor("--json", **set_up(proxy))
    check = checks(ran)["server"]
    assert (ran.status, check["state"]) == (0, "warn")
    assert check["mend"] == f"hexcache offline off --config {proxy.config}"
    assert world.upstream.requests == [], "no packet leaves for Hex"


def test_the_server_is_down(proxy: Running, doctor: Doctor) -> None:
    proxy.stop()
    ran = doctor("--json", **set_up(proxy))
    assert ran.status == 1
    check = checks(ran)["proxy"]
    assert "Connection refused" in check["what"]
    assert check["mend"] == f"hexcache serve --config {proxy.config}"
    assert checks(ran)["upstream"]["what"] == "Hex answers (asked from here: no server runs)"


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    config = tmp_path / "proxy.yaml"
    config.write_text("upstream: {patience: soon}")
    ran = run("doctor", config=config)
    assert ran.status == 1
    assert ran.text.splitlines()[0].startswith(f"fail  settings: {config}: upstream.patience:")
    assert ran.text.splitlines()[1].strip() == f"${{EDITOR:-vi}} {config}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str) -> None:
    ran = run("completion", shell)
    assert ran.status == 0
    assert f"_HEXCACHE_COMPLETE={shell}_complete" in ran.text


def test_bash_completes(tmp_path: Path) -> None:
    """As bash does it, with a hexcache on the PATH."""
    program = tmp_path / "hexcache"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hexcache "$@"\n')
    program.chmod(0o755)
    script = (
        f'PATH="{tmp_path}:$PATH"; eval "$(hexcache completion bash)"; '
        "COMP_WORDS=(hexcache ex); COMP_CWORD=1; _hexcache_completion hexcache; "
        'echo "${COMPREPLY[@]}"; '
        "COMPREPLY=(); COMP_WORDS=(hexcache audit --format s); COMP_CWORD=3; "
        "_hexcache_completion hexcache; "
        'echo "${COMPREPLY[@]}"'
    )
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.split() == ["export", "sarif"]
