"""How single settings are written."""

from __future__ import annotations

import pytest

from hexcache.values import Address, parse_address, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("500ms", 0.5),
        ("5s", 5),
        ("10m", 600),
        ("24h", 86400),
        ("7d", 604800),
        ("1.5h", 5400),
        ("5 s", 5),
        (" 5s ", 5),
        (5, 5),
        (0.25, 0.25),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "-5s", "5y", "5 minutes", "1h30m", "1e3", None, True, []]
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="a duration such as 500ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1048576),
        (1048576, 1048576),
        ("500MB", 500_000_000),
        ("500mb", 500_000_000),
        ("10GiB", 10 * 1024**3),
        ("1.5k", 1500),
        ("1KiB", 1024),
        ("2T", 2 * 10**12),
        ("7B", 7),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1MB", "1PB", "1 2", "ten", None, False, 1.5e30])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="a size such as 500MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::]:8080", Address("::", 8080)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        8080,
        ":8080",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:-1",
        "::1:8080",
        "[::1]",
        "http://localhost:80",
        "localhost:80/",
        "a@b:80",
        "localhost:80?x",
        "localhost:80#x",
        "[::1:80",
        "local host:80",
        None,
        True,
    ],
)
def test_no_addresses(text: object) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)
