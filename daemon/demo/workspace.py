"""The editor's view: everything a person could do in the Notion app, with the stamps Notion would give it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from daemon.demo.edits import Edits
from daemon.demo.model import DataSource, Page, PageVersion
from daemon.demo.properties import make_property, make_schema
from daemon.demo.store import WORKSPACE
from daemon.demo.wire import Json, decode, encode


class Workspace(Edits):
    """Pages, databases and blocks that can be edited; every change takes effect, and is stamped, at once.

    Ids are dashed strings and accepted undashed. Unknown ids raise KeyError, impossible edits ValueError.
    """

    # Making things

    def create_page(
        self,
        parent: str | None,
        title: str | Sequence[Json],
        *,
        blocks: Sequence[Json] = (),
        icon: Json | str | None = None,
        cover: Json | str | None = None,
        page_id: str | None = None,
    ) -> str:
        """A page at the end of a page's or block's children, or at the top of the workspace; returns its id.

        `icon` is an emoji, a URL or an object in Notion's form, `cover` a URL or such an object.
        """
        place = self._place(parent)
        new_id = self._new_id(page_id)
        self._add_page(new_id, place, {"title": self._text(title)}, (icon, cover))
        if place != WORKSPACE:
            self.children_ids(place[1]).append(new_id)
            self._touch_container(place[1])
        self._fill(new_id, blocks)
        return new_id

    def add_row(  # noqa: PLR0913 - what a row can be made with, most of it left out
        self,
        data_source_id: str,
        title: str | Sequence[Json],
        properties: Mapping[str, Any] | None = None,
        *,
        blocks: Sequence[Json] = (),
        icon: Json | str | None = None,
        cover: Json | str | None = None,
        page_id: str | None = None,
        created_time: datetime | None = None,
        last_edited_time: datetime | None = None,
    ) -> str:
        """A row; `properties` as in `set_properties`. The times are for histories: they default to now."""
        source = self.data_sources[self.known(data_source_id)]
        cells = {"title": self._text(title), **self._stored(source, properties or {})}
        for column in source.schema.values():
            if column.kind == "unique_id":
                cells[column.id] = source.next_number
        source.next_number += 1
        times = (created_time, last_edited_time or created_time)
        new_id = self._new_id(page_id)
        self._add_page(new_id, ("data_source_id", source.id), cells, (icon, cover), times)
        self._fill(new_id, blocks)
        return new_id

    def create_database(
        self,
        parent: str,
        title: str,
        schema: Mapping[str, str | Json],
        *,
        inline: bool = True,
        database_id: str | None = None,
        data_source_id: str | None = None,
    ) -> tuple[str, str]:
        """A database with one data source, at the end of a page or block; returns (its id, the source's id).

        `schema`: column name to type (`"select"`) or configuration (`{"select": {"options": ["a", "b"]}}`).
        """
        new_id = self._add_database(parent, title, inline=inline, linked=False, database_id=database_id)
        return new_id, self.add_data_source(new_id, title, schema, data_source_id=data_source_id)

    def add_data_source(
        self,
        database_id: str,
        name: str,
        schema: Mapping[str, str | Json],
        *,
        data_source_id: str | None = None,
    ) -> str:
        """One more data source in a database; returns its id."""
        database = self.databases[self.known(database_id)]
        new_id = self._new_id(data_source_id, prefixed=False)
        now = self._stamp_ms()
        columns = make_schema(schema, self.ids)
        who = self._editor
        self.data_sources[new_id] = DataSource(
            new_id, database.id, name, columns, now, now, who, who, self._at()
        )
        database.data_sources.append(new_id)
        database.edited_ms = now
        self.changes.note(self._at())
        self._tell("data_source.created", new_id)
        return new_id

    def create_linked_database(self, parent: str, title: str) -> str:
        """A linked view of another database: a `child_database` block whose object the API does not serve."""
        return self._add_database(parent, title, inline=True, linked=True, database_id=None)

    def append_blocks(self, parent: str, blocks: Sequence[Json], *, after: str | None = None) -> list[str]:
        """Put blocks (in the form they are written) into a page or block, at its end or behind `after`."""
        container_id = self.known(parent)
        siblings = self.children_ids(container_id)
        place = len(siblings) if after is None else siblings.index(self.known(after)) + 1
        made = [self._add_block(container_id, block) for block in blocks]
        siblings[place:place] = made
        self._touch_container(container_id)
        return made

    def insert_first(self, parent: str, blocks: Sequence[Json]) -> list[str]:
        """Put blocks before everything that is in a page or block."""
        container_id = self.known(parent)
        made = [self._add_block(container_id, block) for block in blocks]
        self.children_ids(container_id)[0:0] = made
        self._touch_container(container_id)
        return made

    # Changing things

    def set_title(self, object_id: str, title: str | Sequence[Json]) -> None:
        """Rename a page, a row, a database or a data source."""
        object_id = self.known(object_id)
        if object_id in self.pages:
            cells = {**self.pages[object_id].present.properties, "title": self._text(title)}
            self._edit_page(object_id, properties=cells)
        elif object_id in self.databases:
            self.databases[object_id].title = self._normal.rich_text(title)
            self.databases[object_id].edited_ms = self._stamp_ms()
        elif object_id in self.data_sources and isinstance(title, str):
            self.data_sources[object_id].name = title
            self._touch_schema(self.data_sources[object_id])
        else:
            raise ValueError(f"{object_id} has no title that could be set")

    def set_properties(self, page_id: str, properties: Mapping[str, Any] | None = None, **named: Any) -> None:
        """Set cells of a row, by column name or id.

        Plain values: str (text, url, email, phone, select, status), list of str (multi_select, and ids for
        relation and people), bool, number, str or `{"start", "end", "time_zone"}` (date), list of
        `{"name", "url"}` or `{"name", "hosted": True}` (files). Whole property values
        (`{"select": {"name": "x"}}`) are taken too.
        """
        page = self.pages[self.known(page_id)]
        given = {**(properties or {}), **named}
        changed = self._stored(self._source_of(page), given)
        self._edit_page(page.id, properties={**page.present.properties, **changed})

    def set_computed(self, page_id: str, name: str, value: Any) -> None:
        """Let a formula, rollup or other cell come out differently: no stamp moves."""
        page = self.pages[self.known(page_id)]
        changed = self._stored(self._source_of(page), {name: value})
        self._new_version(page, properties={**page.present.properties, **changed})

    def set_icon(self, object_id: str, icon: Json | str | None) -> None:
        """Set or take away the icon of a page or database."""
        self._decorate(self.known(object_id), icon=self._icon(icon))

    def set_cover(self, object_id: str, cover: Json | str | None) -> None:
        """Set or take away the cover of a page or database."""
        self._decorate(self.known(object_id), cover=self._icon(cover))

    def update_text(self, block_id: str, content: str | Sequence[Json]) -> None:
        """Replace a block's text."""
        self.update_block(block_id, {"rich_text": content})

    def update_block(self, block_id: str, patch: Json) -> None:
        """Change a block's body: `{"checked": True}` or `{"to_do": {"checked": True}}`."""
        block = self._block(block_id)
        given = patch.get(block.kind, patch)
        content = self._normal.block_content(block.kind, {**decode(block.content), **given})
        block.content = encode(content)
        block.edited_ms, block.edited_by = self._stamp_ms(), self._editor
        self._touch_container(block.parent[1])

    def delete_block(self, block_id: str) -> None:
        """Put a block, or the page or database behind it, into the trash."""
        self.trash(block_id)

    def add_property(self, data_source_id: str, name: str, described: str | Json) -> str:
        """A new column; returns its id."""
        source = self.data_sources[self.known(data_source_id)]
        column = make_property(name, described, self.ids)
        source.schema[column.id] = column
        self._touch_schema(source)
        return column.id

    def rename_property(self, data_source_id: str, name: str, new_name: str) -> None:
        source = self.data_sources[self.known(data_source_id)]
        self._column(source, name).name = new_name
        self._touch_schema(source)

    def remove_property(self, data_source_id: str, name: str) -> None:
        source = self.data_sources[self.known(data_source_id)]
        del source.schema[self._column(source, name).id]
        self._touch_schema(source)

    # Trash, archive, moves, access

    def trash(self, object_id: str) -> None:
        """Put a page, database, data source or block into the trash."""
        self._set_trash(self.known(object_id), True)

    def restore(self, object_id: str) -> None:
        """Take it out of the trash again."""
        self._set_trash(self.known(object_id), False)

    def purge(self, object_id: str) -> None:
        """What happens to trash after its 30 days: the object and everything below it are gone for good."""
        object_id = self.known(object_id)
        parent = self.parent_of(object_id)[1]
        if parent in self.pages or parent in self.blocks:
            self.children_ids(parent).remove(object_id)
        self._forget(object_id)

    def archive(self, page_id: str, archived: bool = True) -> None:
        """Archive a page (the feature of that name, not the trash), or bring it back."""
        self._edit_page(self.known(page_id), is_archived=archived)

    def lock(self, page_id: str, locked: bool = True) -> None:
        """Lock a page against editing in the app, or unlock it."""
        self._edit_page(self.known(page_id), is_locked=locked)

    def move(self, object_id: str, new_parent: str | None) -> None:
        """Move a page or database into a page or block, or a page into a data source or to the top (None)."""
        object_id = self.known(object_id)
        old, place = self.parent_of(object_id), self._place(new_parent, rows=object_id in self.pages)
        if place[1] == object_id or object_id in self.ancestors(place[1]):
            raise ValueError("a page cannot be moved into itself")
        if old[1] in self.pages or old[1] in self.blocks:
            self.children_ids(old[1]).remove(object_id)
            self._touch_container(old[1])
        self._set_parent(object_id, place)
        if place[1] in self.pages or place[1] in self.blocks:
            self.children_ids(place[1]).append(object_id)
            self._touch_container(place[1])

    def unshare(self, object_id: str) -> None:
        """The integration loses the object and everything below it."""
        self._share(object_id, False)

    def share(self, object_id: str) -> None:
        """The integration gets the object and what is below it, save what was taken from it by itself."""
        self._share(object_id, True)

    def revoke_token(self) -> None:
        """Every request is answered with 401 from now on."""
        self.token_revoked = True

    def restore_token(self) -> None:
        self.token_revoked = False

    def add_cycle(self, block_id: str, ancestor_id: str) -> None:
        """Let a block appear among its own descendants, as Notion's listings sometimes do."""
        self.children_ids(self.known(block_id)).append(self.known(ancestor_id))

    # Looking

    def children(self, object_id: str) -> list[str]:
        """Ids of what lies directly in a page or block and is not in the trash, in reading order."""
        return [c for c in self.children_ids(self.known(object_id)) if c not in self.trashed]

    def rows(self, data_source_id: str) -> list[str]:
        """Ids of the rows of a data source that are not in the trash."""
        source = self.data_sources[self.known(data_source_id)]
        place = ("data_source_id", source.id)
        return [r for r in source.rows if self.pages[r].present.parent == place and r not in self.trashed]

    def page(self, page_id: str) -> PageVersion:
        """The page's present state."""
        return self.pages[self.known(page_id)].present

    def last_edited_ms(self, object_id: str) -> int:
        """The exact stamp of a page, block, database or data source, before any flooring."""
        thing = self.find(self.known(object_id))
        if isinstance(thing, Page):
            return thing.present.edited_ms
        assert thing is not None
        return thing.edited_ms
