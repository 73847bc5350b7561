"""Keys, indexes of sources and bundles of databases: the shapes and orders that sites rely on."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from daemon.site import indexes

ID = "38c9ce7b-60a4-817b-84ae-e63702a6c78e"
NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def card(
    edited: str | None = "2026-01-05T08:00:00.000Z", cover: str | None = None, **facts: Any
) -> dict[str, Any]:
    """A card with usual facts."""
    usual: dict[str, Any] = {
        "title": "T",
        "excerpt": None,
        "tags": [],
        "url": "https://n.example",
        "rawSlug": None,
    }
    return {**usual, "rawSlug": None, "createdTime": None, "lastEdited": edited, "cover": cover, **facts}


def test_keys() -> None:
    """Keys are fixed: sites read them by name."""
    assert indexes.key_page("a/b") == "page:a/b"
    assert indexes.key_index("posts") == "posts:index"
    assert indexes.key_database(ID.replace("-", "")) == indexes.key_database(ID) == f"db:{ID}:cursor:_"


def test_moments_have_milliseconds_and_a_z() -> None:
    """Always UTC, always three digits; a moment without a zone is a mistake."""
    assert indexes.iso_ms(NOW) == "2026-01-05T09:00:00.000Z"
    elsewhere = datetime(2026, 1, 5, 11, 0, 0, 7999, tzinfo=timezone(timedelta(hours=2)))
    assert indexes.iso_ms(elsewhere) == "2026-01-05T09:00:00.007Z"
    with pytest.raises(ValueError, match="UTC"):
        indexes.iso_ms(NOW.replace(tzinfo=None))


def test_a_card_holds_what_lists_show() -> None:
    """Title, excerpt, cover, tags, address, stamps, the slug as it was written, and what a rule may ask for."""
    page = {
        "id": ID,
        "created_time": "c",
        "last_edited_time": "e",
        "url": "u",
        "cover": {"type": "external", "external": {"url": "https://c.example"}},
        "properties": {
            "Name": {"type": "title", "title": [{"plain_text": "A"}]},
            "Excerpt": {"type": "rich_text", "rich_text": [{"plain_text": "short"}]},
            "Tags": {"type": "multi_select", "multi_select": [{"name": "x"}]},
            "Slug": {"type": "url", "url": "/a/"},
            "State": {"type": "status", "status": {"name": "Live"}},
            "Empty": {"type": "select", "select": None},
            "Done": {"type": "checkbox", "checkbox": False},
            "Day": {"type": "date", "date": {"start": "2026-01-05", "end": None, "time_zone": None}},
            "Never": {"type": "date", "date": None},
        },
    }
    assert indexes.card(page) == {
        "title": "A",
        "excerpt": "short",
        "cover": "https://c.example",
        "tags": ["x"],
        "url": "u",
        "lastEdited": "e",
        "createdTime": "c",
        "rawSlug": "/a/",
        "choices": {"State": "Live", "Empty": None, "Done": False},
        "dates": {"Day": ["2026-01-05", None], "Never": None},
    }


def test_an_index_lists_the_newest_first() -> None:
    """Newest edit first, compared as moments, then by slug; a page without a stamp comes last."""
    items = [
        ("old", "1", card("2026-01-05T07:00:00.000Z")),
        ("b", "2", card("2026-01-05T08:00:00.000Z")),
        ("none", "3", card(None)),
        ("a", "4", card("2026-01-05T09:00:00.000+01:00", title="Á", excerpt="x", cover="c")),
        ("new", "5", card("2026-01-05T08:01:00.000Z")),
    ]
    index = indexes.source_index(items, NOW)
    assert [item["slug"] for item in index["items"]] == ["new", "a", "b", "old", "none"]
    assert index["items"][1] == {
        "slug": "a",
        "title": "Á",
        "excerpt": "x",
        "notionId": "4",
        "cover": "c",
        "lastEdited": "2026-01-05T09:00:00.000+01:00",
    }
    assert list(index) == ["items", "syncedAt"] and index["syncedAt"] == "2026-01-05T09:00:00.000Z"
    assert indexes.source_index([], NOW)["items"] == []


def test_a_database_bundle_has_its_shape() -> None:
    """One value with all rows: the slug as written and the path as published."""
    row = card(cover="c", tags=["x"], excerpt="e", rawSlug="/raw")
    made = indexes.database_bundle(ID.replace("-", ""), "Rows", [("home/raw", "r1", row)], NOW)
    assert made == {
        "databaseId": ID,
        "cursor": "_",
        "bundle": {
            "view": "gallery",
            "name": "Rows",
            "items": [
                {
                    "id": "r1",
                    "title": "T",
                    "slug": "/raw",
                    "path": "home/raw",
                    "excerpt": "e",
                    "cover": "c",
                    "tags": ["x"],
                    "url": "https://n.example",
                }
            ],
            "nextCursor": None,
            "hasMore": False,
        },
        "syncedAt": "2026-01-05T09:00:00.000Z",
    }


def test_rows_are_listed_newest_first_then_by_id() -> None:
    """Edits of the same minute are ordered by id, so that the value does not flap."""
    times = {
        "c": "2026-01-05T08:00:00.000Z",
        "a": "2026-01-05T08:00:00.000Z",
        "b": "2026-01-05T08:05:00.000Z",
    }
    made = indexes.database_bundle(ID, "Rows", [(f"p/{i}", i, card(t)) for i, t in times.items()], NOW)
    assert [item["id"] for item in made["bundle"]["items"]] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("covers", "rows", "view"), [(0, 0, "list"), (3, 5, "gallery"), (2, 5, "list"), (59, 99, "list")]
)
def test_a_gallery_needs_covers(covers: int, rows: int, view: str) -> None:
    """From 60 % of the rows on a database is a gallery; an empty one is a list."""
    items = [(f"p{n}", f"{n}", card(cover="c" if n < covers else None)) for n in range(rows)]
    assert indexes.database_bundle(ID, "Rows", items, NOW)["bundle"]["view"] == view
