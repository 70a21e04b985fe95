"""What the status page says of a Hexcache that isn't quite well, and how it says it again."""

from __future__ import annotations

import re
import resource
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from e2e.conftest import World, get
from support.faults import corrupt
from support.running import Running

SOON = 15_000


def readiness(running: Running) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{running.status}/readyz", timeout=10) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.read().decode()


def changed(page: Page, running: Running) -> None:
    """Something was asked for, and the page shows it by now."""
    hour = page.locator("dl.tiles div", has_text="Last hour").locator("dd")
    before = hour.text_content()
    assert before is not None
    get(running, "/tarballs/alpha-1.1.0.tar")
    expect(hour).not_to_have_text(before, timeout=SOON)


def test_a_full_disk_keeps_nothing_from_the_clients(proxy: Running, page: Page) -> None:
    page.goto(proxy.status)
    # Nothing can be written any more, as on a full disk.
    resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    expect(page.locator("h1")).to_contain_text("Nothing new can be kept", timeout=SOON)
    expect(page.locator("h1")).to_contain_text("Clients are answered.")
    expect(page.locator(".state.warn")).to_be_visible()
    assert page.locator(".state.bad:visible").count() == 0
    text = page.locator("main").inner_text()
    assert "[Errno" not in text
    assert "probe" not in text
    assert "can't be answered" not in text
    # Which is so.
    assert get(proxy, "/tarballs/alpha-1.1.0.tar") == 200
    assert get(proxy, "/tarballs/gamma-0.1.0.tar") == 200
    status, said = readiness(proxy)
    assert status == 503
    assert '"ready": false' in said


def test_what_failed_a_check_is_said_for_a_day(world: World, proxy: Running, page: Page) -> None:
    world.upstream.fault("/tarballs/gamma", corrupt())
    assert get(proxy, "/tarballs/gamma-0.1.0.tar") == 502
    page.goto(proxy.status)
    expect(page.locator("h1")).to_have_text("Online.")
    line = page.locator(".state.warn")
    expect(line).to_have_text(
        re.compile(
            r"1 file from upstream failed its checksum at \d\d:\d\d and was not served: "
            r"tarball gamma-0\.1\.0\."
        )
    )
    assert "all is well" not in page.locator("main").inner_text()
    # Also after a restart.
    assert proxy.stop() == 0
    proxy.start()
    page.goto(proxy.status)
    expect(line).to_contain_text("tarball gamma-0.1.0")


def test_the_good_news_is_what_it_saves(proxy: Running, page: Page) -> None:
    for _ in range(7):
        get(proxy, "/tarballs/alpha-1.1.0.tar")
    page.goto(proxy.status)
    expect(page.locator(".state.good")).to_contain_text(
        re.compile(r"In the last 24 hours \d+ % of 12 requests came from here: [\d.]+ kB not")
    )


def test_what_is_selected_stays_selected(proxy: Running, page: Page) -> None:
    page.goto(proxy.status)
    title = page.get_by_role("heading", name="The last requests")
    title.evaluate("(title) => getSelection().selectAllChildren(title)")
    changed(page, proxy)
    assert page.evaluate("String(getSelection())") == "The last requests"


def test_nothing_is_read_out_again_as_long_as_it_is_the_same(proxy: Running, page: Page) -> None:
    page.goto(proxy.status)
    page.evaluate(
        """() => {
            window.said = [];
            const observer = new MutationObserver((changes) => {
                for (const change of changes) {
                    const about = [change.target, ...change.addedNodes, ...change.removedNodes];
                    for (const node of about) {
                        if (node.nodeType !== Node.ELEMENT_NODE) continue;
                        const region = node.closest("[role=status]")
                            ?? node.querySelector("[role=status]");
                        if (region && change.target.id !== "live") window.said.push(region.id);
                    }
                }
                if (changes.some((each) => each.removedNodes[0]?.id === "live"))
                    window.said.push("all of it");
            });
            observer.observe(document.getElementById("main"), {subtree: true, childList: true});
        }"""
    )
    changed(page, proxy)
    assert page.evaluate("window.said") == []


def test_what_was_opened_stays_open(proxy: Running, page: Page) -> None:
    page.goto(proxy.status)
    assert page.locator("figure:visible").count() == 2
    page.get_by_text("The last hour").click()
    changed(page, proxy)
    expect(page.locator("figure:visible")).to_have_count(4)


def test_the_first_view_leads_to_a_client(hexcache: Callable[..., Running], page: Page) -> None:
    running = hexcache()
    page.goto(running.status)
    card = page.locator("#welcome")
    expect(card).to_contain_text(f"export HTTPS_PROXY={running.proxy}")
    expect(card).to_contain_text("mix deps.get")
    expect(card.get_by_role("link", name="Set up a client")).to_be_visible()
    expect(card.get_by_role("button", name="Copy")).to_have_count(2)
    assert page.locator("figure:visible").count() == 0
    # Until there is something else to see.
    get(running, "/packages/alpha")
    expect(page.locator("figure:visible")).to_have_count(2, timeout=SOON)
    expect(card).to_be_hidden()


@pytest.mark.parametrize("path", ["/nowhere", "/static/nothing.js", "/packages/a/b"])
def test_an_address_without_a_page_says_so(proxy: Running, page: Page, path: str) -> None:
    answer = page.goto(proxy.status + path)
    assert answer is not None
    assert answer.status == 404
    expect(page.locator("h1")).to_have_text("Not here")
    expect(page.get_by_role("link", name="Overview")).to_be_visible()
