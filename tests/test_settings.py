"""proxy.yaml and the environment: what a user writes, and what a user is told."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hexcache.errors import SettingsError
from hexcache.settings import (
    CONFIG_VARIABLE,
    Settings,
    find_config,
    load,
    with_packages,
)
from hexcache.values import Address

COMMITTED = Path(__file__).parent.parent / "proxy.yaml"
PASSWORD = "hunter2"

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no proxy.yaml of whoever runs the tests."""
    monkeypatch.delenv("PACKAGES", raising=False)
    for name in list(os.environ):
        if name.upper().startswith("HEXCACHE_"):
            monkeypatch.delenv(name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "proxy.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def refused(write: Write) -> Callable[[str], SettingsError]:
    """The error of a file's text: one line that names the file."""

    def refused(text: str) -> SettingsError:
        path = write(text)
        with pytest.raises(SettingsError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{path}")
        assert caught.value.where == str(path)
        return caught.value

    return refused


def keys(model: type[BaseModel]) -> dict[str, Any]:
    """The tree of a model's keys."""
    return {
        name: keys(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else None
        for name, field in model.model_fields.items()
    }


# The committed file.


def test_the_committed_file_says_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "proxy.yaml"
    empty.write_text("")
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(COMMITTED.read_bytes())
    assert load(copy) == load(empty)
    assert load(empty) == Settings(data=tmp_path / "data")


def test_the_committed_file_has_every_setting_and_no_other() -> None:
    content = yaml.safe_load(COMMITTED.read_text())
    written = {
        key: dict.fromkeys(value) if isinstance(value, dict) else None
        for key, value in content.items()
    }
    assert written == keys(Settings)


def test_the_committed_file_has_a_comment_for_each_setting() -> None:
    lines = COMMITTED.read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if ":" in line.partition("#")[0] and not line.endswith(":"):
            # Or it stands below another one, and the comment is about both.
            assert before.strip(), line
            assert not before.endswith(":"), line


def test_the_defaults() -> None:
    settings = load()
    assert settings.listen.proxy == ("127.0.0.1", 8080)
    assert settings.listen.mirror == ("127.0.0.1", 4000)
    assert settings.cache.registry_fresh == 5
    assert settings.cache.missing_fresh == 5
    assert settings.cache.max_stale is None
    assert settings.cache.size_limit == 10 * 1024**3
    assert settings.cache.verify
    assert not settings.offline
    assert settings.upstream.repo == ("https://repo.hex.pm",)
    assert settings.upstream.builds == ("https://builds.hex.pm",)
    assert settings.upstream.patience == 2
    assert settings.warm.packages == ()
    assert settings.warm.every == 86400
    assert settings.shutdown_grace == 10


# What can be written.


def test_every_setting(write: Write, tmp_path: Path) -> None:
    path = write(
        """
        listen: {proxy: "[::1]:3128", mirror: off}
        data: /var/lib/hexcache
        offline: true
        cache:
          registry_fresh: 500ms
          missing_fresh: 0
          max_stale: 30d
          size_limit: 500MB
          verify: false
        upstream:
          repo: [https://mirror.example/, "http://10.0.0.1:4000/repo"]
          builds: https://builds.example
          ca_file: ca.pem
          public_key: keys/own.pem
          patience: 1.5s
          timeout: 2m
          proxy: http://user:word@proxy.example:3128/
          nameservers: [1.1.1.1, "2606:4700::1111"]
        warm:
          packages: [decimal, phoenix@1.5.6, "plug >= 1.0.0 and < 2.0.0"]
          lockfiles: [mix.lock, "/srv/**/rebar.lock"]
          every: 12h
          versions: all
        log: {level: debug, format: json}
        shutdown_grace: 1h
        """
    )
    settings = load(path)
    assert settings.listen.proxy == Address("::1", 3128)
    assert settings.listen.mirror is None
    assert settings.data == Path("/var/lib/hexcache")
    assert settings.offline
    assert settings.cache.registry_fresh == 0.5
    assert settings.cache.missing_fresh == 0
    assert settings.cache.max_stale == 30 * 86400
    assert settings.cache.size_limit == 500_000_000
    assert not settings.cache.verify
    assert settings.upstream.repo == ("https://mirror.example", "http://10.0.0.1:4000/repo")
    assert settings.upstream.builds == ("https://builds.example",)
    assert settings.upstream.ca_file == tmp_path / "ca.pem"
    assert settings.upstream.public_key == tmp_path / "keys/own.pem"
    assert settings.upstream.patience == 1.5
    assert settings.upstream.timeout == 120
    assert settings.upstream.proxy == "http://user:word@proxy.example:3128"
    assert settings.upstream.nameservers == ("1.1.1.1", "2606:4700::1111")
    assert [wish.source for wish in settings.warm.packages] == [
        *("decimal", "phoenix@1.5.6", "plug >= 1.0.0 and < 2.0.0"),
    ]
    assert settings.warm.lockfiles == (str(tmp_path / "mix.lock"), "/srv/**/rebar.lock")
    assert settings.warm.every == 43200
    assert settings.warm.versions == "all"
    assert settings.log.level == "debug"
    assert settings.log.format == "json"
    assert settings.shutdown_grace == 3600


def test_a_section_whose_settings_are_all_commented_out(write: Write) -> None:
    assert load(write("cache:\n  # verify: false\nlog:\n")) == load(write(""))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_a_file_without_settings(write: Write, text: str) -> None:
    assert load(write(text)).listen.proxy.port == 8080


def test_settings_can_not_be_changed() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.offline = True
    with pytest.raises(ValueError, match="frozen"):
        settings.cache.verify = False


# What is refused, and how.


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


# Paths.


def test_relative_paths_start_at_the_file(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    path = write("data: store\nupstream: {ca_file: ca.pem, public_key: ../key.pem}")
    settings = load(path)
    assert settings.data == path.parent / "store"
    assert settings.upstream.ca_file == path.parent / "ca.pem"
    assert settings.upstream.public_key == path.parent / "../key.pem"
    # Also where the file was named by a relative path.
    monkeypatch.chdir(path.parent.parent)
    assert load(path.relative_to(path.parent.parent)) == settings


def test_globs_start_at_the_file_whatever_its_directory_is_called(tmp_path: Path) -> None:
    directory = tmp_path / "team [a-z]"
    directory.mkdir()
    (directory / "mix.lock").touch()
    (directory / "proxy.yaml").write_text("warm: {lockfiles: ['*.lock']}")
    (pattern,) = load(directory / "proxy.yaml").warm.lockfiles
    assert glob.glob(pattern) == [str(directory / "mix.lock")]


def test_without_a_file_relative_paths_start_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEXCACHE_DATA", "store")
    assert load().data == Path.cwd() / "store"


def test_the_home_directory(monkeypatch: pytest.MonkeyPatch, write: Write, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(write("data: ~/hexcache")).data == tmp_path / "hexcache"
    with pytest.raises(SettingsError, match="~nobody-of-that-name/hexcache: whose home"):
        load(write("data: ~nobody-of-that-name/hexcache"))


# Whatever is written.

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates()
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(), scalars, max_size=2)
urls = st.builds("{}://{}".format, st.sampled_from(["http", "https", "ftp"]), st.text(max_size=20))
known = [
    (section, key) for section, fields in keys(Settings).items() for key in (fields or {None: None})
]


def taken_or_refused(path: Path) -> Settings | None:
    """The settings, or None after a look at the message."""
    try:
        return load(path)
    except SettingsError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return None


@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300
)
@given(where=st.sampled_from(known), value=values | urls)
def test_any_value_is_taken_or_refused_in_one_line(
    write: Write, where: tuple[str, str | None], value: object
) -> None:
    section, key = where
    path = write(yaml.safe_dump({section: value if key is None else {key: value}}))
    settings = taken_or_refused(path)
    if settings is not None:
        for url in (*settings.upstream.repo, *settings.upstream.builds):
            assert url.isprintable()
            assert " " not in url


@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
@given(content=st.binary(max_size=50) | st.text(max_size=50).map(lambda t: t.encode("utf-8")))
def test_any_file_is_taken_or_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_bytes(content)
    taken_or_refused(path)
