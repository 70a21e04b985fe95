from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexcache.errors import RequirementError
from hexcache.versions.requirements import Version
from hexcache.versions.wishes import Wish, parse_packages, parse_wish


def allowed(wish: Wish) -> list[str]:
    versions = ("0.9.0", "1.0.0", "1.5.6", "1.14.0", "2.0.0-rc.1", "2.0.0")
    requirement = wish.requirement
    assert requirement is not None
    return [each for each in versions if requirement.matches(Version.parse(each))]


def test_a_name_is_whatever_is_newest() -> None:
    assert parse_wish("phoenix") == Wish("phoenix", None, "phoenix")


@pytest.mark.parametrize(
    ("text", "name", "versions"),
    [
        ("phoenix@1.5.6", "phoenix", ["1.5.6"]),
        ("phoenix@2.0.0-rc.1", "phoenix", ["2.0.0-rc.1"]),
        ("plug ~> 1.14", "plug", ["1.14.0"]),
        ("plug~>1.14", "plug", ["1.14.0"]),
        (" plug  1.0.0 ", "plug", ["1.0.0"]),
        ("plug >= 1.0.0 and < 2.0.0", "plug", ["1.0.0", "1.5.6", "1.14.0", "2.0.0-rc.1"]),
        ("plug == 0.9.0 or ~> 2.0", "plug", ["0.9.0", "2.0.0"]),
    ],
)
def test_a_release_and_a_range(text: str, name: str, versions: list[str]) -> None:
    wish = parse_wish(text)
    assert wish.name == name
    assert allowed(wish) == versions
    assert wish.source == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' names no package"),
        ("1.0.0", "'1.0.0' names no package"),
        ("hexpm/plug", "'hexpm/plug' names no package"),
        ("phoenix-1.5.6", "'phoenix-1.5.6' names no package: write a name, NAME@VERSION"),
        ("phoenix@1.5", "'1.5' is not a version"),
        ("phoenix@", "'' is not a version"),
        ("phoenix@~> 1.5", "'~> 1.5' is not a version"),
        ("plug ~> one", "'one' in the requirement '~> one'"),
        ("plug >=", "'>=' is not a version requirement"),
        ("plug\x1b[31m", "names no package"),
    ],
)
def test_what_is_no_wish_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(RequirementError) as refused:
        parse_wish(text)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


def test_packages_as_the_docker_fork_of_mini_repo_took_them() -> None:
    decimal, phoenix, pre = parse_packages("  decimal phoenix-1.5.6\n plug-2.0.0-rc.1 ")
    assert decimal == Wish("decimal", None, "decimal")
    assert phoenix.name == "phoenix"
    assert allowed(phoenix) == ["1.5.6"]
    assert pre.name == "plug"
    assert allowed(pre) == ["2.0.0-rc.1"]
    # It goes to the server as its source.
    assert parse_wish(pre.source) == pre
    assert parse_packages(" ") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("decimal phoenix@1.5.6", "'phoenix@1.5.6' names no package: write names between spaces"),
        ("phoenix-", "'' is not a version"),
        ("phoenix-1.5", "'1.5' is not a version"),
        ("decimal,phoenix", "'decimal,phoenix' names no package"),
    ],
)
def test_what_is_no_package_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(RequirementError) as refused:
        parse_packages(text)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


def one_line(error: RequirementError) -> None:
    assert str(error).isprintable()


@given(st.text() | st.text("ab1.0@~>=< -\t\n"))
def test_any_text_is_a_wish_or_one_line(text: str) -> None:
    for parse in (parse_wish, parse_packages):
        try:
            found = parse(text)
        except RequirementError as error:
            one_line(error)
        else:
            wishes = (found,) if isinstance(found, Wish) else found
            assert all(wish.source.isprintable() for wish in wishes)
            assert all(parse_wish(wish.source) == wish for wish in wishes)
