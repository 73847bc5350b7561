"""The status page for people, at `/`: the same facts as `/status`, as HTML that needs neither scripts nor assets."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Route

from daemon.ledger.ledger import LedgerError
from daemon.status import Parts, brief, full
from daemon.web.auth import Access, access
from daemon.web.status_page.view import FILTERS, build_view

REFRESH_SECONDS = 5

_templates = Environment(
    loader=PackageLoader("daemon.web.status_page", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(FILTERS)
_STYLE = _templates.get_template("style.css").render()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
}


def status_page_routes(parts: Parts) -> list[BaseRoute]:
    """`/` of one daemon."""

    async def page(request: Request) -> HTMLResponse:
        found = access(request, parts.settings.cron_secret)
        asks = "secret" in request.query_params and found is not Access.GRANTED
        view = build_view(await _facts(parts, found), parts.clock.now())
        status = {Access.WRONG: 401, Access.NOT_CONFIGURED: 503}.get(found, 200)
        return _page(
            {
                **view,
                "access": found.name,
                "asks_secret": asks,
                "can_unlock": parts.settings.cron_secret is not None,
                "refresh_seconds": None if asks else REFRESH_SECONDS,
                "style": _STYLE,
            },
            status,
        )

    return [Route("/", page, methods=["GET"])]


async def _facts(parts: Parts, found: Access) -> dict[str, Any]:
    """What this visitor may see. A ledger that cannot be read leaves the brief form, and says so."""
    if found is not Access.GRANTED:
        return brief(parts)
    try:
        return await full(parts)
    except LedgerError as error:
        return {**brief(parts), "warnings": [str(error)]}


def _page(context: dict[str, Any], status: int) -> HTMLResponse:
    html = _templates.get_template("page.html").render(context)
    # A title may hold half a surrogate pair, which UTF-8 cannot.
    return HTMLResponse(html.encode("utf-8", "replace"), status, _HEADERS)
