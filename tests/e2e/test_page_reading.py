"""Whether the status page can be read and used: by eye, by ear and by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from e2e.conftest import World, get
from support.browser import overflows, violations
from support.faults import corrupt
from support.locks import checksums, rebar_lock
from support.running import Running


@pytest.mark.parametrize("width", [375, 800, 1200])
def test_a_long_detail_leaves_room_for_the_rest(
    world: World, proxy: Running, page: Page, width: int
) -> None:
    world.upstream.fault("/tarballs/gamma", corrupt())
    get(proxy, "/tarballs/gamma-0.1.0.tar")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(proxy.status)
    row = page.locator("tbody tr", has_text="tarball gamma-0.1.0").first
    expect(row).to_contain_text("has SHA-256")
    assert overflows(page) == []
    box = row.locator("th").bounding_box()
    assert box is not None
    assert box["width"] > 110
    # The registry's, short to the eye and whole for who points at it.
    whole = checksums(world.repository.files()["/tarballs/gamma-0.1.0.tar"])[1].lower()
    text = row.inner_text().lower()
    assert whole not in text
    assert whole[:12] in text
    assert whole in str(row.locator("[title*=SHA-256]").get_attribute("title")).lower()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_result_of_the_check_can_be_read(
    world: World, proxy: Running, browser: Browser, tmp_path: Path, scheme: Any
) -> None:
    """With axe's eyes, on a phone and on a desk."""
    every = {"alpha": "1.1.0", "beta": "1.0.0", "gamma": "0.1.0"}
    missing = rebar_lock(tmp_path / "rebar.lock", world.repository, every)
    other = tmp_path / "other"
    other.mkdir()
    changed = rebar_lock(other / "rebar.lock", world.repository, {"alpha": "1.1.0"})
    outer = checksums(world.repository.files()["/tarballs/alpha-1.1.0.tar"])[1]
    changed.write_text(changed.read_text().replace(outer, "0" * 64))
    lock = '%{"a": {:git, "https://git.test/a.git", "' + "1" * 40 + '", []}}'
    results = {
        "1 file is missing": missing,
        "1 checksum isn't the registry's": changed,
        "names no Hex packages": written(tmp_path / "empty", "%{}"),
        "mix.lock names no Hex packages": written(tmp_path / "git", lock),
        "It can't be read": written(tmp_path / "broken", "%{"),
    }
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    for text, path in results.items():
        for width in (375, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            checked(page, proxy, path)
            expect(page.locator(".state")).to_contain_text(text)
            assert violations(page) == [], text
            assert overflows(page) == [], text
    get(proxy, "/tarballs/gamma-0.1.0.tar")
    checked(page, proxy, missing)
    expect(page.locator(".state")).to_contain_text("rebar.lock is complete")
    assert violations(page) == []
    context.close()


def written(directory: Path, text: str) -> Path:
    directory.mkdir()
    lock = directory / "mix.lock"
    lock.write_text(text)
    return lock


def checked(page: Page, running: Running, lock: Path) -> None:
    page.goto(f"{running.status}/check")
    with page.expect_navigation():
        page.get_by_label("Lock file").set_input_files(lock)


def test_warming_is_no_advice_for_a_checksum_that_is_not_the_registry_s(
    world: World, proxy: Running, page: Page, tmp_path: Path
) -> None:
    lock = rebar_lock(tmp_path / "rebar.lock", world.repository, {"alpha": "1.1.0"})
    outer = checksums(world.repository.files()["/tarballs/alpha-1.1.0.tar"])[1]
    lock.write_text(lock.read_text().replace(outer, "0" * 64))
    checked(page, proxy, lock)
    box = page.locator(".state")
    expect(box).to_contain_text("fetching doesn't help")
    expect(box).to_contain_text("rebar3 upgrade PACKAGE")
    assert "hexcache warm" not in box.inner_text()
    assert "0" * 64 not in page.locator("table").inner_text()


def test_a_result_s_title_is_at_the_top_of_its_box(
    proxy: Running, page: Page, tmp_path: Path
) -> None:
    checked(page, proxy, written(tmp_path / "empty", "%{}"))
    gap = page.evaluate(
        """() => document.querySelector(".state h2").getBoundingClientRect().top
            - document.querySelector(".state").getBoundingClientRect().top"""
    )
    assert gap < 24


def test_the_content_ends_before_the_footer(proxy: Running, page: Page) -> None:
    page.goto(f"{proxy.status}/packages")
    gap = page.evaluate(
        """() => document.querySelector("footer").getBoundingClientRect().top
            - document.querySelector("main").lastElementChild.getBoundingClientRect().bottom"""
    )
    assert gap > 24


@pytest.mark.parametrize("secure", [True, False])
def test_what_is_to_be_pasted_can_be_copied(proxy: Running, browser: Browser, secure: bool) -> None:
    """Also where the address is neither https nor loopback."""
    permissions = ["clipboard-read", "clipboard-write"] if secure else []
    through = None if secure else {"server": proxy.proxy}
    context = browser.new_context(proxy=through, permissions=permissions)  # type: ignore[arg-type]
    page = context.new_page()
    place = proxy.status if secure else "http://hexcache.local"
    page.goto(f"{place}/setup")
    assert page.evaluate("isSecureContext") is secure
    section = page.locator("pre", has_text="mix deps.get").first
    button = section.locator("xpath=following-sibling::button").first
    button.click()
    expect(button).to_have_text("Copied")
    expect(page.get_by_role("status").filter(has_text="Copied")).to_have_count(1)
    expect(button).to_have_text("Copy", timeout=10_000)
    page.goto(f"{place}/packages")
    page.get_by_role("searchbox").press("Control+V")
    expect(page.get_by_role("searchbox")).to_have_value(
        re.compile(f"^export HTTPS_PROXY={proxy.proxy}")
    )
    context.close()


def test_moments_are_whole_on_one_line(proxy: Running, page: Page) -> None:
    page.set_viewport_size({"width": 800, "height": 800})
    for path in ("/", "/packages"):
        page.goto(proxy.status + path)
        moment = page.locator("tbody time").first
        assert "20" in str(moment.get_attribute("title"))
        lines = moment.evaluate("(it) => it.getClientRects().length")
        assert lines == 1


def test_the_highest_value_stands_at_the_top_of_its_chart(proxy: Running, page: Page) -> None:
    page.goto(proxy.status)
    top, plot = page.locator("figure .top").first, page.locator("figure svg").first
    expect(top).to_have_text("5")
    highest, drawing = top.bounding_box(), plot.bounding_box()
    assert highest is not None
    assert drawing is not None
    assert highest["x"] == pytest.approx(drawing["x"], abs=2)
    assert highest["y"] + highest["height"] == pytest.approx(drawing["y"], abs=3)
