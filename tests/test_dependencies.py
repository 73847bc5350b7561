"""G2: what a page shows of others follows them although no stamp of its own moves, and no reader meets a gap."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.demo.workspace import Workspace
from daemon.kv.base import Owner, Write
from daemon.kv.embedded import EmbeddedKV
from tests.support.site import Site, listed, said, synced
from tests.support.world import OLD, World, a_world

LONG = 120_000
"""Characters of a page of which only a few fit into one batch."""


class Read(EmbeddedKV):
    """A store that somebody reads from front to back after every batch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kv.db")
        self.batches = 0
        self.gaps: list[str] = []
        self.follows_links = True
        """Whether all that changes fits into one batch, so that lists never name what is not there."""

    async def apply(self, writes: Sequence[Write], owner: Owner) -> bool:
        before = await self.pages()
        applied = await super().apply(writes, owner)
        self.batches += 1
        after = await self.pages()
        shown = Counter(meta["notionId"] for meta in after.values())
        self.gaps += [f"{meta['slug']} is gone" for meta in before.values() if not shown[meta["notionId"]]]
        self.gaps += [f"{page} is there {times} times" for page, times in shown.items() if times > 1]
        self.gaps += [f"{slug} says {meta['slug']}" for slug, meta in after.items() if slug != meta["slug"]]
        if self.follows_links:
            await self._follow(after)
        return applied

    async def pages(self) -> dict[str, dict[str, Any]]:
        """What every page says of itself, by slug."""
        keys = [key async for key in self.scan("page:*")]
        values = zip(keys, await self.get_many(keys), strict=True)
        return {key.removeprefix("page:"): json.loads(text)["meta"] for key, text in values if text}

    async def _follow(self, pages: dict[str, dict[str, Any]]) -> None:
        named = [
            (slug, child["slug"], child["id"])
            for slug, meta in pages.items()
            for child in meta.get("childPages", [])
        ]
        for key in [key async for key in self.scan("*") if key.startswith("db:") or key.endswith(":index")]:
            value = json.loads(await self.get(key) or "{}")
            named += [(key, item["slug"], item["notionId"]) for item in value.get("items", [])]
            named += [(key, item["path"], item["id"]) for item in value.get("bundle", {}).get("items", [])]
        for place, slug, page in named:
            if pages.get(slug, {}).get("notionId") != page:
                self.gaps.append(f"{place} names {slug}, which is not there")


async def a_deep_site(world: World) -> Site:
    """The site with what lies below it four levels deep, and a database two levels down."""
    site, workspace = Site(world), world.workspace
    deepest = workspace.create_page(site.grandchild, "Deepest", blocks=[b.paragraph("deep")])
    _, tools = workspace.create_database(site.child, "Tools", {"slug": "rich_text"})
    workspace.add_row(tools, "Hammer", {"slug": "hammer"})
    workspace.add_row(tools, "Tongs", {"slug": "/tongs"})
    workspace.create_page(deepest, "End")
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    return site


UNDER_PARENT = {
    "",
    "/child",
    "/child/grandchild",
    "/child/grandchild/deepest",
    "/child/grandchild/deepest/end",
    "/child/hammer",
    "/printer",
}


@pytest.mark.parametrize("forgets", [0.0, 1.0])
async def test_edits_below_arrive_by_search_or_by_the_sweep(tmp_path: Path, forgets: float) -> None:
    """A grandchild, an inline row and new ones, although no parent moves and search forgets every page."""
    async with a_world(tmp_path, habits=Habits(search_forgets=forgets)) as world:
        site = await synced(world)
        world.clock.advance(OLD)
        workspace = world.workspace
        workspace.append_blocks(site.grandchild, [b.paragraph("deeper")])
        workspace.append_blocks(site.job, [b.paragraph("wanted")])
        workspace.add_row(site.job_rows, "Binder", {"slug": "binder"})
        workspace.create_page(site.child, "Sibling")
        if forgets:
            world.clock.advance(900)
            await world.sweep()
        await world.settle()
        assert "deeper" in await said(world, "parent/child/grandchild")
        assert "wanted" in await said(world, "parent/printer")
        assert {"parent/binder", "parent/child/sibling"} <= await world.slugs()
        items = await listed(world, f"db:{site.jobs}:cursor:_")
        assert {item["path"] for item in items} == {"parent/binder", "parent/printer"}


# Synced blocks -------------------------------------------------------------------------------------------------


def host_row(world: World, site: Site) -> str:
    """On a row."""
    return site.hello


def host_child(world: World, site: Site) -> str:
    """On a page below."""
    return site.grandchild


def host_inline_row(world: World, site: Site) -> str:
    """On a row of a database in a page."""
    return site.job


def host_nested(world: World, site: Site) -> str:
    """In a toggle in a toggle."""
    (toggle,) = world.workspace.append_blocks(site.grandchild, [b.toggle("holds", [b.toggle("more")])])
    return world.workspace.children(toggle)[0]


def host_outside(world: World, site: Site) -> str:
    """On a page that is not on the site."""
    return world.workspace.create_page(site.root, "Outside")


def host_nested_outside(world: World, site: Site) -> str:
    """In a toggle there."""
    page = world.workspace.create_page(site.root, "Outside")
    (toggle,) = world.workspace.append_blocks(page, [b.toggle("holds")])
    return toggle


HOSTS: dict[str, Callable[[World, Site], str]] = {
    "a row": host_row,
    "a child page": host_child,
    "an inline row": host_inline_row,
    "a toggle in a child page": host_nested,
    "a page outside the site": host_outside,
    "a toggle outside the site": host_nested_outside,
}
ALL = dict.fromkeys(HOSTS, True)


async def copies(world: World) -> dict[str, set[str]]:
    """What the page that shows an original says, by the original's host."""
    return {name: set(await said(world, f"row-{number}")) for number, name in enumerate(HOSTS)}


@pytest.mark.parametrize("forgets", [0.0, 1.0])
async def test_originals_reach_their_copies(tmp_path: Path, forgets: float) -> None:
    """Wherever they live: two edits of one stamp, the second deep inside, each shown in a toggle of another page.

    Fails when nobody is told of a changed original, when a host outside the site is not looked at, and when what was
    read while its stamp was young is left as it is.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=forgets)) as world:
        site, workspace = Site(world, rows=len(HOSTS)), world.workspace
        originals = []
        for row, host in zip(site.more, HOSTS.values(), strict=True):
            content = [b.paragraph("v1"), b.toggle("deep", [b.paragraph("deep v1")])]
            originals += workspace.append_blocks(host(world, site), [b.synced_original(content)])
            workspace.append_blocks(row, [b.toggle("unfold", [b.synced_copy(originals[-1])])])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        assert {name: {"v1", "deep v1"} <= texts for name, texts in (await copies(world)).items()} == ALL

        world.clock.advance(60 - world.workspace.now_ms() / 1000 % 60 + 1)
        for original in originals:
            workspace.update_text(workspace.children(original)[0], "v2")
        await (world.sweep() if forgets else world.poll())
        assert {name: "v2" in texts for name, texts in (await copies(world)).items()} == ALL
        world.clock.advance(30)
        for original in originals:
            workspace.update_text(workspace.children(workspace.children(original)[1])[0], "deep v3")
        for _ in range(7):
            await world.poll()
        assert {name: {"v2", "deep v3"} <= texts for name, texts in (await copies(world)).items()} == ALL


@pytest.mark.parametrize("forgets", [0.0, 1.0])
async def test_what_leaves_an_original_leaves_its_copies(tmp_path: Path, forgets: float) -> None:
    """Two deletions of one stamp: no block is left whose stamp could tell a copy that it was read too early.

    Fails when the page of an original outside the site is not looked at again when its stamp has settled.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=forgets)) as world:
        site, workspace = Site(world, rows=len(HOSTS)), world.workspace
        originals = []
        for row, host in zip(site.more, HOSTS.values(), strict=True):
            content = [b.paragraph("stays"), b.paragraph("first"), b.paragraph("second")]
            originals += workspace.append_blocks(host(world, site), [b.synced_original(content)])
            workspace.append_blocks(row, [b.synced_copy(originals[-1])])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        world.clock.advance(60 - world.workspace.now_ms() / 1000 % 60 + 1)
        for original in originals:
            workspace.delete_block(workspace.children(original)[1])
        await (world.sweep() if forgets else world.poll())
        assert {name: texts == {"stays", "second"} for name, texts in (await copies(world)).items()} == ALL
        world.clock.advance(30)
        for original in originals:
            workspace.delete_block(workspace.children(original)[1])
        for _ in range(7):
            await world.poll()
        assert {name: texts == {"stays"} for name, texts in (await copies(world)).items()} == ALL


async def test_an_original_edited_between_two_first_reads(tmp_path: Path) -> None:
    """In a first sync its copy is read before the edit and its own page after it.

    Fails when a page that is read for the first time tells nobody.
    """
    async with a_world(tmp_path) as world:
        site, workspace = Site(world), world.workspace
        (original,) = workspace.append_blocks(site.hello, [b.synced_original([b.paragraph("v1")])])
        workspace.append_blocks(site.parent, [b.synced_copy(original)])
        world.clock.advance(OLD)
        copy_is_read = asyncio.Event()

        async def edit_in_between(_: str, path: str) -> None:
            if path == f"/blocks/{original}/children":
                copy_is_read.set()
            elif path == f"/blocks/{site.hello}/children" and not copy_is_read.is_set():
                await copy_is_read.wait()
                workspace.update_text(workspace.children(original)[0], "v2")

        world.sandbox.watchers.append(edit_in_between)
        await world.start()
        await world.catch_up()
        assert "v2" in await said(world, "hello") and "v2" in await said(world, "parent")


def move_block(workspace: Workspace, block: str, page: str) -> None:
    """What dragging a block to another page does: it keeps its id."""
    old = workspace.parent_of(block)[1]
    workspace.children_ids(old).remove(block)
    workspace.children_ids(page).append(block)
    workspace.blocks[block].parent = ("page_id", page)
    for touched in (old, page):
        workspace.append_blocks(touched, [b.paragraph("moved")])


@pytest.mark.parametrize("target", ["on the site", "outside"])
async def test_an_original_that_moves_is_followed(tmp_path: Path, target: str) -> None:
    """To another page of the site, and to one outside of it; then it is edited there.

    Fails when the page that an original lives on is remembered for ever.
    """
    async with a_world(tmp_path) as world:
        site, workspace = Site(world), world.workspace
        (original,) = workspace.append_blocks(site.hello, [b.synced_original([b.paragraph("v1")])])
        workspace.append_blocks(site.parent, [b.synced_copy(original)])
        outside = workspace.create_page(site.root, "Outside")
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        move_block(workspace, original, site.grandchild if target == "on the site" else outside)
        await world.settle()
        await world.settle()
        workspace.update_text(workspace.children(original)[0], "v2")
        world.clock.advance(20)
        await world.settle()
        assert "v2" in await said(world, "parent")


async def test_an_original_that_is_deleted_or_out_of_reach(tmp_path: Path) -> None:
    """The copy says so and carries nothing; what is shared again has its content back within a sweep.

    Fails when copies that cannot be read are not looked at again, when a host's 404 means that nothing changed, and
    when a block in the trash counts as one on its page.
    """
    async with a_world(tmp_path) as world:
        site, workspace = Site(world), world.workspace
        page = workspace.create_page(None, "Elsewhere")
        (shared,) = workspace.append_blocks(page, [b.synced_original([b.paragraph("shared")])])
        (kept,) = workspace.append_blocks(site.hello, [b.synced_original([b.paragraph("kept")])])
        workspace.append_blocks(site.parent, [b.synced_copy(shared)])
        workspace.append_blocks(site.grandchild, [b.synced_copy(kept)])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        assert "shared" in await said(world, "parent")
        assert "kept" in await said(world, "parent/child/grandchild")

        workspace.unshare(page)
        workspace.delete_block(kept)
        world.clock.advance(900)
        await world.sweep()
        await world.settle()
        workspace.purge(kept)
        world.clock.advance(30 * 86_400)
        await world.sweep()
        blocks = [*(await world.value("page:parent"))["blocks"]]
        blocks += (await world.value("page:parent/child/grandchild"))["blocks"]
        found = [block for block in blocks if block["type"] == "synced_block"]
        assert [block["__synced_unshared"] for block in found] == [True, True]
        assert [block for block in found if "__children" in block] == []

        workspace.share(page)
        world.clock.advance(900)
        await world.sweep()
        assert "shared" in await said(world, "parent")
        workspace.update_text(workspace.children(shared)[0], "shared v2")
        world.clock.advance(900)
        await world.sweep()
        assert "shared v2" in await said(world, "parent")


async def test_an_unshared_original_is_said_and_looked_at_again(tmp_path: Path) -> None:
    """`__synced_unshared` and no children; once it is shared, the next sweep brings it."""
    async with a_world(tmp_path) as world:
        site, workspace = Site(world), world.workspace
        page = workspace.create_page(None, "Private")
        (original,) = workspace.append_blocks(page, [b.synced_original([b.paragraph("secret")])])
        workspace.append_blocks(site.hello, [b.synced_copy(original)])
        workspace.unshare(page)
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        (copy,) = [
            block for block in (await world.value("page:hello"))["blocks"] if block["type"] == "synced_block"
        ]
        assert copy["__synced_unshared"] is True and "__children" not in copy
        workspace.share(page)
        await world.sweep()
        assert "secret" in await said(world, "hello")


# Names ---------------------------------------------------------------------------------------------------------


async def test_new_names_reach_everything_that_shows_them(tmp_path: Path) -> None:
    """A child page, a row, an inline row and a database, each renamed: pointers, childPages, index and bundle.

    Fails when a parent's value does not depend on the titles and slugs that it shows.
    """
    async with a_world(tmp_path, kv=(store := Read(tmp_path))) as world:
        site, workspace = Site(world), world.workspace
        (original,) = workspace.append_blocks(site.parent, [b.synced_original([b.paragraph("shared")])])
        inside = workspace.create_page(original, "Inside")
        workspace.append_blocks(site.hello, [b.synced_copy(original)])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        for page in (site.child, site.hello, site.job, inside):
            workspace.set_title(page, f"{workspace.title_of(page)} renamed")
        workspace.set_title(site.jobs, "Vacancies")
        world.clock.advance(900)
        await world.sweep()
        await world.settle()

        parent = await world.value("page:parent")
        assert {(child["title"], child["slug"]) for child in parent["meta"]["childPages"]} == {
            ("Child renamed", "parent/child-renamed"),
            ("Inside renamed", "parent/inside-renamed"),
        }
        (pointer,) = [block for block in parent["blocks"] if block["type"] == "child_page"]
        assert pointer["child_page"]["title"] == "Child renamed"
        (copy,) = [x for x in (await world.value("page:hello"))["blocks"] if x["type"] == "synced_block"]
        assert copy["__children"][-1]["child_page"]["title"] == "Inside renamed"
        assert "childPages" not in (await world.value("page:hello"))["meta"]
        assert {x["title"] for x in await listed(world, "pages:index")} == {"Hello renamed", "Parent"}
        jobs = (await world.value(f"db:{site.jobs}:cursor:_"))["bundle"]
        assert (jobs["name"], [item["title"] for item in jobs["items"]]) == ("Vacancies", ["Printer renamed"])
        assert {"parent/child-renamed", "parent/child-renamed/grandchild"} <= await world.slugs()
        assert not {"parent/child", "parent/child/grandchild"} & await world.slugs()
        assert store.gaps == []


async def test_a_computed_value_is_found_by_the_sweep(tmp_path: Path) -> None:
    """A property that changes without a stamp, of a row and of an inline row, and back again; a poll sees none of it.

    Fails when a complete listing's properties are not compared.
    """
    async with a_world(tmp_path) as world:
        site, workspace = Site(world), world.workspace
        workspace.add_property(site.job_rows, "total", "number")
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        for value in (42, 43, None):
            workspace.set_computed(site.hello, "total", value)
            workspace.set_computed(site.job, "total", value)
            await world.poll()
            assert (await world.value("page:hello"))["meta"]["properties"]["total"] != value
            world.clock.advance(900)
            await world.sweep()
            for slug in ("hello", "parent/printer"):
                assert (await world.value(f"page:{slug}"))["meta"]["properties"]["total"] == value
        async with world.counted() as seen:
            world.clock.advance(900)
            await world.sweep()
        assert [request for request in seen if request.path.endswith(f"{site.hello}/children")] == []


# Slugs ---------------------------------------------------------------------------------------------------------


async def test_a_parent_takes_everything_below_to_its_new_slug(tmp_path: Path) -> None:
    """Four levels, and a database on the way, all in one batch; what has a slug of its own stays."""
    async with a_world(tmp_path, kv=(store := Read(tmp_path))) as world:
        site = await a_deep_site(world)
        assert await world.slugs() == {"hello", "tongs", *(f"parent{slug}" for slug in UNDER_PARENT)}
        batches = store.batches
        world.workspace.set_properties(site.parent, {"slug": "moved/here"})
        await world.poll()
        assert await world.slugs() == {"hello", "tongs", *(f"moved/here{slug}" for slug in UNDER_PARENT)}
        assert (store.batches - batches, store.gaps) == (1, [])


async def test_a_large_parent_moves_in_several_batches_from_the_top(tmp_path: Path) -> None:
    """More than a batch can hold: every page is in the store after each of them, under its old or its new slug.

    Fails when keys are written one by one, and when lists wait for the pages of all levels.
    """
    async with a_world(tmp_path, kv=(store := Read(tmp_path))) as world:
        store.follows_links = False
        site = await synced(world, rows=1)
        text = b.paragraph([b.text("x" * 2000) for _ in range(LONG // 2000)])
        for number in range(12):
            world.workspace.create_page(site.child, f"Long {number}", blocks=[text])
        await world.settle()
        batches: list[list[Write]] = []
        apply = store.apply

        async def noted(writes: Sequence[Write], owner: Owner) -> bool:
            batches.append(list(writes))
            return await apply(writes, owner)

        store.apply = noted  # type: ignore[method-assign]
        world.workspace.set_properties(site.parent, {"slug": "moved"})
        await world.poll()
        written = [{write.key for write in batch if write.value is not None} for batch in batches]
        assert len(batches) > 1 and store.gaps == []
        assert {"page:moved", "page:moved/child", "pages:index"} <= written[0]
        for batch in batches:
            moved = {write.key.replace("moved", "parent", 1) for write in batch if write.value is not None}
            assert {write.key for write in batch if write.value is None} == {
                key for key in moved if key.startswith("page:parent")
            }
        assert not any(slug.startswith("parent") for slug in await world.slugs())


async def test_pages_that_take_each_others_slugs(tmp_path: Path) -> None:
    """Two swap, three rotate, and two of different levels swap; what is below goes along, nothing is ever missing."""
    async with a_world(tmp_path, kv=(store := Read(tmp_path))) as world:
        site, workspace = Site(world, rows=3), world.workspace
        below = [workspace.create_page(row, "Below") for row in (site.hello, site.more[0])]
        world.clock.advance(OLD)
        await world.start()
        await world.settle()

        async def give(slugs: dict[str, str]) -> None:
            for page, slug in slugs.items():
                workspace.set_properties(page, {"slug": slug})
            summary = await world.poll()
            assert summary.batches == 1
            for page, slug in slugs.items():
                assert (await world.value(f"page:{slug.strip('/')}"))["meta"]["notionId"] == page
            assert store.gaps == []

        await give({site.hello: "parent", site.parent: "hello"})
        assert "hello/child/grandchild" in await world.slugs()
        assert (await world.value("page:parent/below"))["meta"]["notionId"] == below[0]
        await give({site.more[0]: "row-1", site.more[1]: "row-2", site.more[2]: "row-0"})
        assert (await world.value("page:row-1/below"))["meta"]["notionId"] == below[1]
        await give({site.job: "/inline", site.more[0]: "row-1"})
        await give({site.job: "/row-1", site.more[0]: "inline"})
        assert (await world.value("page:inline/below"))["meta"]["notionId"] == below[1]
        assert {item["path"] for item in await listed(world, f"db:{site.jobs}:cursor:_")} == {"row-1"}


async def test_a_slug_that_becomes_free_goes_to_whoever_wants_it(tmp_path: Path) -> None:
    """The younger of two yields; it takes the slug over in the batch in which the older one leaves."""
    async with a_world(tmp_path, kv=(store := Read(tmp_path))) as world:
        site = await synced(world)
        young = world.workspace.add_row(site.rows, "Young", {"slug": "hello"})
        await world.settle()
        yielded = f"hello-{young.replace('-', '')[-12:]}"
        assert yielded in await world.slugs()
        world.workspace.set_properties(site.hello, {"slug": "elsewhere"})
        await world.poll()
        assert (await world.value("page:hello"))["meta"]["notionId"] == young
        assert yielded not in await world.slugs() and store.gaps == []


# Places --------------------------------------------------------------------------------------------------------


async def test_pages_that_move(tmp_path: Path) -> None:
    """Between sources, into and out of a database in a page, between parents, and from row to child page and back."""
    async with a_world(tmp_path, kv=(store := Read(tmp_path))) as world:
        site, workspace = Site(world, rows=3), world.workspace
        posts = world.add_source("posts")
        workspace.add_row(posts, "Post", {"slug": "post"})
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        to_posts, to_jobs, to_child = site.more
        moves = [
            (to_posts, posts, "row-0", "post"),
            (to_jobs, site.job_rows, "parent/row-1", "row"),
            (to_child, site.hello, "hello/row-2", "child"),
            (site.job, site.rows, "printer", "page"),
            (site.child, site.hello, "hello/child", "child"),
        ]
        for page, place, slug, kind in moves:
            workspace.move(page, place)
            world.clock.advance(900)
            await world.sweep()
            await world.settle()
            meta = (await world.value(f"page:{slug}"))["meta"]
            assert (meta["notionId"], meta["type"]) == (page, kind)
        assert "hello/child/grandchild" in await world.slugs()
        assert {item["slug"] for item in await listed(world, "posts:index")} == {"post", "row-0"}
        assert {item["slug"] for item in await listed(world, "pages:index")} == {"hello", "parent", "printer"}
        assert {item["path"] for item in await listed(world, f"db:{site.jobs}:cursor:_")} == {"parent/row-1"}
        for page in (to_posts, to_child):
            workspace.move(page, site.rows)
            world.clock.advance(900)
            await world.sweep()
            await world.settle()
        assert {"row-0", "row-2"} <= await world.slugs()
        assert (await world.value("page:row-2"))["meta"]["type"] == "page"
        assert store.gaps == []


@pytest.mark.parametrize("moving", ["row", "child", "database"])
async def test_what_moves_to_the_top_of_the_workspace_leaves(tmp_path: Path, moving: str) -> None:
    """It can still be read, and lies in nothing of the site: its keys leave within a sweep, with what is below it.

    Fails when the workspace, which has no id, does not count as another place.
    """
    async with a_world(tmp_path) as world:
        site, workspace = Site(world, rows=8), world.workspace
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        before = await world.slugs()
        thing, gone = {
            "row": (site.more[0], {"row-0"}),
            "child": (site.child, {slug for slug in before if slug.startswith("parent/child")}),
            "database": (site.jobs, {"parent/printer"} & before or {"printer"}),
        }[moving]
        assert gone <= before
        workspace.move(thing, None)
        world.clock.advance(900)
        await world.sweep()
        await world.settle()
        assert gone.isdisjoint(await world.slugs())


async def test_a_page_that_moves_to_where_nobody_looks(tmp_path: Path) -> None:
    """From a row, which the query shows, to a page deep below, of which only the sweep would tell: it is never gone.

    Fails when a page leaves its old place without being put where it says it is.
    """
    habits = Habits(search_forgets=1.0)
    async with a_world(tmp_path, kv=(store := Read(tmp_path)), habits=habits) as world:
        site, workspace = Site(world), world.workspace
        moving = workspace.create_page(site.hello, "Moving", blocks=[b.paragraph("on its way")])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        workspace.move(moving, site.grandchild)
        await world.poll()
        await world.settle()
        assert "parent/child/grandchild/moving" in await world.slugs()
        assert "hello/moving" not in await world.slugs() and store.gaps == []


async def test_a_page_reached_from_two_places_is_in_the_shallower(tmp_path: Path) -> None:
    """A source's database shown inside a page, and a database that moves up: one key a page, in the right place.

    Fails when the place that was found first is kept.
    """
    async with a_world(tmp_path, kv=(store := Read(tmp_path))) as world:
        site, workspace = Site(world), world.workspace
        shown, posts = workspace.create_database(site.child, "Posts", {"slug": "rich_text"})
        workspace.add_row(posts, "Post", {"slug": "post"})
        moving, tools = workspace.create_database(site.grandchild, "Tools", {"slug": "rich_text"})
        workspace.add_row(tools, "Hammer", {"slug": "hammer"})
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        assert {"parent/child/post", "parent/child/grandchild/hammer"} <= await world.slugs()

        await world.stop()
        world.sources.append(("posts", shown))
        await world.start()
        await world.settle()
        assert (await world.value("page:post"))["meta"]["type"] == "post"
        assert "parent/child/post" not in await world.slugs()
        assert [item["path"] for item in await listed(world, f"db:{shown}:cursor:_")] == ["post"]
        assert [item["slug"] for item in await listed(world, "posts:index")] == ["post"]

        workspace.move(moving, site.hello)
        world.clock.advance(900)
        await world.sweep()
        await world.settle()
        assert "hello/hammer" in await world.slugs()
        assert "parent/child/grandchild/hammer" not in await world.slugs()
        assert [item["path"] for item in await listed(world, f"db:{moving}:cursor:_")] == ["hello/hammer"]

        workspace.trash(site.child)
        await world.sweep()
        assert "post" in await world.slugs() and "parent/child" not in await world.slugs()
        assert await listed(world, f"db:{shown}:cursor:_") == []
        assert [gap for gap in store.gaps if not gap.startswith("parent/child")] == []
