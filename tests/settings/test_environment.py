"""Settings in the environment, which go before proxy.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hexcache.errors import SettingsError
from hexcache.settings import CONFIG_VARIABLE, Settings, find_config, load, with_packages
from hexcache.values import Address
from support.settings import Write

# The environment.


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("HEXCACHE_OFFLINE", "1", lambda s: s.offline is True),
        ("hexcache_offline", "true", lambda s: s.offline is True),
        ("HEXCACHE_UPSTREAM__PATIENCE", "7s", lambda s: s.upstream.patience == 7),
        ("HEXCACHE_CACHE__MAX_STALE", "unlimited", lambda s: s.cache.max_stale is None),
        ("HEXCACHE_CACHE__MAX_STALE", "1d", lambda s: s.cache.max_stale == 86400),
        ("HEXCACHE_CACHE__SIZE_LIMIT", "1GiB", lambda s: s.cache.size_limit == 2**30),
        ("HEXCACHE_CACHE__VERIFY", "0", lambda s: s.cache.verify is False),
        ("HEXCACHE_LISTEN__PROXY", "[::1]:1", lambda s: s.listen.proxy == Address("::1", 1)),
        ("HEXCACHE_LISTEN__MIRROR", "off", lambda s: s.listen.mirror is None),
        ("HEXCACHE_LISTEN__MIRROR", "0.0.0.0:1", lambda s: s.listen.mirror == ("0.0.0.0", 1)),
        ("HEXCACHE_UPSTREAM__REPO", "http://a", lambda s: s.upstream.repo == ("http://a",)),
        ("HEXCACHE_UPSTREAM__REPO", "http://a,http://b/", lambda s: len(s.upstream.repo) == 2),
        ("HEXCACHE_UPSTREAM__REPO", "http://a http://b/", lambda s: len(s.upstream.repo) == 2),
        (
            "HEXCACHE_UPSTREAM__NAMESERVERS",
            "1.1.1.1, ::1",
            lambda s: s.upstream.nameservers == ("1.1.1.1", "::1"),
        ),
        ("HEXCACHE_UPSTREAM__PROXY", "http://p:1", lambda s: s.upstream.proxy == "http://p:1"),
        ("HEXCACHE_UPSTREAM__CA_FILE", "/a.pem", lambda s: s.upstream.ca_file == Path("/a.pem")),
        ("HEXCACHE_DATA", "/data", lambda s: s.data == Path("/data")),
        ("HEXCACHE_LOG__LEVEL", "error", lambda s: s.log.level == "error"),
        (
            "HEXCACHE_WARM__PACKAGES",
            "decimal, plug ~> 1.14",
            lambda s: [wish.name for wish in s.warm.packages] == ["decimal", "plug"],
        ),
        (
            "HEXCACHE_WARM__LOCKFILES",
            "/a b/mix.lock,/c/rebar.lock",
            lambda s: s.warm.lockfiles == ("/a b/mix.lock", "/c/rebar.lock"),
        ),
        ("HEXCACHE_SHUTDOWN_GRACE", "0", lambda s: s.shutdown_grace == 0),
    ],
)
def test_a_variable_goes_before_the_file(
    monkeypatch: pytest.MonkeyPatch,
    write: Write,
    name: str,
    value: str,
    read: Callable[[Settings], bool],
) -> None:
    path = write(
        """
        listen: {proxy: 127.0.0.1:9999, mirror: 127.0.0.1:9998}
        data: elsewhere
        cache: {max_stale: 5s, size_limit: 2GiB, missing_fresh: 77s}
        upstream: {patience: 1s, repo: [http://z], ca_file: z.pem, proxy: http://z}
        log: {level: debug, format: json}
        """
    )
    assert not read(load(path))
    monkeypatch.setenv(name, value)
    settings = load(path)
    assert read(settings)
    # The rest of the section stays as the file has it.
    assert settings.cache.missing_fresh == 77
    assert settings.log.format == "json"


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    for name in ("HEXCACHE_OFFLINE", "HEXCACHE_UPSTREAM__PROXY", "HEXCACHE_UPSTREAM__REPO"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    assert load(write("offline: true")).offline
    assert load() == Settings(data=Path.cwd() / "data")


@pytest.mark.parametrize(
    "name", ["HEXCACHE_PATIENCE", "HEXCACHE_UPSTREAM_PATIENCE", "HEXCACHE_UPSTREAM__PATIENT"]
)
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "5s")
    with pytest.raises(SettingsError, match=f"^environment: {name} is not a setting") as caught:
        load()
    assert "\n" not in str(caught.value)
    assert caught.value.key == name


def test_what_kubernetes_and_docker_say_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(f"HEXCACHE_{name}", "tcp://10.0.0.1:8080")
    assert load() == Settings(data=Path.cwd() / "data")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEXCACHE_OFFLINE", "perhaps"),
        ("hexcache_offline", "perhaps"),
        ("HEXCACHE_UPSTREAM__PATIENCE", "soon"),
        ("HEXCACHE_UPSTREAM__REPO", "http://a,,"),
        ("HEXCACHE_UPSTREAM__REPO", ","),
        ("HEXCACHE_CACHE__SIZE_LIMIT", "1"),
        ("HEXCACHE_CACHE", "no JSON"),
        ("HEXCACHE_CACHE", "[]"),
        ("HEXCACHE_CACHE", '{"verify": "perhaps"}'),
        ("HEXCACHE_CACHE", '{"nonsense": 1}'),
        ("HEXCACHE_LISTEN__PROXY", "8080"),
    ],
)
@pytest.mark.parametrize("with_file", [True, False])
def test_a_wrong_variable_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, write: Write, name: str, value: str, with_file: bool
) -> None:
    path = write("offline: false\ncache: {verify: true}") if with_file else None
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.upper().startswith(f"ENVIRONMENT: {name.upper()}"), message


def test_a_wrong_file_is_not_blamed_on_the_environment(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[[str], SettingsError]
) -> None:
    monkeypatch.setenv("HEXCACHE_CACHE__VERIFY", "1")
    assert "cache.max_stale" in str(refused("cache: {max_stale: x}"))


def test_the_variable_that_names_the_file(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    path = write("offline: true")
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    assert find_config() == path
    assert load().offline
    other = path.with_name("other.yaml")
    other.write_text("offline: false")
    assert not load(other).offline


def test_the_file_in_the_working_directory(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    assert find_config() is None
    path = write("offline: true")
    monkeypatch.chdir(path.parent)
    assert find_config() == path
    assert load().offline


def test_what_the_command_line_says_goes_before_all(
    monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    monkeypatch.setenv("HEXCACHE_OFFLINE", "0")
    assert load(write("offline: false"), {"offline": True}).offline


# PACKAGES.


def test_packages_of_the_environment_are_added(
    monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    path = write("warm: {packages: [decimal, plug ~> 1.14]}")
    monkeypatch.setenv("PACKAGES", "decimal phoenix-1.5.6")
    assert [wish.source for wish in with_packages(load(path)).warm.packages] == [
        *("decimal", "plug ~> 1.14", "phoenix@1.5.6"),
    ]


@pytest.mark.parametrize("value", ["", "  "])
def test_no_packages_of_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PACKAGES", value)
    assert with_packages(load()).warm.packages == ()


def test_packages_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKAGES", "decimal phoenix@1.5.6")
    settings = load()
    assert settings.warm.packages == ()
    with pytest.raises(SettingsError) as caught:
        with_packages(settings)
    assert str(caught.value).startswith("environment: PACKAGES: 'phoenix@1.5.6' names no package")
    assert "unset it" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
