"""The authority against real clients: Python's ssl, curl and Erlang's ssl on loopback."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mitmproxy.certs import CertStore
from OpenSSL import SSL

from hexcache.authority import HEX_HOSTS, Authority
from hexcache.errors import AuthorityError

NOBODY = 65534


class Clock:
    """A clock that tests set; it starts at the real time, which the clients go by."""

    def __init__(self) -> None:
        self.time = self.start = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def set(self, **since_start: float) -> None:
        self.time = self.start + timedelta(**since_start)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "ca")


def key_file(directory: Path) -> Path:
    return directory / "mitmproxy-ca.pem"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# Servers and clients


@contextmanager
def serving(context: SSL.Context) -> Iterator[int]:
    """An HTTPS server on loopback, as long as the block; yields its port."""

    def answer(plain: socket.socket) -> None:
        connection = SSL.Connection(context, plain)
        connection.set_accept_state()
        with suppress(SSL.Error):  # clients that refuse us hang up
            connection.do_handshake()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            connection.shutdown()

    def run() -> None:
        while True:
            plain, _ = listener.accept()
            with plain:
                if stopped.is_set():
                    return
                answer(plain)

    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield port
        finally:
            stopped.set()
            with socket.create_connection(("127.0.0.1", port)):
                thread.join()


@contextmanager
def python_connection(
    context: ssl.SSLContext, host: str, port: int, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host, session=session) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(4096)
        yield connection


def python_accepts(trusted: Path, host: str, port: int) -> bool:
    context = ssl.create_default_context(cafile=trusted)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        with python_connection(context, host, port):
            return True
    except ssl.SSLCertVerificationError:
        return False


def curl_accepts(trusted: Path, host: str, port: int) -> bool:
    command = ["curl", "--silent", "--noproxy", "*", "--cacert", str(trusted)]
    command += ["--resolve", f"{host}:{port}:127.0.0.1", f"https://{host}:{port}/"]
    code = subprocess.run(command, capture_output=True, timeout=30).returncode
    # 51 and 60: the peer's certificate wasn't accepted (curl before and since 7.62).
    assert code in (0, 51, 60)
    return code == 0


ERLANG_CONNECT = """
[Trusted, Host, Port] = init:get_plain_arguments(),
{ok, _} = application:ensure_all_started(ssl),
ok = logger:set_primary_config(level, none),
{Address, Name} = case inet:parse_address(Host) of
    {ok, IP} -> {IP, []};
    _ -> {{127, 0, 0, 1}, [{server_name_indication, Host}]}
end,
Https = public_key:pkix_verify_hostname_match_fun(https),
Options = [{verify, verify_peer}, {cacertfile, Trusted}, {depth, 4},
           {customize_hostname_check, [{match_fun, Https}]} | Name],
case ssl:connect(Address, list_to_integer(Port), Options, 10000) of
    {ok, _} -> io:put_chars("accepted");
    {error, {tls_alert, {Alert, _}}} -> io:format("refused: ~s", [Alert])
end,
halt().
"""


def erlang_accepts(trusted: Path, host: str, port: int) -> bool:
    command = ["erl", "-noshell", "-eval", ERLANG_CONNECT, "-extra", str(trusted), host, str(port)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert answer.stdout.startswith(("accepted", "refused")), answer
    return answer.stdout == "accepted"


def needs(program: str, package: str) -> pytest.MarkDecorator:
    reason = f"{program} is missing: apt-get install {package}"
    # Where clients are demanded the test runs, and fails for want of the program.
    demanded = bool(os.environ.get("REQUIRE_CLIENTS"))
    return pytest.mark.skipif(shutil.which(program) is None and not demanded, reason=reason)


Client = Callable[[Path, str, int], bool]
PYTHON = pytest.param(python_accepts, id="python")
CURL = pytest.param(curl_accepts, id="curl", marks=needs("curl", "curl"))
ERLANG = pytest.param(
    erlang_accepts, id="erlang", marks=needs("erl", "erlang-base erlang-ssl erlang-public-key")
)


@pytest.mark.parametrize("host", HEX_HOSTS)
@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
def test_clients_accept_the_hosts(authority: Authority, accepts: Client, host: str) -> None:
    with serving(authority.server_context()) as port:
        assert accepts(authority.certificate_path, host, port)
        assert accepts(authority.bundle_path, host, port)


@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
def test_clients_refuse_another_authority(
    authority: Authority, tmp_path: Path, accepts: Client
) -> None:
    other = Authority.open(tmp_path / "other")
    with serving(authority.server_context()) as port:
        assert not accepts(other.certificate_path, "repo.hex.pm", port)


# What a thief of the directory can do


class Thief:
    """Signs whatever it likes with the files of an authority."""

    def __init__(self, authority: Authority) -> None:
        pem = key_file(authority.certificate_path.parent).read_bytes()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        self.intermediate = x509.load_pem_x509_certificates(pem)[0]

    def certificate(
        self,
        names: Sequence[x509.GeneralName],
        common_name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        names_extension = x509.SubjectAlternativeName(names)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(
                x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False),
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        return builder.add_extension(names_extension, False) if names else builder

    def context(self, names: Sequence[x509.GeneralName], common_name: str = "x") -> SSL.Context:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self.certificate(names, common_name, key)
        return _context(key, [_signed(builder, self.intermediate.subject, self.key)], self)

    def context_below_own_authority(self, host: str) -> SSL.Context:
        own_key = ec.generate_private_key(ec.SECP256R1())
        own_builder = self.certificate([], "own", own_key, ca=True)
        own = _signed(own_builder, self.intermediate.subject, self.key)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _signed(self.certificate([x509.DNSName(host)], "x", key), own.subject, own_key)
        return _context(key, [leaf, own], self)


def _signed(
    builder: x509.CertificateBuilder, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.issuer_name(issuer).add_extension(identifier, critical=False)
    return builder.sign(key, hashes.SHA256())


def _context(
    key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate], thief: Thief
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_privatekey(key)
    context.use_certificate(chain[0])
    for certificate in [*chain[1:], thief.intermediate]:
        context.add_extra_chain_cert(certificate)
    return context


EVIL = x509.DNSName("evil.example")
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
def test_the_thief_is_accepted_where_it_may_be(authority: Authority, accepts: Client) -> None:
    """So that the refusals below are for the names."""
    with serving(Thief(authority).context([x509.DNSName("repo.hex.pm")])) as port:
        assert accepts(authority.certificate_path, "repo.hex.pm", port)


@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
@pytest.mark.parametrize(
    ("names", "host"),
    [
        pytest.param([EVIL], "evil.example", id="other"),
        pytest.param([x509.DNSName("repo.hex.pm"), EVIL], "repo.hex.pm", id="both"),
        pytest.param([x509.DNSName("*.evil.example")], "a.evil.example", id="wildcard"),
        pytest.param([x509.DNSName("hex.pm")], "hex.pm", id="parent"),
        pytest.param([x509.DNSName("*.hex.pm")], "repo.hex.pm", id="parent-wildcard"),
        pytest.param([LOOPBACK], "127.0.0.1", id="ip"),
        pytest.param([x509.DNSName("127.0.0.1")], "127.0.0.1", id="ip-as-dns"),
    ],
)
def test_clients_refuse_what_a_thief_signs(
    authority: Authority, accepts: Client, names: list[x509.GeneralName], host: str
) -> None:
    with serving(Thief(authority).context(names)) as port:
        assert not accepts(authority.certificate_path, host, port)


# Erlang accepts this one: see the module's docstring.
@pytest.mark.parametrize("accepts", [PYTHON, CURL])
def test_clients_refuse_a_common_name_alone(authority: Authority, accepts: Client) -> None:
    with serving(Thief(authority).context([], "evil.example")) as port:
        assert not accepts(authority.certificate_path, "evil.example", port)


@pytest.mark.parametrize("accepts", [PYTHON, CURL, ERLANG])
def test_clients_refuse_an_authority_below_ours(authority: Authority, accepts: Client) -> None:
    with serving(Thief(authority).context_below_own_authority("repo.hex.pm")) as port:
        assert not accepts(authority.certificate_path, "repo.hex.pm", port)


def test_no_file_holds_the_roots_key(authority: Authority) -> None:
    files = contents(authority.certificate_path.parent)
    keys = {name for name, content in files.items() if b"PRIVATE KEY" in content}
    assert keys == {"mitmproxy-ca.pem"}
    assert files["mitmproxy-ca.pem"].count(b"BEGIN EC PRIVATE KEY") == 1
    root = x509.load_pem_x509_certificate(files["hexcache-ca.pem"])
    assert Thief(authority).key.public_key() != root.public_key()


# TLS


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def presented_leaf(context: SSL.Context) -> x509.Certificate:
    with serving(context) as port, python_connection(unverified(), "x", port) as connection:
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_and_resumption(authority: Authority, version: ssl.TLSVersion) -> None:
    client = ssl.create_default_context(cafile=authority.certificate_path)
    client.minimum_version = client.maximum_version = version
    with (
        serving(authority.server_context()) as port,
        python_connection(client, "repo.hex.pm", port) as first,
    ):
        assert first.version() == version.name.replace("_", ".")
        session = first.session
    # Another connection of the same authority resumes the session of the first.
    with (
        serving(authority.server_context()) as port,
        python_connection(client, "repo.hex.pm", port, session) as second,
    ):
        assert second.session_reused


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_older_versions_are_refused(authority: Authority) -> None:
    client = unverified()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        serving(authority.server_context()) as port,
        pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"),
        python_connection(client, "repo.hex.pm", port),
    ):
        pass


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None), ([], None)],
)
def test_only_http1_is_negotiated(
    authority: Authority, offers: list[str], chosen: str | None
) -> None:
    client = ssl.create_default_context(cafile=authority.certificate_path)
    if offers:
        client.set_alpn_protocols(offers)
    with (
        serving(authority.server_context()) as port,
        python_connection(client, "repo.hex.pm", port) as connection,
    ):
        assert connection.selected_alpn_protocol() == chosen


# The leaf's life


def test_the_leaf(authority: Authority) -> None:
    leaf = presented_leaf(authority.server_context())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == list(HEX_HOSTS)
    assert len(list(names.value)) == len(HEX_HOSTS)
    assert leaf.not_valid_before_utc < datetime.now(UTC) - timedelta(days=1)
    assert timedelta(days=29) < leaf.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=30)


def test_the_leaf_is_renewed_in_time(tmp_path: Path, clock: Clock) -> None:
    authority = Authority.open(tmp_path, now=clock)
    before = contents(tmp_path)
    first = authority.server_context()
    clock.set(days=19)
    assert authority.server_context() is first
    clock.set(days=21)
    second = authority.server_context()
    assert second is not first
    assert authority.server_context() is second
    old, new = presented_leaf(first), presented_leaf(second)
    assert new.not_valid_after_utc - old.not_valid_after_utc == timedelta(days=21)
    assert new.public_key() != old.public_key()
    assert contents(tmp_path) == before


def test_a_leaf_from_the_future_is_renewed(tmp_path: Path, clock: Clock) -> None:
    authority = Authority.open(tmp_path, now=clock)
    clock.set(days=15)
    wrong = authority.server_context()
    clock.set(days=0)
    assert presented_leaf(authority.server_context()).not_valid_before_utc <= clock.start
    assert authority.server_context() is not wrong


def test_the_last_leaf_ends_with_the_authority(tmp_path: Path, clock: Clock) -> None:
    authority = Authority.open(tmp_path, now=clock)
    clock.set(days=3645)
    context = authority.server_context()
    assert presented_leaf(context).not_valid_after_utc == authority.expires
    clock.set(days=3649)
    assert authority.server_context() is context
    clock.set(days=3650)
    with pytest.raises(AuthorityError, match="expired on"):
        authority.server_context()


# The files


def test_the_authority(authority: Authority, tmp_path: Path) -> None:
    pem = key_file(tmp_path / "ca").read_bytes()
    intermediate, root = x509.load_pem_x509_certificates(pem)
    assert x509.load_pem_x509_certificate(authority.certificate_path.read_bytes()) == root
    for certificate, length in ((root, 1), (intermediate, 0)):
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert basic.value == x509.BasicConstraints(True, length)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        assert (usage.critical, usage.value.key_cert_sign) == (True, True)
        assert not usage.value.digital_signature
        years = (certificate.not_valid_after_utc - datetime.now(UTC)).days / 365
        assert 9.9 < years <= 10
        assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(days=1)
    constraints = intermediate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == sorted(map(x509.DNSName, HEX_HOSTS), key=str)
    excluded = [str(tree.value) for tree in constraints.value.excluded_subtrees or []]
    assert excluded == ["0.0.0.0/0", "::/0"]
    other = Authority.open(tmp_path / "other")
    assert authority.name.startswith("CN=Hexcache CA ")
    assert authority.name != other.name


def test_mitmproxy_reads_it(authority: Authority, tmp_path: Path) -> None:
    key, dh = key_file(authority.certificate_path.parent), tmp_path / "dh.pem"
    store = CertStore.from_files(key, dh)
    intermediate, root = x509.load_pem_x509_certificates(key.read_bytes())
    chain = [certificate.to_cryptography() for certificate in store.default_chain_certs]
    assert chain == [intermediate, root]


def test_the_bundle(authority: Authority) -> None:
    def trusted(path: Path | str) -> set[bytes]:
        return set(ssl.create_default_context(cafile=path).get_ca_certs(binary_form=True))

    ours, public = trusted(authority.certificate_path), trusted(certifi.where())
    assert len(ours) == 1
    assert len(public) > 100
    assert trusted(authority.bundle_path) == ours | public


def test_a_reopened_authority_is_the_same(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()}
    again = Authority.open(directory)
    assert (again.name, again.expires) == (authority.name, authority.expires)
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()} == before
    with serving(again.server_context()) as port:
        assert python_accepts(authority.certificate_path, "repo.hex.pm", port)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Authority.open(tmp_path / "ca")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "ca").iterdir()}
    assert modes == {
        "mitmproxy-ca.pem": 0o600,
        "hexcache-ca.pem": 0o644,
        "ca-bundle.pem": 0o644,
    }


def test_a_readable_key_is_tightened(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    key_file(directory).chmod(0o640)
    Authority.open(directory)
    assert key_file(directory).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["hexcache-ca.pem", "ca-bundle.pem"])
def test_a_missing_derived_file_is_written_again(authority: Authority, name: str) -> None:
    directory = authority.certificate_path.parent
    before = contents(directory)
    (directory / name).unlink()
    Authority.open(directory)
    assert contents(directory) == before


def test_an_old_bundle_is_rewritten(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    before = contents(directory)
    authority.bundle_path.write_bytes(authority.certificate_path.read_bytes())
    Authority.open(directory)
    assert contents(directory) == before


# Starts that are killed, and starts at once

KILLED_STARTS = """
import os, signal, sys
from pathlib import Path
from hexcache.authority import Authority

base = Path(sys.argv[1])

def start(directory, steps):
    def hook(event, args):
        nonlocal steps
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.chmod"):
            return
        # fchmod names no path
        if str(args[0]).startswith(str(directory)) or event == "os.chmod":
            if steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            steps -= 1
    sys.addaudithook(hook)
    Authority.open(directory)

Authority.open(base / "whole")  # everything is imported by now
for steps in range(100):
    child = os.fork()
    if child == 0:
        start(base / f"{steps:03}", steps)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""

STARTS_AT_ONCE = """
import os, sys
from pathlib import Path
from hexcache.authority import Authority

for _ in range(8):
    if os.fork() == 0:
        print(Authority.open(Path(sys.argv[1])).name, flush=True)
        os._exit(0)
for _ in range(8):
    assert os.wait()[1] == 0
"""


def run_python(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_start_killed_at_any_step(tmp_path: Path, part: float) -> None:
    """`part` is how much of a file that wasn't in place yet has come to the disk."""
    run_python(KILLED_STARTS, str(tmp_path))
    (tmp_path / "whole").rename(tmp_path / "whole-one")
    attempts = sorted(tmp_path.glob("[0-9]*"))
    seen = set()
    for directory in attempts:
        for unfinished in directory.glob(".*.new"):
            assert unfinished.name != ".mitmproxy-ca.pem.new" or not (
                unfinished.stat().st_mode & 0o077
            )
            os.truncate(unfinished, int(unfinished.stat().st_size * part))
        left = contents(directory)
        seen.add(frozenset(left))
        assert "hexcache-ca.pem" not in left or "mitmproxy-ca.pem" in left
        authority = Authority.open(directory)
        after = contents(directory)
        assert set(after) == {"mitmproxy-ca.pem", "hexcache-ca.pem", "ca-bundle.pem"}
        for name, content in left.items():
            assert name.startswith(".") or after[name] == content
        Authority.open(directory)
        assert contents(directory) == after
        assert authority.name in authority.bundle_path.read_text().splitlines()[0]
    assert len(attempts) > 12
    # Nothing, each file half-made or in place, and the whole.
    assert len(seen) == 7


def test_starts_at_once_make_one_authority(tmp_path: Path) -> None:
    names = run_python(STARTS_AT_ONCE, str(tmp_path / "ca")).splitlines()
    assert len(names) == 8
    assert set(names) == {Authority.open(tmp_path / "ca").name}


# What can't be used


def refused(directory: Path, file: str, problem: str, hosts: Sequence[str] = HEX_HOSTS) -> None:
    """Opening fails with one line that says which file, what, and what to do; no file changes."""
    before = contents(directory)
    with pytest.raises(AuthorityError) as caught:
        Authority.open(directory, hosts)
    message = str(caught.value)
    assert message.startswith(f"{directory / file} ")
    assert problem in message
    assert f"delete the directory {directory}" in message
    assert f"trust the new {directory / 'hexcache-ca.pem'}" in message
    assert "\n" not in message
    assert contents(directory) == before


def blocks(pem: bytes) -> list[bytes]:
    return [b"-----BEGIN " + block for block in pem.split(b"-----BEGIN ")[1:]]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda pem: b"", id="empty"),
        pytest.param(lambda pem: b"\0\xff" * 500, id="garbage"),
        pytest.param(lambda pem: pem[: len(pem) // 2], id="half"),
        pytest.param(lambda pem: blocks(pem)[0], id="key-only"),
        pytest.param(lambda pem: b"".join(blocks(pem)[:2]), id="no-root"),
        pytest.param(lambda pem: b"".join(blocks(pem)[1:]), id="no-key"),
        pytest.param(lambda pem: pem + blocks(pem)[2], id="one-too-many"),
        pytest.param(
            lambda pem: b"".join(blocks(pem)[index] for index in (0, 2, 1)), id="wrong-order"
        ),
        pytest.param(lambda pem: pem.replace(b"MII", b"MIJ"), id="not-der"),
    ],
)
def test_a_damaged_key_file(authority: Authority, damage: Callable[[bytes], bytes]) -> None:
    directory = authority.certificate_path.parent
    key_file(directory).write_bytes(damage(key_file(directory).read_bytes()))
    refused(directory, "mitmproxy-ca.pem", "isn't a key with its certificate and a root's")


def test_another_key(authority: Authority, tmp_path: Path) -> None:
    directory = authority.certificate_path.parent
    Authority.open(tmp_path / "other")
    ours = blocks(key_file(directory).read_bytes())
    theirs = blocks(key_file(tmp_path / "other").read_bytes())
    key_file(directory).write_bytes(b"".join([theirs[0], *ours[1:]]))
    refused(directory, "mitmproxy-ca.pem", "holds a key that isn't its certificate's")
    key_file(directory).write_bytes(b"".join([*theirs[:2], ours[2]]))
    refused(directory, "mitmproxy-ca.pem", "isn't a key with its certificate and a root's")


def test_a_whole_other_authority(authority: Authority, tmp_path: Path) -> None:
    directory = authority.certificate_path.parent
    Authority.open(tmp_path / "other")
    shutil.copy(key_file(tmp_path / "other"), key_file(directory))
    refused(directory, "hexcache-ca.pem", "isn't the root of mitmproxy-ca.pem")


@pytest.mark.parametrize("content", [b"", b"\0\xff", b"-----BEGIN CERTIFICATE-----\nMII"])
def test_a_damaged_certificate(authority: Authority, content: bytes) -> None:
    authority.certificate_path.write_bytes(content)
    refused(authority.certificate_path.parent, "hexcache-ca.pem", "is damaged")


def test_a_lost_key(authority: Authority) -> None:
    directory = authority.certificate_path.parent
    key_file(directory).unlink()
    refused(directory, "mitmproxy-ca.pem", "is missing")
    authority.certificate_path.unlink()
    refused(directory, "mitmproxy-ca.pem", "is missing")


def test_a_key_that_isnt_mounted(tmp_path: Path) -> None:
    key_file(tmp_path).symlink_to("/nonexistent/key.pem")
    with pytest.raises(AuthorityError, match="No such file or directory"):
        Authority.open(tmp_path)
    assert key_file(tmp_path).is_symlink()


def test_mitmproxys_own_authority_is_not_taken(tmp_path: Path) -> None:
    CertStore.create_store(tmp_path, "mitmproxy", 2048)
    refused(tmp_path, "mitmproxy-ca.pem", "isn't a key with its certificate and a root's")


def test_an_authority_for_other_hosts(authority: Authority, tmp_path: Path) -> None:
    directory = authority.certificate_path.parent
    refused(directory, "mitmproxy-ca.pem", "isn't confined to hex.pm", hosts=["hex.pm"])
    refused(directory, "mitmproxy-ca.pem", "isn't confined to repo.hex.pm", hosts=["repo.hex.pm"])
    assert Authority.open(directory, hosts=HEX_HOSTS[::-1]).name == authority.name
    with pytest.raises(ValueError, match="without hosts"):
        Authority.open(tmp_path / "none", hosts=[])
    assert not (tmp_path / "none").exists()


def test_expiry(tmp_path: Path, clock: Clock) -> None:
    authority = Authority.open(tmp_path, now=clock)
    clock.set(days=3619)
    assert authority.expiry_warning() is None
    clock.set(days=3621)
    assert Authority.open(tmp_path, now=clock).expires == authority.expires
    warning = authority.expiry_warning()
    assert warning is not None
    assert "\n" not in warning
    assert f"{authority.name} expires on {authority.expires:%Y-%m-%d}: stop Hexcache" in warning
    clock.set(days=3650)
    with pytest.raises(AuthorityError, match=r"mitmproxy-ca\.pem expired on .*delete the dir"):
        Authority.open(tmp_path, now=clock)


def test_a_clock_that_is_too_early(tmp_path: Path, clock: Clock) -> None:
    Authority.open(tmp_path, now=clock)
    clock.set(days=-3)
    with pytest.raises(AuthorityError, match="set the clock") as caught:
        Authority.open(tmp_path, now=clock)
    assert "delete" not in str(caught.value)


@contextmanager
def unprivileged(directory: Path) -> Iterator[Path]:
    """`directory`, owned by the user that this process is inside the block, who isn't root."""
    if os.geteuid() != 0:
        yield directory
        return
    for path in [directory, *directory.iterdir()]:
        os.chown(path, NOBODY, NOBODY)
    # pytest's own directories are closed to other users; the group is still root's.
    modes = {path: path.stat().st_mode for path in directory.parents}
    for path, mode in modes.items():
        if mode & 0o011 != 0o011:
            path.chmod(mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        os.seteuid(0)
        for path, mode in modes.items():
            if mode & 0o011 != 0o011:
                path.chmod(mode)


def test_a_directory_that_cant_be_written(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with (
        unprivileged(tmp_path / "closed") as directory,
        pytest.raises(AuthorityError, match="make it readable and writable") as caught,
    ):
        Authority.open(directory)
    assert f"Permission denied: '{directory}/." in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(directory) == {}


def test_a_whole_authority_needs_no_write(authority: Authority) -> None:
    authority.certificate_path.parent.chmod(0o555)
    with unprivileged(authority.certificate_path.parent) as directory:
        assert Authority.open(directory).name == authority.name


@pytest.mark.parametrize("name", ["mitmproxy-ca.pem", "hexcache-ca.pem", "ca-bundle.pem"])
def test_a_directory_in_a_files_place(tmp_path: Path, name: str) -> None:
    """As Docker makes where a file that doesn't exist is mounted."""
    Authority.open(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(AuthorityError, match="Is a directory"):
        Authority.open(tmp_path)


def test_a_file_in_the_directorys_place(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    for directory in (tmp_path / "data", tmp_path / "data" / "ca"):
        with pytest.raises(AuthorityError, match="can't use the certificate authority's directory"):
            Authority.open(directory)
