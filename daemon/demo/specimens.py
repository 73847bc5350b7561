"""One answer of every form that the sandbox can give, for comparing with recorded ones."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx

from daemon.clock import DrivenClock
from daemon.demo import blocks as b
from daemon.demo.sample import Sample, build
from daemon.demo.sandbox import Sandbox
from daemon.demo.wire import Json

Answer = tuple[str, Json]
_ABSENT_ID = "00000000-0000-4000-8000-000000000000"
_MOMENT = "2025-05-01T09:00:00.000+02:00"
_EVERYTHING: Json = {}
_TWO_WAY = {"synced_property_name": "This side", "synced_property_id": "abcd"}
_PLACE = {
    "lat": 52.5,
    "lon": 13.4,
    "name": None,
    "address": "Größenwahnstraße 7",
    "aws_place_id": "a",
    "google_place_id": "g",
}
_DATE = {"start": _MOMENT, "end": None, "time_zone": None}
_ROLLUP: Json = {
    "rollup": {
        "relation_property_name": "Other side",
        "relation_property_id": "abcd",
        "rollup_property_name": "Name",
        "rollup_property_id": "title",
        "function": "show_original",
    }
}
_CELLS: dict[str, tuple[str | Json, Any]] = {
    "Place": ("place", _PLACE),
    "Button": ("button", {}),
    "Verification": ("verification", {"state": "unverified", "verified_by": None, "date": None}),
    "Moment": ("date", _MOMENT),
    "Says": ("formula", "yes"),
    "Counts": ("formula", 3),
    "Is": ("formula", True),
    "When": ("formula", {"start": _MOMENT}),
    "Silent": ("formula", None),
    "Sum": (_ROLLUP, 12),
    "First": (_ROLLUP, {"type": "date", "date": _DATE}),
    "All": (_ROLLUP, [{"type": "number", "number": 1}, {"type": "date", "date": _DATE}]),
    "Maker": ("created_by", None),
}
"""Columns that the sample site does without, and what is in them."""


async def answers(version: str) -> AsyncIterator[Answer]:
    """What the sandbox answers in this API version, each with the kind of what was asked for."""
    sandbox = Sandbox(clock=DrivenClock())
    sample = build(sandbox.workspace)
    row = _add_specimens(sandbox, sample)
    headers = {"Authorization": "Bearer ntn_sandbox", "Notion-Version": version}
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://box/v1", headers=headers) as http:
        asker = _Asker(http, sandbox, sample)
        for part in (
            asker.objects(),
            asker.listings(),
            asker.properties(row),
            asker.writes(),
            asker.refusals(),
        ):
            async for answer in part:
                yield answer


def _add_specimens(sandbox: Sandbox, sample: Sample) -> str:
    """A row with the columns above; returns its id."""
    workspace = sandbox.workspace
    schema = {name: kind for name, (kind, _value) in _CELLS.items()}
    _database, source = workspace.create_database(sample.root, "Specimens", schema)
    related = {"data_source_id": source, "type": "dual_property", "dual_property": _TWO_WAY}
    workspace.add_property(source, "Other side", {"relation": related})
    workspace.add_property(source, "Count", {"unique_id": {"prefix": None}})
    cells = {name: value for name, (_kind, value) in _CELLS.items() if value is not None}
    with workspace.edited_by(workspace.bot_id):
        row = workspace.add_row(source, "Specimen", cells)
        workspace.set_properties(row, {"Other side": [row]})
    return row


class _Asker:
    """Asks for everything in the workspace."""

    def __init__(self, http: httpx.AsyncClient, sandbox: Sandbox, sample: Sample) -> None:
        self._http = http
        self._workspace = sandbox.workspace
        self._sample = sample

    async def _ask(self, kind: str, method: str, path: str, body: Json | None = None) -> Answer:
        response = await self._http.request(method, path, json=body)
        return "error" if response.is_error else kind, response.json()

    async def objects(self) -> AsyncIterator[Answer]:
        """Every page, database, data source and block that is shared."""
        workspace = self._workspace
        for kind, path, found in (
            ("page", "pages", workspace.pages),
            ("data_source", "data_sources", workspace.data_sources),
            ("database", "databases", workspace.databases),
            ("block", "blocks", [*workspace.blocks, *workspace.pages, *workspace.databases]),
        ):
            for object_id in filter(workspace.readable, list(found)):
                if object_id != self._sample.linked_database or kind == "block":
                    yield await self._ask(kind, "GET", f"/{path}/{object_id}")

    async def listings(self) -> AsyncIterator[Answer]:
        """Queries, searches and the children of everything that has some; whole and page by page."""
        for source in self._workspace.data_sources:
            for body in (_EVERYTHING, {"page_size": 1}):
                yield await self._ask("query", "POST", f"/data_sources/{source}/query", body)
        for body in (
            _EVERYTHING,
            {"page_size": 2},
            {"filter": {"property": "object", "value": "data_source"}},
        ):
            yield await self._ask("search", "POST", "/search", body)
        for holder in filter(self._workspace.readable, [*self._workspace.pages, *self._workspace.blocks]):
            if self._workspace.has_children(holder) and not self._shows_unshared(holder):
                yield await self._ask("block_list", "GET", f"/blocks/{holder}/children")

    def _shows_unshared(self, block_id: str) -> bool:
        block = self._workspace.blocks.get(block_id)
        return bool(block and block.original_id and not self._workspace.readable(block.original_id))

    async def properties(self, row: str) -> AsyncIterator[Answer]:
        """Every property of a post and of the row with the rare columns."""
        for page in (self._sample.posts["seoul"], row):
            source = self._workspace.page(page).parent[1]
            for column in self._workspace.data_sources[source].columns():
                path = f"/pages/{page}/properties/{quote(column.id, safe='')}"
                kind, answer = await self._ask("property_item", "GET", path)
                yield "property_item_list" if answer["object"] == "list" else kind, answer

    async def writes(self) -> AsyncIterator[Answer]:
        """What comes back from the writes: the same objects."""
        ask, home = self._ask, self._sample.pages["home"]
        parent = {"page_id": self._sample.pages["about"]}
        title = {"title": {"title": [b.text("New")]}}
        made = await ask("page", "POST", "/pages", {"parent": parent, "properties": title})
        yield made
        new = f"/pages/{made[1]['id']}"
        children = {"children": [b.paragraph("New"), b.to_do("Done")]}
        added = await ask("block_list", "PATCH", f"/blocks/{home}/children", children)
        yield added
        block = f"/blocks/{added[1]['results'][0]['id']}"
        yield await ask("block", "PATCH", block, {"paragraph": {"rich_text": [b.text("Newer")]}})
        yield await ask("block", "DELETE", block)
        yield await ask("page", "POST", f"{new}/move", {"parent": {"page_id": home}})
        yield await ask("page", "PATCH", new, {"in_trash": True})

    async def refusals(self) -> AsyncIterator[Answer]:
        """An id that is none, and ids of nothing and of what is not shared."""
        yield await self._ask("page", "GET", "/pages/12345678-1234-1234-1234-123456789abc")
        yield await self._ask("page", "GET", f"/pages/{_ABSENT_ID}")
        yield await self._ask("block_list", "GET", f"/blocks/{self._sample.unshared_page}/children")
