"""The algorithm that this daemon replaces, for comparison: it asks about every page each time.

Query every row, GET every page to compare its stamp, read again the pages that differ, and of each at most ten child
pages, one level deep.
"""

from typing import Any

from notion_client import AsyncClient

from bench.bare import client
from bench.remote import Remote

MOST_CHILDREN = 10


class Replaced:
    """One run after the other. `stamps`: of the pages it has read."""

    def __init__(self, notion: AsyncClient) -> None:
        self._notion = notion
        self.stamps: dict[str, str] = {}

    async def run(self, sources: list[str]) -> None:
        """Everything, once."""
        for source in sources:
            for row in await self._rows(source):
                page: Any = await self._notion.pages.retrieve(row)
                if self.stamps.get(row) != page["last_edited_time"]:
                    await self._blocks(row, children=True)
                    self.stamps[row] = page["last_edited_time"]

    async def _rows(self, source: str) -> list[str]:
        rows: list[str] = []
        cursor: str | None = None
        while True:
            more = {"start_cursor": cursor} if cursor else {}
            answer: Any = await self._notion.data_sources.query(source, page_size=100, **more)
            rows += [row["id"] for row in answer["results"]]
            cursor = answer["next_cursor"]
            if cursor is None:
                return rows

    async def _blocks(self, container: str, *, children: bool) -> None:
        answer: Any = await self._notion.blocks.children.list(container, page_size=100)
        below = 0
        for block in answer["results"]:
            if block["type"] == "child_page":
                below += 1
                if children and below <= MOST_CHILDREN:
                    await self._blocks(block["id"], children=False)
            elif block["has_children"]:
                await self._blocks(block["id"], children=children)


async def first_and_second_run(remote: Remote) -> tuple[int, int, int]:
    """Requests of a first run, of one with nothing to do, and of one after a single edit."""
    sources = list(remote.site.sources.values())
    async with client(remote.url) as notion:
        old, counts = Replaced(notion), []
        remote.requests()
        for run in range(3):
            if run == 2:
                remote.edit(remote.site.plain[0], "edited")
            await old.run(sources)
            counts.append(len(remote.requests()))
            remote.advance(60.0)
    return counts[0], counts[1], counts[2]
