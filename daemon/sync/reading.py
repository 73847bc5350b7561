"""Pure: turns a page that was read whole into what the ledger keeps of it."""

from collections.abc import Iterator
from typing import Any

from daemon.jsontext import content_hash, encode, packed, strip_noise
from daemon.ledger.pages import ChildPointer, StoredRead
from daemon.notion.files import MARKS, hosted_files
from daemon.notion.tree import Block, Tree, copied_from
from daemon.site.bundle import listing_hash, page_meta
from daemon.site.indexes import card
from daemon.sync.plan import Trust, instant, newest_stamp

POINTERS = {"child_page": "page", "child_database": "database"}


def stored_read(
    page: dict[str, Any], tree: Tree, *, date: float, blocks_date: float, by_get: bool, trust: Trust
) -> StoredRead:
    """What is kept of one read. Dates are Notion's clock, unix seconds.

    `page`: its object with long properties completed. `date`: of the answer that told of its stamp (`by_get`: a GET
    made first in this read, else a listing). `blocks_date`: before the first block was asked for.
    """
    stamp = page["last_edited_time"]
    survey = _Survey(page["id"])
    survey.blocks(tree.blocks)
    newest = newest_stamp(stamp, survey.stamps)
    meta = page_meta(strip_noise(page))
    content = encode({"page": page, "blocks": tree.blocks})
    has_files = any(mark in content for mark in MARKS)
    told = trust.by_get(newest, date) if by_get else trust.by_listing(instant(stamp), date)
    return StoredRead(
        page_id=page["id"],
        stamp=stamp,
        newest_stamp=newest,
        date=date,
        by_get=by_get,
        trusted=told and trust.by_get(newest, blocks_date),
        cost_requests=tree.requests + by_get,
        snapshot=packed(content),
        content_hash=content_hash({"meta": meta, "blocks": tree.blocks}),
        read_hash=listing_hash(page, meta),
        card=card(page),
        children=survey.children,
        shows=sorted(survey.shown - {child.id for child in survey.children}),
        copies=tree.copies,
        originals=survey.originals,
        files=hosted_files(page, tree.blocks) if has_files else (),
        blocks_date=blocks_date,
    )


class _Survey:
    """One walk over a tree: stamps, child pages and databases, and the originals that live on this page."""

    def __init__(self, page_id: str) -> None:
        self.stamps: set[str] = set()
        self.children: list[ChildPointer] = []
        self.shown: set[str] = set()
        self.originals: dict[str, str] = {}
        self._page_id = page_id

    def blocks(self, blocks: list[Block]) -> None:
        for block, container, in_copy in _walk(blocks, self._page_id):
            kind = block.get("type")
            if kind in POINTERS:
                self._pointer(block, container, in_copy)
            elif block.get("last_edited_time"):
                self.stamps.add(block["last_edited_time"])
            if kind == "synced_block" and copied_from(block) is None and not in_copy:
                self.originals[block["id"]] = content_hash(block.get("__children") or [])

    def _pointer(self, block: Block, container: str, in_copy: bool) -> None:
        kind = block["type"]
        if kind == "child_page":
            self.shown.add(block["id"])
        if in_copy:
            return
        title = (block.get(kind) or {}).get("title") or ""
        times = (block.get("created_time") or "", block.get("last_edited_time") or "")
        self.children.append(ChildPointer(block["id"], POINTERS[kind], container, title, *times))


def _walk(blocks: list[Block], container: str) -> Iterator[tuple[Block, str, bool]]:
    """Every block in reading order, with the block or page it lies in and whether a synced copy shows it."""
    pending = [(block, container, False) for block in reversed(blocks)]
    while pending:
        block, inside, in_copy = pending.pop()
        yield block, inside, in_copy
        below = in_copy or copied_from(block) is not None
        pending.extend((child, block["id"], below) for child in reversed(block.get("__children") or []))
