"""The keys that the site reads, end to end: what stands in them, under which names, in which order."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.demo import blocks as b
from daemon.demo import sample
from daemon.demo.habits import Habits
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger import sources
from tests.support.oracle import check
from tests.support.world import OLD, World, a_world, texts


@asynccontextmanager
async def site_in(tmp_path: Path, habits: Habits | None = None) -> AsyncIterator[World]:
    """A world; the test builds its site and says `published`."""
    async with a_world(tmp_path, habits=habits) as world:
        yield world


async def published(world: World) -> None:
    """Everything that was built is old news, and the daemon has read it."""
    world.clock.advance(OLD)
    await world.start()
    await world.settle()


# The whole sample site


HABITS = Habits(
    query_lag_seconds=120.0,
    search_lag_seconds=240.0,
    search_forgets=0.3,
    short_pages=True,
    cursor_dies=0.02,
    refuse_children=True,
    trash_reaches_down="not_found",
    wrong_kind="validation_error",
)


@pytest.mark.parametrize("habits", [Habits(), HABITS], ids=["calm", "moody"])
async def test_the_sample_site(tmp_path: Path, habits: Habits) -> None:
    """Every key of a real site is what the rules make of the workspace, whatever Notion's mood."""
    async with site_in(tmp_path, habits) as world:
        built = sample.build(world.workspace)
        world.sources = [("pages", built.pages_database), ("posts", built.posts_database)]
        world.clock.advance(OLD)
        if habits is HABITS:
            world.sandbox.faults.random(0.1, [500, 502, 504, 429, "cut", "reset"], seed=5)
        await world.start()
        for _ in range(3):
            await world.settle()
            world.clock.advance(OLD)
        await check(world)
        assert len(await world.slugs()) >= 39
        skipped = [row.id for row in await world.ledger.call(sources.databases) if row.skipped]
        assert skipped == [built.linked_database]


# meta


SCHEMA: dict[str, Any] = {
    "Name": "title",
    "Slug": "rich_text",
    "EXCERPT": "rich_text",
    "Tags": {"multi_select": {"options": ["a", "b"]}},
    "Visibility": {"select": {"options": ["public", "hidden"]}},
    "Password": "rich_text",
    "fullwidth": "checkbox",
    "Text": "rich_text",
    "Number": "number",
    "Choice": "select",
    "Choices": "multi_select",
    "State": "status",
    "Day": "date",
    "Who": "people",
    "Docs": "files",
    "Done": "checkbox",
    "Link": "url",
    "Mail": "email",
    "Phone": "phone_number",
    "Sum": "formula",
    "Far": "relation",
    "Rolled": "rollup",
    "Made": "created_time",
    "Moved": "last_edited_time",
    "Maker": "created_by",
    "Mover": "last_edited_by",
    "No": {"unique_id": {"prefix": "TASK"}},
}


async def test_meta_of_every_kind_of_property(tmp_path: Path) -> None:
    """All fields of `meta`, in their order, and every other property as a plain JSON value."""
    async with site_in(tmp_path) as world:
        source = world.add_source(schema=SCHEMA)
        other = world.workspace.add_row(source, "Other", {"Slug": "other"})
        ada = world.workspace.add_person("Ada", "ada@example.com")
        world.clock.advance(90)
        row = world.workspace.add_row(
            source,
            [b.text("A "), b.text("bold", bold=True), b.text(" title")],
            {
                "Slug": "/deep/slug/",
                "EXCERPT": "In short",
                "Tags": ["b", "a"],
                "Visibility": "hidden",
                "Password": "s3cret",
                "fullwidth": True,
                "Text": [b.text("plain "), b.text("link", link="https://example.com")],
                "Number": 1.5,
                "Choice": "one",
                "Choices": ["x", "y"],
                "State": "Done",
                "Day": {"start": "2026-01-01", "end": "2026-01-02"},
                "Who": [ada],
                "Docs": [{"name": "a.pdf", "url": "https://example.com/a.pdf"}],
                "Done": True,
                "Link": "https://example.com",
                "Mail": "a@example.com",
                "Phone": "+49 30 1",
                "Sum": 3,
                "Far": [other],
                "Rolled": 7,
            },
            icon="🌙",
            cover="https://example.com/cover.jpg",
        )
        await published(world)
        bundle = await world.value("page:deep/slug")
        editor = {"id": world.workspace.person_id, "name": "Ada Editor"}
        assert list(bundle) == ["meta", "blocks", "syncedAt"]
        assert bundle["meta"] == {
            "slug": "deep/slug",
            "notionId": row,
            "title": "A bold title",
            "visibility": "hidden",
            "password": "s3cret",
            "lastEdited": "2026-01-05T09:01:00.000Z",
            "icon": "🌙",
            "cover": "https://example.com/cover.jpg",
            "fullWidth": True,
            "type": "page",
            "parentSlug": None,
            "createdTime": "2026-01-05T09:01:00.000Z",
            "excerpt": "In short",
            "tags": ["b", "a"],
            "properties": {
                "Text": "plain link",
                "Number": 1.5,
                "Choice": "one",
                "Choices": ["x", "y"],
                "State": "Done",
                "Day": {"start": "2026-01-01", "end": "2026-01-02", "time_zone": None},
                "Who": [{"id": ada, "name": "Ada"}],
                "Docs": [{"name": "a.pdf", "url": "https://example.com/a.pdf"}],
                "Done": True,
                "Link": "https://example.com",
                "Mail": "a@example.com",
                "Phone": "+49 30 1",
                "Sum": 3,
                "Far": [other],
                "Rolled": 7,
                "Made": "2026-01-05T09:01:00.000Z",
                "Moved": "2026-01-05T09:01:00.000Z",
                "Maker": editor,
                "Mover": editor,
                "No": "TASK-2",
            },
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", bundle["syncedAt"])


async def test_meta_of_a_bare_row(tmp_path: Path) -> None:
    """What nobody filled in has its default; `childPages` is absent when there are none."""
    async with site_in(tmp_path) as world:
        row = world.workspace.add_row(world.add_source(schema={}), "Bare")
        await published(world)
        assert (await world.value("page:bare"))["meta"] == {
            "slug": "bare",
            "notionId": row,
            "title": "Bare",
            "visibility": "public",
            "password": None,
            "lastEdited": "2026-01-05T09:00:00.000Z",
            "icon": None,
            "cover": None,
            "fullWidth": False,
            "type": "page",
            "parentSlug": None,
            "createdTime": "2026-01-05T09:00:00.000Z",
            "excerpt": None,
            "tags": [],
            "properties": {},
        }


async def test_hosted_files_carry_an_address_that_works(tmp_path: Path) -> None:
    """Covers, icons and files that Notion keeps come with their signed URL."""
    async with site_in(tmp_path) as world:
        world.workspace.add_row(
            world.add_source(schema={"Doc": "files"}),
            "Files",
            {"Doc": [{"name": "a.pdf", "hosted": True}]},
            icon=b.hosted_file("icon.png"),
            cover=b.hosted_file("cover.png"),
        )
        await published(world)
        meta = (await world.value("page:files"))["meta"]
        for url in (meta["icon"], meta["cover"], meta["properties"]["Doc"][0]["url"]):
            assert url.startswith("http://") and "X-Amz-Signature=" in url


# Types, parents, children


async def test_types_parents_and_child_pages(tmp_path: Path) -> None:
    """Each kind of page says what it is and whose it is; children stand in reading order, toggles and columns too."""
    async with site_in(tmp_path) as world:
        workspace = world.workspace
        pages, posts = world.add_source("pages"), world.add_source("posts")
        hubs = world.add_source("hubs")
        home = workspace.add_row(pages, "Home", {"slug": "/"})
        workspace.add_row(posts, "Post", {"slug": "post"})
        workspace.add_row(hubs, "Hub", {"slug": "hub"})
        last = workspace.create_page(home, "Last child")
        (toggle, columns) = workspace.append_blocks(
            home, [b.toggle("more", [b.paragraph("x")]), b.columns([b.paragraph("l")], [b.paragraph("r")])]
        )
        in_toggle = workspace.create_page(toggle, "In toggle")
        in_column = workspace.create_page(workspace.children(columns)[1], "In column")
        workspace.create_page(in_column, "Grandchild")
        _, rows = workspace.create_database(home, "Rows", {"slug": "rich_text"})
        row = workspace.add_row(rows, "Row")
        workspace.create_page(row, "Below row")
        first = workspace.create_page(home, "After")
        await published(world)
        await check(world)
        found = {}
        for slug in await world.slugs():
            meta = (await world.value(f"page:{slug}"))["meta"]
            found[slug] = (meta["type"], meta["parentSlug"])
        assert found == {
            "index": ("page", None),
            "post": ("post", None),
            "hub": ("hubs", None),
            "index/last-child": ("child", "index"),
            "index/in-toggle": ("child", "index"),
            "index/in-column": ("child", "index"),
            "index/in-column/grandchild": ("child", "index/in-column"),
            "index/row": ("row", "index"),
            "index/row/below-row": ("child", "index/row"),
            "index/after": ("child", "index"),
        }
        assert (await world.value("page:index"))["meta"]["childPages"] == [
            {"id": last, "title": "Last child", "slug": "index/last-child"},
            {"id": in_toggle, "title": "In toggle", "slug": "index/in-toggle"},
            {"id": in_column, "title": "In column", "slug": "index/in-column"},
            {"id": first, "title": "After", "slug": "index/after"},
        ]


async def test_a_page_as_source(tmp_path: Path) -> None:
    """The page has the source's name as its slug and as its type, everything is under it, its index names it."""
    async with site_in(tmp_path) as world:
        guide = world.workspace.create_page(None, "The Guide", blocks=[b.paragraph("words")])
        chapter = world.workspace.create_page(guide, "Chapter One")
        world.sources = [("docs", guide)]
        await published(world)
        assert await world.keys() == {"page:docs", "page:docs/chapter-one", "docs:index"}
        meta = (await world.value("page:docs"))["meta"]
        assert (meta["title"], meta["type"], meta["parentSlug"]) == ("The Guide", "docs", None)
        assert [child["id"] for child in meta["childPages"]] == [chapter]
        assert [item["slug"] for item in (await world.value("docs:index"))["items"]] == ["docs"]


async def test_a_source_of_several_data_sources(tmp_path: Path) -> None:
    """All rows of all data sources of a database are the source's; a data source given by its id stands alone."""
    async with site_in(tmp_path) as world:
        first = world.add_source("pages")
        second = world.workspace.add_data_source(world.sources[0][1], "More", {"slug": "rich_text"})
        alone = world.workspace.create_database(world.workspace.create_page(None, "X"), "Posts", {})[1]
        world.sources.append(("posts", alone))
        world.workspace.add_row(first, "One")
        world.workspace.add_row(second, "Two")
        world.workspace.add_row(alone, "Three")
        await published(world)
        assert await world.keys() == {"page:one", "page:two", "page:three", "pages:index", "posts:index"}
        assert [item["slug"] for item in (await world.value("pages:index"))["items"]] == ["one", "two"]


# Lists


async def test_an_index(tmp_path: Path) -> None:
    """Items have six fields, newest edit first, then by slug."""
    async with site_in(tmp_path) as world:
        source = world.add_source("posts", {"slug": "rich_text", "excerpt": "rich_text"})
        made = {}
        for minute, slug in enumerate(["old", "b", "a", "new"]):
            world.clock.advance(60 if slug != "a" else 0)
            made[slug] = world.workspace.add_row(
                source, slug.title(), {"slug": slug, "excerpt": f"E{minute}"}, cover=f"https://e.com/{slug}"
            )
        await published(world)
        index = await world.value("posts:index")
        assert list(index) == ["items", "syncedAt"]
        assert index["items"][0] == {
            "slug": "new",
            "title": "New",
            "excerpt": "E3",
            "notionId": made["new"],
            "cover": "https://e.com/new",
            "lastEdited": "2026-01-05T09:03:00.000Z",
        }
        assert [item["slug"] for item in index["items"]] == ["new", "a", "b", "old"]
        world.workspace.set_title(made["old"], "Old but edited")
        await world.settle()
        index = await world.value("posts:index")
        assert [item["slug"] for item in index["items"]] == ["old", "new", "a", "b"]


@pytest.mark.parametrize(("covers", "view"), [(3, "gallery"), (2, "list"), (0, "list"), (5, "gallery")])
async def test_a_database_inside_a_page(tmp_path: Path, covers: int, view: str) -> None:
    """Its key holds its name, all rows with slug and path, and `gallery` from 60 % of covers on."""
    async with site_in(tmp_path) as world:
        workspace = world.workspace
        page = workspace.add_row(world.add_source(), "Team", {"slug": "team"})
        schema = {"slug": "rich_text", "excerpt": "rich_text", "tags": "multi_select"}
        database, source = workspace.create_database(page, "People", schema)
        rows = []
        for number in range(5):
            world.clock.advance(60)
            rows.append(
                workspace.add_row(
                    source,
                    f"P{number}",
                    {"slug": f"p-{number}", "excerpt": "Hi", "tags": ["x", "y"]},
                    cover=f"https://e.com/{number}" if number < covers else None,
                )
            )
        await published(world)
        value = await world.value(f"db:{database}:cursor:_")
        bundle = value.pop("bundle")
        assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", value.pop("syncedAt"))
        assert value == {"databaseId": database, "cursor": "_"}
        items = bundle.pop("items")
        assert bundle == {"view": view, "name": "People", "nextCursor": None, "hasMore": False}
        assert [item["id"] for item in items] == rows[::-1]
        assert items[4] == {
            "id": rows[0],
            "title": "P0",
            "slug": "p-0",
            "path": "team/p-0",
            "excerpt": "Hi",
            "cover": "https://e.com/0" if covers else None,
            "tags": ["x", "y"],
            "url": f"https://www.notion.so/P0-{rows[0].replace('-', '')}",
        }


async def test_an_empty_and_a_linked_database(tmp_path: Path) -> None:
    """An empty one has an empty bundle; a view that the API does not serve is skipped and named, the page stands."""
    async with site_in(tmp_path) as world:
        page = world.workspace.add_row(world.add_source(), "Team", {"slug": "team"})
        database, _ = world.workspace.create_database(page, "Nobody", {})
        linked = world.workspace.create_linked_database(page, "A view")
        await published(world)
        assert await world.keys() == {"page:team", "pages:index", f"db:{database}:cursor:_"}
        value = await world.value(f"db:{database}:cursor:_")
        assert (value["bundle"]["items"], value["bundle"]["view"]) == ([], "list")
        (row,) = [row for row in await world.ledger.call(sources.databases) if row.skipped]
        assert row.id == linked and row.problem and "linked view" in row.problem


async def test_an_empty_database_that_first_fails(tmp_path: Path) -> None:
    """Its bundle appears when it is listed at last, although no page comes with it."""
    async with site_in(tmp_path) as world:
        page = world.workspace.add_row(world.add_source(), "Team", {"slug": "team"})
        database, source = world.workspace.create_database(page, "Nobody", {})
        world.sandbox.faults.add(500, path=f"/data_sources/{source}/query", times=5)
        await published(world)
        for _ in range(3):
            await world.poll(30)
        assert f"db:{database}:cursor:_" in await world.keys()


async def test_several_data_sources_in_an_inline_database(tmp_path: Path) -> None:
    """All rows of all its data sources stand in one bundle and have pages."""
    async with site_in(tmp_path) as world:
        page = world.workspace.add_row(world.add_source(), "Team", {"slug": "team"})
        database, first = world.workspace.create_database(page, "People", {"slug": "rich_text"})
        second = world.workspace.add_data_source(database, "Guests", {})
        world.workspace.add_row(first, "Ada")
        world.workspace.add_row(second, "Bob")
        await published(world)
        await check(world)
        assert {"team/ada", "team/bob"} < await world.slugs()


# Slugs


async def test_slugs_of_inline_rows(tmp_path: Path) -> None:
    """`/a/b` is absolute, `a/b` is used as it is, `b` and a title go under the parent's slug."""
    async with site_in(tmp_path) as world:
        page = world.workspace.add_row(world.add_source(), "Shop", {"slug": "shop/online"})
        _, rows = world.workspace.create_database(page, "Things", {"slug": "rich_text"})
        for title, slug in {"A": "/abs/x", "B": "some/path/", "C": "plain", "D": "", "E": "/one"}.items():
            world.workspace.add_row(rows, f"Row {title}", {"slug": slug})
        await published(world)
        await check(world)
        assert await world.slugs() == {
            "shop/online",
            "abs/x",
            "some/path",
            "shop/online/plain",
            "shop/online/row-d",
            "one",
        }


async def test_conflicting_slugs(tmp_path: Path) -> None:
    """The page created first keeps it, the later one gets its id's last 12 digits, children follow; both are named."""
    async with site_in(tmp_path) as world:
        workspace = world.workspace
        pages, posts = world.add_source("pages"), world.add_source("posts")
        younger = workspace.add_row(
            pages, "Younger", {"slug": "same"}, created_time=datetime(2025, 2, 1, tzinfo=UTC)
        )
        older = workspace.add_row(
            posts, "Older", {"slug": "/same/"}, created_time=datetime(2025, 1, 1, tzinfo=UTC)
        )
        workspace.create_page(younger, "Child")
        await published(world)
        await check(world)
        given = f"same-{younger.replace('-', '')[-12:]}"
        assert await world.slugs() == {"same", given, f"{given}/child"}
        assert (await world.value("page:same"))["meta"]["notionId"] == older
        assert world.cycle.site is not None
        (conflict,) = world.cycle.site.layout.conflicts
        assert (conflict.slug, conflict.kept_by, conflict.yielded_by) == ("same", older, younger)


async def test_the_posts_database_shown_inline(tmp_path: Path) -> None:
    """Its rows are `post` pages once, under their own slugs; the page that shows it gets a bundle with those paths."""
    async with site_in(tmp_path) as world:
        workspace = world.workspace
        pages = world.add_source("pages")
        home = workspace.add_row(pages, "Home", {"slug": "/"})
        database, posts = workspace.create_database(home, "Blog", {"slug": "rich_text"})
        workspace.add_row(posts, "Hello", {"slug": "hello"})
        world.sources.append(("posts", database))
        await published(world)
        await check(world)
        assert await world.keys() == {
            "page:index",
            "page:hello",
            "pages:index",
            "posts:index",
            f"db:{database}:cursor:_",
        }
        meta = (await world.value("page:hello"))["meta"]
        assert (meta["type"], meta["parentSlug"]) == ("post", None)
        (item,) = (await world.value(f"db:{database}:cursor:_"))["bundle"]["items"]
        assert (item["slug"], item["path"]) == ("hello", "hello")


async def test_a_changed_slug_takes_everything_below_along(tmp_path: Path) -> None:
    """The old keys are gone, the new ones are there, lists and parents name the new ones."""
    async with site_in(tmp_path) as world:
        workspace = world.workspace
        page = workspace.add_row(world.add_source(), "Page", {"slug": "old"})
        child = workspace.create_page(page, "Child")
        workspace.create_page(child, "Grandchild")
        _, rows = workspace.create_database(child, "Rows", {"slug": "rich_text"})
        workspace.add_row(rows, "Row", {"slug": "row"})
        await published(world)
        workspace.set_properties(page, {"slug": "new"})
        await world.settle()
        await check(world)
        assert await world.slugs() == {"new", "new/child", "new/child/grandchild", "new/child/row"}


# Whole pages


async def test_blocks_of_a_bundle(tmp_path: Path) -> None:
    """Pointers carry present titles, copies their original's children, and no request id is stored anywhere."""
    async with site_in(tmp_path) as world:
        workspace = world.workspace
        source = world.add_source()
        host = workspace.add_row(
            source, "Host", {"slug": "host"}, blocks=[b.synced_original([b.paragraph("synced words")])]
        )
        page = workspace.add_row(
            source, "Page", {"slug": "page"}, blocks=[b.synced_copy(workspace.children(host)[0])]
        )
        child = workspace.create_page(page, "Child")
        workspace.append_blocks(page, [b.link_to_page(host)])
        await published(world)
        workspace.set_title(child, "Renamed")
        await world.settle()
        copy, pointer, link = (await world.value("page:page"))["blocks"]
        assert list(texts(copy["__children"])) == ["synced words"]
        assert (pointer["type"], pointer["child_page"]) == ("child_page", {"title": "Renamed"})
        assert "__children" not in pointer and link["link_to_page"]["page_id"] == host
        for key in await world.keys():
            assert "request_id" not in (await world.kv.get(key) or "")


async def test_the_key_prefix(tmp_path: Path) -> None:
    """Every key, ownership and status included, begins with the prefix; what others keep there is untouched."""
    plain = EmbeddedKV(tmp_path / "kv.db")
    async with a_world(tmp_path, kv=EmbeddedKV(tmp_path / "kv.db", prefix="site1:")) as world:
        world.workspace.add_row(world.add_source(), "Home", {"slug": "/"})
        await published(world)
        assert {key async for key in plain.scan("*")} == {
            "site1:page:index",
            "site1:pages:index",
            "site1:sync:owner",
            "site1:sync:status",
        }
    await plain.close()
