"""What is refused in proxy.yaml, and what a user is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hexcache.errors import SettingsError
from hexcache.settings import load

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("warm: {packages: [1.5]}", "warm.packages", "phoenix or 'plug ~> 1.14'"),
        ("warm: {packages: [phoenix-1.5.6]}", "warm.packages", "NAME@VERSION"),
        ("warm: {packages: ['plug ~> x']}", "warm.packages", "is not a version"),
        ("warm: {lockfiles: [null]}", "warm.lockfiles", "../*/mix.lock"),
        ("warm: {lockfiles: ['']}", "warm.lockfiles", "../*/mix.lock"),
        ("warm: {every: 0}", "warm.every", "above 0"),
        ("warm: {versions: some}", "warm.versions", "'newest' or 'all'"),
        ("cache: {registry_fresh: soon}", "cache.registry_fresh", "500ms, 5s, 10m, 24h or 7d"),
        ("cache: {registry_fresh: unlimited}", "cache.registry_fresh", "500ms, 5s"),
        ("cache: {registry_fresh: yes}", "cache.registry_fresh", "500ms, 5s"),
        ("cache: {max_stale: never}", "cache.max_stale", "500ms, 5s"),
        ("cache: {size_limit: lots}", "cache.size_limit", "500MB or 10GiB"),
        ("cache: {size_limit: 1kB}", "cache.size_limit", "1048576"),
        ("cache: {size_limit: " + "9" * 400 + "TB}", "cache.size_limit", "500MB or 10GiB"),
        ("cache: {verify: perhaps}", "cache.verify", "boolean"),
        ("offline: sometimes", "offline", "boolean"),
        ("listen: {proxy: 8080}", "listen.proxy", "HOST:PORT"),
        ("listen: {proxy: off}", "listen.proxy", "HOST:PORT"),
        ("listen: {mirror: here}", "listen.mirror", "HOST:PORT"),
        ("upstream: {repo: []}", "upstream.repo", "at least 1"),
        ("upstream: {repo: repo.hex.pm}", "upstream.repo", "https://repo.hex.pm"),
        ("upstream: {repo: [https://a, ftp://b]}", "upstream.repo", "https://repo.hex.pm"),
        ("upstream: {repo: ['https://a?b']}", "upstream.repo", "https://repo.hex.pm"),
        ("upstream: {repo: ['https://a:x']}", "upstream.repo", "https://repo.hex.pm"),
        ("upstream: {repo: ['https://a b']}", "upstream.repo", "https://repo.hex.pm"),
        ('upstream: {repo: ["https://a\\nb"]}', "upstream.repo", "https://repo.hex.pm"),
        ('upstream: {proxy: "http://a\\e:1"}', "upstream.proxy", "http://"),
        ("upstream: {builds: 7}", "upstream.builds", "tuple"),
        ("upstream: {timeout: 0}", "upstream.timeout", "above 0"),
        ("upstream: {patience: -1}", "upstream.patience", "500ms, 5s"),
        ("upstream: {nameservers: [dns.example]}", "upstream.nameservers", "IP address"),
        ("upstream: {proxy: socks5://localhost}", "upstream.proxy", "http://"),
        ("upstream: {ca_file: [a]}", "upstream.ca_file", "path"),
        ("log: {level: loud}", "log.level", "'debug', 'info', 'warning' or 'error'"),
        ("log: {format: xml}", "log.format", "'text' or 'json'"),
        ("shutdown_grace: later", "shutdown_grace", "500ms, 5s"),
        ("data: [a]", "data", "path"),
    ],
)
def test_a_wrong_value_is_one_line_with_file_key_and_what_is_allowed(
    refused: Callable[[str], SettingsError], text: str, key: str, allowed: str
) -> None:
    error = refused(text)
    assert f": {key}: " in str(error)
    assert allowed in str(error)
    assert error.key == key


def test_a_wrong_value_is_shown(refused: Callable[[str], SettingsError]) -> None:
    assert "'soon'" in str(refused("cache: {registry_fresh: soon}"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("size: 5", "size"),
        ("cache: {sizelimit: 5}", "cache.sizelimit"),
        ("listen: {proxy: 127.0.0.1:1, socks: x}", "listen.socks"),
        ("_env_file: .env", "_env_file"),
        ("_env_prefix: OTHER_", "_env_prefix"),
        ("_cli_parse_args: true", "_cli_parse_args"),
        ("__pydantic_self__: 1", "__pydantic_self__"),
        ("self: 1", "self"),
        ("model_config: {}", "model_config"),
    ],
)
def test_an_unknown_key_is_refused(
    refused: Callable[[str], SettingsError], text: str, key: str
) -> None:
    error = refused(text)
    assert f": {key} is not a setting" in str(error)
    assert error.key == key


@pytest.mark.parametrize(
    "text",
    [
        "cache: [unclosed",
        "\tcache: 1",
        "a: b: c",
        "!!python/object/apply:os.system [id]",
        "data: *nothing",
        "data: 2001-99-99",
        "data: !!int x",
        "a\x00b",
        "{[a]: b}",
        "[" * 3000,
    ],
)
def test_what_is_not_yaml(refused: Callable[[str], SettingsError], text: str) -> None:
    refused(text)


def test_yaml_errors_name_the_line(refused: Callable[[str], SettingsError]) -> None:
    assert ", line 3: " in str(refused("offline: true\ncache:\n  a: b: c\n"))


@pytest.mark.parametrize("text", ["- a\n- b", "just words", "5", "5: x", "true: x"])
def test_what_is_no_mapping(refused: Callable[[str], SettingsError], text: str) -> None:
    assert "KEY: VALUE" in str(refused(text))


@pytest.mark.parametrize("section", ["cache", "upstream", "listen", "log"])
def test_a_section_that_is_none(refused: Callable[[str], SettingsError], section: str) -> None:
    assert f": {section}: " in str(refused(f"{section}: 5"))


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_bytes(b"data: \xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        load(path)


@pytest.mark.parametrize("place", ["nowhere.yaml", "empty"])
def test_a_named_file_has_to_be_there(tmp_path: Path, place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)
    assert "--config" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"upstream: {{proxy: 'socks5://me:{PASSWORD}@proxy:1'}}",
        f"upstream: {{proxy: 'http://me:{PASSWORD}'}}",
        f"upstream: {{proxy: {{password: {PASSWORD}}}}}",
        f"upstream: {{proxy: [{PASSWORD}]}}",
        f"upstream: {{repo: ['ftp://me:{PASSWORD}@repo']}}",
        f"upstream: {{builds: 'https://me:{PASSWORD}@repo?x'}}",
        f"upstream: 'http://me:{PASSWORD}@proxy'",
        f"upstream: {{ca_file: ['https://me:{PASSWORD}@proxy']}}",
        f"proxy: 'http://me:{PASSWORD}@proxy'",
        f"upstream: ['http://me:{PASSWORD}@proxy',",
    ],
)
def test_no_password_in_a_message(refused: Callable[[str], SettingsError], text: str) -> None:
    assert PASSWORD not in str(refused(text))


def test_no_password_of_the_environment_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEXCACHE_UPSTREAM__PROXY", f"socks5://me:{PASSWORD}@proxy")
    with pytest.raises(SettingsError) as caught:
        load()
    assert PASSWORD not in str(caught.value)
    assert "HEXCACHE_UPSTREAM__PROXY" in str(caught.value)
