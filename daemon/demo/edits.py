"""The small steps that every edit is made of: new ids, versions and stamps, things put in their place."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from daemon.clock import Clock
from daemon.demo.habits import Habits
from daemon.demo.model import Block, Database, DataSource, Page, PageVersion, Property, Ref
from daemon.demo.normal import Normaliser
from daemon.demo.properties import Cells
from daemon.demo.store import WORKSPACE, Store
from daemon.demo.wire import IdMaker, Json, dashed, encode, to_ms

_HISTORY_SECONDS = 900.0


class Edits(Store):
    """A store that is edited in the time of a clock. Its steps leave the workspace consistent only in sum."""

    def __init__(self, clock: Clock, habits: Habits, seed: int = 0) -> None:
        super().__init__(IdMaker(seed))
        self._clock = clock
        self._habits = habits
        self._normal = Normaliser(self.ids, self.space_id)
        self._cells = Cells(self.ids, self._normal)
        self._editor = self.person_id
        self._told_ms: int | None = None
        self.listeners: list[Callable[[str, str, Json], None]] = []
        """Told of every edit as a webhook would be: kind of event, id of the thing, details."""
        self._add_users()

    def _add_users(self) -> None:
        name = {"object": "user", "id": self.bot_id, "name": "Sandbox", "avatar_url": None}
        self.users[self.bot_id] = {**name, "type": "bot", "bot": {}}
        self.add_person("Ada Editor", "ada@example.com", self.person_id)

    def add_person(self, name: str, email: str, user_id: str | None = None) -> str:
        """Add a member of the workspace; returns the id to put into `people` properties."""
        user_id = user_id or self.ids.random()
        person = {"object": "user", "id": user_id, "name": name, "avatar_url": None}
        self.users[user_id] = {**person, "type": "person", "person": {"email": email}}
        return user_id

    @contextmanager
    def edited_by(self, user_id: str) -> Iterator[None]:
        """Edits inside carry that user's name."""
        before, self._editor = self._editor, user_id
        try:
            yield
        finally:
            self._editor = before

    def _tell(self, kind: str, object_id: str, **details: Any) -> None:
        for listener in self.listeners:
            listener(kind, object_id, details)

    def _tell_of_member(self, page_id: str) -> None:
        """A row came or went."""
        kind, parent_id = self.parent_of(page_id)
        if kind == "data_source_id":
            changed = [{"id": page_id, "type": "block"}]
            self._tell("data_source.content_updated", parent_id, updated_blocks=changed)

    # Time

    @contextmanager
    def at(self, moment: datetime) -> Iterator[None]:
        """Edits inside were made at that moment of the past. For histories: told in the order of time."""
        before, self._told_ms = self._told_ms, min(to_ms(moment), self.now_ms())
        try:
            yield
        finally:
            self._told_ms = before

    def now_ms(self) -> int:
        """Notion's wall clock, skew included."""
        return to_ms(self._clock.now()) + round(self._habits.clock_skew_seconds * 1000)

    def _stamp_ms(self) -> int:
        moment = self.now_ms() if self._told_ms is None else self._told_ms
        return moment + round(self._habits.future_stamps_seconds * 1000)

    def _at(self) -> float:
        ago_ms = 0 if self._told_ms is None else self.now_ms() - self._told_ms
        return self._clock.monotonic() - ago_ms / 1000

    def _new_id(self, wanted: str | None, *, prefixed: bool = True) -> str:
        if wanted is not None:
            canonical = dashed(wanted)
            if canonical is None or self.find(canonical) is not None:
                raise ValueError(f"the id {wanted!r} is no UUID, or is taken")
            return canonical
        if prefixed and self._habits.shared_id_prefix:
            return self.ids.prefixed(self._clock.now())
        return self.ids.random()

    def _place(self, parent: str | None, *, rows: bool = False) -> Ref:
        if parent is None:
            return WORKSPACE
        parent_id = self.known(parent)
        if parent_id in self.pages:
            return ("page_id", parent_id)
        if parent_id in self.blocks:
            return ("block_id", parent_id)
        sources = [parent_id] if parent_id in self.data_sources else self.databases[parent_id].data_sources
        if rows and len(sources) == 1:
            return ("data_source_id", sources[0])
        raise ValueError(f"{parent_id} is neither a page nor a block; rows are made with add_row")

    def _text(self, title: str | Sequence[Json]) -> Any:
        return title if isinstance(title, str) else self._normal.rich_text(title)

    def _icon(self, icon: Json | str | None) -> Json | None:
        if isinstance(icon, str):
            kind = "external" if re.match(r"https?://", icon) else "emoji"
            icon = {"type": kind, kind: {"url": icon} if kind == "external" else icon}
        return self._normal.file(icon)

    def _add_page(
        self,
        page_id: str,
        parent: Ref,
        cells: dict[str, Any],
        looks: tuple[Json | str | None, Json | str | None],
        times: tuple[datetime | None, datetime | None] = (None, None),
    ) -> None:
        now, stamp = self.now_ms(), self._stamp_ms()
        created = to_ms(times[0]) if times[0] else stamp
        edited = to_ms(times[1]) if times[1] else stamp
        at = self._clock.monotonic() - max(0, now - edited) / 1000
        icon, cover = self._icon(looks[0]), self._icon(looks[1])
        version = PageVersion(at, parent, edited, self._editor, cells, icon, cover)
        self.pages[page_id] = Page(page_id, created, self._editor, [version])
        self._note(page_id, parent, at)
        self._tell("page.created", page_id)
        self._tell_of_member(page_id)

    def _note(self, page_id: str, parent: Ref, at: float) -> None:
        """A listing that shows this page has changed."""
        self.changes.note(at)
        if parent[0] == "data_source_id":
            source = self.data_sources[parent[1]]
            source.rows[page_id] = None
            source.changes.note(at)

    def _fill(self, page_id: str, blocks: Sequence[Json]) -> None:
        """The body of a page that is being made: no stamp moves for it."""
        if blocks:
            stamp = self.pages[page_id].present.edited_ms
            self.pages[page_id].children += [self._add_block(page_id, b, stamp) for b in blocks]

    def _add_block(self, parent_id: str, given: Json, stamp_ms: int | None = None) -> str:
        kind = given.get("type") or next(k for k in given if k != "object")
        body = given[kind]
        kind_of_parent = "page_id" if parent_id in self.pages else "block_id"
        new_id = self._new_id(given.get("id"))
        stamp = self._stamp_ms() if stamp_ms is None else stamp_ms
        content = self._normal.block_content(kind, body)
        made = Block(
            new_id,
            kind,
            encode(content),
            (kind_of_parent, parent_id),
            stamp,
            stamp,
            self._editor,
            self._editor,
        )
        made.original_id = ((content.get("synced_from") or {}) if kind == "synced_block" else {}).get(
            "block_id"
        )
        self.blocks[new_id] = made
        made.children = [self._add_block(new_id, child, stamp) for child in body.get("children", ())]
        return new_id

    def _add_database(
        self, parent: str, title: str, *, inline: bool, linked: bool, database_id: str | None
    ) -> str:
        place = self._place(parent)
        new_id = self._new_id(database_id, prefixed=False)
        now, who = self._stamp_ms(), self._editor
        words = self._normal.rich_text(title)
        self.databases[new_id] = Database(new_id, words, place, inline, now, now, who, who, linked=linked)
        self.children_ids(place[1]).append(new_id)
        self._tell("database.created", new_id)
        self._touch_container(place[1])
        return new_id

    def _block(self, block_id: str) -> Block:
        canonical = self.known(block_id)
        if canonical not in self.blocks:
            raise ValueError(f"{canonical} is a page or database: it is edited as such")
        return self.blocks[canonical]

    def _column(self, source: DataSource, name: str) -> Property:
        column = source.column(name)
        if column is None:
            known = ", ".join(p.name for p in source.schema.values())
            raise ValueError(f"{source.name!r} has no column {name!r}; it has {known}")
        return column

    def _source_of(self, page: Page) -> DataSource:
        kind, parent_id = page.present.parent
        if kind != "data_source_id":
            raise ValueError(f"{page.id} is not a row: a page outside a database has only a title")
        return self.data_sources[parent_id]

    def _stored(self, source: DataSource, given: Mapping[str, Any]) -> dict[str, Any]:
        options = sum(len(p.config.get("options", ())) for p in source.schema.values())
        stored = {}
        for name, value in given.items():
            column = self._column(source, name)
            stored[column.id] = self._cells.stored(column, value)
        if sum(len(p.config.get("options", ())) for p in source.schema.values()) != options:
            source.schema_version += 1
        return stored

    def _edit_page(self, page_id: str, **changes: Any) -> None:
        page = self.pages[page_id]
        self._new_version(page, edited_ms=self._stamp_ms(), edited_by=self._editor, **changes)
        if "is_locked" in changes:
            self._tell("page.locked" if changes["is_locked"] else "page.unlocked", page_id)
        elif "parent" not in changes:
            self._tell("page.properties_updated" if changes else "page.content_updated", page_id)

    def _touch_container(self, container_id: str) -> None:
        page_id = self.page_above(container_id)
        if page_id is not None:
            self._edit_page(page_id)

    def _touch_schema(self, source: DataSource) -> None:
        source.schema_version += 1
        source.edited_ms, source.edited_by = self._stamp_ms(), self._editor
        source.changes.note(self._at())
        self.changes.note(self._at())
        self._tell("data_source.schema_updated", source.id)

    def _new_version(self, page: Page, **changes: Any) -> None:
        """Add a version from now on; a version of this same moment is replaced, old ones are forgotten."""
        before, at = page.present, self._at()
        version = replace(before, at=at, rendered={}, **changes)
        if before.at >= at:
            page.versions[-1] = version
        else:
            page.versions.append(version)
        lag = max(self._habits.query_lag_seconds, self._habits.search_lag_seconds, _HISTORY_SECONDS)
        while len(page.versions) > 1 and page.versions[1].at < at - lag:
            del page.versions[0]
        self._note(page.id, before.parent, at)
        if version.parent != before.parent:
            self._note(page.id, version.parent, at)

    def _decorate(self, object_id: str, **looks: Json | None) -> None:
        if object_id in self.pages:
            self._edit_page(object_id, **looks)
            return
        database = self.databases[object_id]
        for name, value in looks.items():
            setattr(database, name, value)
        database.edited_ms = self._stamp_ms()

    def _set_parent(self, object_id: str, place: Ref) -> None:
        if object_id in self.pages and self._habits.move_moves_stamp:
            self._edit_page(object_id, parent=place)
        elif object_id in self.pages:
            self._new_version(self.pages[object_id], parent=place)
        elif object_id in self.databases:
            self.databases[object_id].parent = place
        else:
            raise ValueError("only pages and databases can be moved")
        self._tell("page.moved" if object_id in self.pages else "database.moved", object_id)

    def _set_trash(self, object_id: str, trashed: bool) -> None:
        (self.trashed.add if trashed else self.trashed.discard)(object_id)
        stamps = self._habits.trash_moves_stamp if trashed else self._habits.restore_moves_stamp
        thing = self.find(object_id)
        if isinstance(thing, Page):
            stamp = {"edited_ms": self._stamp_ms(), "edited_by": self._editor} if stamps else {}
            self._new_version(thing, in_trash=trashed, **stamp)
        elif thing is not None:
            thing.in_trash = trashed
            thing.edited_ms = self._stamp_ms() if stamps else thing.edited_ms
        self.changes.note(self._at())
        kinds = {Page: "page", Database: "database", DataSource: "data_source"}
        if thing is not None and (kind := kinds.get(type(thing))):
            self._tell(f"{kind}.deleted" if trashed else f"{kind}.undeleted", object_id)
        if object_id in self.pages:
            self._tell_of_member(object_id)
        parent_id = self.parent_of(object_id)[1]
        if parent_id in self.pages or parent_id in self.blocks:
            self._touch_container(parent_id)

    def _share(self, object_id: str, shared: bool) -> None:
        self.shares[self.known(object_id)] = shared
        self.share_version += 1
        if shared and all(self.shares.values()):
            self.shares.clear()

    def _forget(self, object_id: str) -> None:
        """Take an object and everything below it out of the workspace."""
        thing = self.find(object_id)
        if thing is None:
            return
        for source in self.data_sources.values():
            if object_id in source.rows:  # its own, and those it was moved out of
                del source.rows[object_id]
                source.changes.note(self._at())
        below = thing.data_sources if isinstance(thing, Database) else []
        below = list(thing.rows) if isinstance(thing, DataSource) else below
        below = thing.children if isinstance(thing, Page | Block) else below
        for shelf in (self.pages, self.blocks, self.databases, self.data_sources):
            shelf.pop(object_id, None)
        self.trashed.discard(object_id)
        self.changes.note(self._at())
        for child in list(below):
            self._forget(child)
