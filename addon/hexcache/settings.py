"""proxy.yaml and the environment, made into one frozen Settings.

Whatever is wrong stops the start with one line: where, which key, what is allowed.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from hexcache.errors import RequirementError, SettingsError
from hexcache.values import (
    Address,
    Duration,
    Globs,
    Ips,
    Limit,
    ListenAddress,
    Names,
    OptionalAddress,
    PositiveDuration,
    Size,
    Urls,
    Wishes,
    optional,
    proxy_url,
)
from hexcache.versions.wishes import parse_packages

CONFIG_VARIABLE = "HEXCACHE_CONFIG"
DEFAULT_FILE = Path("proxy.yaml")
_PREFIX = "HEXCACHE_"
# The variable of mini_repo's Docker fork, which its users have in their compose files.
_PACKAGES = "PACKAGES"

# Kubernetes and Docker links say with these where a service called hexcache is.
_FROM_ORCHESTRATOR = re.compile(r"HEXCACHE_(?:SERVICE|PORT)(?:_.*)?")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(_Section):
    proxy: ListenAddress = Address("127.0.0.1", 8080)
    mirror: OptionalAddress = Address("127.0.0.1", 4000)
    tls: OptionalAddress = None
    transparent: OptionalAddress = None
    status: OptionalAddress = Address("127.0.0.1", 8081)
    status_names: Names = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Wherever Hexcache listens."""
        every = (self.proxy, self.mirror, self.tls, self.transparent, self.status)
        return tuple(address for address in every if address is not None)


class CacheSettings(_Section):
    registry_fresh: Duration = 5.0
    registry_recheck: Duration = 600.0
    missing_fresh: Duration = 5.0
    max_stale: Limit = None
    size_limit: Size = 10 * 2**30
    verify: bool = True


class UpstreamSettings(_Section):
    repo: Urls = ("https://repo.hex.pm",)
    builds: Urls = ("https://builds.hex.pm",)
    ca_file: Path | None = None
    public_key: Path | None = None
    patience: Duration = 2.0
    timeout: PositiveDuration = 15.0
    stall: PositiveDuration = 10.0
    give_up: Duration = 120.0
    proxy: Annotated[str | None, BeforeValidator(proxy_url)] = None
    nameservers: Ips = ()


class WarmSettings(_Section):
    """What the server keeps present and fresh by itself. `lockfiles` are absolute globs once
    `load` has made it."""

    packages: Wishes = ()
    lockfiles: Globs = ()
    every: PositiveDuration = 86400.0
    versions: Literal["newest", "all"] = "newest"


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Settings(BaseSettings):
    """Every setting. Paths are absolute once `load` has made it; durations are seconds, sizes
    bytes, `None` is "unlimited" or "off"."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        # A compose file hands on what isn't set as an empty variable.
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
    )

    listen: Listen = Listen()
    data: Path = Path("data")
    publish_ca: Annotated[Path | None, BeforeValidator(optional)] = None
    offline: bool = False
    prefetch: bool = True
    cache: CacheSettings = CacheSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    warm: WarmSettings = WarmSettings()
    log: LogSettings = LogSettings()
    shutdown_grace: Duration = 10.0

    @property
    def cache_directory(self) -> Path:
        """Where the store is."""
        return self.data / "cache"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # What `load` passes is the file's content: the environment goes before it.
        return env_settings, init_settings


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from `config` (else $HEXCACHE_CONFIG, else ./proxy.yaml if there is one), the
    environment, which goes before the file, and `overrides` (top-level keys), which go before
    both. Raises SettingsError."""
    path = find_config(config)
    content = _read(path) if path else {}
    _refuse_unknown_variables()
    try:
        settings = Settings(**content)
    except ValidationError as error:
        raise _explain(error, path) from None
    base = path.parent if path else Path.cwd()
    return settings.model_copy(
        update={
            "data": _absolute(settings.data, base),
            "publish_ca": _absolute(settings.publish_ca, base),
            "upstream": settings.upstream.model_copy(
                update={
                    "ca_file": _absolute(settings.upstream.ca_file, base),
                    "public_key": _absolute(settings.upstream.public_key, base),
                }
            ),
            "warm": _warm(settings.warm, base),
            **(overrides or {}),
        }
    )


def with_packages(settings: Settings) -> Settings:
    """With what $PACKAGES adds to `warm.packages`. Only for who serves: elsewhere a variable of so
    common a name may be meant for somebody else. Raises SettingsError."""
    try:
        wishes = parse_packages(os.environ.get(_PACKAGES, ""))
    except RequirementError as error:
        raise SettingsError(
            f"environment: {_PACKAGES}: {error}; or unset it, if it is not meant for Hexcache",
            where="environment",
            key=_PACKAGES,
        ) from None
    packages = tuple(dict.fromkeys((*settings.warm.packages, *wishes)))
    warm = settings.warm.model_copy(update={"packages": packages})
    return settings.model_copy(update={"warm": warm})


def find_config(config: Path | None = None) -> Path | None:
    """The file that `load` reads, absolute. Raises SettingsError if it was named, but isn't
    there."""
    named = config or (Path(value) if (value := os.environ.get(CONFIG_VARIABLE)) else None)
    if named is None:
        return DEFAULT_FILE.absolute() if os.path.isfile(DEFAULT_FILE) else None
    if not os.path.isfile(named):
        raise SettingsError(
            f"{named}: no such file; name one with --config or {CONFIG_VARIABLE}", where=str(named)
        )
    return named.absolute()


def _absolute(path: Path | None, base: Path) -> Path | None:
    try:
        return None if path is None else base / path.expanduser()
    except RuntimeError:
        raise SettingsError(f"{path}: whose home directory is that? Write the whole path") from None


def _warm(warm: WarmSettings, base: Path) -> WarmSettings:
    """With globs that start at `base`."""
    globs = (Path(each).expanduser() for each in warm.lockfiles)
    lockfiles = tuple(str(Path(glob.escape(str(base))) / each) for each in globs)
    return warm.model_copy(update={"lockfiles": lockfiles})


def _read(path: Path) -> dict[str, Any]:
    where = str(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}", where=where) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a UTF-8 text", where=where) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise SettingsError(f"{path}{line}: not YAML: {problem}", where=where) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError(f"{path}: KEY: VALUE lines are wanted, see proxy.yaml", where=where)
    for key in content:
        if key not in Settings.model_fields:
            raise SettingsError(
                f"{path}: {key} is not a setting; proxy.yaml lists them all", where=where, key=key
            )
    # A section whose settings are all commented out is an empty one.
    return {
        key: {} if value is None and _is_section(Settings.model_fields[key]) else value
        for key, value in content.items()
    }


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, _Section)


def _variables() -> Iterator[str]:
    """Every environment variable that Hexcache reads."""
    yield CONFIG_VARIABLE
    for name, field in Settings.model_fields.items():
        if _is_section(field):
            assert field.annotation is not None
            for key in field.annotation.model_fields:
                yield f"{_PREFIX}{name.upper()}__{key.upper()}"
        else:
            yield f"{_PREFIX}{name.upper()}"


def _refuse_unknown_variables() -> None:
    known = set(_variables())
    for name in sorted(os.environ):
        if _FROM_ORCHESTRATOR.fullmatch(name):
            continue
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            raise SettingsError(
                f"environment: {name} is not a setting; proxy.yaml lists them all",
                where="environment",
                key=name,
            )


def _explain(error: ValidationError, path: Path | None) -> SettingsError:
    first = error.errors()[0]
    # Positions in a list and pydantic's own markers say nothing to a user.
    location = [part for part in first["loc"] if isinstance(part, str)][:2]
    key = ".".join(location)
    variable = _PREFIX + "__".join(location).upper()
    from_environment = any(name.upper() == variable and os.environ[name] for name in os.environ)
    where = f"environment: {variable}" if from_environment else f"{path}: {key}"
    if first["type"] == "extra_forbidden":
        message = f"{where} is not a setting; proxy.yaml lists them all"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        value = repr(first["input"])
        # A URL with user:password@ must not reach a log.
        shown = "" if "@" in value or "proxy" in location else f" (it is {value})"
        message = f"{where}: {reason[0].lower()}{reason[1:]}{shown}"
    return SettingsError(message, where=str(path or "environment"), key=key)
