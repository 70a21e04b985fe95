"""A real, headless Chromium: Debian's, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from support.clients import require

_PROGRAM = "chromium"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test, or fails it in CI, where there is none."""
    require(_PROGRAM, install="apt-get install chromium")
    with sync_playwright() as playwright:
        # Without a sandbox: it may be root that runs the tests, and the page is our own.
        browser = playwright.chromium.launch(
            executable_path=shutil.which(_PROGRAM), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


def violations(page: Page) -> list[str]:
    """What axe has against a page: rule, impact and where."""
    return [
        f"{each['id']} ({each['impact']}): {node['html']}"
        for each in Axe().run(page).response["violations"]
        for node in each["nodes"]
    ]


def overflows(page: Page) -> list[str]:
    """What has to be scrolled sideways: the page itself, or a part of it that can be."""
    found: list[str] = page.evaluate(
        """[document.documentElement, ...document.querySelectorAll(".scroll")]
            .filter((part) => part.scrollWidth > part.clientWidth)
            .map((part) => `${part.tagName} ${part.scrollWidth} > ${part.clientWidth}`)"""
    )
    return found
