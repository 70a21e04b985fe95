"""ls, show and stats: what is stored. Nothing is changed, and a server may be running."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from hexcache.commands.common import config_option, json_option, load_of_server, print_json
from hexcache.commands.tables import age, counted, duration, iso, print_table, size
from hexcache.errors import ControlError, HexcacheError, NoServerError
from hexcache.labels import label_of
from hexcache.printing import printable
from hexcache.registry import Advisory, Dependency, Release
from hexcache.settings import Settings
from hexcache.stock.inventory import (
    Copy,
    StoredPackage,
    StoredRelease,
    inventory,
    newest_first,
    statistics,
    stored_package,
)
from hexcache.storage.library import Library

# An archive needn't say it.
_NOT_KNOWN = "not known how current"
# So many releases of a package in a list for people.
_SHOWN = 3
_COPIES = {
    Copy.STORED: "tarball",
    Copy.OUTDATED: "tarball (outdated)",
    Copy.UNVOUCHED: "tarball (without registry entry)",
}


@click.command(epilog="Example: hexcache ls 'phoenix*'")
@click.argument("pattern", required=False)
@json_option
@config_option
def ls(pattern: str | None, as_json: bool, config: Path | None) -> None:
    """List what is stored, package by package.

    PATTERN is a glob on the name, in quotes. CHECKED is how long ago upstream said that the
    registry entry is current, USED how long ago a client got something of the package from the
    store; a running server notes that once a minute, and an import of what is here counts too. A
    dash: not known, or not yet. Of many releases the newest are listed: `hexcache show` and --json
    have all. Exit status 1 if nothing fits PATTERN.
    """
    with Library(load_of_server(config)) as library:
        packages = inventory(library, pattern or "*")
    if pattern is not None and not packages:
        raise HexcacheError(f"nothing is stored of {printable(pattern)}; `hexcache ls` lists all")
    total = sum(package.bytes for package in packages)
    releases = sum(package.tarballs for package in packages)
    if as_json:
        print_json(
            {
                "packages": [_package_json(package) for package in packages],
                "total": {"packages": len(packages), "releases": releases, "bytes": total},
            }
        )
        return
    now = time.time()
    if packages:
        print_table(
            ("PACKAGE", "SIZE", "CHECKED", "USED", "RELEASES", "NOTES"),
            [_row(package, now) for package in packages],
            breaking=2,
        )
    click.echo(
        f"{counted(len(packages), 'package')}, {counted(releases, 'release')}, {size(total)}"
    )


def _row(package: StoredPackage, now: float) -> tuple[str, ...]:
    damaged = package.entry is not None and package.package is None
    notes = ["damaged"] if damaged else []
    notes += ["pinned"] if package.pinned else []
    notes += [f"retired {each.version}" for each in package.retired]
    notes += [f"advisory {each.version}{_worst(each)}" for each in package.with_advisories]
    notes += [f"outdated {each.version}" for each in package.outdated]
    tarballs = [each.version for each in package.releases if each.tarball is not Copy.MISSING]
    return (
        package.name,
        size(package.bytes),
        age(now, package.entry.checked_at if package.entry else None),
        age(now, package.used_at),
        _some(tarballs) or "-",
        ", ".join(notes),
    )


def _some(versions: list[str]) -> str:
    more = len(versions) - _SHOWN
    return ", ".join(versions[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _worst(stored: StoredRelease) -> str:
    advisories = stored.release.advisories if stored.release else ()
    worst = max(advisories, key=lambda each: each.severity or 0)
    return f" ({worst.severity_name})" if worst.severity_name else ""


@click.command(epilog="Example: hexcache show plug")
@click.argument("name")
@json_option
@config_option
def show(name: str, as_json: bool, config: Path | None) -> None:
    """Show the stored registry entry of a package, and what of it is stored."""
    with Library(load_of_server(config)) as library:
        package = stored_package(library, name)
        groups = library.pins.groups
    if package is None:
        raise HexcacheError(f"nothing is stored of {printable(name)}; `hexcache ls` lists all")
    labels = sorted(label for label, pin in groups.items() if pin.keys & package.keys)
    if as_json:
        print_json(_package_json(package, whole=True) | {"pinned_by": labels})
    else:
        _print_package(package, labels)


def _print_package(package: StoredPackage, labels: list[str]) -> None:
    now, entry = time.time(), package.entry
    click.echo(package.name)
    if entry is None:
        _line("registry entry", "not stored")
    else:
        _line("registry entry", f"{size(entry.size)}, stored {duration(now - entry.stored_at)} ago")
        source = label_of(entry.base) or "unknown"
        known = f"current {age(now, entry.checked_at)} ago" if entry.checked_at else _NOT_KNOWN
        _line("", f"{known}, from {source}")
    if entry is not None and package.package is None:
        _line("", "it can't be believed: run `hexcache verify`")
    docs = sum(each.docs for each in package.releases)
    _line(
        "stored", f"{counted(package.tarballs, 'tarball')}, docs of {docs}, {size(package.bytes)}"
    )
    for label in labels:
        _line("pinned by", label)
    for version in _versions(package):
        release = package.package.by_version.get(version) if package.package else None
        _print_release(version, release, package.stored(version))


def _print_release(version: str, release: Release | None, stored: StoredRelease | None) -> None:
    parts = [_COPIES[stored.tarball]] if stored and stored.tarball in _COPIES else []
    parts += ["docs"] if stored and stored.docs else []
    published = iso(release.published_at) if release else None
    click.echo()
    click.echo(
        f"{printable(version)}  {', '.join(parts) or 'not stored'}"
        + (f"  published {published}" if published else "")
    )
    if release is None:
        _line("registry", "the stored entry doesn't name it")
        return
    _line("checksum", release.outer_checksum or "none")
    if release.retired:
        retired = release.retired
        _line("retired", f"{retired.reason_name}{': ' if retired.message else ''}{retired.message}")
    for advisory in release.advisories:
        severity = f" ({advisory.severity_name})" if advisory.severity_name else ""
        _line("advisory", f"{advisory.id}{severity} {advisory.summary} {advisory.html_url}")
    for dependency in release.dependencies:
        _line("needs", _needs(dependency))


def _needs(dependency: Dependency) -> str:
    optional = " (optional)" if dependency.optional else ""
    return f"{dependency.package} {dependency.requirement}{optional}"


def _line(name: str, text: str) -> None:
    click.echo(f"  {name:<14}  {printable(text)}".rstrip())


def _versions(package: StoredPackage) -> list[str]:
    """Of every release that is named, or of which anything is stored; newest first."""
    named = package.package.by_version if package.package else {}
    return newest_first({*named, *(each.version for each in package.releases)})


def _package_json(package: StoredPackage, *, whole: bool = False) -> dict[str, Any]:
    """`whole`: also the releases of which nothing is stored."""
    entry = package.entry
    stored = [each.version for each in package.releases]
    return {
        "name": package.name,
        "bytes": package.bytes,
        "used_at": iso(package.used_at),
        "pinned": package.pinned,
        "registry_entry": None
        if entry is None
        else {
            "bytes": entry.size,
            "sha256": entry.sha256,
            "stored_at": iso(entry.stored_at),
            "checked_at": iso(entry.checked_at),
            "upstream": label_of(entry.base),
            "believed": package.package is not None,
        },
        "releases": [
            _release_json(package, version) for version in (_versions(package) if whole else stored)
        ],
    }


def _release_json(package: StoredPackage, version: str) -> dict[str, Any]:
    release = package.package.by_version.get(version) if package.package else None
    stored = package.stored(version)
    about: dict[str, Any] = {
        "version": version,
        "tarball": str(stored.tarball if stored else Copy.MISSING),
        "docs": stored is not None and stored.docs,
        "bytes": stored.bytes if stored else 0,
        "used_at": iso(stored.used_at) if stored else None,
        "pinned": stored is not None and stored.pinned,
        "in_registry": release is not None,
    }
    if release is not None:
        retired = release.retired
        about |= {
            "outer_checksum": release.outer_checksum,
            "published_at": iso(release.published_at),
            "retired": retired and {"reason": retired.reason_name, "message": retired.message},
            "advisories": [_advisory_json(each) for each in release.advisories],
            "dependencies": [
                {
                    "package": each.package,
                    "requirement": each.requirement,
                    "optional": each.optional,
                }
                for each in release.dependencies
            ],
        }
    return about


def _advisory_json(advisory: Advisory) -> dict[str, Any]:
    return {
        "id": advisory.id,
        "severity": advisory.severity_name or None,
        "summary": advisory.summary,
        "url": advisory.html_url,
        "aliases": list(advisory.aliases),
    }


@click.command(epilog="Example: hexcache stats --json | jq .bytes")
@json_option
@config_option
def stats(as_json: bool, config: Path | None) -> None:
    """Say how much is stored, and how the running server is."""
    settings = load_of_server(config)
    with Library(settings) as library:
        found = statistics(library, limit=settings.cache.size_limit)
    server = _server(settings)
    if as_json:
        print_json(
            {
                "bytes": found.bytes,
                "limit": found.limit,
                "packages": found.packages,
                "releases": found.releases,
                "pinned": found.pinned,
                "oldest": iso(found.oldest),
                "newest": iso(found.newest),
                "kinds": {
                    kind: {"files": amount.files, "bytes": amount.bytes}
                    for kind, amount in found.kinds.items()
                },
                "server": server,
            }
        )
        return
    click.echo(
        f"{size(found.bytes)} of {size(found.limit)} ({found.bytes / max(found.limit, 1):.0%}): "
        f"{counted(found.packages, 'package')}, {counted(found.releases, 'release')}, "
        f"{counted(found.pinned, 'file')} pinned"
    )
    if found.oldest is not None and found.newest is not None:
        now = time.time()
        oldest, newest = duration(now - found.oldest), duration(now - found.newest)
        click.echo(f"oldest file stored {oldest} ago, newest {newest} ago")
    if found.kinds:
        print_table(
            ("KIND", "FILES", "SIZE"),
            [(kind, str(a.files), size(a.bytes)) for kind, a in found.kinds.items()],
        )
    _print_server(server)


def _server(settings: Settings) -> dict[str, Any] | None:
    """What the running server says of itself; None where none runs."""
    from hexcache.jobs import remote  # aiohttp takes a moment to import

    try:
        answer = asyncio.run(remote.ask(settings.data, "GET", "/statistics"))
    except NoServerError:
        return None
    except ControlError as error:
        return {"error": str(error)}
    return answer if isinstance(answer, dict) else {"error": "it is of another version"}


def _print_server(server: dict[str, Any] | None) -> None:
    if server is None:
        click.echo("no server runs with this data")
        return
    if "error" in server:
        click.echo(f"server: {printable(server['error'])}")
        return
    store = server["store"]
    click.echo(
        f"server: {'offline' if server['offline'] else 'online'}; since its start "
        f"{counted(store['evictions'], 'eviction')}, {store['damaged']} damaged"
    )
    for base, state in server["upstream"].items():
        why = f"down for {duration(state['since'] or 0)}: {state['why']}"
        click.echo(f"upstream {printable(base)}: {'up' if state['up'] else printable(why)}")
