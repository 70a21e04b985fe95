"""proxy.yaml: the committed one, and what a user can write."""

from __future__ import annotations

import glob
import itertools
from pathlib import Path

import pytest
import yaml

from hexcache.errors import SettingsError
from hexcache.settings import Settings, load
from hexcache.values import Address
from support.settings import Write, keys

COMMITTED = Path(__file__).parents[2] / "proxy.yaml"


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
