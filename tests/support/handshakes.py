"""Real clients, and whether they accept a server's certificate: Python's ssl, curl and Erlang's ssl
on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from OpenSSL import SSL


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


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
