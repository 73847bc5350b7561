"""How tests ask the sandbox: a small site, clients, whole listings, refusals."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from notion_client import AsyncClient
from notion_client.errors import HTTPResponseError

from daemon.demo import Sandbox

Connect = Callable[..., AsyncClient]
Json = dict[str, Any]


async def walk(fetch: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> list[Json]:
    """All results of a listing, page by page."""
    found: list[Json] = []
    cursor: str | None = None
    while True:
        answer = await fetch(*args, **kwargs, start_cursor=cursor)
        found += answer["results"]
        assert answer["has_more"] is (answer["next_cursor"] is not None)
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


async def refusal(asked: Awaitable[Any]) -> HTTPResponseError:
    """The error a request is refused with."""
    with pytest.raises(HTTPResponseError) as caught:
        await asked
    return caught.value


def title_of(page: Json) -> str:
    """The plain title of a page object."""
    for cell in page["properties"].values():
        if cell["type"] == "title":
            return "".join(item["plain_text"] for item in cell["title"])
    raise AssertionError("a page without a title property")


def ids(results: list[Json]) -> list[str]:
    """The ids of results, in order."""
    return [result["id"] for result in results]


def site(sandbox: Sandbox, rows: int = 0) -> tuple[str, str, str]:
    """A home page with a database of some rows: (page, database, data source)."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    database, source = workspace.create_database(home, "Posts", {"slug": "rich_text"})
    for number in range(rows):
        workspace.add_row(source, f"Post {number}", {"slug": f"post-{number}"})
    return home, database, source


def stamp(sandbox: Sandbox, object_id: str) -> datetime:
    """The exact stamp of anything."""
    return datetime.fromtimestamp(sandbox.workspace.last_edited_ms(object_id) / 1000, UTC)
