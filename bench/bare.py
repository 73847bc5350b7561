"""The bare SDK loop: everything, read with the official client and nothing else."""

import logging
from collections.abc import Iterable
from typing import Any

from notion_client import AsyncClient


def client(url: str) -> AsyncClient:
    """The official client, its own retry off."""
    return AsyncClient(auth="ntn_sandbox", base_url=url, retry=False, log_level=logging.CRITICAL)


async def read_everything(url: str, sources: Iterable[str]) -> int:
    """Query every data source, list the blocks of every row. Out: requests."""
    requests = 0
    async with client(url) as notion:
        for source in sources:
            cursor: str | None = None
            while True:
                more = {"start_cursor": cursor} if cursor else {}
                answer: Any = await notion.data_sources.query(source, page_size=100, **more)
                requests += 1
                for row in answer["results"]:
                    await notion.blocks.children.list(row["id"], page_size=100)
                    requests += 1
                cursor = answer["next_cursor"]
                if cursor is None:
                    break
    return requests
