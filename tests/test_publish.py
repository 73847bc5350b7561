"""Publishing: nothing half-read, nothing lost to an outage, batches of a bounded size, one bad value alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.demo import blocks as b
from daemon.demo.sandbox import RequestRecord
from daemon.kv.base import MAX_BATCH_BYTES
from daemon.kv.redis import RedisKV
from daemon.kv.upstash import UpstashKV
from daemon.ledger import records, work
from daemon.sync.plan import Priority
from daemon.sync.publish import QUOTA_BACK_OFF_SECONDS
from tests.support.oracle import check
from tests.support.redis_server import RedisServer
from tests.support.upstash_server import QUOTA_MESSAGE, Fault, UpstashServer
from tests.support.world import OLD, World, a_world, texts

pytest_plugins = ["tests.support.kv_fixtures"]
FOR_EVER = 1_000_000


@dataclass
class Batch:
    """One script as the store got it: the token it was sent with, and what it sets and deletes."""

    token: int
    sets: dict[str, str]
    deletes: list[str]
    size_bytes: int


def batches(server: UpstashServer) -> list[Batch]:
    """Every batch that the store was sent, refused ones too."""
    found = []
    for command in server.requests:
        if command[0] != "EVAL" or "DEL" not in command[1]:
            continue
        count = int(command[2])
        keys, (token, record, sets, *values) = command[3 : 3 + count], command[3 + count :]
        texts_sent = [*keys, record, *values]
        found.append(
            Batch(
                int(token),
                dict(zip(keys[1 : 1 + int(sets)], values, strict=True)),
                keys[1 + int(sets) :],
                sum(len(text.encode()) for text in texts_sent),
            )
        )
    return found


def contents(record: RequestRecord) -> bool:
    """Whether a request to Notion reads what a page holds."""
    return record.path.startswith(("/blocks", "/pages"))


async def said(world: World, slug: str) -> set[str]:
    """The texts of a published page."""
    bundle = await world.value(f"page:{slug}")
    return set(texts(bundle["blocks"]))


class Site:
    """A page of every shape that takes a request of its own, and one beside it. Everything is old."""

    def __init__(self, world: World) -> None:
        workspace = self.workspace = world.workspace
        self.root = workspace.create_page(None, "Root")
        schema = {"slug": "rich_text", "people": "relation"}
        database, self.rows = workspace.create_database(self.root, "Pages", schema)
        world.sources = [("pages", database)]
        self.other = workspace.add_row(self.rows, "Other", {"slug": "other"})
        self.home = workspace.add_row(self.rows, "Home of the original", {"slug": "home"})
        (original,) = workspace.append_blocks(self.home, [b.synced_original([b.paragraph("shared")])])
        crowd = [workspace.add_row(self.rows, f"Person {n}") for n in range(30)]
        content = [
            b.toggle("more", [b.toggle("deeper", [b.paragraph("inside")])]),
            b.synced_copy(original),
            *(b.paragraph(f"line {n}") for n in range(120)),
        ]
        properties = {"slug": "whole", "people": crowd}
        self.whole = workspace.add_row(self.rows, "Whole", properties, blocks=content)
        world.clock.advance(OLD)


@asynccontextmanager
async def on_upstash(folder: Path, server: UpstashServer) -> AsyncIterator[World]:
    """A world whose store speaks the Upstash protocol."""
    async with a_world(folder, kv=UpstashKV(server.url, server.token)) as world:
        yield world


# What is read only in part -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [500, 403, 400, "cut"])
async def test_no_request_of_a_page_may_fail_unnoticed(tmp_path: Path, kind: int | str) -> None:
    """G3: each request of a page's tree fails for good in turn: the last good version stays, the rest goes on.

    Fails when any one failure inside a tree is taken for an empty list.
    """
    async with a_world(tmp_path) as world:
        site = Site(world)
        await world.start()
        await world.settle()
        await world.ledger.call(work.make_due, [site.whole], Priority.FRESH, "test")
        async with world.counted() as seen:
            await world.run(look=False)
        asked = [(r.path, "start_cursor" in r.query) for r in seen]
        assert len(asked) == len(set(asked)) == 7
        for number, (path, is_continued) in enumerate(asked):
            before = await world.value("page:whole")
            site.workspace.append_blocks(site.whole, [b.paragraph(f"new {number}")])
            site.workspace.append_blocks(site.other, [b.paragraph(f"other {number}")])
            status = kind if isinstance(kind, int) else 500
            world.sandbox.faults.add(
                status, path=f"^{path}$", times=FOR_EVER, cut=kind == "cut", after=int(is_continued)
            )
            await world.ledger.call(work.make_due, [site.whole, site.other], Priority.FRESH, "test")
            await world.run(look=False)
            is_copy = kind == 403 and _is_original(world, path)
            if not is_copy:
                assert await world.value("page:whole") == before, path
                (trouble,) = await world.ledger.call(work.troubled)
                assert trouble["id"] == site.whole and trouble["attempts"] == 1
            assert f"other {number}" in await said(world, "other")
            world.sandbox.faults.clear()
            world.clock.advance(60.0)
            await world.settle()
            assert f"new {number}" in await said(world, "whole")
            assert await world.ledger.call(work.troubled) == []
        await check(world)


def _is_original(world: World, path: str) -> bool:
    """Whether a request is for the inside of a synced original: one that may not be read is no failure."""
    block = world.workspace.blocks.get(path.split("/")[2])
    return block is not None and block.kind == "synced_block"


# A store that is away, or full ---------------------------------------------------------------------------------------

OUTAGES = {
    "refused": Fault.error("ERR something is wrong", 503),
    "proxy": Fault.html(),
    "reset": Fault("reset"),
    "loading": Fault.error("LOADING Redis is loading the dataset in memory"),
}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_hour_without_the_store_loses_nothing(
    tmp_path: Path, upstash_server: UpstashServer, outage: str
) -> None:
    """G5: what was read meanwhile is written when the store is back, and no page is read again for it.

    Fails when a page counts as written although the store did not take it.
    """
    async with on_upstash(tmp_path, upstash_server) as world:
        site = Site(world)
        await world.start()
        await world.settle()
        fault = OUTAGES[outage]
        upstash_server.fault = Fault(fault.kind, fault.status, fault.body, fault.headers, None)
        for number in range(60):
            if number in (0, 20):
                page = site.whole if number else site.home
                site.workspace.append_blocks(page, [b.paragraph(f"minute {number}")])
            if number == 30:
                site.workspace.set_title(site.other, "Renamed")
                site.workspace.set_properties(site.other, {"slug": "elsewhere"})
            summary = await world.poll(60.0)
        assert summary.problem is not None and summary.pending > 0
        assert len(upstash_server.requests) < 200
        upstash_server.fault = None
        async with world.counted() as seen:
            for _ in range(8):
                summary = await world.poll()
        assert [r for r in seen if contents(r)] == [] and len(seen) == 16
        assert summary.problem is None and summary.pending == 0
        assert "minute 0" in await said(world, "home") and "minute 20" in await said(world, "whole")
        await check(world)


async def test_a_used_up_quota_is_left_alone_for_a_quarter_of_an_hour(
    tmp_path: Path, upstash_server: UpstashServer
) -> None:
    """One batch is refused, then silence for 900 s; the daemon goes on reading, and says why it does not write.

    Fails with the back-off of an ordinary outage, and when the heartbeat knocks all the same.
    """
    async with on_upstash(tmp_path, upstash_server) as world:
        site = Site(world)
        await world.start()
        await world.settle()
        site.workspace.append_blocks(site.whole, [b.paragraph("new")])
        upstash_server.requests.clear()
        upstash_server.fault = Fault("status", 429, Fault.error(QUOTA_MESSAGE).body, {}, None)
        summary = await world.poll()
        assert len(upstash_server.requests) == 1
        assert summary.problem is not None and "Raise the store's plan" in summary.problem
        assert summary.problem.count("Raise") == 1 and QUOTA_MESSAGE[:20] in summary.problem
        for _ in range(int(QUOTA_BACK_OFF_SECONDS / 60.0) - 2):
            await world.poll(60.0)
            await world.cycle.publisher.heartbeat()
        assert len(upstash_server.requests) == 1
        upstash_server.fault = None
        await world.poll(120.0)
        assert "new" in await said(world, "whole")


async def test_a_full_store_still_takes_deletions(tmp_path: Path, redis_server: RedisServer) -> None:
    """Out of memory: writes wait for 900 s, removals are carried out meanwhile, and make room for the rest.

    Fails when the back-off holds up everything.
    """
    async with a_world(tmp_path, kv=RedisKV(redis_server.url)) as world:
        site = Site(world)
        await world.start()
        await world.settle()
        redis_server.admin.config_set("maxmemory", "1")
        site.workspace.append_blocks(site.whole, [b.paragraph("new")])
        summary = await world.poll()
        assert summary.problem is not None and "memory" in summary.problem
        site.workspace.trash(site.other)
        await world.cycle.sweep.run()
        world.cycle.changed = True
        summary = await world.poll()
        assert summary.deleted == 1 and await world.value("page:other") is None
        assert "new" not in await said(world, "whole")
        redis_server.admin.config_set("maxmemory", "0")
        world.clock.advance(QUOTA_BACK_OFF_SECONDS)
        await world.poll()
        assert "new" in await said(world, "whole")
        await check(world)


async def test_a_store_that_failed_while_there_was_nothing_to_write_is_well_again(
    tmp_path: Path, upstash_server: UpstashServer
) -> None:
    """A heartbeat fails on a quiet day: it is tried again soon, and its success ends the complaint.

    Fails when only a batch does.
    """
    async with on_upstash(tmp_path, upstash_server) as world:
        Site(world)
        await world.start()
        await world.settle()
        upstash_server.fault = Fault.html()
        world.clock.advance(300.0)
        await world.cycle.publisher.heartbeat()
        assert (await world.poll()).problem is not None
        for _ in range(4):
            await world.cycle.publisher.heartbeat()
            summary = await world.poll()
        assert summary.problem is None


# Batches -------------------------------------------------------------------------------------------------------------


async def test_batches_are_bounded_and_what_is_larger_goes_alone(
    tmp_path: Path, upstash_server: UpstashServer
) -> None:
    """900 KB at most, with the status and the owner's record; a page beyond that travels by itself.

    Fails when a batch is closed only after it has grown too large.
    """
    async with on_upstash(tmp_path, upstash_server) as world:
        rows = world.add_source("pages")
        for number in range(24):
            words = [b.paragraph(f"{number} " + "ж" * 900) for _ in range(40)]
            world.workspace.add_row(rows, f"Row {number}", {"slug": f"row-{number}"}, blocks=words)
        huge = [b.paragraph("x" * 1900) for _ in range(450)]
        world.workspace.add_row(rows, "Huge", {"slug": "huge"}, blocks=huge)
        world.clock.advance(OLD)
        await world.start()
        upstash_server.requests.clear()
        await world.catch_up()
        sent = [batch for batch in batches(upstash_server) if any("page:" in key for key in batch.sets)]
        alone = [batch for batch in sent if "page:huge" in batch.sets]
        assert [set(batch.sets) for batch in alone] == [{"page:huge", "sync:status"}]
        assert alone[0].size_bytes > MAX_BATCH_BYTES
        others = [batch.size_bytes for batch in sent if batch not in alone]
        assert len(others) < 10 and max(others) <= MAX_BATCH_BYTES
        await check(world)


async def test_a_refused_value_fails_its_page_only(tmp_path: Path, upstash_server: UpstashServer) -> None:
    """The store takes no request of this size: the others of the batch are written, the page is named, and comes
    once it is smaller; its old value stays until then.

    Fails when a refused batch is not taken apart.
    """
    async with on_upstash(tmp_path, upstash_server) as world:
        site = Site(world)
        await world.start()
        await world.settle()
        before = await world.value("page:whole")
        upstash_server.max_request_bytes = 150_000
        long = site.workspace.append_blocks(site.whole, [b.paragraph("x" * 1900) for _ in range(40)])
        site.workspace.append_blocks(site.other, [b.paragraph("beside")])
        summary = await world.poll()
        assert summary.refused == 1 and "beside" in await said(world, "other")
        assert await world.value("page:whole") == before
        (refused,) = await world.ledger.call(records.refused)
        assert refused["key"] == "page:whole" and refused["id"] == site.whole
        assert "max request size" in refused["reason"] and "Split the page" in refused["reason"]
        count = len(upstash_server.requests)
        await world.poll()
        assert len(upstash_server.requests) == count
        for block in long:
            site.workspace.delete_block(block)
        await world.settle()
        assert await world.ledger.call(records.refused) == []
        await check(world)


@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_a_batch_whose_answer_was_lost_can_do_no_harm_later(
    tmp_path: Path, upstash_server: UpstashServer, redis_server: RedisServer, kind: str
) -> None:
    """G9: the next batch has another token, so the first one, should it arrive after all, is refused whole.

    Fails when a batch in doubt is simply sent again with the same token.
    """
    async with on_upstash(tmp_path, upstash_server) as world:
        site = Site(world)
        await world.start()
        await world.settle()
        upstash_server.requests.clear()
        site.workspace.append_blocks(site.whole, [b.paragraph("first")])
        upstash_server.fault = Fault(kind, after=True)
        assert (await world.poll()).problem is not None
        world.clock.advance(60.0)
        late = next(command for command in upstash_server.requests if "DEL" in command[1])
        site.workspace.append_blocks(site.whole, [b.paragraph("second")])
        await world.poll()
        lost, *later = batches(upstash_server)
        assert later and all(batch.token > lost.token for batch in later)
        assert "second" in await said(world, "whole")
        assert redis_server.admin.execute_command(*late) == 0
        assert "second" in await said(world, "whole")
        await check(world)
