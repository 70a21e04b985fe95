"""A real Hexcache in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

START_SECONDS = 60.0
STOP_SECONDS = 30.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def run_hexcache(
    *arguments: str, config: Path, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """A command of `hexcache`, with the settings in `config`, where that lies."""
    return subprocess.run(
        [sys.executable, "-m", "hexcache", *arguments, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=config.parent,
        env=_inherited(),
    )


def _inherited() -> dict[str, str]:
    return {
        key: value
        for key, value in os.environ.items()
        if not key.upper().endswith("_PROXY") and not key.startswith("HEXCACHE_")
    }


class Running:
    """`hexcache serve` with settings of its own; started by entering it, and again by `start`
    after `stop` or `kill`, on the same ports and the same data."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, Any],
        *,
        arguments: tuple[str, ...] = (),
        command: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.config = directory / "proxy.yaml"
        self._arguments = arguments
        self._command = command or (sys.executable, "-m", "hexcache", "serve")
        self._environment = dict(environment or {})
        proxy, mirror, status = free_ports(3)
        self.proxy_port = proxy
        self.proxy = f"http://127.0.0.1:{proxy}"
        self.mirror = f"http://127.0.0.1:{mirror}"
        self.status = f"http://127.0.0.1:{status}"
        self.ca = directory / "data/ca/hexcache-ca.pem"
        self.bundle = directory / "data/ca/ca-bundle.pem"
        listen = {
            "proxy": f"127.0.0.1:{proxy}",
            "mirror": f"127.0.0.1:{mirror}",
            "status": f"127.0.0.1:{status}",
            **settings.get("listen", {}),
        }
        content = {"data": "data", **settings, "listen": listen}
        directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(content))
        self.banner = ""
        self._process: subprocess.Popen[str] | None = None
        self._log: list[str] = []
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()
        if error is not None:
            print("\n".join(self._log))

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return "".join(self._log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            [*self._command, *self._config_arguments(), *self._arguments, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env={**_inherited(), **self._environment, **(environment or {})},
        )
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        self._reader = threading.Thread(target=self._read_log, args=(self._process,))
        self._reader.start()
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if line.startswith("The CA's certificate"):
                break
        watchdog.cancel()
        self.banner = "".join(lines)
        if "The CA's certificate" not in self.banner:
            self._process.wait()
            self._finish()
            raise RuntimeError(f"it did not start:\n{self.banner}{self.log}")

    def _config_arguments(self) -> list[str]:
        if "mitmdump" in self._command[0]:
            return ["--set", f"hexcache_config={self.config}"]
        return ["--config", str(self.config)]

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._log.append(line)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self._process is not None
        status = self._process.wait(STOP_SECONDS)
        self._finish()
        return status

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._finish()

    def _finish(self) -> None:
        assert self._process is not None
        if self._reader is not None:
            self._reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._process = None
