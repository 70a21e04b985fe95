"""The authority's handshakes: who accepts it, and what is negotiated."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hexcache.authority import HEX_HOSTS, Authority
from support.handshakes import CURL, ERLANG, PYTHON, Client, python_connection, serving, unverified


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
