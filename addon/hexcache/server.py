"""Run Hexcache: `hexcache serve`, and the script for a stock mitmdump."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import sys
from pathlib import Path

from mitmproxy import ctx, exceptions, master, options
from mitmproxy.addonmanager import Loader
from mitmproxy.addons import core, disable_h2c, errorcheck, next_layer, proxyserver, tlsconfig
from mitmproxy.proxy import mode_specs

from hexcache import __version__, logs, resources
from hexcache.assembly import Parts, assemble
from hexcache.errors import HexcacheError
from hexcache.front.entrances import Entrance, addresses
from hexcache.front.proxy import HexProxy
from hexcache.settings import Settings, load, with_packages
from hexcache.signals import end_at_once
from hexcache.values import Address

logger = logging.getLogger(__name__)


class MitmdumpScript:
    """What `mitmdump -s addon/main.py` loads. Sets the mitmproxy options that it needs."""

    def __init__(self) -> None:
        self.proxy = HexProxy()
        self.addons = [self.proxy, Banner(self.proxy)]

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "hexcache_config", str, "", "Hexcache's settings file (default: proxy.yaml)"
        )

    def configure(self, updated: set[str]) -> None:
        if self.proxy.parts is not None:
            if "hexcache_config" in updated and ctx.options.hexcache_config:
                raise exceptions.OptionsError("hexcache_config can't be changed while it runs")
            return
        config = ctx.options.hexcache_config
        try:
            settings = with_packages(load(Path(config) if config else None))
            self.proxy.parts = assemble(settings, self.proxy.telemetry)
        except HexcacheError as error:
            # mitmdump ends when an error is logged during its start; raised, it would print a
            # traceback.
            logger.error("hexcache: %s", error)
            return
        # Hexcache writes its own line for each request.
        wanted = {**self.proxy.options(), "server": True, "flow_detail": 0}
        ctx.options.update(**{name: value for name, value in wanted.items() if name in ctx.options})

    async def running(self) -> None:
        # mitmdump loads scripts after it has begun to listen where its own options say.
        server = ctx.master.addons.get("proxyserver")
        modes = [mode_specs.ProxyMode.parse(mode) for mode in ctx.options.mode]
        await server.servers.update(modes)


class Banner:
    """Says on standard output where Hexcache listens and what a client has to set."""

    def __init__(self, proxy: HexProxy) -> None:
        self._proxy = proxy

    def running(self) -> None:
        parts, services = self._proxy.parts, self._proxy.services
        if parts is not None and services is not None:
            where = addresses(ctx.master.addons.get("proxyserver").servers)
            print(banner(parts, where, services.status_addresses), flush=True)


def banner(parts: Parts, where: dict[Entrance, Address], status: list[Address]) -> str:
    """What a client has to set."""
    proxy = _url(where.get(Entrance.PROXY))
    mirror = _url(where.get(Entrance.MIRROR))
    authority = parts.authority
    lines = [f"Hexcache {__version__}{' is OFFLINE and' if parts.engine.offline else ''} listens."]
    if proxy:
        lines += [
            "A client needs",
            f"  export HTTPS_PROXY={proxy} https_proxy={proxy}",
            f"  export HEX_CACERTS_PATH={shlex.quote(str(authority.bundle_path))}",
        ]
    if mirror:
        lines += ["or, where no proxy can be set," if proxy else "A client needs"]
        lines += [f"  export HEX_MIRROR={mirror}"]
    if Entrance.TLS in where:
        lines.append(f"TLS for {' and '.join(resources.HOSTS)}: {where[Entrance.TLS]}")
    if Entrance.TRANSPARENT in where:
        lines.append(f"Redirected connections: {where[Entrance.TRANSPARENT]}")
    lines += [f"Status page: {_url(address)}/" for address in status]
    lines.append(f"The CA's certificate is {authority.certificate_path}")
    return "\n".join(lines)


def _url(address: Address | None) -> str | None:
    return f"http://{address.reachable}" if address else None


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status. Raises HexcacheError before anything
    listens."""
    logs.configure(settings.log)
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    proxy = HexProxy()
    proxy.parts = assemble(settings, proxy.telemetry)
    opts = options.Options()
    running = master.Master(opts)
    # Only what a proxy needs of mitmproxy's 30 addons. Ours comes first: it brings its own TLS
    # context, and decides before next_layer does.
    running.addons.add(
        core.Core(),
        disable_h2c.DisableH2C(),
        proxy,
        proxyserver.Proxyserver(),
        next_layer.NextLayer(),
        tlsconfig.TlsConfig(),
        Banner(proxy),
        _ErrorCheck(),
    )
    opts.update(**proxy.options())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, running, loop)
    try:
        await running.run()
    except SystemExit:
        # ErrorCheck: a port is taken. The reason has been logged; `done` has not run.
        await proxy.done()
        return 1
    return 0


def _stop(running: master.Master, loop: asyncio.AbstractEventLoop) -> None:
    """The first signal asks for an orderly end, a second one ends at once."""
    running.shutdown()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        end_at_once(number)


class _ErrorCheck(errorcheck.ErrorCheck):
    """Ends a start during which an error was logged; that one line says it all."""

    name = "errorcheck"  # by this mitmproxy finds it

    async def shutdown_if_errored(self) -> None:
        await asyncio.sleep(0)  # what is being logged comes first
        if self.logger.has_errored:
            sys.exit(1)
