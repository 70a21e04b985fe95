from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest

from hexcache.errors import UpstreamError
from hexcache.registry import Dependency, Package, Retirement
from hexcache.versions.resolution import Resolution, resolve
from hexcache.versions.wishes import parse_wish
from support.universe import Needs, Spec, package


def need(text: str, optional: bool = False) -> tuple[str, str, bool]:
    name, _, requirement = text.partition(" ")
    return name, requirement, optional


WEB: Spec = {
    "phoenix": {
        "1.4.0": (need("plug ~> 1.0"),),
        "1.5.6": (need("plug ~> 1.10"), need("json ~> 1.0", optional=True)),
        "1.6.0": (need("plug ~> 1.10"), need("telemetry ~> 1.0")),
        "1.7.0-rc.0": (need("plug ~> 2.0"),),
    },
    "plug": {
        "1.0.0": (),
        "1.10.0": (need("mime ~> 1.0"),),
        "1.14.0": (need("mime ~> 1.0 or ~> 2.0"),),
        "2.0.0": (need("mime ~> 2.0"),),
    },
    "mime": {"1.0.0": (), "1.6.0": (), "2.0.0": ()},
    "json": {"1.0.0": (), "1.2.0": (need("decimal ~> 2.0", optional=True),), "2.0.0": ()},
    "telemetry": {"1.0.0": (), "1.1.0": ()},
    "decimal": {"2.0.0": (), "2.1.0": ()},
    "old": {"1.0.0": (need("plug < 1.14.0"), need("mime < 1.6.0"))},
}


class Registry:
    """Counts what it is asked, and who asks at once."""

    def __init__(self, spec: Spec) -> None:
        self.packages: dict[str, Package] = {n: package(n, spec[n]) for n in spec}
        self.unreachable: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.at_once = 0
        self._now = 0

    async def __call__(self, name: str) -> Package | None:
        self.asked[name] += 1
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if name in self.unreachable:
            raise UpstreamError("repo.example is down")
        return self.packages.get(name)


async def resolved(
    spec: Spec | Registry, *wishes: str, latest: int = 1, all_versions: bool = False
) -> Resolution:
    registry = spec if isinstance(spec, Registry) else Registry(spec)
    found = await resolve(
        [parse_wish(wish) for wish in wishes], registry, latest=latest, all_versions=all_versions
    )
    assert set(registry.asked.values()) <= {1}
    assert all(problem.isprintable() for problem in found.problems)
    return found


def releases(resolution: Resolution) -> set[str]:
    return {f"{name} {version}" for name, version in resolution.releases}


async def test_a_bare_name_is_its_newest_stable_release_with_what_it_needs() -> None:
    found = await resolved(WEB, "phoenix")
    assert releases(found) == {"phoenix 1.6.0", "plug 1.14.0", "mime 2.0.0", "telemetry 1.1.0"}
    assert found.entries == {"phoenix", "plug", "mime", "telemetry"}
    assert found.problems == ()


async def test_the_entry_of_an_optional_dependency_is_asked_for_but_not_its_release() -> None:
    found = await resolved(WEB, "phoenix@1.5.6")
    assert releases(found) == {"phoenix 1.5.6", "plug 1.14.0", "mime 2.0.0"}
    assert found.entries == {"phoenix", "plug", "mime", "json"}


async def test_an_optional_dependency_must_suit_whoever_needs_it() -> None:
    spec = {**WEB, "app": {"1.0.0": (need("phoenix == 1.5.6"), need("json >= 1.0.0"))}}
    found = await resolved(spec, "app")
    assert "json 1.2.0" in releases(found)
    assert "json 2.0.0" not in releases(found)


async def test_the_newest_few_each_with_its_own_dependencies() -> None:
    found = await resolved(WEB, "phoenix", latest=2)
    assert {"phoenix 1.6.0", "phoenix 1.5.6"} < releases(found)
    assert "phoenix 1.4.0" not in releases(found)
    more = await resolved(WEB, "phoenix", latest=9)
    assert "phoenix 1.4.0" in releases(more)
    assert "phoenix 1.7.0-rc.0" not in releases(more)  # stable ones are there


async def test_a_pre_release_is_taken_where_it_is_asked_for_or_nothing_else_is_there() -> None:
    assert "plug 2.0.0" in releases(await resolved(WEB, "phoenix ~> 1.7-rc"))
    assert "phoenix 1.7.0-rc.0" in releases(await resolved(WEB, "phoenix > 1.6.0"))


async def test_all_versions() -> None:
    found = await resolved(WEB, "phoenix", all_versions=True)
    assert {each for each in releases(found) if "phoenix" in each} == {
        *("phoenix 1.4.0", "phoenix 1.5.6", "phoenix 1.6.0", "phoenix 1.7.0-rc.0"),
    }
    # Dependencies are still the newest that suit.
    assert {each for each in releases(found) if "plug" in each} == {"plug 1.14.0", "plug 2.0.0"}


async def test_wishes_are_resolved_alone_and_together() -> None:
    found = await resolved(WEB, "phoenix", "old")
    assert {"phoenix 1.6.0", "plug 1.14.0", "mime 2.0.0"} < releases(found)
    # What a project gets that has both.
    assert {"plug 1.10.0", "mime 1.0.0", "old 1.0.0"} < releases(found)
    assert found.problems == ()


async def test_wishes_that_do_not_go_together_are_no_problem() -> None:
    found = await resolved(WEB, "phoenix ~> 1.7-rc", "old")
    assert {"phoenix 1.7.0-rc.0", "plug 2.0.0", "old 1.0.0", "plug 1.10.0"} < releases(found)
    assert found.problems == ()


async def test_two_wishes_for_the_same_package_are_alternatives() -> None:
    found = await resolved(WEB, "phoenix", "phoenix@1.4.0", "old")
    assert {"phoenix 1.6.0", "phoenix 1.4.0"} < releases(found)
    # Together with the second one too, which takes any plug.
    assert found.problems == ()


async def test_an_older_release_is_taken_where_the_newest_one_leads_nowhere() -> None:
    spec: Spec = {
        "app": {"1.0.0": (need("a >= 0.0.0"), need("b ~> 1.0"))},
        "a": {"1.0.0": (), "1.1.0": (need("b ~> 2.0"),)},
        "b": {"1.0.0": (), "2.0.0": ()},
    }
    assert releases(await resolved(spec, "app")) == {"app 1.0.0", "a 1.0.0", "b 1.0.0"}


async def test_retired_releases_are_taken_as_by_hex() -> None:
    registry = Registry(WEB)
    mime = registry.packages["mime"]
    *others, last = mime.releases
    gone = replace(last, retired=Retirement(2, "do not use"))
    registry.packages["mime"] = replace(mime, releases=(*others, gone))
    assert "mime 2.0.0" in releases(await resolved(registry, "plug"))


async def test_what_is_wrong_is_said_with_names_and_requirements() -> None:
    spec: Spec = {
        **WEB,
        "torn": {"1.0.0": (need("phoenix == 1.6.0"), need("plug ~> 2.0"))},
        "lost": {"1.0.0": (need("nowhere ~> 1.0"),)},
        "ahead": {"1.0.0": (need("mime ~> 9.0"),)},
        "odd": {"1.0.0": (need("mime not\x1b[31m"),)},
        "empty": {},
    }
    found = await resolved(
        spec, "nothing", "plug ~> 7.0", "empty", "torn", "lost", "ahead", "odd", "mime"
    )
    assert found.problems == (
        "nothing: there is no package nothing",
        "plug ~> 7.0: no such release; the newest of plug is 2.0.0",
        "empty: empty has no releases",
        "torn 1.0.0: no release of plug satisfies all: torn 1.0.0 needs plug ~> 2.0; "
        "phoenix 1.6.0 needs plug ~> 1.10",
        "lost 1.0.0 needs nowhere ~> 1.0, and there is no such package",
        "ahead 1.0.0 needs mime ~> 9.0, and there is no such release",
        "odd 1.0.0 needs mime not\\x1b[31m, and there is no such release",
    )
    # What was named is there all the same, and what is right is.
    assert {"torn 1.0.0", "lost 1.0.0", "mime 2.0.0"} < releases(found)
    assert "nowhere" not in found.entries


async def test_a_dependency_of_another_repository_is_a_line() -> None:
    registry = Registry(WEB)
    registry.packages["app"] = package("app", {"1.0.0": (need("mime ~> 1.0"),)})
    release = registry.packages["app"].releases[0]
    secret = Dependency("secret", "~> 1.0", repository="hexpm:acme")
    perhaps = Dependency("perhaps", "~> 1.0", optional=True, repository="acme")
    public = Dependency("decimal", "~> 2.0", repository="hexpm")
    release = replace(release, dependencies=(*release.dependencies, secret, perhaps, public))
    registry.packages["app"] = replace(registry.packages["app"], releases=(release,))
    found = await resolved(registry, "app")
    assert releases(found) == {"app 1.0.0", "mime 1.6.0", "decimal 2.1.0"}
    assert found.problems == (
        "app 1.0.0 needs secret of the repository hexpm:acme, which isn't cached",
    )
    assert "secret" not in registry.asked


async def test_an_entry_that_cannot_be_had_stops_what_depends_on_it_only() -> None:
    registry = Registry(WEB)
    registry.unreachable = {"telemetry", "json"}
    found = await resolved(registry, "phoenix", "phoenix@1.5.6", "telemetry")
    # 1.5.6 would only ask for json, and doesn't take it.
    assert {"phoenix 1.5.6", "plug 1.14.0"} < releases(found)
    assert found.problems == (
        "phoenix 1.6.0: not resolved, for want of the registry entry of telemetry",
        "json: repo.example is down",
        "telemetry: repo.example is down",
    )
    assert not found.entries & registry.unreachable


async def test_entries_are_looked_up_side_by_side() -> None:
    names = [f"p{number}" for number in range(20)]
    spec: dict[str, dict[str, Needs]] = {name: {"1.0.0": ()} for name in names}
    spec["all"] = {"1.0.0": tuple(need(f"{name} ~> 1.0") for name in names)}
    registry = Registry(spec)
    assert len((await resolved(registry, "all")).releases) == 21
    assert registry.at_once == 20


async def test_another_error_of_the_lookup_is_nobodys_secret() -> None:
    async def broken(name: str) -> Package | None:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError):
        await resolve([parse_wish("phoenix")], broken)


async def test_it_ends_where_there_is_no_end_in_sight() -> None:
    # Ten packages of ten versions, of which no two go together in the end.
    names = [f"p{number}" for number in range(10)]
    spec: dict[str, dict[str, Needs]] = {
        name: {
            f"1.{minor}.0": tuple(
                need(f"{other} != 1.{minor}.0") for other in names if other != name
            )
            for minor in range(9)
        }
        for name in names
    }
    spec["app"] = {"1.0.0": tuple(need(f"{name} >= 0.0.0") for name in names)}
    began = time.monotonic()
    found = await resolved(spec, "app")
    assert found.problems == ("app 1.0.0: given up after 20,000 steps; ask for a narrower range",)
    assert time.monotonic() - began < 30


async def test_no_wish_no_release() -> None:
    assert await resolved(WEB) == Resolution(frozenset(), frozenset(), ())
