"""The status page, in a real browser, over a live proxy."""

from __future__ import annotations

import html
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from e2e.conftest import World, get
from support.browser import overflows, violations
from support.faults import hold, status
from support.http import curl
from support.locks import rebar_lock
from support.running import Running

PATHS = ("/", "/packages", "/packages/alpha", "/check", "/setup", "/packages/nobody")


def test_it_says_first_whether_it_works(world: World, proxy: Running, page: Page) -> None:
    page.goto(proxy.status)
    expect(page.locator("h1")).to_have_text("Online.")
    expect(page).to_have_title("Online - Hexcache")
    saved = page.locator("dl.tiles div", has_text="Served from this cache")
    expect(saved).to_contain_text("of 5 requests")
    expect(page.locator("tbody tr").first).to_contain_text("tarball alpha-1.1.0")
    expect(page.locator("tbody tr").first).to_contain_text("hit")
    charts = page.locator("figure svg")
    assert charts.count() == 4
    assert charts.first.locator("rect").count() > 0


def test_it_changes_by_itself_when_the_line_dies_and_when_it_is_offline(
    world: World, proxy: Running, page: Page
) -> None:
    page.goto(proxy.status)
    world.upstream.fault("/", status(503))
    for _ in range(4):
        get(proxy, "/packages/gamma")
    expect(page.locator("h1")).to_contain_text("Degraded since", timeout=15_000)
    expect(page.locator("#live .state")).to_contain_text("answered 503")

    proxy.stop()
    expect(page.locator("#lost")).to_be_visible(timeout=15_000)
    proxy.start("--offline")
    expect(page.locator("h1")).to_have_text(
        "Offline, because the offline flag is set.", timeout=15_000
    )
    expect(page.locator("#lost")).to_be_hidden()
    # And what happened before the restart is still there.
    expect(page.locator("tbody tr", has_text="tarball alpha-1.1.0").first).to_be_visible()


def test_what_is_being_fetched_is_shown_with_its_progress(
    world: World, proxy: Running, page: Page
) -> None:
    world.upstream.fault("/tarballs/gamma", hold(after=100))
    waiting = threading.Thread(target=get, args=(proxy, "/tarballs/gamma-0.1.0.tar"))
    waiting.start()
    world.upstream.wait_until_holding()
    page.goto(proxy.status)
    expect(page.get_by_text("tarball gamma-0.1.0:")).to_be_visible(timeout=15_000)
    world.upstream.heal()
    world.upstream.release()
    waiting.join()


def test_packages_are_found_and_have_a_page(proxy: Running, page: Page) -> None:
    page.goto(f"{proxy.status}/packages")
    expect(page.locator("tbody tr")).to_have_count(3)  # gamma's entry was prefetched
    page.get_by_role("searchbox").fill("alp")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="alpha").click()
    expect(page.locator("h1")).to_have_text("alpha")
    row = page.locator("tbody tr", has=page.get_by_role("rowheader", name="1.1.0"))
    expect(row).to_contain_text("stored")
    expect(row).to_contain_text("beta ~> 1.0")
    assert len(row.locator(".sum").inner_text()) == 64
    page.goto(f"{proxy.status}/packages?q=nobody")
    expect(page.get_by_text("0 packages with 'nobody'")).to_be_visible()


def test_is_my_project_complete(world: World, proxy: Running, page: Page, tmp_path: Path) -> None:
    lock = rebar_lock(
        tmp_path / "rebar.lock",
        world.repository,
        {"alpha": "1.1.0", "beta": "1.0.0", "gamma": "0.1.0"},
    )
    page.goto(f"{proxy.status}/check")
    page.get_by_label("Lock file").set_input_files(lock)
    expect(page.get_by_role("status")).to_contain_text("1 file is missing")
    expect(page.locator("tbody tr")).to_contain_text("tarball gamma-0.1.0")
    get(proxy, "/tarballs/gamma-0.1.0.tar")
    page.goto(f"{proxy.status}/check")
    page.get_by_label("Lock file").set_input_files(lock)
    expect(page.get_by_role("status")).to_contain_text("rebar.lock is complete")

    broken = tmp_path / "mix.lock"
    broken.write_text("%{<script>alert(1)</script>")
    page.goto(f"{proxy.status}/check")
    with page.expect_response("**/check") as answer:
        page.get_by_label("Lock file").set_input_files(broken)
    assert answer.value.status == 400
    expect(page.get_by_role("status")).to_contain_text("mix.lock")


def test_the_set_up_names_this_very_server(proxy: Running, page: Page) -> None:
    page.goto(f"{proxy.status}/setup")
    text = page.locator("main").inner_text()
    assert proxy.proxy in text
    assert proxy.mirror in text
    assert f"{proxy.status}/ca-bundle.pem" in text
    for tool in ("mix deps.get", "rebar3 get-deps", "gleam deps download", "GITHUB_ENV"):
        assert tool in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 800, 1200])
def test_everybody_can_read_it(proxy: Running, browser: Browser, scheme: Any, width: int) -> None:
    """No axe violations, light and dark, and nothing to scroll sideways."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    for path in PATHS:
        page.goto(proxy.status + path)
        assert violations(page) == [], path
        assert overflows(page) == [], path
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = int(ground.strip("rgb()").split(",")[0])
        assert (brightness < 128) == (scheme == "dark")
    context.close()


def test_it_works_without_javascript(proxy: Running, browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(proxy.status)
    expect(page.locator("h1")).to_have_text("Online.")
    assert page.locator("noscript meta[http-equiv=refresh]").count() <= 1
    lock = tmp_path / "mix.lock"
    lock.write_text("%{}")
    page.goto(f"{proxy.status}/check")
    page.get_by_label("Lock file").set_input_files(lock)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("status")).to_contain_text("mix.lock names no Hex packages")
    context.close()


def test_a_hostile_registry_is_no_markup(
    world: World, hexcache: Callable[..., Running], page: Page
) -> None:
    """Whoever signs the registry may write what it likes into it, but not into our page."""
    hostile = "<img src=x onerror=document.title=1><script>document.title=1</script>"
    world.repository.retire("gamma", "0.1.0", "security", hostile)
    world.upstream.files.update(world.repository.build())
    running = hexcache()
    get(running, "/packages/gamma")
    get(running, "/tarballs/gamma-0.1.0.tar")
    get(running, "/%3Cscript%3Edocument.title=1%3C/script%3E")
    page.goto(f"{running.status}/packages/gamma")
    expect(page.locator("tbody")).to_contain_text(hostile)
    assert page.locator("main img, main script").count() == 0
    page.goto(running.status)
    expect(page).to_have_title("Online - Hexcache")
    assert page.locator("main script").count() == 0


def test_what_a_browser_is_allowed(proxy: Running) -> None:
    with urllib.request.urlopen(proxy.status, timeout=10) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/", "/packages", "/api/statistics", "/metrics", "/ca-bundle.pem"]
)
def test_a_name_that_points_here_by_trickery_is_refused(proxy: Running, path: str) -> None:
    request = urllib.request.Request(
        proxy.status + path, headers={"Host": "rebind.example.com:8081"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 421
    assert b"listen.status_names" in caught.value.read()
    caught.value.close()


def test_names_that_are_configured_are_fine(hexcache: Callable[..., Running]) -> None:
    running = hexcache(listen={"status_names": ["hexcache.example.com"]})
    request = urllib.request.Request(running.status, headers={"Host": "hexcache.example.com"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(proxy: Running, method: str) -> None:
    for path in ("/", "/packages/alpha", "/offline", "/jobs/warm", "/api/statistics"):
        request = urllib.request.Request(proxy.status + path, data=b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code in (404, 405)
        caught.value.close()


class TestBehindTheProxy:
    """http://hexcache.local/, for whoever uses the proxy and knows no other address."""

    def test_the_set_up_leads_through_the_proxy(self, proxy: Running) -> None:
        got = curl("http://hexcache.local/setup", proxy=proxy.proxy)
        assert got.status == 200
        command = f"curl -fsS --proxy {proxy.proxy} http://hexcache.local/ca-bundle.pem"
        assert command in html.unescape(got.body.decode())

    def test_a_lock_file_is_looked_at(self, proxy: Running, tmp_path: Path) -> None:
        lock = tmp_path / "mix.lock"
        lock.write_text("%{}")
        got = curl("http://hexcache.local/check", "-F", f"lock=@{lock}", proxy=proxy.proxy)
        assert got.status == 200
        assert b"mix.lock names no Hex packages" in got.body
        # Anything else that isn't a question is refused.
        assert curl("http://hexcache.local/", "-d", "x", proxy=proxy.proxy).status == 405
