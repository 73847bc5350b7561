"""Hundreds of random edits, with accidents all the way: in the end the store holds what the rules say."""

import random
from pathlib import Path

import pytest

from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from tests.support.oracle import check
from tests.support.world import OLD, World, a_world

SCHEMA = {"slug": "rich_text", "tags": "multi_select"}
STEPS = 60
FAILURES: list[int | str] = [500, 502, 504, 429, "cut", "reset"]


class Editor:
    """Somebody who cannot leave the workspace alone."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.workspace = world.workspace
        self.rng = rng
        self.rows = world.add_source("pages", dict(SCHEMA))
        self.posts = world.add_source("posts", dict(SCHEMA))
        self.sources = [self.rows, self.posts]
        self.trashed: list[str] = []
        self.count = 0
        for _ in range(6):
            self.add_row()
        for _ in range(4):
            self.add_child()
        self.add_database()

    # What there is

    def pages(self) -> list[str]:
        """Every page that the site shows."""
        found: list[str] = []
        pending = [row for source in (self.rows, self.posts) for row in self.workspace.rows(source)]
        while pending:
            page = pending.pop()
            found.append(page)
            pending += self.below(page)
        return sorted(set(found))

    def below(self, container: str) -> list[str]:
        """The pages directly inside a page or block, rows of its databases included."""
        found: list[str] = []
        for child in self.workspace.children(container):
            if child in self.workspace.pages:
                found.append(child)
            elif child in self.workspace.databases:
                for source in self.workspace.databases[child].data_sources:
                    found += self.workspace.rows(source)
            else:
                found += self.below(child)
        return found

    def blocks(self, container: str) -> list[str]:
        """The blocks in a page, at any depth."""
        found: list[str] = []
        for child in self.workspace.children(container):
            if child in self.workspace.blocks:
                found += [child, *self.blocks(child)]
        return found

    def a_page(self) -> str:
        return self.rng.choice(self.pages())

    def word(self) -> str:
        self.count += 1
        return f"{self.rng.choice(['Alpha', 'Béta', '감마', 'Delta'])} {self.rng.choice(['', self.count])}"

    # What can be done

    def add_row(self) -> None:
        slug = self.rng.choice(["", "", f"s{self.count}", "same", "a/b", "/x/y"])
        self.workspace.add_row(
            self.rng.choice(self.sources),
            self.word(),
            {"slug": slug},
            blocks=[b.paragraph(self.word()), b.toggle("more", [b.paragraph(self.word())])],
            cover=self.rng.choice([None, "https://example.com/cover.jpg"]),
        )

    def add_child(self) -> None:
        page = self.a_page()
        place = self.rng.choice([page, *(x for x in self.blocks(page) if self.is_toggle(x))])
        self.workspace.create_page(place, self.word(), blocks=[b.paragraph(self.word())])

    def is_toggle(self, block: str) -> bool:
        return self.workspace.blocks[block].kind == "toggle"

    def add_database(self) -> None:
        _, source = self.workspace.create_database(self.a_page(), self.word(), dict(SCHEMA))
        self.sources.append(source)
        self.workspace.add_row(source, self.word())

    def edit_text(self) -> None:
        blocks = [x for x in self.blocks(self.a_page()) if self.workspace.blocks[x].kind == "paragraph"]
        if blocks:
            self.workspace.update_text(self.rng.choice(blocks), self.word())

    def append(self) -> None:
        self.workspace.append_blocks(self.a_page(), [b.paragraph(self.word())])

    def delete_block(self) -> None:
        blocks = [x for x in self.blocks(self.a_page()) if not self.workspace.children(x)]
        if blocks:
            self.workspace.delete_block(self.rng.choice(blocks))

    def rename(self) -> None:
        self.workspace.set_title(self.a_page(), self.word())

    def change_slug(self) -> None:
        rows = [page for page in self.pages() if self.workspace.page(page).parent[0] == "data_source_id"]
        if rows:
            slug = self.rng.choice(["", "same", f"t{self.count}", "/x/y", "index"])
            self.workspace.set_properties(self.rng.choice(rows), {"slug": slug})

    def trash(self) -> None:
        page = self.a_page()
        if len(self.pages()) > 8 and len(self.trashed) < 3:
            self.workspace.trash(page)
            self.trashed.append(page)

    def restore(self) -> None:
        if self.trashed:
            self.workspace.restore(self.trashed.pop(0))

    def move(self) -> None:
        page, place = self.a_page(), self.rng.choice([self.a_page(), *self.sources[:2]])
        home = place in self.sources or self.workspace.page_above(place) is not None
        if home and place != page and page not in self.workspace.ancestors(place):
            self.workspace.move(page, place)

    def sync(self) -> None:
        (original,) = self.workspace.append_blocks(
            self.a_page(), [b.synced_original([b.paragraph(self.word())])]
        )
        self.workspace.append_blocks(self.a_page(), [b.synced_copy(original)])

    def step(self) -> None:
        """One edit or a few."""
        often = [self.edit_text, self.append, self.rename, self.add_row, self.add_child]
        seldom = [
            self.change_slug,
            self.delete_block,
            self.trash,
            self.restore,
            self.move,
            self.sync,
            self.add_database,
        ]
        for _ in range(self.rng.choice([0, 1, 1, 2, 5])):
            self.rng.choice([*often, *seldom])()


MOODY = Habits(
    query_lag_seconds=100.0,
    search_lag_seconds=200.0,
    search_forgets=0.3,
    short_pages=True,
    cursor_dies=0.02,
)


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm(tmp_path: Path, seed: int) -> None:
    """Edits, kills, a failing Notion, a lagging index: after it all has calmed down every key is right."""
    rng = random.Random(seed)
    async with a_world(tmp_path, habits=MOODY if seed % 2 else Habits()) as world:
        editor = Editor(world, rng)
        await world.start()
        for number in range(STEPS):
            editor.step()
            world.sandbox.faults.random(rng.choice([0, 0, 0.1, 0.3]), FAILURES, seed=number)
            world.clock.advance(rng.choice([1, 15, 15, 40, 90]))
            await world.run()
            if rng.random() < 0.1:
                await world.kill()
                await world.start()
            if rng.random() < 0.1:
                await world.sweep()
        world.sandbox.faults.clear()
        for _ in range(3):
            world.clock.advance(OLD)
            await world.settle()
            await world.sweep()
        await check(world)
