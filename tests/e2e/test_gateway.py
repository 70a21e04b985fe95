"""What the machines behind a gateway notice. Three network namespaces in a row: a client's; the
gateway's, with Hexcache and README's packet filter; and the rest of the world, Hex included."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from e2e.conftest import OLD, World, living_world
from support import clients
from support.certificates import CertificateAuthority
from support.docker import readme_block
from support.http import Got, curl
from support.namespaces import WAIT_SECONDS, Namespace, unavailable
from support.repository import HexRepository
from support.running import Running
from support.upstream import Upstream

CLIENT, GATEWAY = "198.51.100.2", "198.51.100.1"
NEAR, FAR = "203.0.113.254", "203.0.113.1"
HEX, OTHER, NOBODY = FAR, "203.0.113.2", "203.0.113.3"
# As README has it.
PORT = 8085
# Whoever asks there is not answered.
DROP = "add table ip dead; add chain ip dead in { type filter hook input priority 0; policy drop; }"
TARBALL = "/tarballs/gamma-0.1.0.tar"


@dataclass(frozen=True)
class Network:
    client: Namespace
    gateway: Namespace
    far: Namespace

    def get(self, url: str, address: str = "", *arguments: str, ca: Path | None = None) -> Got:
        """What the client's curl gets; `address` is what its DNS says of the name."""
        scheme, _, host = url.split("/")[:3]
        if address:
            port = 443 if scheme == "https:" else 80
            arguments = ("--resolve", f"{host}:{port}:{address}", *arguments)
        with self.client.entered():
            return curl(url, *arguments, ca=ca)

    @contextlib.contextmanager
    def met(self, port: int, say: bytes = b"") -> Iterator[tuple[socket.socket, socket.socket]]:
        """Both ends of a connection from the client to the other host. The client says something
        before it waits, or doesn't."""
        with self.far.listen(OTHER, port) as listener, self.client.connect(OTHER, port) as near:
            near.sendall(say)
            far, _ = listener.accept()
            far.settimeout(near.gettimeout())
            with far:
                yield near, far

    def wait_until_connecting(self) -> None:
        """Return when the gateway is waiting for somebody's answer to a SYN."""
        deadline = time.monotonic() + WAIT_SECONDS
        with self.gateway.entered():
            # proc_net_tcp(5): the fourth column is the state, 2 is SYN_SENT.
            while " 02 " not in Path("/proc/thread-self/net/tcp").read_text():
                assert time.monotonic() < deadline


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := unavailable():
        clients.missing(f"{reason}: apt-get install iproute2, and be root")
    clients.require("nft", "ip", install="apt-get install nftables iproute2")
    with contextlib.ExitStack() as stack:
        client, gateway, far = (
            stack.enter_context(contextlib.closing(Namespace())) for _ in range(3)
        )
        client.cable("eth0", f"{CLIENT}/24", gateway, "eth1", f"{GATEWAY}/24")
        gateway.cable("eth0", f"{NEAR}/24", far, "eth0", f"{FAR}/24")
        far.run("ip", "address", "add", f"{OTHER}/24", "dev", "eth0")
        client.run("ip", "route", "add", "default", "via", GATEWAY)
        far.run("ip", "route", "add", "default", "via", NEAR)
        gateway.write("net/ipv4/ip_forward", "1")
        try:
            gateway.run("sh", "-ec", readme_block("### Gateway", "sh"))
        except subprocess.CalledProcessError as error:
            clients.missing(f"this kernel, or README, has no nftables for it: {error.stderr}")
        yield Network(client, gateway, far)


@pytest.fixture
def world(
    tmp_path: Path, built: HexRepository, newer: dict[str, bytes], network: Network
) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        with network.far.entered():
            world = stack.enter_context(living_world(tmp_path, built, newer, HEX, 443))
        yield world


Start = Callable[..., Running]


@pytest.fixture
def start(network: Network, hexcache: Start) -> Start:
    """Starts Hexcache on the gateway."""

    def start(*arguments: str, **changes: object) -> Running:
        with network.gateway.entered():
            return hexcache(*arguments, listen={"transparent": f"0.0.0.0:{PORT}"}, **changes)

    return start


@pytest.fixture
def running(start: Start) -> Running:
    return start()


@pytest.fixture
def other(tmp_path: Path, network: Network) -> Iterator[tuple[Upstream, Path]]:
    """A server of somebody else's, by TLS, and its CA's certificate."""
    authority = CertificateAuthority(tmp_path / "other", ("other.test", OTHER))
    with contextlib.ExitStack() as stack:
        with network.far.entered():
            server = stack.enter_context(Upstream(authority, OTHER, 443))
        server.files["/hello"] = b"from elsewhere"
        yield server, authority.ca_file


def certificate(connection: socket.socket, name: str | None) -> list[str]:
    """The names in the certificate that a client gets who names `name`, or nobody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connection, context.wrap_socket(connection, server_hostname=name) as tls:
        found = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)


def received(connection: socket.socket, length: int) -> bytes:
    """So many bytes, or what there is before the end."""
    data = b""
    while len(data) < length and (chunk := connection.recv(length - len(data))):
        data += chunk
    return data


class TestHex:
    def test_rebar3_needs_the_ca_and_nothing_else(
        self, world: World, network: Network, running: Running
    ) -> None:
        project = world.rebar3(running.bundle)
        hosts = {"repo.hex.pm": HEX}
        with network.client.entered():
            first = project.get_deps(hosts=hosts)
        assert first.returncode == 0, first.stdout + first.stderr
        assert project.texts() == OLD

        network.far.run("ip", "link", "set", "eth0", "down")
        project.wipe(lock=True)
        with network.client.entered():
            again = project.get_deps(hosts=hosts)
        assert again.returncode == 0, again.stdout + again.stderr
        assert project.texts() == OLD
        running.stop()
        assert f"{CLIENT} package alpha miss 200" in running.log

    @pytest.mark.parametrize("host", ["repo.hex.pm", "builds.hex.pm"])
    def test_the_certificate_is_ours(
        self, world: World, network: Network, running: Running, host: str
    ) -> None:
        world.upstream.files["/installs/1.17.0/hex-2.1.1.ez"] = b"an archive"
        url = f"https://{host}/installs/1.17.0/hex-2.1.1.ez"
        assert network.get(url, HEX, ca=running.ca).body == b"an archive"
        assert network.get(url, HEX, ca=world.authority.ca_file).error == 60
        world.upstream.stop_listening()
        again = network.get(url, HEX, ca=running.ca)
        assert (again.status, again.body) == (200, b"an archive")

    def test_plain_http(self, world: World, network: Network, running: Running) -> None:
        got = network.get("http://repo.hex.pm/names", HEX)
        assert (got.status, got.body) == (200, world.upstream.files["/names"])

    def test_the_name_in_the_handshake_counts_and_not_the_address(
        self, world: World, network: Network, running: Running
    ) -> None:
        got = network.get(f"https://repo.hex.pm{TARBALL}", NOBODY, ca=running.ca)
        assert (got.status, got.body) == (200, world.upstream.files[TARBALL])

    def test_a_handshake_that_comes_byte_by_byte(
        self, world: World, network: Network, running: Running
    ) -> None:
        context = ssl.create_default_context(cafile=str(running.ca))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="repo.hex.pm")
        with network.client.connect(HEX, 443) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        raw.sendall(bytes([byte]))
                    incoming.write(raw.recv(65536))

    def test_a_client_that_takes_its_time(
        self, world: World, network: Network, running: Running
    ) -> None:
        """Its server was asked meanwhile whether it speaks first."""
        with network.met(443) as (near, far):
            context = ssl.create_default_context(cafile=str(running.ca))
            with context.wrap_socket(near, server_hostname="repo.hex.pm") as tls:
                tls.sendall(b"GET /names HTTP/1.1\r\nHost: repo.hex.pm\r\n\r\n")
                assert received(tls, 15) == b"HTTP/1.1 200 OK"
            assert far.recv(100) == b""

    @pytest.mark.parametrize("port", [80, 443])
    def test_a_client_that_takes_its_time_on_a_dead_line(
        self, world: World, network: Network, running: Running, port: int
    ) -> None:
        """Nobody answers what was asked meanwhile."""
        network.far.run("nft", DROP)
        with network.client.connect(OTHER, port) as near:
            network.wait_until_connecting()
            if port == 443:
                assert "repo.hex.pm" in certificate(near, "repo.hex.pm")
                return
            near.sendall(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
            with network.far.listen(OTHER, port) as listener:
                network.far.run("nft", "delete table ip dead")
                said = b""
                while not said:
                    # What was begun before comes to nothing, if it comes.
                    with listener.accept()[0] as far:
                        said = received(far, 5)
                assert said == b"GET /"

    def test_offline(
        self,
        world: World,
        network: Network,
        other: tuple[Upstream, Path],
        start: Start,
    ) -> None:
        """Nothing leaves for Hex; what isn't Hex's is nothing of ours."""
        start("--offline")
        url = "http://repo.hex.pm/names"
        assert network.get(url, HEX).status == 504
        with network.far.listen(OTHER, 80) as listener, network.client.connect(OTHER, 80) as near:
            # Its server is told of no client that may be about to say that it is Hex's.
            near.shutdown(socket.SHUT_WR)
            assert near.recv(100) == b""
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
        got = network.get("https://other.test/hello", OTHER, ca=other[1])
        assert (got.status, got.body) == (200, b"from elsewhere")
        assert world.upstream.requests == []


class TestOthers:
    def test_tls(self, network: Network, running: Running, other: tuple[Upstream, Path]) -> None:
        server, ca = other
        server.files["/large"] = os.urandom(8 * 2**20)
        got = network.get("https://other.test/large", OTHER, ca=ca)
        assert (got.status, got.body) == (200, server.files["/large"])
        assert network.get("https://other.test/hello", OTHER, ca=running.ca).error == 60

    def test_the_certificate_is_the_servers(
        self, network: Network, running: Running, other: tuple[Upstream, Path]
    ) -> None:
        """A name that isn't Hex's, or none at all."""
        for name in ("other.test", "hex.pm", "repo.hex.pm.other.test", None):
            assert certificate(network.client.connect(OTHER, 443), name) == ["other.test"]
        ours = certificate(network.client.connect(OTHER, 443), "REPO.hex.pm")
        assert "repo.hex.pm" in ours

    def test_plain_http(self, network: Network, running: Running) -> None:
        with contextlib.ExitStack() as stack:
            with network.far.entered():
                server = stack.enter_context(Upstream(None, OTHER, 80))
            server.files["/hello"] = b"plain"
            got = network.get("http://other.test/hello", OTHER)
            assert (got.status, got.body) == (200, b"plain")
            (seen,) = server.requests
            assert seen.headers["host"] == "other.test"
            assert not {"via", "forwarded", "x-forwarded-for"} & seen.headers.keys()

    @pytest.mark.parametrize("port", [80, 443])
    def test_another_protocol(self, network: Network, running: Running, port: int) -> None:
        """Also where its beginning could be one of HTTP or of TLS."""
        for said in (b"SSH-2.0-x\r\n", b"\0\1binary", b"PING", b"GET ", b"\x16"):
            with network.met(port, said) as (near, far):
                assert received(far, len(said)) == said
                far.sendall(b"answer")
                assert received(near, 6) == b"answer"

    @pytest.mark.parametrize("port", [80, 443])
    def test_a_server_that_speaks_first(
        self, network: Network, running: Running, port: int
    ) -> None:
        with network.met(port) as (near, far):
            far.sendall(b"220 welcome\r\n")
            assert received(near, 13) == b"220 welcome\r\n"
            near.sendall(b"GET / HTTP/1.1\r\nHost: repo.hex.pm\r\n\r\n")
            assert received(far, 5) == b"GET /"

    def test_ends_of_one_direction(self, network: Network, running: Running) -> None:
        for said in (b"\0\1all", b"PING"):
            with network.met(443, said) as (near, far):
                near.shutdown(socket.SHUT_WR)
                assert received(far, 100) == said
                far.sendall(b"answer")
                far.shutdown(socket.SHUT_WR)
                assert received(near, 100) == b"answer"


class TestEnds:
    def test_a_direct_connection_is_no_loop(
        self, world: World, network: Network, running: Running
    ) -> None:
        for said in (b"\0\1\2", b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", b""):
            with network.client.connect(GATEWAY, PORT) as near:
                near.sendall(said)
                assert near.recv(100) == b""
        got = network.get(f"https://other.test:{PORT}/", "", "--resolve", f"*:{PORT}:{GATEWAY}")
        assert got.error != 0
        # Without the packet filter nobody knows of another address.
        network.gateway.run("nft", "delete table ip hexcache")
        with network.client.connect(GATEWAY, PORT) as near:
            assert near.recv(100) == b""
        network.gateway.run("sh", "-ec", readme_block("### Gateway", "sh"))
        assert network.get("http://repo.hex.pm/names", HEX).status == 200
        running.stop()
        assert f"{CLIENT} connected to listen.transparent itself" in running.log

    @pytest.mark.parametrize("address", [OTHER, NOBODY])
    def test_nobody_is_there(self, network: Network, running: Running, address: str) -> None:
        """A connection that is refused, an address that can't be reached."""
        for said in (b"\0\1\2", b""):
            with network.client.connect(address, 443) as near:
                near.sendall(said)
                assert near.recv(100) == b""

    def test_a_tunnel_ends_when_its_server_does(self, network: Network, running: Running) -> None:
        with network.met(443, b"\0") as (near, far):
            received(far, 1)
            far.close()
            assert near.recv(100) == b""

    def test_a_tunnel_ends_when_its_client_does(self, network: Network, running: Running) -> None:
        with network.met(443, b"\0") as (near, far):
            received(far, 1)
            near.close()
            assert far.recv(100) == b""

    def test_sigterm_ends_tunnels(self, network: Network, running: Running) -> None:
        with network.met(443, b"\0") as (near, far):
            received(far, 1)
            assert running.stop() == 0
            assert (near.recv(100), far.recv(100)) == (b"", b"")
