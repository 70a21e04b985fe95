"""What to paste into a client's settings, with this server's own addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from hexcache.resources import LOCAL_HOST
from hexcache.seat.clients import ClientEnvironment, Format, client_environment
from hexcache.settings import Settings
from hexcache.values import Address, bracketed

_ONLY_HERE = (
    " It listens on {0} only: other machines reach it after listen.mirror: 0.0.0.0:{0.port} in "
    "proxy.yaml."
)


@dataclass(frozen=True)
class Section:
    """`steps` are (what it is for, what to paste)."""

    id: str
    title: str
    steps: tuple[tuple[str, str], ...]


def is_reachable(listener: Address, host: str | None) -> bool:
    """Whether a client that calls this machine `host` reaches a listener of its. None: it has
    reached the proxy already."""
    listens = listener.host
    if host is None or not _is_loopback(listens):
        return True
    return host == "localhost" or (_is_loopback(host) and (":" in host) == (":" in listens))


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "localhost")


def sections(settings: Settings, host: str | None, port: int) -> Iterator[Section]:
    """`host` and `port` are where the browser found this page; `host` None: behind the proxy, by
    the name that has no address."""
    here = "$HOME/.hexcache/ca-bundle.pem"
    client = client_environment(settings, Format.SHELL, host)
    proxy = client.proxy
    if host is None:
        page = f"--proxy {proxy} http://{LOCAL_HOST}"
    else:
        page = f"http://{bracketed(host)}:{port}"
    fetch = f"mkdir -p ~/.hexcache\ncurl -fsS {page}/ca-bundle.pem -o ~/.hexcache/ca-bundle.pem"
    yield Section(
        "ca",
        "First, once on each machine: the certificates",
        (("Fetch them from this Hexcache.", fetch),),
    )
    yield Section(
        "mix",
        "mix",
        (
            (
                "In the shell, or in its profile.",
                f'export HTTPS_PROXY={proxy}\nexport HEX_CACERTS_PATH="{here}"\nmix deps.get',
            ),
        ),
    )
    yield Section(
        "rebar3",
        "rebar3",
        (
            (
                "It reads its certificates from the global rebar.config only.",
                "mkdir -p ~/.config/rebar3\n"
                f'echo "{{ssl_cacerts_path, \\"{here}\\"}}." >> ~/.config/rebar3/rebar.config',
            ),
            ("And the proxy in lower case only.", f"export https_proxy={proxy}\nrebar3 get-deps"),
        ),
    )
    yield Section(
        "gleam",
        "Gleam",
        (
            (
                "In the shell.",
                f'export HTTPS_PROXY={proxy}\nexport GLEAM_CACERTS_PATH="{here}"\n'
                "gleam deps download",
            ),
        ),
    )
    yield from _containers(settings, host, page, client)
    mirror = settings.listen.mirror
    if client.mirror is not None and mirror is not None:
        only_here = "" if is_reachable(mirror, host) else _ONLY_HERE.format(mirror)
        yield Section(
            "mirror",
            "Where no proxy can be set",
            (
                (
                    f"The mirror's address needs no certificates. HEX_CDN is rebar3's.{only_here}",
                    f"export HEX_MIRROR={client.mirror}\nexport HEX_CDN={client.mirror}",
                ),
            ),
        )


def _containers(
    settings: Settings, host: str | None, page: str, client: ClientEnvironment
) -> Iterator[Section]:
    service = client_environment(settings, Format.COMPOSE, None)
    compose = (
        "services:\n  app:\n    networks: [default, hexnet]\n"
        f'    volumes: ["hexcache-ca:{PurePosixPath(service.bundle).parent}:ro"]\n'
        f"    environment:\n      HTTPS_PROXY: {service.proxy}\n"
        f"      https_proxy: {service.proxy} # rebar3\n"
        f"      HEX_CACERTS_PATH: {service.bundle}\n"
        "networks:\n  hexnet: {external: true}\nvolumes:\n  hexcache-ca: {external: true}"
    )
    build = (
        f"curl -fsS {page}/ca-bundle.pem -o ca-bundle.pem\n"
        "docker build --network host \\\n"
        f"  --build-arg HTTPS_PROXY={client.proxy} --build-arg https_proxy={client.proxy} \\\n"
        "  --secret id=hexcache-ca,src=ca-bundle.pem ."
    )
    run = (
        "RUN --mount=type=secret,id=hexcache-ca,target=/hexcache-ca/ca-bundle.pem,mode=0444 \\\n"
        "    HEX_CACERTS_PATH=/hexcache-ca/ca-bundle.pem mix deps.get"
    )
    yield Section(
        "docker",
        "Docker",
        (
            (
                "For a service of a compose file, where Hexcache was started by its own "
                "docker-compose.yml:",
                compose,
            ),
            ("For docker build, on the command line:", build),
            ("And in the Dockerfile:", run),
        ),
    )
    actions = (
        "- run: |\n"
        f"    curl -fsS {page}/ca-bundle.pem -o $RUNNER_TEMP/ca-bundle.pem\n"
        f"    echo HTTPS_PROXY={client.proxy} >> $GITHUB_ENV\n"
        f"    echo https_proxy={client.proxy} >> $GITHUB_ENV\n"
        "    echo HEX_CACERTS_PATH=$RUNNER_TEMP/ca-bundle.pem >> $GITHUB_ENV\n"
        "- run: mix deps.get"
    )
    yield Section(
        "github-actions",
        "GitHub Actions",
        (
            (
                "On a runner that reaches this machine:"
                if host is None or not _is_loopback(host)
                else "On a runner of your own that is this machine:",
                actions,
            ),
        ),
    )
