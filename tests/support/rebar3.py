"""A rebar3 project with a home of its own, fetching from our repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path


def erlang_hosts(directory: Path, hosts: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Erlang knows these names (→ IPv4 address): a network namespace has
    no hosts file of its own."""
    terms = [
        f'{{host, {{{address.replace(".", ",")}}}, ["{name}"]}}.\n'
        for name, address in hosts.items()
    ]
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "inetrc"
    file.write_text("{lookup, [file, native]}.\n" + "".join(terms))
    return {"ERL_INETRC": str(file)}


class Rebar3Project:
    """`deps`: package → requirement. rebar3 reads its CA and the repository's key from the global
    configuration only, and the proxy from the lower-case variable only."""

    def __init__(
        self, directory: Path, deps: Mapping[str, str], *, public_key: str, ca_file: Path | None
    ) -> None:
        self.directory = directory / "project"
        self.home = directory / "home"
        (self.directory / "src").mkdir(parents=True)
        config = self.home / ".config" / "rebar3"
        config.mkdir(parents=True)
        self._config = config / "rebar.config"
        key = public_key.strip().replace("\n", "\\n")
        self._key = (
            f'{{hex, [{{repos, [#{{name => <<"hexpm">>, repo_public_key => <<"{key}">>}}]}}]}}.\n'
        )
        self.trust(ca_file)
        self.write(deps)

    def trust(self, ca_file: Path | None) -> None:
        """The global configuration names this CA, or none."""
        line = "" if ca_file is None else f'{{ssl_cacerts_path, "{ca_file}"}}.\n'
        self._config.write_text(self._key + line)

    def write(self, deps: Mapping[str, str]) -> None:
        terms = ", ".join(f'{{{name}, "{requirement}"}}' for name, requirement in deps.items())
        (self.directory / "rebar.config").write_text(f"{{deps, [{terms}]}}.\n")
        (self.directory / "src" / "probe.app.src").write_text(
            '{application, probe, [{vsn, "1"}, {applications, [kernel, stdlib]}]}.\n'
        )

    def get_deps(
        self,
        *,
        proxy: str | None = None,
        mirror: str | None = None,
        hosts: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """`hosts`: name → IPv4 address of names that no DNS server knows."""
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "DEBUG": "1",
        }
        if proxy:
            environment["https_proxy"] = proxy
        if mirror:
            environment["HEX_CDN"] = mirror
        if hosts:
            environment |= erlang_hosts(self.home, hosts)
        return subprocess.run(
            ["rebar3", "get-deps"],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def wipe(self, *, lock: bool = False) -> None:
        """Everything that it fetched and cached; with `lock` also rebar.lock."""
        shutil.rmtree(self.directory / "_build", ignore_errors=True)
        shutil.rmtree(self.home / ".cache", ignore_errors=True)
        if lock:
            (self.directory / "rebar.lock").unlink(missing_ok=True)

    def fetched(self) -> dict[str, str]:
        """Package → the source of its module."""
        return {
            path.parent.parent.name: path.read_text()
            for path in self.directory.glob("_build/default/lib/*/src/*.erl")
        }

    def texts(self) -> dict[str, str]:
        """Package → what its module's text/0 gives."""
        return {
            name: "".join(re.findall(r'text\(\) -> "(.*)"', source))
            for name, source in self.fetched().items()
        }
