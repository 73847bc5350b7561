"""Notion's page objects as plain values: titles, texts, every type of property, icons and covers.

Shapes are those of API versions 2025-09-03 and 2026-03-11. Unknown types and fields are passed on as they
are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from daemon.notion.ids import normalize_id

JsonObject = dict[str, Any]

REFERENCES_LISTED = 25
"""Page objects hold at most so many parts of a title, text, relation or list of people."""


LONG_TYPES = ("title", "rich_text", "people", "relation")
"""The types of properties that this limit concerns."""


class PartialPageError(ValueError):
    """A page object without its properties, as Notion gives to an integration that may not read content."""

    def __init__(self, page: Mapping[str, Any]) -> None:
        super().__init__(
            f"page {page.get('id', '(no id)')} came without its properties; "
            "give the integration the capability to read content, then it is read again"
        )


def is_full_page(page: Mapping[str, Any]) -> bool:
    """Whether this is a page object that carries its properties."""
    return page.get("object", "page") == "page" and isinstance(page.get("properties"), dict)


def properties_of(page: Mapping[str, Any]) -> dict[str, JsonObject]:
    """The page's properties by name. Raises `PartialPageError` for a page object without them."""
    if not is_full_page(page):
        raise PartialPageError(page)
    properties: dict[str, JsonObject] = page["properties"]
    return properties


def instant(stamp: str) -> datetime:
    """A time stamp of Notion's as a moment in UTC. Raises `ValueError` when it is none.

    Pages say `…T09:08:00.000Z`, databases `…T09:08:57.778+00:00`: compare moments, never the texts.
    """
    moment = datetime.fromisoformat(stamp)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def plain_text(rich_text: Iterable[Mapping[str, Any]] | None) -> str:
    """The text of a list of rich-text parts, without its formatting."""
    return "".join(_part_text(part) for part in rich_text or ())


def _part_text(part: Mapping[str, Any]) -> str:
    text = part.get("plain_text")
    if text is None:
        text = (part.get("text") or {}).get("content")
    return text or ""


def page_title(page: Mapping[str, Any]) -> str:
    """The page's title, empty when it has none. Raises `PartialPageError`."""
    for prop in properties_of(page).values():
        if prop.get("type") == "title":
            return plain_text(prop.get("title"))
    return ""


def property_named(page: Mapping[str, Any], name: str) -> JsonObject | None:
    """The property of that name, else the one that differs in case only. Raises `PartialPageError`."""
    properties = properties_of(page)
    if name in properties:
        return properties[name]
    folded = name.casefold()
    return next((prop for own, prop in properties.items() if own.casefold() == folded), None)


def property_value(prop: Mapping[str, Any]) -> Any:
    """A property (or an element of a rollup) as a plain JSON value.

    Dates are `{"start", "end", "time_zone"}`, people `{"id", "name"}`, files `{"name", "url"}`, choices
    their names, relations the ids of pages. What Notion does not compute (`unsupported`, `incomplete`) is
    None. Types without a plain form (button, place, verification, those still to come) keep Notion's own
    value.
    """
    kind = prop.get("type")
    value = prop.get(kind) if isinstance(kind, str) else None
    if value is None or kind not in _READERS:
        return value
    return _READERS[kind](value)


def text_property(page: Mapping[str, Any], name: str) -> str | None:
    """The named property's value as text without white space around it, None when there is none."""
    prop = property_named(page, name)
    value = property_value(prop) if prop else None
    if isinstance(value, list):
        value = ", ".join(filter(None, map(_text, value)))
    return (_text(value) or "").strip() or None


def list_property(page: Mapping[str, Any], name: str) -> list[str]:
    """The named property's value as a list of texts: of several choices each, of a text what commas part."""
    prop = property_named(page, name)
    value = property_value(prop) if prop else None
    if isinstance(value, str) and prop is not None and prop.get("type") not in ("select", "status"):
        value = value.split(",")
    items = value if isinstance(value, list) else [value]
    return [text.strip() for text in map(_text, items) if text and text.strip()]


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def truncated_properties(page: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Properties that may be cut short in a page object, as (name, property id, type).

    Their full value comes from the property endpoint, one item a part, and goes in with
    `complete_property`. Only relations say that they go on; of texts and people it is known only that the
    limit is reached.
    """
    return [
        (name, str(prop.get("id", "")), str(prop["type"]))
        for name, prop in properties_of(page).items()
        if _may_be_cut(prop)
    ]


def _may_be_cut(prop: Mapping[str, Any]) -> bool:
    kind = prop.get("type")
    if kind == "relation" and "has_more" in prop:
        return bool(prop["has_more"])
    return kind in LONG_TYPES and len(prop.get(kind) or ()) >= REFERENCES_LISTED


def complete_property(page: JsonObject, name: str, items: Sequence[Mapping[str, Any]]) -> JsonObject:
    """A copy of `page` whose property `name` holds the parts of all `items` of the property endpoint."""
    prop = properties_of(page)[name]
    kind = prop["type"]
    complete = {**prop, kind: [item[kind] for item in items if item.get(kind) is not None]}
    if kind == "relation":
        complete["has_more"] = False
    return {**page, "properties": {**page["properties"], name: complete}}


def cover_url(page: Mapping[str, Any]) -> str | None:
    """The address of the page's cover, None without one."""
    return _file_url(page.get("cover"))


def icon_value(page: Mapping[str, Any]) -> str | None:
    """The page's icon: an emoji, or the address of an image.

    None without one, and for the icons of Notion's own set: those are a name and a colour, without an
    address.
    """
    icon = page.get("icon") or {}
    emoji = icon.get("emoji")
    return emoji if isinstance(emoji, str) else _file_url(icon)


def _file_url(holder: Mapping[str, Any] | None) -> str | None:
    """The address in a file object: hosted, external or a custom emoji."""
    if not holder:
        return None
    kind = holder.get("type") or ("external" if "external" in holder else "file")
    inner = holder.get(kind)
    url = inner.get("url") if isinstance(inner, dict) else None
    return url if isinstance(url, str) else None


def _person(user: Mapping[str, Any]) -> JsonObject:
    return {"id": user.get("id"), "name": user.get("name")}


def _date(date: Mapping[str, Any]) -> JsonObject:
    return {"start": date.get("start"), "end": date.get("end"), "time_zone": date.get("time_zone")}


def _unique_id(value: Mapping[str, Any]) -> str | None:
    number, prefix = value.get("number"), value.get("prefix")
    if number is None:
        return None
    return f"{prefix}-{number}" if prefix else str(number)


def _computed(result: Mapping[str, Any]) -> Any:
    """The value of a formula or a rollup: it names its own type."""
    kind = result.get("type")
    if kind in ("unsupported", "incomplete"):
        return None
    if kind == "array":
        return [property_value(item) for item in result.get("array") or ()]
    return property_value(result)


def _relation(references: Iterable[Mapping[str, Any]]) -> list[str]:
    return [normalize_id(reference["id"]) or reference["id"] for reference in references]


_READERS: dict[str, Callable[[Any], Any]] = {
    "title": plain_text,
    "rich_text": plain_text,
    "select": lambda option: option.get("name"),
    "status": lambda option: option.get("name"),
    "multi_select": lambda options: [option.get("name") for option in options],
    "date": _date,
    "people": lambda users: [_person(user) for user in users],
    "created_by": _person,
    "last_edited_by": _person,
    "files": lambda files: [{"name": file.get("name"), "url": _file_url(file)} for file in files],
    "formula": _computed,
    "rollup": _computed,
    "relation": _relation,
    "unique_id": _unique_id,
}
