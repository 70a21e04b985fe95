"""Network namespaces without names, and devices in them: the kernel takes both back when the last
process that holds them ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

TUN = Path("/dev/net/tun")
WAIT_SECONDS = 20.0
_MINE = Path("/proc/thread-self/ns/net")
# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
# Packets of what is measured and nothing else; one congestion control on every machine (reno: the
# only one that each kernel has and lets a namespace choose; on so thin a line CUBIC does the same);
# and no run that profits from what the kernel learned about the line in the run before.
_SYSCTL = {
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv4/tcp_congestion_control": "reno",
    "net/ipv4/tcp_no_metrics_save": "1",
}


def unavailable() -> str:
    """What is missing here, or "" if namespaces can be made."""
    if not hasattr(os, "setns"):
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root (CAP_NET_ADMIN)"
    try:
        Namespace().close()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces need a kernel that has them, and iproute2: {error}"
    return ""


def tun_unavailable() -> str:
    """What is missing here, or "" if namespaces and TUN devices in them can be made."""
    if reason := unavailable():
        return reason
    if not TUN.exists():
        return f"a bad line needs {TUN}: modprobe tun"
    try:
        with contextlib.closing(Namespace()) as namespace:
            os.close(namespace.tun("probe", "10.77.0.1/24"))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a bad line needs TUN devices: {error}"
    return ""


class Namespace:
    """A network namespace with nothing in it but loopback. Lives until `close`, and as long as
    something runs in it."""

    def __init__(self) -> None:
        with _back_home():
            os.unshare(os.CLONE_NEWNET)
            self._descriptor = os.open(_MINE, os.O_RDONLY)
            self.run("ip", "link", "set", "lo", "up")
            for name, value in _SYSCTL.items():
                # A kernel without IPv6, say, needs no telling.
                with contextlib.suppress(FileNotFoundError):
                    self.write(name, value)

    def close(self) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace meanwhile; sockets, processes and threads that
        it makes stay in it."""
        with _back_home():
            os.setns(self._descriptor, os.CLONE_NEWNET)
            yield

    def run(self, *command: str) -> None:
        """A program in the namespace, to its end. Raises CalledProcessError, OSError."""
        with self.entered():
            subprocess.run(command, check=True, capture_output=True, timeout=10)

    def write(self, name: str, value: str) -> None:
        """One of the namespace's own settings, by its path below /proc/sys."""
        with self.entered():
            (Path("/proc/sys") / name).write_text(value)

    def cable(self, name: str, address: str, other: Namespace, its: str, its_address: str) -> None:
        """A virtual cable between two new devices: `name` here, `its` in the other namespace.
        Addresses are CIDR."""
        # A descriptor of ours, for a program that isn't us.
        there = f"/proc/{os.getpid()}/fd/{other._descriptor}"
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", its, "netns", there)
        self._up(name, address)
        other._up(its, its_address)

    def listen(self, host: str, port: int) -> socket.socket:
        """A TCP listener. Whoever waits for one of its connections waits no longer than
        WAIT_SECONDS."""
        with self.entered():
            listener = socket.create_server((host, port))
        listener.settimeout(WAIT_SECONDS)
        return listener

    def connect(self, host: str, port: int) -> socket.socket:
        """A TCP connection. Nothing on it waits longer than WAIT_SECONDS."""
        with self.entered():
            return socket.create_connection((host, port), timeout=WAIT_SECONDS)

    def tun(self, name: str, address: str) -> int:
        """A new TUN device's descriptor; the device is up with `address` (CIDR). Packets are read
        and written whole."""
        with self.entered():
            descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
            try:
                request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
                fcntl.ioctl(descriptor, _TUNSETIFF, request)
                self._up(name, address)
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    def _up(self, device: str, address: str) -> None:
        self.run("ip", "address", "add", address, "dev", device)
        self.run("ip", "link", "set", device, "up")


@contextlib.contextmanager
def _back_home() -> Iterator[None]:
    home = os.open(_MINE, os.O_RDONLY)
    try:
        yield
    finally:
        os.setns(home, os.CLONE_NEWNET)
        os.close(home)
