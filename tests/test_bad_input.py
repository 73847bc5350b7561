"""Bad input, end to end: the right result, or an error that names the page and what to do; the rest goes on."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.demo import blocks as b
from daemon.kv.base import KVUnauthorized, KVValueTooLarge, Owner, Write
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger import records
from daemon.ledger.ledger import Ledger, LedgerError
from tests.support.world import OLD, World, a_world, texts

SCHEMA = {"slug": "rich_text"}


def a_source(world: World) -> str:
    """A pages database; its data source's id."""
    root = world.workspace.create_page(None, "Root")
    database, rows = world.workspace.create_database(root, "Pages", SCHEMA)
    world.sources = [("pages", database)]
    return rows


async def publish(world: World) -> None:
    """Let what was built grow old, then bring it to the store."""
    world.clock.advance(OLD)
    await world.start()
    await world.settle()


async def test_a_row_without_slug_or_title_is_named_by_its_id(tmp_path: Path) -> None:
    """The last twelve hex digits of its id."""
    async with a_world(tmp_path) as world:
        row = world.workspace.add_row(a_source(world), "")
        await publish(world)
        assert await world.slugs() == {row.replace("-", "")[-12:]}


async def test_an_empty_page_has_no_blocks(tmp_path: Path) -> None:
    """A bundle with an empty list."""
    async with a_world(tmp_path) as world:
        world.workspace.add_row(a_source(world), "Empty")
        await publish(world)
        assert (await world.value("page:empty"))["blocks"] == []


async def test_many_blocks_in_a_row_and_deep_nesting_are_whole(tmp_path: Path) -> None:
    """250 siblings in order, and twelve levels."""
    async with a_world(tmp_path) as world:
        rows = a_source(world)
        world.workspace.add_row(rows, "Long", blocks=[b.paragraph(str(n)) for n in range(250)])
        deep = world.workspace.add_row(rows, "Deep")
        inside = deep
        for level in range(12):
            (inside,) = world.workspace.append_blocks(inside, [b.toggle(str(level))])
        await publish(world)
        assert list(texts((await world.value("page:long"))["blocks"])) == [str(n) for n in range(250)]
        assert list(texts((await world.value("page:deep"))["blocks"])) == [str(n) for n in range(12)]


async def test_a_block_inside_itself_ends(tmp_path: Path) -> None:
    """The second time round it is not expanded; the page is published."""
    async with a_world(tmp_path) as world:
        page = world.workspace.add_row(
            a_source(world), "Loop", blocks=[b.toggle("outer", [b.toggle("inner")])]
        )
        (outer,) = world.workspace.children(page)
        (inner,) = world.workspace.children(outer)
        world.workspace.add_cycle(inner, outer)
        await publish(world)
        assert list(texts((await world.value("page:loop"))["blocks"]))[:2] == ["outer", "inner"]


@pytest.mark.parametrize("title", ["🚀 Go", "مرحبا بالعالم", "안녕 세계", "नमस्ते दुनिया", "half \ud83d moon"])
async def test_every_script_survives(tmp_path: Path, title: str) -> None:
    """Title and text arrive as they were written, half an emoji included; the slug keeps the script."""
    async with a_world(tmp_path) as world:
        world.workspace.add_row(a_source(world), title, blocks=[b.paragraph(f"{title}!")])
        await publish(world)
        (slug,) = await world.slugs()
        bundle = await world.value(f"page:{slug}")
        assert bundle["meta"]["title"] == title and list(texts(bundle["blocks"])) == [f"{title}!"]


async def test_a_page_of_two_megabytes_goes_alone(tmp_path: Path) -> None:
    """Larger than a batch: written by itself, the others beside it."""
    async with a_world(tmp_path) as world:
        rows = a_source(world)
        world.workspace.add_row(rows, "Huge", blocks=[b.paragraph("x" * 2000) for _ in range(1000)])
        world.workspace.add_row(rows, "Small")
        await publish(world)
        assert len(await world.kv.get("page:huge") or "") > 2_000_000
        assert "small" in await world.slugs()


class SmallKV(EmbeddedKV):
    """A store that refuses requests over 100 KB."""

    async def apply(self, writes: Sequence[Write], owner: Owner) -> bool:
        if sum(write.size_bytes for write in writes) > 100_000:
            raise KVValueTooLarge("request is over 100 KB")
        return await super().apply(writes, owner)


async def test_a_value_over_the_stores_limit_fails_its_page_only(tmp_path: Path) -> None:
    """The page is named with the reason; everything else is written."""
    async with a_world(tmp_path, kv=SmallKV(tmp_path / "kv.db")) as world:
        rows = a_source(world)
        world.workspace.add_row(rows, "Huge", blocks=[b.paragraph("x" * 2000) for _ in range(100)])
        world.workspace.add_row(rows, "Small")
        await publish(world)
        assert await world.slugs() == {"small"}
        (refused,) = await world.ledger.call(records.refused)
        assert refused["key"] == "page:huge" and "100 KB" in refused["reason"]


async def test_any_kind_of_id_is_understood(tmp_path: Path) -> None:
    """A page where a database is meant and the reverse, and a data source: each is what it is."""
    async with a_world(tmp_path) as world:
        rows = a_source(world)
        ((_, database),) = world.sources
        world.workspace.add_row(rows, "Row")
        page = world.workspace.create_page(None, "Handbook")
        world.workspace.create_page(page, "Chapter")
        world.sources = [("pages", page), ("posts", rows), ("docs", database)]
        await publish(world)
        assert await world.slugs() == {"pages", "pages/chapter", "row"}
        assert (await world.value("page:pages"))["meta"]["type"] == "page"
        assert (await world.value("page:row"))["meta"]["type"] == "post"


async def test_a_wrong_id_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A source that nobody shares: its problem stands in the ledger, the other source is published."""
    async with a_world(tmp_path) as world:
        world.workspace.add_row(a_source(world), "Row")
        world.sources.append(("docs", "12345678-1234-4234-8234-123456789abc"))
        await publish(world)
        assert await world.slugs() == {"row"}


async def test_a_data_source_added_while_running_is_found(tmp_path: Path) -> None:
    """At the latest by the sweep."""
    async with a_world(tmp_path) as world:
        world.workspace.add_row(a_source(world), "Row")
        await publish(world)
        ((_, database),) = world.sources
        second = world.workspace.add_data_source(database, "More", SCHEMA)
        world.workspace.add_row(second, "Other")
        await world.sweep()
        assert await world.slugs() == {"row", "other"}


async def test_wrong_credentials_of_the_store_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading goes on, the problem names the setting, and nothing is lost."""
    async with a_world(tmp_path) as world:
        world.workspace.add_row(a_source(world), "Row")

        async def refuse(*_: object) -> None:
            raise KVUnauthorized("WRONGPASS")

        monkeypatch.setattr(type(world.kv), "read_owner", refuse)
        world.clock.advance(OLD)
        await world.start()
        summary = await world.run()
        assert summary.read == 1 and "KV_REST_API_TOKEN" in str(summary.problem)
        monkeypatch.undo()
        world.clock.advance(60)
        await world.run(look=False)
        assert await world.slugs() == {"row"}


async def test_a_ledger_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """A file where the folder should be, a folder where the file should be, something that is no ledger."""
    (tmp_path / "file").write_text("not a ledger")
    for place in (tmp_path / "file" / "ledger.db", tmp_path, tmp_path / "file"):
        ledger = Ledger(f"sqlite:///{place}")
        with pytest.raises(LedgerError, match=r"DATA_DIR"):
            await ledger.open()
        await ledger.close()


async def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Written by a version to come: the error says so, and not a byte is changed."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}")
    await ledger.open()
    await ledger.close()
    change(path, "UPDATE alembic_version SET version_num = '9999'")
    ledger = Ledger(f"sqlite:///{path}")
    with pytest.raises(LedgerError, match="newer version"):
        await ledger.open()
    await ledger.close()
    assert change(path, "SELECT version_num FROM alembic_version") == [("9999",)]


def change(path: Path, statement: str) -> list[tuple[str, ...]]:
    """Run one statement beside the daemon."""
    connection = sqlite3.connect(path)
    with connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found
