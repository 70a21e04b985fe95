"""README's three ways in, pasted into a team's compose file, with the real clients."""

from __future__ import annotations

import pytest

from docker.conftest import World
from docker.team import Team
from support.docker import readme_block, skip_without_hex

WAYS = ["By proxy variable", "Transparent", "By mirror URL"]
ALL = {"alpha", "beta", "gamma"}


@pytest.mark.parametrize("way", WAYS)
def test_rebar3(world: World, team: Team, way: str) -> None:
    team.join(readme_block(f"**{way}**", "yaml"))
    if way == "By mirror URL":
        team.rebar3_project.trust(None)
    assert team.rebar3() == ALL
    tarballs = world.asked("/tarballs")
    assert team.rebar3() == ALL
    assert world.asked("/tarballs") == tarballs, "the second time they come from the cache"


@pytest.mark.parametrize("way", WAYS)
def test_mix(world: World, team: Team, way: str) -> None:
    archive = skip_without_hex()
    team.join(readme_block(f"**{way}**", "yaml"))
    team.install_hex(archive)
    assert team.mix() == ALL
    assert team.mix() == ALL


def test_without_the_lines_nothing_comes(team: Team) -> None:
    """Or the tests above would prove nothing."""
    assert team.run("curl", "-sS", "https://repo.hex.pm/names", check=False).returncode == 6
