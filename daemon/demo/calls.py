"""One request as the endpoints see it, and the checks they share: ids, page sizes, who may see what."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from daemon.demo.errors import ApiError, failed, not_found, validation_error
from daemon.demo.habits import Habits
from daemon.demo.listing import Listings
from daemon.demo.model import Database, DataSource, Page
from daemon.demo.render import Renderer
from daemon.demo.wire import Json, dashed, encode
from daemon.demo.workspace import Workspace

INTEGRATION = "Sandbox"
OLD_VERSION, NEW_VERSION = "2025-09-03", "2026-03-11"
VERSIONS = (OLD_VERSION, NEW_VERSION)
_ID_NAMES = {
    "page": "page_id",
    "block": "block_id",
    "database": "database_id",
    "data_source": "data_source_id",
}


@dataclass
class Call:
    """A request whose token and version are good."""

    workspace: Workspace
    habits: Habits
    listings: Listings
    render: Renderer
    version: str
    seed: int
    now: float
    params: dict[str, str]
    query: dict[str, list[str]] = field(default_factory=dict)
    body: Json = field(default_factory=dict)

    @property
    def old(self) -> bool:
        """Whether the version is the one that still says `archived`."""
        return self.version == OLD_VERSION

    # Ids

    def id_of(self, kind: str) -> str:
        """The id in the path, dashed. Raises Notion's 400 when it is none."""
        name = _ID_NAMES[kind]
        return self.checked_id(self.params["id"], f"path.{name}")

    def checked_id(self, given: Any, where: str) -> str:
        """An id in its dashed form; 400 when it is none."""
        canonical = dashed(given) if isinstance(given, str) else None
        if canonical is None:
            raise failed(where, "a valid uuid", given)
        return canonical

    def missing(self, kind: str, object_id: str) -> ApiError:
        return not_found(kind, object_id, INTEGRATION, self.workspace.bot_id)

    def visible(self, object_id: str) -> bool:
        """Whether the integration gets to see the object at all."""
        if not self.workspace.readable(object_id):
            return False
        return self.habits.trash_reaches_down != "not_found" or not self.workspace.below_trash(object_id)

    def page(self, page_id: str) -> Page:
        page = self.workspace.pages.get(page_id)
        if (
            page is None
            and page_id in self.workspace.databases
            and self.habits.wrong_kind == "validation_error"
        ):
            raise validation_error(
                f"Provided ID {page_id} is a database, not a page. Use the retrieve database API instead."
            )
        if page is None or not self.visible(page_id):
            raise self.missing("page", page_id)
        return page

    def database(self, database_id: str) -> Database:
        database = self.workspace.databases.get(database_id)
        if database_id in self.workspace.pages and self.habits.wrong_kind == "validation_error":
            raise validation_error(
                f"Provided ID {database_id} is a page, not a database. Use the retrieve page API instead."
            )
        if database is None or database.linked or not self.visible(database_id):
            raise self.missing("database", database_id)
        return database

    def data_source(self, source_id: str) -> DataSource:
        source = self.workspace.data_sources.get(source_id)
        if source is None or not self.visible(source_id):
            raise self.missing("data_source", source_id)
        return source

    def block_id(self, block_id: str) -> str:
        """The id of a block, page or database that may be read as a block."""
        workspace = self.workspace
        known = block_id in workspace.blocks or block_id in workspace.pages or block_id in workspace.databases
        if not known or not self.visible(block_id):
            raise self.missing("block", block_id)
        return block_id

    # Paging

    def page_size(self) -> int:
        """Of a GET: from the query string."""
        given = self.query.get("page_size")
        if given is None:
            return 100
        if not given[-1].isdecimal():
            raise failed("query.page_size", "a number or `undefined`", given[-1])
        return _in_range(int(given[-1]), "query.page_size")

    def cursor(self) -> str | None:
        given = self.query.get("start_cursor")
        return given[-1] if given else None

    def body_page_size(self) -> int:
        """Of a POST: from the body."""
        given = self.body.get("page_size", 100)
        if isinstance(given, bool) or not isinstance(given, int):
            raise failed("body.page_size", "a number or `undefined`", given)
        return _in_range(given, "body.page_size")

    def body_cursor(self) -> str | None:
        given = self.body.get("start_cursor")
        if given is not None and not isinstance(given, str):
            raise failed("body.start_cursor", "a string or `undefined`", given)
        return given

    def only_keys(self, *allowed: str) -> None:
        """400 for a body with any other key."""
        for key, value in self.body.items():
            if key not in allowed:
                raise failed(f"body.{key}", "not present", value)


def _in_range(size: int, where: str) -> int:
    if size > 100:
        raise failed(where, "≤ `100`", size)
    if size < 1:
        raise failed(where, "≥ `1`", size)
    return size


def listed(
    results: Sequence[bytes],
    kind: str,
    next_cursor: str | None,
    *,
    incomplete: bool = False,
    detail: Any = None,
) -> bytes:
    """A list answer around results that are JSON text already, without its request id."""
    head = b'{"object":"list","results":[' + b",".join(results) + b"],"
    tail: Json = {
        "next_cursor": next_cursor,
        "has_more": next_cursor is not None,
        "type": kind,
        kind: detail or {},
    }
    if incomplete:
        tail["request_status"] = {"type": "incomplete", "incomplete_reason": "query_result_limit_reached"}
    return head + encode(tail)[1:]
