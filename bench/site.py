"""The sites that are measured: any number of pages, all of them old, plain or with everything that nests."""

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from daemon.demo import blocks as b
from daemon.demo.wire import Json
from daemon.demo.workspace import Workspace

SCHEMA = {"slug": "rich_text", "excerpt": "rich_text", "tags": "multi_select", "visibility": "select"}
WORDS = "The press is older than the building, and both are older than anybody who works in it. "
NESTED_EVERY = 20
"""Of the pages of a nested site, so many times the first of each group holds the others that are below it."""


@dataclass
class Site:
    """Where things are. All values are ids.

    `sources`: the configured data sources by name. `plain`, `nested`: a page to edit, with its containers (the page
    first). `originals`: synced originals. `pages`: how many pages the site has.
    """

    sources: dict[str, str]
    plain: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    originals: list[str] = field(default_factory=list)
    pages: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def build(workspace: Workspace, pages: int, blocks: int, *, nested: bool, images: int = 0) -> Site:
    """A site of exactly `pages` pages of about `blocks` blocks in two data sources, written over the year before now.

    `nested`: in every group of twenty pages one holds toggles, columns, a synced block, an inline database with two
    rows and three child pages at two depths; else every page is a row with `blocks` paragraphs and so many `images`.
    """
    return _Builder(workspace, pages, blocks, images).build(nested)


class _Builder:
    def __init__(self, workspace: Workspace, pages: int, blocks: int, images: int) -> None:
        self._images = images
        self._workspace = workspace
        self._wanted = pages
        self._blocks = blocks
        self._made = 0
        self._began = datetime.fromtimestamp(workspace.now_ms() / 1000 - 365 * 86_400).astimezone()
        self._step = timedelta(seconds=360 * 86_400 / max(pages, 1))

    def build(self, nested: bool) -> Site:
        workspace = self._workspace
        with workspace.at(self._began):
            root = workspace.create_page(None, "Website")
            made = {name: workspace.create_database(root, name, SCHEMA)[1] for name in ("pages", "posts")}
        site = Site(made)
        names = list(made)
        while self._made < self._wanted:
            source = made[names[self._made % len(names)]]
            with workspace.at(self._began + self._step * self._made):
                if nested and self._made % NESTED_EVERY == 0 and self._wanted - self._made >= 6:
                    self._nested_row(source, site)
                else:
                    row = self._row(source)
                    site.plain = site.plain or [row]
        site.pages = self._made
        return site

    def _row(self, source: str) -> str:
        number = self._count()
        cells = {"slug": f"page-{number}", "excerpt": WORDS, "tags": ["paper", "ink"], "visibility": "public"}
        images = [b.image(hosted=f"{number}-{i}.png") for i in range(self._images)]
        blocks = [*self._paragraphs(self._blocks), *images]
        return self._workspace.add_row(source, f"Page {number}", cells, blocks=blocks)

    def _count(self) -> int:
        self._made += 1
        return self._made

    def _paragraphs(self, count: int) -> list[Json]:
        return [b.paragraph(f"{self._made}.{i} {WORDS}") for i in range(count)]

    def _nested_row(self, source: str, site: Site) -> None:
        workspace, page = self._workspace, self._row(source)
        original, toggle, columns = workspace.append_blocks(
            page,
            [
                b.synced_original(self._paragraphs(2)),
                b.toggle("More", [b.paragraph(WORDS), b.toggle("Even more", self._paragraphs(2))]),
                b.columns(self._paragraphs(1), self._paragraphs(1)),
            ],
        )
        workspace.append_blocks(page, [b.synced_copy(site.originals[-1] if site.originals else original)])
        site.originals.append(original)
        inner = workspace.children(toggle)[1]
        if not site.nested:
            site.nested = [page, original, toggle, inner, columns, *workspace.children(columns)]
        child = self._child(page)
        self._child(child)
        self._child(toggle)
        _, rows = workspace.create_database(page, f"Parts of {self._made}", SCHEMA)
        for _ in range(2):
            number = self._count()
            workspace.add_row(rows, f"Part {number}", {"slug": f"part-{number}"}, blocks=self._paragraphs(3))

    def _child(self, parent: str) -> str:
        number = self._count()
        return self._workspace.create_page(parent, f"Child {number}", blocks=self._paragraphs(self._blocks))
