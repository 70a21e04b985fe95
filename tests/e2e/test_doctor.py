"""hexcache doctor and completion as a user runs them, beside a real Hexcache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from e2e.conftest import World
from support.certificates import CertificateAuthority
from support.clients import require
from support.commands import Ran, clean_environment, run
from support.running import Running, free_ports
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


# The variables point at a Hexcache, but not as they should.


def test_the_mirror_is_no_proxy(proxy: Running, doctor: Doctor) -> None:
    wrong = {"HTTPS_PROXY": proxy.mirror, "https_proxy": proxy.mirror}
    ran = doctor("--json", **{**set_up(proxy), **wrong})
    assert ran.status == 1
    check = checks(ran)["proxy"]
    assert check["what"] == f"{proxy.mirror} is the mirror's port; the proxy is {proxy.proxy}"
    assert check["mend"] == f'eval "$(hexcache env --config {proxy.config})"'
    assert checks(ran)["upstream"]["what"] == "Hex answers the server"
    assert "no server runs" not in ran.text


@pytest.mark.parametrize("wrong", ["https", "proxy", "status"])
def test_what_is_no_mirror(proxy: Running, doctor: Doctor, wrong: str) -> None:
    url, what = {
        "https": (
            proxy.mirror.replace("http://", "https://"),
            f"the mirror speaks http:// only: {proxy.mirror}",
        ),
        "proxy": (proxy.proxy, f"{proxy.proxy} is the proxy's port; the mirror is {proxy.mirror}"),
        "status": (
            proxy.status,
            f"{proxy.status} is the status page's port; the mirror is {proxy.mirror}",
        ),
    }[wrong]
    variables = {"HEX_MIRROR": url, "HEX_CDN": url}
    ran = doctor("--json", **variables)
    assert ran.status == 1
    check = checks(ran)["mirror"]
    assert (check["state"], check["what"]) == ("fail", what)
    assert check["mend"] == f"export HEX_MIRROR={proxy.mirror} HEX_CDN={proxy.mirror}"
    assert "no server runs" not in ran.text
    assert checks(ran)["upstream"]["what"] == "Hex answers the server"
    assert doctor(HEX_MIRROR=proxy.mirror, HEX_CDN=proxy.mirror).status == 0


def test_a_server_that_is_ready_is_not_started_again(proxy: Running, doctor: Doctor) -> None:
    """Its settings were changed since, or come from somewhere else."""
    (port,) = free_ports(1)
    variables = {**set_up(proxy), "HEXCACHE_LISTEN__PROXY": f"127.0.0.1:{port}"}
    place = f"http://127.0.0.1:{port}"
    ran = doctor("--json", **{**variables, "HTTPS_PROXY": place, "https_proxy": place})
    assert ran.status == 1
    check = checks(ran)["proxy"]
    assert "Connection refused, although the server is ready" in check["what"]
    assert check["mend"] == ""
    assert checks(ran)["upstream"]["what"] == "Hex answers the server"


def test_upstream_is_not_blamed_for_a_wrong_proxy(proxy: Running, doctor: Doctor) -> None:
    (port,) = free_ports(1)
    nobody = f"http://127.0.0.1:{port}"
    ran = doctor("--json", **{**set_up(proxy), "HTTPS_PROXY": nobody, "https_proxy": nobody})
    assert ran.status == 1
    assert checks(ran)["proxy"]["state"] == "fail"
    assert checks(ran)["upstream"]["what"] == "Hex answers the server"


# On another machine.


def test_on_a_client_machine_each_line_brings_what_it_needs(
    proxy: Running, doctor: Doctor, tmp_path: Path
) -> None:
    """No proxy.yaml, and no certificate, but a Hexcache that answers."""
    require("curl", install="apt-get install curl")
    here, home, programs = tmp_path / "a client's", tmp_path / "home", tmp_path / "bin"
    here.mkdir()
    installed = tmp_path / "installed.crt"
    for name, script in {
        "rebar3": "",
        "sudo": f'if [ "$1" = cp ]; then cp "$2" {installed}; else echo "$@" >&2; fi',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    around = {
        **{"HTTPS_PROXY": proxy.proxy, "https_proxy": proxy.proxy},
        **{"HOME": str(home), "PATH": str(programs), "SSL_CERT_FILE": ""},
        "HEXCACHE_LISTEN__STATUS": proxy.status.removeprefix("http://"),
        "HEXCACHE_LISTEN__PROXY": proxy.proxy.removeprefix("http://"),
        "HEXCACHE_LISTEN__MIRROR": proxy.mirror.removeprefix("http://"),
    }
    found = checks(run("doctor", "--json", environment=around, cwd=here))
    for name in ("HEX_CACERTS_PATH", "rebar.config", "system"):
        assert str(here) not in found[name]["mend"], found[name]
        subprocess.run(
            ["/bin/sh", "-c", found[name]["mend"]],
            check=True,
            timeout=60,
            cwd=here,
            env={"HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin"},
        )
    assert installed.read_bytes() == proxy.ca.read_bytes()
    bundle = home / "hexcache-ca-bundle.pem"
    around["HEX_CACERTS_PATH"] = str(bundle)
    again = run("doctor", "--json", environment=around, cwd=here)
    assert (again.status, checks(again)["rebar.config"]["state"]) == (0, "ok"), again.text
    # The line for an rebar.config that has another one.
    (home / ".config/rebar3/rebar.config").write_text('{ssl_cacerts_path, "/no/such.pem"}.\n')
    bundle.unlink()
    check = checks(run("doctor", "--json", environment=around, cwd=here))["rebar.config"]
    assert str(here) not in check["mend"]
    assert check["mend"].startswith("curl -fsSo ")


def test_rebar3_that_is_not_sent_here_is_no_failure(
    proxy: Running, doctor: Doctor, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "rebar3"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    variables = set_up(proxy)
    del variables["https_proxy"]
    ran = doctor("--json", **variables)
    check = checks(ran)["rebar.config"]
    assert (ran.status, check["state"]) == (0, "warn"), ran.text
    assert "once it goes here" in check["what"]
    assert check["mend"]


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours(tmp_path: Path, variables: dict[str, str], coloured: bool) -> None:
    config = tmp_path / "proxy.yaml"
    config.write_text("upstream: {patience: soon}")
    ours, theirs = os.openpty()
    subprocess.run(
        [sys.executable, "-m", "hexcache", "doctor", "--config", str(config)],
        stdout=theirs,
        check=False,
        timeout=60,
        env={**clean_environment(), **variables},
    )
    os.close(theirs)
    text = os.read(ours, 2**16)
    os.close(ours)
    assert b"fail" in text
    assert (b"\x1b[" in text) is coloured
