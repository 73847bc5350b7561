"""From the model to the JSON that Notion answers with, key for key as recorded."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from daemon.demo.files import SIGNED_SECONDS, Files
from daemon.demo.habits import Habits
from daemon.demo.model import Block, Database, DataSource, Page, PageVersion, Property, Ref
from daemon.demo.properties import empty_value, option_of, relation_target
from daemon.demo.wire import (
    Json,
    decode,
    encode,
    encoded_property_id,
    floored,
    iso_offset,
    iso_z,
)
from daemon.demo.workspace import Workspace

MAX_REFERENCES = 25
"""Page objects hold this many references of a property; the rest is had from the property endpoint."""
_STAMPS = ("created_time", "last_edited_time", "created_by", "last_edited_by")


def joined(parts: Iterable[bytes]) -> bytes:
    """A JSON array of values that are JSON text already."""
    return b"[" + b",".join(parts) + b"]"


class Renderer:
    """Renders for one API version. Times and files follow the habits of the moment."""

    def __init__(self, workspace: Workspace, habits: Habits, files: Files, *, archived_key: bool) -> None:
        self._workspace = workspace
        self._files = files
        self._habits = habits
        self._archived_key = archived_key
        self._passing = False

    # Pages

    def page(self, page: Page, version: PageVersion, only: Sequence[str] = ()) -> bytes:
        """A page object as of `version`; `only` names the properties to show (ids or names), or all."""
        source = self._source_of(version)
        cascaded = self._cascaded(page.id)
        key = (
            self._archived_key,
            self._habits.stamp_granularity_seconds,
            self._habits.page_url_base,
            source.schema_version if source else 0,
            cascaded,
        )
        if not only and key in version.rendered:
            return version.rendered[key]
        self._passing = False
        raw = encode(self._page(page, version, source, only, cascaded))
        if not only and not self._passing:
            version.rendered[key] = raw
        return raw

    def _page(
        self, page: Page, version: PageVersion, source: DataSource | None, only: Sequence[str], cascaded: bool
    ) -> Json:
        made: Json = {
            "object": "page",
            "id": page.id,
            "created_time": self._z(page.created_ms),
            "last_edited_time": self._z(version.edited_ms),
            "created_by": _user(page.created_by),
            "last_edited_by": _user(version.edited_by),
            "cover": self._file(version.cover),
            "icon": self._file(version.icon),
            "parent": self._parent(version.parent),
            "in_trash": version.in_trash or cascaded,
            "is_archived": version.is_archived,
            "is_locked": version.is_locked,
            "properties": self._properties(page, version, source, only),
            "url": self._page_url(page.id, self._plain(version.properties.get("title"))),
            "public_url": None,
        }
        return self._old_style(made)

    def _properties(
        self, page: Page, version: PageVersion, source: DataSource | None, only: Sequence[str]
    ) -> Json:
        made = {}
        for column in self.columns(source):
            shown_id = encoded_property_id(column.id)
            if only and not {column.id, shown_id, column.name}.intersection(only):
                continue
            made[column.name] = {"id": shown_id, "type": column.kind, **self.cell(column, page, version)}
        return made

    @staticmethod
    def columns(source: DataSource | None) -> Iterable[Property]:
        """The columns a page has: those of its data source, or just a title."""
        return source.columns() if source else (Property("title", "title", "title", {}),)

    def _source_of(self, version: PageVersion) -> DataSource | None:
        kind, parent_id = version.parent
        return self._workspace.data_sources.get(parent_id) if kind == "data_source_id" else None

    def cell(self, column: Property, page: Page, version: PageVersion) -> Json:
        """`{type: value}` of a property in a page object, cut to 25 references."""
        kind, value = column.kind, self.full_value(column, page, version)
        if kind == "relation":
            return {kind: value[:MAX_REFERENCES], "has_more": len(value) > MAX_REFERENCES}
        if kind == "people":
            return {kind: value[:MAX_REFERENCES]}
        if kind in ("title", "rich_text"):
            return {kind: _cut_mentions(value)}
        return {kind: value}

    def full_value(self, column: Property, page: Page, version: PageVersion) -> Any:
        """A property's whole value in Notion's form."""
        kind = column.kind
        if kind in _STAMPS:
            return self._stamp(kind, page, version)
        stored = version.properties.get(column.id, empty_value(column))
        if kind in ("title", "rich_text"):
            return self.rich_text(stored)
        if kind in ("select", "status"):
            return option_of(column, stored)
        if kind == "multi_select":
            return [option for o in stored if (option := option_of(column, o)) is not None]
        if kind == "relation":
            return [{"id": related} for related in stored]
        if kind == "people":
            return [self._person(user_id) for user_id in stored]
        if kind == "files":
            return [self._file(part) for part in stored]
        if kind == "unique_id":
            return {"prefix": column.config.get("prefix"), "number": stored}
        return stored

    def _stamp(self, kind: str, page: Page, version: PageVersion) -> Any:
        if kind == "created_time":
            return self._z(page.created_ms)
        if kind == "last_edited_time":
            return self._z(version.edited_ms)
        return self._person(page.created_by if kind == "created_by" else version.edited_by)

    # Blocks

    def block(self, object_id: str) -> bytes:
        """The block with that id; pages and databases have one too."""
        block = self._workspace.blocks.get(object_id)
        if block is None:
            return encode(self._old_style(self._container(object_id)))
        head = {
            "object": "block",
            "id": block.id,
            "parent": {"type": block.parent[0], block.parent[0]: block.parent[1]},
            "created_time": self._z(block.created_ms),
            "last_edited_time": self._z(block.edited_ms),
            "created_by": _user(block.created_by),
            "last_edited_by": _user(block.edited_by),
            "has_children": self._claims_children(block),
            "in_trash": block.in_trash or self._cascaded(block.id),
            "type": self._kind(block.kind),
        }
        tail = b',"archived":' + encode(head["in_trash"]) if self._archived_key else b""
        body = self._content(block.content)
        return encode(head)[:-1] + b',"' + self._kind(block.kind).encode() + b'":' + body + tail + b"}"

    def _container(self, object_id: str) -> Json:
        """The `child_page` or `child_database` block of a page or database."""
        page = self._workspace.pages.get(object_id)
        thing = page.present if page else self._workspace.databases[object_id]
        created = page or self._workspace.databases[object_id]
        kind = "child_page" if page else "child_database"
        return {
            "object": "block",
            "id": object_id,
            "parent": self._parent(thing.parent),
            "created_time": self._z(created.created_ms),
            "last_edited_time": self._z(thing.edited_ms),
            "created_by": _user(created.created_by),
            "last_edited_by": _user(thing.edited_by),
            "has_children": bool(page) and self._workspace.has_children(object_id),
            "in_trash": thing.in_trash or self._cascaded(object_id),
            "type": kind,
            kind: {"title": self._workspace.title_of(object_id)},
        }

    def _kind(self, kind: str) -> str:
        return "transcription" if self._archived_key and kind == "meeting_notes" else kind

    def _claims_children(self, block: Block) -> bool:
        if block.kind == "unsupported" and self._habits.refuse_children:
            return True
        return self._workspace.has_children(block.id)

    def _content(self, raw: bytes) -> bytes:
        """A block's body; files are signed and mentions named when it holds any."""
        if b'"type":"file"' not in raw and b'"type":"mention"' not in raw:
            return raw
        return encode(self._alive(decode(raw)))

    def _alive(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._alive(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("type") == "file":
            return self._file(value)
        if value.get("type") == "mention" and "plain_text" in value:
            return self._mention(value)
        return {k: self._alive(v) for k, v in value.items()}

    # Databases

    def database(self, database: Database) -> Json:
        """A database object; its stamps are not floored and are spelt with an offset."""
        return self._old_style(
            {
                "object": "database",
                "id": database.id,
                "title": self.rich_text(database.title),
                "description": [],
                "parent": self._parent(database.parent),
                "is_inline": database.inline,
                "in_trash": database.in_trash,
                "is_locked": False,
                "created_time": iso_offset(database.created_ms),
                "last_edited_time": iso_offset(database.edited_ms),
                "data_sources": [
                    {"id": source_id, "name": self._workspace.data_sources[source_id].name}
                    for source_id in database.data_sources
                    if source_id in self._workspace.data_sources
                ],
                "icon": self._file(database.icon),
                "cover": self._file(database.cover),
                "url": self._habits.page_url_base + database.id.replace("-", ""),
                "public_url": None,
            }
        )

    def data_source(self, source: DataSource) -> Json:
        """A data source object with its schema."""
        database = self._workspace.databases[source.database_id]
        return self._old_style(
            {
                "object": "data_source",
                "id": source.id,
                "cover": self._file(database.cover),
                "icon": self._file(database.icon),
                "created_time": self._z(source.created_ms),
                "created_by": _user(source.created_by),
                "last_edited_by": _user(source.edited_by),
                "last_edited_time": self._z(source.edited_ms),
                "title": self.rich_text(source.name),
                "description": [],
                "is_inline": database.inline,
                "properties": {column.name: self._column(column) for column in source.columns()},
                "parent": {"type": "database_id", "database_id": database.id},
                "database_parent": self._parent(database.parent),
                "url": self._habits.page_url_base + database.id.replace("-", ""),
                "public_url": None,
                "in_trash": source.in_trash or database.in_trash,
            }
        )

    def _column(self, column: Property) -> Json:
        config = column.config
        if column.kind == "relation":
            config = relation_target(column, self._workspace.data_sources.get)
        return {
            "id": encoded_property_id(column.id),
            "name": column.name,
            "description": column.description,
            "type": column.kind,
            column.kind: config,
        }

    # Parts

    def _old_style(self, made: Json) -> Json:
        """The versions before 2026-03-11 say `archived` beside `in_trash`."""
        if self._archived_key:
            made["archived"] = made["in_trash"]
        return made

    def _cascaded(self, object_id: str) -> bool:
        return self._habits.trash_reaches_down == "flag" and self._workspace.below_trash(object_id)

    def _parent(self, parent: Ref) -> Json:
        kind, parent_id = parent
        if kind == "workspace":
            return {"type": "workspace", "workspace": True}
        if kind == "data_source_id":
            source = self._workspace.data_sources.get(parent_id)
            return {"type": kind, kind: parent_id, "database_id": source.database_id if source else None}
        return {"type": kind, kind: parent_id}

    def _z(self, ms: int) -> str:
        return iso_z(floored(ms, self._habits.stamp_granularity_seconds))

    def rich_text(self, stored: str | list[Json]) -> list[Json]:
        """Rich text as it reads now: a plain string becomes one run, mentions carry their target's name."""
        if isinstance(stored, str):
            return [_run(stored)] if stored else []
        return [self._mention(item) if item["type"] == "mention" else item for item in stored]

    def _mention(self, item: Json) -> Json:
        kind = item["mention"]["type"]
        target = item["mention"][kind]
        if kind == "user":
            self._passing = True
            person = self._person(target["id"])
            return {
                **item,
                "mention": {"type": kind, kind: person},
                "plain_text": f"@{person.get('name', '')}",
            }
        if kind == "custom_emoji":
            return {**item, "mention": self._emoji(item["mention"])}
        if kind not in ("page", "database"):
            return item
        self._passing = True
        href = self._habits.page_url_base + target["id"].replace("-", "")
        words = self._workspace.title_of(target["id"]) if self._workspace.readable(target["id"]) else ""
        return {**item, "plain_text": words or "Untitled", "href": href}

    def _emoji(self, part: Json) -> Json:
        self._passing = True
        told = part["custom_emoji"]
        if "url" not in told:
            return part
        return {**part, "custom_emoji": {**told, "url": self._files.public(told["url"])}}

    def _person(self, user_id: str) -> Json:
        return self._workspace.users.get(user_id) or _user(user_id)

    def _plain(self, title: Any) -> str:
        return (
            title if isinstance(title, str) else "".join(i["plain_text"] for i in self.rich_text(title or []))
        )

    def _page_url(self, page_id: str, title: str) -> str:
        words = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")
        return f"{self._habits.page_url_base}{words}{'-' if words else ''}{page_id.replace('-', '')}"

    def _file(self, part: Json | None) -> Json | None:
        """A file, icon or cover; one that Notion keeps gets a signed URL."""
        if part is not None and part.get("type") == "custom_emoji":
            return self._emoji(part)
        if part is None or part.get("type") != "file":
            return part
        self._passing = True
        url = part["file"]["url"]
        rotating = self._habits.rotating_urls
        signed_ms = self._workspace.now_ms() if rotating else 1_700_000_000_000
        digits = self._workspace.ids.hex_digits(64) if rotating else None
        expiry = iso_z(signed_ms + SIGNED_SECONDS * 1000)
        signed = self._files.signed(url, signed_ms, digits)
        return {**part, "file": {"url": signed, "expiry_time": expiry}}


def _user(user_id: str) -> Json:
    return {"object": "user", "id": user_id}


def _run(words: str) -> Json:
    """One undecorated run of text."""
    return {
        "type": "text",
        "text": {"content": words, "link": None},
        "annotations": {
            "bold": False,
            "italic": False,
            "strikethrough": False,
            "underline": False,
            "code": False,
            "color": "default",
        },
        "plain_text": words,
        "href": None,
    }


def _cut_mentions(items: list[Json]) -> list[Json]:
    """The items up to the 25th reference."""
    seen = 0
    for place, item in enumerate(items):
        seen += item["type"] == "mention"
        if seen > MAX_REFERENCES:
            return items[:place]
    return items
