"""From the form in which text, files and blocks are written to the form in which Notion gives them back."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from daemon.demo.wire import IdMaker, Json

FILES_URL = "https://prod-files-secure.s3.us-west-2.amazonaws.com"
_MARKS = ("bold", "italic", "strikethrough", "underline", "code")

_TEXT: Json = {"rich_text": [], "color": "default"}
_HEADING: Json = {"rich_text": [], "is_toggleable": False, "color": "default"}
_MEDIA: Json = {"caption": []}
DEFAULTS: dict[str, Json] = {
    "paragraph": {"rich_text": [], "icon": None, "color": "default"},
    "heading_1": _HEADING,
    "heading_2": _HEADING,
    "heading_3": _HEADING,
    "heading_4": _HEADING,
    "bulleted_list_item": _TEXT,
    "numbered_list_item": _TEXT,
    "toggle": _TEXT,
    "quote": _TEXT,
    "to_do": {"rich_text": [], "checked": False, "color": "default"},
    "callout": {"rich_text": [], "icon": {"type": "emoji", "emoji": "💡"}, "color": "default"},
    "template": {"rich_text": []},
    "code": {"caption": [], "rich_text": [], "language": "plain text"},
    "image": _MEDIA,
    "video": _MEDIA,
    "audio": _MEDIA,
    "pdf": _MEDIA,
    "file": _MEDIA,
    "embed": {"caption": [], "url": ""},
    "bookmark": {"caption": [], "url": ""},
    "link_preview": {"url": ""},
    "equation": {"expression": ""},
    "divider": {},
    "breadcrumb": {},
    "table_of_contents": {"color": "default"},
    "column_list": {},
    "column": {},
    "tab": {},
    "table": {"table_width": 1, "has_column_header": False, "has_row_header": False},
    "table_row": {"cells": []},
    "synced_block": {"synced_from": None},
    "link_to_page": {},
    "unsupported": {"block_type": "unknown"},
}
"""What a block of each type says when its writer did not, in Notion's order of keys (as recorded)."""


def plain_text(items: Sequence[Json]) -> str:
    """The words of rich text in its read form."""
    return "".join(item["plain_text"] for item in items)


class Normaliser:
    """Fills in what writers leave out. Hosted files get an address of their own, without a signature."""

    def __init__(self, ids: IdMaker, space_id: str) -> None:
        self._ids = ids
        self._space_id = space_id

    def rich_text(self, items: str | Sequence[Json] | None) -> list[Json]:
        """Rich text in its read form; a string becomes one plain run."""
        if isinstance(items, str):
            items = [{"type": "text", "text": {"content": items}}] if items else []
        return [self._item(item) for item in items or ()]

    def _item(self, item: Json) -> Json:
        kind = item.get("type") or next(k for k in ("text", "mention", "equation") if k in item)
        marks = item.get("annotations") or {}
        href = None
        if kind == "text":
            link = item["text"].get("link")
            value: Json = {"content": item["text"]["content"], "link": link}
            words, href = value["content"], (link or {}).get("url")
        elif kind == "equation":
            value = {"expression": item["equation"]["expression"]}
            words = value["expression"]
        else:
            value, words = _mention(item["mention"])
        return {
            "type": kind,
            kind: value,
            "annotations": {
                **{mark: bool(marks.get(mark, False)) for mark in _MARKS},
                "color": marks.get("color", "default"),
            },
            "plain_text": words,
            "href": href,
        }

    def file(self, value: Json | None) -> Json | None:
        """An icon, a cover, or the file part of a block: hosted ones get their address."""
        if value is None:
            return None
        kind = value.get("type") or next(
            k for k in value if k in ("file", "external", "emoji", "file_upload", "icon")
        )
        if kind == "file_upload":
            return {"type": "file", "file": {"url": self._hosted_url("upload.bin")}}
        if kind == "file" and "url" not in value["file"]:
            return {
                "type": "file",
                "file": {"url": self._hosted_url(value["file"].get("name") or "file.bin")},
            }
        if kind == "file":
            return {"type": "file", "file": {"url": value["file"]["url"].split("?")[0]}}
        return {"type": kind, kind: value[kind]}

    def _hosted_url(self, name: str) -> str:
        return f"{FILES_URL}/{self._space_id}/{self._ids.random()}/{quote(name)}"

    def block_content(self, kind: str, given: Json) -> Json:
        """The body of a block of type `kind`, without its children; keys that are not known stay."""
        made: Json = {**DEFAULTS.get(kind, {}), **{k: v for k, v in given.items() if k != "children"}}
        for key in ("rich_text", "caption"):
            if key in made:
                made[key] = self.rich_text(made[key])
        if kind == "table_row":
            made["cells"] = [self.rich_text(cell) for cell in made["cells"]]
        if isinstance(made.get("icon"), dict):
            made["icon"] = self.file(made["icon"])
        if kind == "synced_block" and isinstance(made["synced_from"], dict):
            made["synced_from"] = {"type": "block_id", "block_id": made["synced_from"]["block_id"]}
        return self._with_file(kind, made) if DEFAULTS.get(kind) is _MEDIA else made

    def _with_file(self, kind: str, made: Json) -> Json:
        name = {"name": made["name"]} if "name" in made else {}
        part: Json = {k: made[k] for k in ("type", "file", "external", "file_upload") if k in made}
        placed = self.file(part) if part else {}
        if kind == "file" and not name:
            name = {"name": _file_name(placed)}
        return {"caption": made["caption"], **(placed or {}), **name}


def _file_name(placed: Json | None) -> str:
    kind = (placed or {}).get("type", "")
    return unquote(str((placed or {}).get(kind, {}).get("url", "file")).rsplit("/", 1)[-1])


def _mention(mention: Json) -> tuple[Json, str]:
    """A mention and its words; those of pages, databases and people are filled in when it is read."""
    kind = mention.get("type") or next(iter(mention))
    value: Any = mention[kind]
    words = ""
    if kind == "date":
        value = {"start": value["start"], "end": value.get("end"), "time_zone": value.get("time_zone")}
        words = value["start"] if value["end"] is None else f"{value['start']} → {value['end']}"
    elif kind == "custom_emoji":
        words = f":{value.get('name', '')}:"
    elif kind in ("page", "database", "user"):
        value = {**({"object": "user"} if kind == "user" else {}), "id": value["id"]}
    return {"type": kind, kind: value}, words
