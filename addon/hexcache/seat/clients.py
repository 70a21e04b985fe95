"""What clients have to set: `hexcache env`. Pure: settings in, text out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from hexcache.errors import SettingsError
from hexcache.settings import Settings
from hexcache.values import Address, bracketed

_BUNDLE = "ca-bundle.pem"
_CERTIFICATE = "hexcache-ca.pem"
# Where README's compose files mount the volume with the certificates, and what they call the host.
_MOUNT = PurePosixPath("/hexcache-ca")
_SERVICE = "hexcache"


class Format(StrEnum):
    SHELL = "shell"
    DOCKER = "docker"
    COMPOSE = "compose"
    GITHUB_ACTIONS = "github-actions"

    @property
    def mounts(self) -> bool:
        """Whether the client finds the certificates where README mounts them."""
        return self in (Format.DOCKER, Format.COMPOSE)

    @property
    def names_service(self) -> bool:
        """Whether Hexcache has a name there. A build is on no network of ours: it uses the host's,
        with `--network host`."""
        return self is Format.COMPOSE


@dataclass(frozen=True)
class ClientEnvironment:
    """URLs without a final slash, and paths, as a client has them. `mirror` is None where it is
    off."""

    proxy: str
    mirror: str | None
    bundle: str
    certificate: str

    @property
    def variables(self) -> dict[str, str]:
        """For clients that use the proxy."""
        return {
            "HTTPS_PROXY": self.proxy,
            # The only spelling that rebar3 reads.
            "https_proxy": self.proxy,
            # mix, and `mix local.hex` from Elixir 1.17 on.
            "HEX_CACERTS_PATH": self.bundle,
            "GLEAM_CACERTS_PATH": self.bundle,
        }

    @property
    def rebar_config(self) -> str:
        """The line for the global rebar.config: rebar3 reads its CA from nowhere else."""
        return rebar_config(self.bundle)


def rebar_config(bundle: str) -> str:
    """The line for a bundle at this path."""
    quoted = bundle.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{ssl_cacerts_path, "{quoted}"}}.'


def client_environment(settings: Settings, form: Format, host: str | None) -> ClientEnvironment:
    """`host` is how a client calls this machine; None: from here, or the compose service. Raises
    SettingsError."""
    if host is not None and not re.fullmatch(r"[A-Za-z0-9_.:-]+", host):
        raise SettingsError("--host: a name or an IP address is wanted, without a port")

    def url(address: Address) -> str:
        name = host or (_SERVICE if form.names_service else None)
        at = f"{bracketed(name)}:{address.port}" if name else address.reachable
        return f"http://{at}"

    here = settings.publish_ca or settings.data / "ca"
    directory: PurePosixPath | Path = _MOUNT if form.mounts else here
    found = ClientEnvironment(
        proxy=url(settings.listen.proxy),
        mirror=url(settings.listen.mirror) if settings.listen.mirror else None,
        bundle=str(directory / _BUNDLE),
        certificate=str(directory / _CERTIFICATE),
    )
    if not found.bundle.isprintable():
        raise SettingsError(f"data: {found.bundle!r} can't be written into a client's settings")
    return found


def render(client: ClientEnvironment, form: Format) -> str:
    """Lines for `form`, the last one ended."""
    write = {
        Format.SHELL: _shell,
        Format.DOCKER: _docker,
        Format.COMPOSE: _compose,
        Format.GITHUB_ACTIONS: _github_actions,
    }[form]
    return "".join(f"{line}\n" for line in write(client))


def notes(client: ClientEnvironment) -> Iterator[str]:
    """What no variable can say."""
    yield "mix local.hex and mix local.rebar before Elixir 1.17 trust only the system's CAs: add"
    yield f"  {client.certificate} to them."
    yield "rebar3 wants this line in the global ~/.config/rebar3/rebar.config:"
    yield f"  {client.rebar_config}"


def _mirror(client: ClientEnvironment) -> Iterator[tuple[str, str]]:
    if client.mirror is not None:
        yield "HEX_MIRROR", client.mirror
        yield "HEX_CDN", client.mirror


def _shell(client: ClientEnvironment) -> Iterator[str]:
    for name, value in client.variables.items():
        yield f"export {name}={shlex.quote(value)}"
    yield from (f"# {note}" for note in notes(client))
    if client.mirror is not None:
        yield "# Where no CA can be installed, instead of all that (HEX_CDN is rebar3's):"
        yield from (f"#   export {name}={shlex.quote(value)}" for name, value in _mirror(client))


def _docker(client: ClientEnvironment) -> Iterator[str]:
    # https://docs.docker.com/reference/dockerfile/#arg: set while building, gone from the image.
    yield "# In a Dockerfile, below FROM: for this build only, and --build-arg changes them."
    yield "# Build with --network host --secret id=hexcache-ca,src=ca-bundle.pem; RUN takes"
    yield f"# --mount=type=secret,id=hexcache-ca,target={client.bundle},mode=0444"
    for name, value in client.variables.items():
        yield f"ARG {name}={_dockerfile(value)}"
    yield from (f"# {note}" for note in notes(client))
    if client.mirror is not None:
        yield "# Where no CA can be had, instead of all that (HEX_CDN is rebar3's):"
        yield from (f"# ARG {name}={_dockerfile(value)}" for name, value in _mirror(client))


def _compose(client: ClientEnvironment) -> Iterator[str]:
    yield "# In a service of a compose file, which mounts hexcache-ca at /hexcache-ca."
    yield "environment:"
    for name, value in client.variables.items():
        yield f"  {name}: {_yaml(value)}"
    yield from (f"# {note}" for note in notes(client))
    if client.mirror is not None:
        yield "# Where no CA can be had, instead of all that (HEX_CDN is rebar3's):"
        yield from (f"#  {name}: {_yaml(value)}" for name, value in _mirror(client))


def _github_actions(client: ClientEnvironment) -> Iterator[str]:
    # hexcache env --format github-actions >> "$GITHUB_ENV": it takes no comments.
    return (f"{name}={value}" for name, value in client.variables.items())


def _dockerfile(value: str) -> str:
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def _yaml(value: str) -> str:
    # JSON's strings are YAML's; compose would put a variable where a single $ is.
    return json.dumps(value, ensure_ascii=False).replace("$", "$$")
