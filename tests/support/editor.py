"""Somebody who cannot leave a workspace alone: random edits of every kind that changes a site."""

import contextlib
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

from daemon.demo import blocks as b
from daemon.demo.workspace import Workspace

SCHEMA = {"slug": "rich_text", "tags": "multi_select", "excerpt": "rich_text", "Live": "checkbox"}
FEWEST_PAGES = 8
"""With fewer pages than this none is taken away."""
MOST_AWAY = 3
"""So many things at most are in the trash, or out of the integration's reach, at one time."""
ROOM = 40
"""With more pages than this none is added, so that a long life stays a small site."""


class Editor:
    """Edits one workspace at random, the same way for the same `rng`. `ledger`: the file of the daemon that follows.

    `configured`: the sources to follow, (name, id): two databases and a page. They themselves are never taken away.
    `journal`: what was done, one line an edit. `unannounced`: what came or went without a stamp of its own to tell.
    """

    def __init__(self, workspace: Workspace, rng: random.Random, ledger: Path) -> None:
        self.workspace = workspace
        self._ledger = ledger
        self.rng = rng
        self.configured: list[tuple[str, str]] = []
        self.journal: list[str] = []
        self.unannounced: set[str] = set()
        self.away: list[tuple[str, str]] = []
        self.databases: list[str] = []
        self.originals: list[str] = []
        self._count = 0
        self._tops = [self._add_source(name) for name in ("pages", "posts")]
        hub = workspace.create_page(None, "Hub", blocks=[b.paragraph("of a wheel")])
        self.configured.append(("hubs", hub))
        self._outside = workspace.create_page(None, "Elsewhere", blocks=[b.paragraph("not on the site")])
        for _ in range(6):
            self.add_row()
        for _ in range(4):
            self.add_child()
        self.add_database()

    def _add_source(self, name: str) -> str:
        home = self.workspace.create_page(None, f"Home of {name}")
        database, source = self.workspace.create_database(home, name.title(), dict(SCHEMA))
        self.configured.append((name, database))
        return source

    # What there is

    def pages(self) -> list[str]:
        """Every page that the site shows."""
        found: set[str] = set()
        pending: list[str] = []
        for _, ref in self.configured:
            pending += [ref] if ref in self.workspace.pages else self._rows(ref)
        while pending:
            page = pending.pop()
            if page not in found and self.workspace.readable(page):
                found.add(page)
                pending += self._below(page)
        return sorted(found)

    def _rows(self, database: str) -> list[str]:
        sources = self.workspace.databases[database].data_sources
        return [row for source in sources for row in self.workspace.rows(source)]

    def _below(self, container: str) -> list[str]:
        """The pages directly inside a page or block, rows of its databases included."""
        found: list[str] = []
        for child in self.workspace.children(container):
            if child in self.workspace.pages:
                found.append(child)
            elif child in self.workspace.databases:
                found += self._rows(child)
            else:
                found += self._below(child)
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

    def a_place(self) -> str:
        """Somewhere that things can be put: a page of the site, or a toggle or synced original in it."""
        page = self.a_page()
        inside = [block for block in self.blocks(page) if self._kind(block) in ("toggle", "synced_block")]
        return self.rng.choice([page, page, *(x for x in inside if not self.workspace.blocks[x].original_id)])

    def _kind(self, block: str) -> str:
        return self.workspace.blocks[block].kind

    def _there(self, ids: list[str]) -> list[str]:
        """Those that exist, are readable, and have nothing in the trash above them."""
        workspace = self.workspace
        return [
            i
            for i in ids
            if workspace.find(i) is not None
            and i not in workspace.trashed
            and not workspace.below_trash(i)
            and workspace.readable(i)
        ]

    def word(self) -> str:
        self._count += 1
        return f"{self.rng.choice(['Alpha', 'Béta', '감마', 'Delta'])} {self.rng.choice(['', self._count])}"

    def _title(self, thing: str) -> str:
        return f"{self.workspace.title_of(thing)!r} ({thing[-6:]})"

    # What can be done: each edit says in a few words what it did, or nothing when there was nothing to do

    def add_row(self) -> str:
        inline = [s for d in self._there(self.databases) for s in self.workspace.databases[d].data_sources]
        slug = self.rng.choice(["", "", f"s{self._count}", "same", "a/b", "/x/y"])
        row = self.workspace.add_row(
            self.rng.choice([*self._tops, *inline]),
            self.word(),
            {
                "slug": slug,
                "tags": self.rng.choice([[], ["one"], ["one", "two"]]),
                "Live": self.rng.random() < 0.7,
            },
            blocks=[b.paragraph(self.word()), b.toggle("more", [b.paragraph(self.word())])],
            cover=self.rng.choice([None, "https://example.com/cover.jpg"]),
        )
        return f"new row {self._title(row)}, slug {slug!r}"

    def add_child(self) -> str:
        place = self.a_place()
        page = self.workspace.create_page(place, self.word(), blocks=[b.paragraph(self.word())])
        return f"new child {self._title(page)} in {place[-6:]}"

    def add_database(self) -> str:
        place = self.a_place()
        database, source = self.workspace.create_database(place, self.word(), dict(SCHEMA))
        self.databases.append(database)
        for _ in range(self.rng.choice([0, 1, 2])):
            self.workspace.add_row(source, self.word())
        return f"new database {self._title(database)} in {place[-6:]}"

    def add_data_source(self) -> str:
        inline = self._there(self.databases)
        database = self.rng.choice([*inline, self.configured[0][1]])
        if len(self.workspace.databases[database].data_sources) > 2:
            return ""
        source = self.workspace.add_data_source(database, self.word(), dict(SCHEMA))
        row = self.workspace.add_row(source, self.word())
        return f"new data source {source[-6:]} with {self._title(row)} in {self._title(database)}"

    def edit_text(self) -> str:
        blocks = [x for x in self.blocks(self.a_page()) if self._kind(x) in ("paragraph", "toggle")]
        if not blocks:
            return ""
        block = self.rng.choice(blocks)
        self.workspace.update_text(block, self.word())
        return f"text of {block[-6:]} in {self._title(self.workspace.page_above(block) or block)}"

    def append(self) -> str:
        place = self.a_place()
        made = self.rng.choice(
            [b.paragraph(self.word()), b.toggle(self.word(), [b.quote(self.word(), [b.paragraph("deep")])])]
        )
        self.workspace.append_blocks(place, [made])
        return f"more in {place[-6:]}"

    def delete_block(self) -> str:
        """Any block, with what is in it; now and then it can be restored."""
        blocks = self.blocks(self.a_page())
        if not blocks:
            return ""
        block = self.rng.choice(blocks)
        if self._below(block):
            return self._take(block, "trash")
        self.workspace.delete_block(block)
        return f"deleted block {block[-6:]}"

    def rename(self) -> str:
        page = self.rng.choice([self.a_page(), *self._there(self.databases)])
        self.workspace.set_title(page, self.word())
        return f"renamed {self._title(page)}"

    def change_slug(self) -> str:
        rows = [page for page in self.pages() if self.workspace.page(page).parent[0] == "data_source_id"]
        if not rows:
            return ""
        row, slug = self.rng.choice(rows), self.rng.choice(["", "same", f"t{self._count}", "/x/y", "index"])
        self.workspace.set_properties(row, {"slug": slug})
        return f"slug of {self._title(row)} is now {slug!r}"

    def swap_slugs(self) -> str:
        """Two rows exchange their slugs, in one go."""
        rows = [page for page in self.pages() if self.workspace.page(page).parent[1] in self._tops]
        if len(rows) < 2:
            return ""
        one, other = self.rng.sample(rows, 2)
        slugs = [f"swap-{self._count % 3}", f"swap-{self._count % 3 + 1}"]
        self.workspace.set_properties(one, {"slug": slugs[0]})
        self.workspace.set_properties(other, {"slug": slugs[1]})
        return f"{self._title(one)} and {self._title(other)} have the slugs {slugs}"

    def decorate(self) -> str:
        page = self.a_page()
        self.workspace.set_icon(page, self.rng.choice([None, "🌗", "🌕"]))
        self.workspace.set_cover(page, self.rng.choice([None, "https://example.com/other.jpg"]))
        return f"icon and cover of {self._title(page)}"

    def retag(self) -> str:
        rows = [page for page in self.pages() if self.workspace.page(page).parent[0] == "data_source_id"]
        if not rows:
            return ""
        row = self.rng.choice(rows)
        self.workspace.set_properties(row, {"tags": self.rng.choice([[], ["two"]]), "excerpt": self.word()})
        return f"tags and excerpt of {self._title(row)}"

    def tick(self) -> str:
        """A row becomes a draft, or is one no more: `passes` says what that means to a daemon with a filter."""
        rows = [page for page in self.pages() if self.workspace.page(page).parent[1] in self._tops]
        if not rows:
            return ""
        row = self.rng.choice(rows)
        self.workspace.set_properties(row, {"Live": not self._is_live(row)})
        return f"{self._title(row)} is {'live' if self._is_live(row) else 'a draft'}"

    def passes(self, page: str) -> bool:
        """Whether `posts:Live=true` lets a page pass: it is no row of the posts, or it is ticked."""
        return self.workspace.page(page).parent[1] != self._tops[1] or self._is_live(page)

    def _is_live(self, row: str) -> bool:
        version = self.workspace.page(row)
        schema = self.workspace.data_sources[version.parent[1]].schema
        column = next(column for column in schema.values() if column.name == "Live")
        return bool(version.properties.get(column.id))

    def trash(self) -> str:
        return self._take(self.rng.choice([self.a_page(), *self._there(self.databases)]), "trash")

    def unshare(self) -> str:
        return self._take(self.rng.choice([self.a_page(), *self._there(self.databases)]), "unshare")

    def _take(self, thing: str, how: str) -> str:
        refs = {ref for _, ref in self.configured}
        few = len(self.pages()) <= FEWEST_PAGES or len(self.away) >= MOST_AWAY
        if few or thing in refs or any(thing == gone for _, gone in self.away):
            return ""
        (self.workspace.trash if how == "trash" else self.workspace.unshare)(thing)
        self.away.append((how, thing))
        return f"{how} {self._title(thing)}"

    def give_back(self) -> str:
        """The thing that is away longest comes back."""
        if not self.away:
            return ""
        how, thing = self.away.pop(0)
        (self.workspace.restore if how == "trash" else self.workspace.share)(thing)
        self.unannounced.add(thing)
        page = self.workspace.page_above(self.workspace.parent_of(thing)[1])
        if how == "unshare" and page is not None and not self._was_ever_seen(thing):
            # Nothing tells a daemon of what it never saw: no stamp moves. So somebody writes beside it.
            self.workspace.append_blocks(page, [b.paragraph(self.word())])
        return f"back from {how}: {self._title(thing)}"

    def _was_ever_seen(self, thing: str) -> bool:
        """Whether the ledger knows of it, or knows that it disappeared."""
        question = (
            "SELECT count(*) FROM (SELECT child_id AS id FROM links UNION SELECT id FROM gone) WHERE id = ?"
        )
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True)) as db:
                return bool(db.execute(question, (thing,)).fetchone()[0])
        except sqlite3.Error:  # there is no ledger yet
            return False

    def move(self) -> str:
        """A page or an inline database goes into another page, block or database; or off the site, or onto it.

        Off the site is a page outside, or the top of the workspace, which has no id.
        """
        refs = {ref for _, ref in self.configured}
        thing = self.rng.choice([self.a_page(), self.a_page(), *self._there(self.databases), self._outside])
        places = [self.a_place()] if thing in self.databases else [self.a_place(), *self._tops]
        if thing not in (*self.databases, self._outside) and len(self.pages()) > FEWEST_PAGES:
            places.append(self._outside)
        place = self.rng.choice(places)
        above = {place, *self.workspace.ancestors(place)}
        if thing in refs or thing in above or self.workspace.parent_of(thing)[1] == place:
            return ""
        to_the_top = place == self._outside and self.rng.random() < 0.5
        self.workspace.move(thing, None if to_the_top else place)
        self.unannounced.add(thing)
        return f"moved {self._title(thing)} to {'the top' if to_the_top else place[-6:]}"

    def sync(self) -> str:
        """A synced block, on the site or outside it, and a copy of it somewhere."""
        home = self.rng.choice([self.a_page(), self.a_page(), self._outside])
        (original,) = self.workspace.append_blocks(home, [b.synced_original([b.paragraph(self.word())])])
        self.originals.append(original)
        place = self.a_page()
        self.workspace.append_blocks(place, [b.synced_copy(original)])
        return f"synced block {original[-6:]} of {self._title(home)} shown on {self._title(place)}"

    def copy_original(self) -> str:
        """One more copy of a synced block."""
        there = self._there(self.originals)
        if not there:
            return ""
        original, place = self.rng.choice(there), self.a_page()
        self.workspace.append_blocks(place, [b.synced_copy(original)])
        return f"copy of {original[-6:]} on {self._title(place)}"

    def edit_original(self) -> str:
        """What a synced block shows, wherever it lives."""
        there = self._there(self.originals)
        if not there:
            return ""
        original = self.rng.choice(there)
        paragraphs = [x for x in self.blocks(original) if self._kind(x) == "paragraph"]
        if paragraphs and self.rng.random() < 0.7:
            self.workspace.update_text(self.rng.choice(paragraphs), self.word())
        else:
            self.workspace.append_blocks(original, [b.paragraph(self.word())])
        return f"synced block {original[-6:]} edited"

    # Doing it

    @property
    def edits(self) -> dict[str, Callable[[], str]]:
        """Every edit by its name."""
        return {name: getattr(self, name) for name in EDITS}

    def edit(self, name: str) -> str:
        """Make one edit; what it did goes into the journal too. Additions stop when the site is large enough."""
        full = name in _ADDITIONS and len(self.pages()) > ROOM
        said = "" if full else self.edits[name]()
        if said:
            self.journal.append(said)
        return said

    def step(self) -> None:
        """A few edits, or none."""
        for _ in range(self.rng.choice([0, 1, 1, 2, 5])):
            self.edit(self.rng.choice([*OFTEN, *OFTEN, *EDITS]))


OFTEN = ("edit_text", "append", "rename", "add_row", "add_child", "edit_original")
EDITS = (
    *OFTEN,
    "add_database",
    "add_data_source",
    "change_slug",
    "swap_slugs",
    "decorate",
    "retag",
    "tick",
    "delete_block",
    "trash",
    "unshare",
    "give_back",
    "move",
    "sync",
    "copy_original",
)
_ADDITIONS = {"add_row", "add_child", "add_database", "add_data_source"}
