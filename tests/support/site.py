"""A small site with one of everything that can lie below a page, and what a reader of its keys sees."""

from typing import Any

from daemon.demo import blocks as b
from tests.support.world import OLD, World, texts

SCHEMA = {"slug": "rich_text", "tags": "multi_select", "total": "number"}


class Site:
    """A pages database in which `parent` has a child, a grandchild, a toggle and an inline database."""

    def __init__(self, world: World, rows: int = 0) -> None:
        workspace = world.workspace
        self.root = workspace.create_page(None, "Root")
        self.database, self.rows = workspace.create_database(self.root, "Pages", SCHEMA)
        content = [b.paragraph("one"), b.toggle("more", [b.paragraph("inside")])]
        self.hello = workspace.add_row(self.rows, "Hello", {"slug": "hello"}, blocks=content)
        self.parent = workspace.add_row(self.rows, "Parent", {"slug": "parent"})
        self.child = workspace.create_page(self.parent, "Child", blocks=[b.paragraph("child")])
        self.grandchild = workspace.create_page(self.child, "Grandchild", blocks=[b.paragraph("grandchild")])
        self.jobs, self.job_rows = workspace.create_database(self.parent, "Jobs", {"slug": "rich_text"})
        self.job = workspace.add_row(
            self.job_rows, "Printer", {"slug": "printer"}, blocks=[b.paragraph("job")]
        )
        self.more = [workspace.add_row(self.rows, f"Row {n}", {"slug": f"row-{n}"}) for n in range(rows)]
        world.clock.advance(OLD)
        world.sources = [("pages", self.database)]


async def synced(world: World, rows: int = 0) -> Site:
    """The site, built and in the store."""
    site = Site(world, rows)
    await world.start()
    await world.catch_up()
    return site


async def said(world: World, slug: str) -> list[str]:
    """The texts that a page's key holds."""
    bundle = await world.value(f"page:{slug}")
    return [text for text in texts(bundle["blocks"]) if text]


async def listed(world: World, key: str) -> list[dict[str, Any]]:
    """What an index or a database bundle lists; nothing when it is not there."""
    value = await world.value(key)
    if value is None:
        return []
    items: list[dict[str, Any]] = value["items"] if "items" in value else value["bundle"]["items"]
    return items
