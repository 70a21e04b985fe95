"""Templates into answers. What a registry or a client named is escaped and printable."""

from __future__ import annotations

import hashlib
import importlib.resources
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup

from hexcache import __version__
from hexcache.printing import printable

STATIC = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def _shown(value: object) -> object:
    """What a template puts in: none of it turns the page's text around (U+202E and its like), or
    hides in it. Lines stay lines."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))


class Pages:
    """The templates of the status page."""

    def __init__(self) -> None:
        files = importlib.resources.files("hexcache.monitoring.page").joinpath("static")
        self.files = {name: files.joinpath(name).read_bytes() for name in STATIC}
        # A browser keeps them for as long as they are the same.
        self._assets = hashlib.sha256(b"".join(self.files.values())).hexdigest()[:12]
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("hexcache.monitoring.page"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            finalize=_shown,
        )

    def answer(
        self, page: str, /, *, here: str = "", status: int = 200, **values: Any
    ) -> web.Response:
        """`here` is the page's path in the navigation."""
        template = self._templates.get_template(f"{page}.html")
        text = template.render(here=here, version=__version__, assets=self._assets, **values)
        return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)
