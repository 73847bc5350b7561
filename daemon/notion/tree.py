"""Reads one page, whole or not at all: every block below it, in order, under `__children`.

Containers are read concurrently. Pointers (child pages, child databases, links) stay pointers. A synced copy shows
its original's children. Any request that fails for good fails the page; only two answers are not failures: Notion
saying that a block's children are not supported (a leaf), and a block that was deleted while its page was read.
"""

import asyncio
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError, NotionForbidden, NotionNotFound, NotionValidation
from daemon.notion.limiter import Lane

Block = dict[str, Any]
POINTERS = frozenset({"child_page", "child_database", "link_to_page"})
DEEPEST = 100
"""Levels of nesting that are read; deeper than any editor goes, so more means that something loops."""
PAGE_SIZE = 100
RELISTINGS = 3
"""How often a container is listed again because a block in it vanished while being read."""


class TreeError(NotionError):
    """A page cannot be read whole. Its last good version stays published and it is tried again."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass
class Tree:
    """A page's blocks. `copies`: original block id -> whether it could not be read. `requests`: what it cost."""

    blocks: list[Block]
    copies: dict[str, bool] = field(default_factory=dict)
    requests: int = 0


async def read_tree(api: NotionApi, page_id: str, lane: Lane) -> Tree:
    """All blocks of a page. Raises NotionError (TreeError among them) when any part of it cannot be read."""
    reader = _Reader(api, lane)
    blocks = await reader.expand(page_id, (), shared=False)
    return Tree(blocks, reader.copies, reader.requests)


class _BlockVanished(Exception):  # noqa: N818 - a turn of events, handled right above
    """A listed block answers 404: its parent has to be listed once more."""

    def __init__(self, block_id: str, cause: NotionNotFound) -> None:
        super().__init__(block_id)
        self.block_id = block_id
        self.cause = cause


class _Reader:
    def __init__(self, api: NotionApi, lane: Lane) -> None:
        self._api = api
        self._lane = lane
        self._listings: dict[str, list[Block]] = {}
        self.copies: dict[str, bool] = {}
        self.requests = 0

    async def expand(self, container_id: str, above: tuple[str, ...], *, shared: bool) -> list[Block]:
        """The blocks inside a container, each with its own children.

        `above`: the containers it lies in. `shared`: it may be shown again on this page (it lies in a synced
        original), so what was listed is kept for the next time.
        """
        vanished: set[str] = set()
        for _ in range(RELISTINGS):
            try:
                blocks = await self._list(container_id, shared=shared)
                await self._fill(blocks, (*above, container_id), shared=shared)
            except _BlockVanished as gone:
                self._listings.pop(container_id, None)
                if gone.block_id in vanished:
                    raise _still_listed(gone) from gone.cause
                vanished.add(gone.block_id)
                continue
            return blocks
        raise TreeError(
            f"blocks in {container_id} kept vanishing while the page was read",
            hint="It is being edited heavily; it is read again by itself.",
        )

    async def _list(self, container_id: str, *, shared: bool) -> list[Block]:
        if container_id in self._listings:
            return copy.deepcopy(self._listings[container_id])
        blocks = await self._api.all_children(container_id, self._lane)
        self.requests += max(1, -(-len(blocks) // PAGE_SIZE))
        for block in blocks:
            if "type" not in block:
                await self._complete(block)
            block.pop("request_id", None)
        if shared:
            self._listings[container_id] = copy.deepcopy(blocks)
        return blocks

    async def _complete(self, block: Block) -> None:
        """Ask for a block that its listing shows as a bare id. What Notion does not tell then either stays so."""
        self.requests += 1
        try:
            block.update((await self._api.block(block["id"], self._lane)).body)
        except NotionNotFound as error:
            raise _BlockVanished(block["id"], error) from error

    async def _fill(self, blocks: list[Block], above: tuple[str, ...], *, shared: bool) -> None:
        """Read what is inside these blocks, all at once; the first failure ends the others."""
        wanted = [block for block in blocks if _has_readable_children(block)]
        if len(wanted) == 1:
            await self._fill_one(wanted[0], above, shared=shared)
        elif wanted:
            try:
                async with asyncio.TaskGroup() as group:
                    for block in wanted:
                        group.create_task(self._fill_one(block, above, shared=shared))
            except* Exception as failures:
                raise _first(failures) from None

    async def _fill_one(self, block: Block, above: tuple[str, ...], *, shared: bool) -> None:
        original = copied_from(block)
        inside = original or block["id"]
        if inside in above:
            return
        if len(above) > DEEPEST:
            raise TreeError(
                f"blocks are nested more than {DEEPEST} deep at block {block['id']}",
                hint="Flatten that part of the page in Notion.",
            )
        if original is not None:
            await self._fill_copy(block, original, above)
            return
        try:
            block["__children"] = await self.expand(inside, above, shared=shared)
        except NotionNotFound as error:
            raise _BlockVanished(block["id"], error) from error
        except NotionValidation as error:
            if not error.children_not_supported:
                raise

    async def _fill_copy(self, block: Block, original: str, above: tuple[str, ...]) -> None:
        try:
            block["__children"] = await self.expand(original, above, shared=True)
        except (NotionNotFound, NotionForbidden):
            self.copies[original] = True
            block["__synced_unshared"] = True
        else:
            self.copies[original] = False


def copied_from(block: Block) -> str | None:
    """The id of the original that a synced copy shows; None for every other block."""
    if block.get("type") != "synced_block":
        return None
    source = (block.get("synced_block") or {}).get("synced_from")
    return str(source["block_id"]) if isinstance(source, dict) and source.get("block_id") else None


def _has_readable_children(block: Block) -> bool:
    if block.get("type") in POINTERS:
        return False
    return bool(block.get("has_children")) or copied_from(block) is not None


def _still_listed(vanished: _BlockVanished) -> TreeError:
    return TreeError(
        f"block {vanished.block_id} is listed in its page but answers 404",
        hint="Open the page in Notion and check that the integration may see all of it; it is tried again.",
    )


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """One failure out of those that ended a group of reads; a vanished block only if nothing worse happened."""
    flat = list(_flatten(failures))
    return next((failure for failure in flat if not isinstance(failure, _BlockVanished)), flat[0])


def _flatten(failures: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for failure in failures.exceptions:
        if isinstance(failure, ExceptionGroup):
            yield from _flatten(failure)
        else:
            yield failure
