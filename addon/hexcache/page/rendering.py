"""Templates into answers. Everything that a registry or a client named is escaped."""

from __future__ import annotations

from typing import Any

import jinja2
from aiohttp import web

from hexcache import __version__


class Pages:
    """The templates of the status page."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("hexcache.page"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
        )

    def answer(self, name: str, *, here: str = "", status: int = 200, **values: Any) -> web.Response:
        """`here` is the page's path in the navigation."""
        template = self._templates.get_template(f"{name}.html")
        text = template.render(here=here, version=__version__, **values)
        return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)
