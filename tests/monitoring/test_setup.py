"""What the page says that clients have to set."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hexcache.monitoring.page.setup import is_reachable, sections
from hexcache.settings import Settings
from hexcache.values import Address


@pytest.mark.parametrize(
    ("listens", "host", "reached"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "::1", False),
        ("::1", "127.0.0.1", False),
        ("::1", "::1", True),
        ("127.0.0.1", "192.0.2.2", False),
        ("0.0.0.0", "192.0.2.2", True),
        ("127.0.0.1", None, True),
    ],
)
def test_who_reaches_a_listener(listens: str, host: str | None, reached: bool) -> None:
    assert is_reachable(Address(listens, 8080), host) is reached


def said(host: str | None, **listen: Any) -> dict[str, str]:
    """The texts of the sections, by id."""
    found = sections(Settings(listen=listen), host, 8081)  # type: ignore[arg-type]  # as in YAML
    return {each.id: "\n".join("\n".join(step) for step in each.steps) for each in found}


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.2", None])
def test_a_service_of_a_compose_file_is_a_host_of_its_own(host: str | None) -> None:
    """Its 127.0.0.1 isn't ours: README's lines, whole."""
    (found,) = [each for each in sections(Settings(), host, 8081) if each.id == "docker"]
    compose = yaml.safe_load(found.steps[0][1])
    service = compose["services"]["app"]
    assert service["environment"]["HTTPS_PROXY"] == "http://hexcache:8080"
    assert service["environment"]["https_proxy"] == "http://hexcache:8080"
    assert service["environment"]["HEX_CACERTS_PATH"] == "/hexcache-ca/ca-bundle.pem"
    assert service["volumes"] == ["hexcache-ca:/hexcache-ca:ro"]
    assert "hexnet" in service["networks"]
    assert compose["networks"] == {"hexnet": {"external": True}}
    assert compose["volumes"] == {"hexcache-ca": {"external": True}}


def test_a_mirror_that_only_this_machine_reaches() -> None:
    listen = {"proxy": "0.0.0.0:8080"}
    assert "listen.mirror: 0.0.0.0:4000" in said("192.0.2.2", **listen)["mirror"]
    assert "listen.mirror" not in said("127.0.0.1", **listen)["mirror"]
    assert "listen.mirror" not in said("192.0.2.2", mirror="0.0.0.0:4000", **listen)["mirror"]
