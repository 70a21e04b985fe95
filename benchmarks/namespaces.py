"""Network namespaces without names, and TUN devices in them: the kernel takes both back when the
last process that holds them ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

TUN = Path("/dev/net/tun")
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
    """What is missing here, or "" if namespaces and TUN devices can be made."""
    if not hasattr(os, "setns"):
        return "a bad line needs Linux"
    if os.geteuid() != 0:
        return "a bad line needs root (CAP_NET_ADMIN), to make namespaces and TUN devices"
    if not TUN.exists():
        return f"a bad line needs {TUN}: modprobe tun"
    try:
        with contextlib.closing(Namespace()) as namespace:
            os.close(namespace.tun("probe", "10.77.0.1/24"))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a bad line needs namespaces, TUN devices and iproute2: {error}"
    return ""


class Namespace:
    """A network namespace with nothing in it but loopback. Lives until `close`, and as long as
    something runs in it."""

    def __init__(self) -> None:
        with _back_home():
            os.unshare(os.CLONE_NEWNET)
            self._descriptor = os.open(_MINE, os.O_RDONLY)
            _ip("link", "set", "lo", "up")
            for name, value in _SYSCTL.items():
                # A kernel without IPv6, say, needs no telling.
                with contextlib.suppress(FileNotFoundError):
                    (Path("/proc/sys") / name).write_text(value)

    def close(self) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace meanwhile; sockets, processes and threads that
        it makes stay in it."""
        with _back_home():
            os.setns(self._descriptor, os.CLONE_NEWNET)
            yield

    def tun(self, name: str, address: str) -> int:
        """A new TUN device's descriptor; the device is up with `address` (CIDR). Packets are read
        and written whole."""
        with self.entered():
            descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
            try:
                request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
                fcntl.ioctl(descriptor, _TUNSETIFF, request)
                _ip("address", "add", address, "dev", name)
                _ip("link", "set", name, "up")
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor


@contextlib.contextmanager
def _back_home() -> Iterator[None]:
    home = os.open(_MINE, os.O_RDONLY)
    try:
        yield
    finally:
        os.setns(home, os.CLONE_NEWNET)
        os.close(home)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
