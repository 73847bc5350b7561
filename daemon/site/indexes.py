"""The site's keys, and the values that list pages: an index per source, a bundle per inline database."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from daemon.notion.ids import normalize_id
from daemon.notion.values import cover_url, instant, list_property, page_title, text_property
from daemon.site.slugs import own_slug
from daemon.site.visibility import publishing_facts

JsonObject = dict[str, Any]

GALLERY_PERCENT = 60
"""A database is shown as a gallery when at least so many of its rows have a cover."""

INDEX_FIELDS = ("title", "excerpt", "cover", "lastEdited")
BUNDLE_FIELDS = (*INDEX_FIELDS, "rawSlug", "tags", "url")
"""The facts of a card on which an index, and the bundle of a database, depend: what they show and sort by."""


def key_page(slug: str) -> str:
    """The key of the page under `slug`."""
    return f"page:{slug}"


def key_index(name: str) -> str:
    """The key of the index of the source `name`."""
    return f"{name}:index"


def key_database(database_id: str) -> str:
    """The key of a database found inside a page; the id with or without dashes."""
    return f"db:{normalize_id(database_id) or database_id}:cursor:_"


def iso_ms(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`. Raises `ValueError` for a moment without a time zone."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone: pass UTC")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def card(page: Mapping[str, Any]) -> JsonObject:
    """The few facts of a page that lists show, and that decide whether it is published. Raises `PartialPageError`."""
    return {
        "title": page_title(page),
        "excerpt": text_property(page, "excerpt"),
        "cover": cover_url(page),
        "tags": list_property(page, "tags"),
        "url": page.get("url"),
        "lastEdited": page.get("last_edited_time"),
        "createdTime": page.get("created_time"),
        "rawSlug": own_slug(page),
        **publishing_facts(page),
    }


def source_index(items: Iterable[tuple[str, str, Mapping[str, Any]]], synced_at: datetime) -> JsonObject:
    """The index of a source from (slug, page id, card): newest edit first, then by slug."""
    by_slug = sorted(items, key=lambda item: item[0])
    newest_first = sorted(by_slug, key=lambda item: _edited(item[2]), reverse=True)
    listed = [
        {
            "slug": slug,
            "title": facts["title"],
            "excerpt": facts["excerpt"],
            "notionId": notion_id,
            "cover": facts["cover"],
            "lastEdited": facts["lastEdited"],
        }
        for slug, notion_id, facts in newest_first
    ]
    return {"items": listed, "syncedAt": iso_ms(synced_at)}


def database_bundle(
    database_id: str, name: str, items: Iterable[tuple[str, str, Mapping[str, Any]]], synced_at: datetime
) -> JsonObject:
    """The value of a database inside a page from (path, page id, card): newest edit first, then by id.

    `path` is the slug that the row's page is published under, `slug` what its own property says.
    """
    by_id = sorted(items, key=lambda item: item[1])
    newest_first = sorted(by_id, key=lambda item: _edited(item[2]), reverse=True)
    listed = [
        {
            "id": page_id,
            "title": facts["title"],
            "slug": facts["rawSlug"],
            "path": path,
            "excerpt": facts["excerpt"],
            "cover": facts["cover"],
            "tags": facts["tags"],
            "url": facts["url"],
        }
        for path, page_id, facts in newest_first
    ]
    bundle = {"view": _view(listed), "name": name, "items": listed, "nextCursor": None, "hasMore": False}
    dashed = normalize_id(database_id) or database_id
    return {"databaseId": dashed, "cursor": "_", "bundle": bundle, "syncedAt": iso_ms(synced_at)}


def _view(items: list[JsonObject]) -> str:
    covers = sum(1 for item in items if item["cover"])
    return "gallery" if items and covers * 100 >= GALLERY_PERCENT * len(items) else "list"


def _edited(facts: Mapping[str, Any]) -> datetime:
    """When the page was edited last; a stamp that cannot be read counts as the oldest."""
    try:
        return instant(facts["lastEdited"] or "")
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
