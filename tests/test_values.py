"""Page objects as plain values: every property type, titles, icons, covers, ids."""

from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.notion import ids, values

PAGE = "38c9ce7b-60a4-817b-84ae-e63702a6c78e"
OTHER = "1f00aa11-22bb-43cc-84dd-55ee66ff7788"
PERSON = {
    "object": "user",
    "id": OTHER,
    "name": "Ada",
    "type": "person",
    "person": {"email": "ada@example.com"},
}
DATE = {"start": "2026-06-11", "end": None, "time_zone": None}


def text(*parts: str) -> list[dict[str, Any]]:
    """A rich text of these parts."""
    return [{"type": "text", "text": {"content": part, "link": None}, "plain_text": part} for part in parts]


def prop(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    """A property as page objects hold it."""
    return {"id": "a%3Ab", "type": kind, kind: value, **more}


def page(**properties: dict[str, Any]) -> dict[str, Any]:
    """A page object with these properties."""
    return {"object": "page", "id": PAGE, "properties": properties}


VALUES = [
    (prop("title", text("A ", "title")), "A title"),
    (prop("title", []), ""),
    (prop("rich_text", text("half \ud83d")), "half \ud83d"),
    (prop("number", 2.5), 2.5),
    (prop("number", None), None),
    (prop("select", {"id": "x", "name": "Low", "color": "gray"}), "Low"),
    (prop("select", None), None),
    (prop("status", {"id": "x", "name": "Done", "color": "red"}), "Done"),
    (prop("multi_select", [{"name": "a"}, {"name": "b"}]), ["a", "b"]),
    (prop("date", DATE), DATE),
    (prop("date", None), None),
    (
        prop("people", [PERSON, {"object": "user", "id": PAGE}]),
        [{"id": OTHER, "name": "Ada"}, {"id": PAGE, "name": None}],
    ),
    (prop("checkbox", False), False),
    (prop("url", "https://a.example"), "https://a.example"),
    (prop("email", None), None),
    (prop("phone_number", "123"), "123"),
    (prop("formula", {"type": "string", "string": "x"}), "x"),
    (prop("formula", {"type": "string", "string": None}), None),
    (prop("formula", {"type": "number", "number": 0}), 0),
    (prop("formula", {"type": "boolean", "boolean": True}), True),
    (prop("formula", {"type": "date", "date": DATE}), DATE),
    (prop("formula", {"type": "unsupported", "unsupported": {}}), None),
    (prop("relation", [{"id": PAGE.replace("-", "")}], has_more=False), [PAGE]),
    (prop("rollup", {"type": "number", "number": 0, "function": "count"}), 0),
    (prop("rollup", {"type": "date", "date": DATE, "function": "earliest_date"}), DATE),
    (prop("rollup", {"type": "array", "array": [prop("title", text("A")), prop("date", DATE)]}), ["A", DATE]),
    (prop("rollup", {"type": "unsupported", "unsupported": {}, "function": "show_original"}), None),
    (prop("rollup", {"type": "incomplete", "incomplete": {}, "function": "sum"}), None),
    (prop("created_time", "2026-06-26T13:45:00.000Z"), "2026-06-26T13:45:00.000Z"),
    (prop("last_edited_time", "2026-06-26T13:45:00.000Z"), "2026-06-26T13:45:00.000Z"),
    (prop("created_by", PERSON), {"id": OTHER, "name": "Ada"}),
    (prop("last_edited_by", PERSON), {"id": OTHER, "name": "Ada"}),
    (prop("unique_id", {"prefix": "PRE", "number": 12}), "PRE-12"),
    (prop("unique_id", {"prefix": None, "number": 12}), "12"),
    (prop("unique_id", {"prefix": "PRE", "number": None}), None),
    (prop("verification", {"state": "unverified"}), {"state": "unverified"}),
    (prop("button", {}), {}),
    (prop("place", {"lat": 52.5, "lon": 13.4}), {"lat": 52.5, "lon": 13.4}),
    (prop("some_new_type", {"deep": [1]}), {"deep": [1]}),
    ({"id": "x"}, None),
]


@pytest.mark.parametrize(
    ("given", "plain"), VALUES, ids=lambda value: value.get("type") if isinstance(value, dict) else None
)
def test_every_type_has_its_plain_value(given: dict[str, Any], plain: Any) -> None:
    """Each type of property becomes the JSON value that a site can use without knowing Notion."""
    assert values.property_value(given) == plain


def test_files_are_names_and_addresses() -> None:
    """Hosted and external files look the same to the site."""
    files = [
        {"name": "a", "type": "external", "external": {"url": "https://x.example/a"}},
        {"name": "b", "type": "file", "file": {"url": "https://x.example/b?sig", "expiry_time": "t"}},
    ]
    assert values.property_value(prop("files", files)) == [
        {"name": "a", "url": "https://x.example/a"},
        {"name": "b", "url": "https://x.example/b?sig"},
    ]


def test_the_title_is_found_by_type() -> None:
    """The title's property may have any name; a page without text in it has an empty title."""
    assert (
        values.page_title(page(Title=prop("rich_text", text("no")), Nom=prop("title", text("Oui")))) == "Oui"
    )
    assert values.page_title(page(Name=prop("title", []))) == ""
    assert values.plain_text(None) == ""
    assert values.plain_text([{"type": "text", "text": {"content": "unrendered"}}]) == "unrendered"


def test_partial_pages_are_told_apart() -> None:
    """A page object without properties is an error that names the page, not an empty page."""
    partial = {"object": "page", "id": PAGE}
    assert not values.is_full_page(partial) and values.is_full_page(page())
    with pytest.raises(values.PartialPageError, match=PAGE):
        values.page_title(partial)
    with pytest.raises(ValueError, match="capability"):
        values.property_named(partial, "slug")


def test_names_match_without_regard_to_case() -> None:
    """`Slug` is `slug`; where both exist the exact one is meant."""
    assert values.property_named(page(SLUG=prop("url", "a")), "slug") == prop("url", "a")
    assert values.property_named(page(Slug=prop("url", "a"), slug=prop("url", "b")), "slug") == prop(
        "url", "b"
    )
    assert values.property_named(page(other=prop("url", "a")), "slug") is None


def test_text_of_a_property() -> None:
    """Texts, choices, numbers and rollups of texts can be read as text, everything else is no text."""
    both = prop("rollup", {"type": "array", "array": [prop("title", text("A")), prop("title", text("B"))]})
    sample = page(
        a=prop("rich_text", text("  x \n")),
        b=prop("select", {"name": "y"}),
        c=prop("number", 1234),
        d=prop("checkbox", True),
        e=prop("rich_text", text("  ")),
        f=both,
        g=prop("people", [PERSON]),
    )
    read = {name: values.text_property(sample, name) for name in "abcdefgh"}
    assert read == {"a": "x", "b": "y", "c": "1234", "d": None, "e": None, "f": "A, B", "g": None, "h": None}


def test_lists_of_a_property() -> None:
    """Tags may be choices, one choice or a text with commas; a choice's own comma parts nothing."""
    sample = page(
        a=prop("multi_select", [{"name": "x"}, {"name": "y"}]),
        b=prop("select", {"name": "x, y"}),
        c=prop("formula", {"type": "string", "string": "x, y,, "}),
        d=prop("select", None),
    )
    read = {name: values.list_property(sample, name) for name in "abcde"}
    assert read == {"a": ["x", "y"], "b": ["x, y"], "c": ["x", "y"], "d": [], "e": []}


def test_values_that_may_be_cut_short_are_named() -> None:
    """A relation says itself that it goes on; texts and people are suspect from 25 parts on."""
    sample = page(
        Name=prop("title", text(*["x"] * 24)),
        Long=prop("rich_text", text(*["x"] * 25)),
        Team=prop("people", [PERSON] * 25),
        More=prop("relation", [{"id": PAGE}], has_more=True),
        Whole=prop("relation", [{"id": PAGE}] * 25, has_more=False),
        Tags=prop("multi_select", [{"name": "x"}] * 30),
    )
    assert values.truncated_properties(sample) == [
        ("Long", "a%3Ab", "rich_text"),
        ("Team", "a%3Ab", "people"),
        ("More", "a%3Ab", "relation"),
    ]


def test_a_completed_property_replaces_the_cut_one() -> None:
    """The items of the property endpoint become the whole value, in a copy; nothing is suspect afterwards."""
    cut = page(Rel=prop("relation", [{"id": PAGE}], has_more=True), T=prop("rich_text", text("a")))
    related = [{"object": "property_item", "type": "relation", "relation": {"id": i}} for i in (PAGE, OTHER)]
    parts = [{"object": "property_item", "type": "rich_text", "rich_text": part} for part in text("a", "b")]
    full = values.complete_property(values.complete_property(cut, "Rel", related), "T", parts)
    assert values.property_value(full["properties"]["Rel"]) == [PAGE, OTHER]
    assert values.property_value(full["properties"]["T"]) == "ab"
    assert values.truncated_properties(full) == []
    assert cut["properties"]["Rel"]["has_more"] is True and len(cut["properties"]["T"]["rich_text"]) == 1


@pytest.mark.parametrize(
    ("icon", "shown"),
    [
        (None, None),
        ({"type": "emoji", "emoji": "🐍"}, "🐍"),
        ({"type": "external", "external": {"url": "https://i.example/a.svg"}}, "https://i.example/a.svg"),
        ({"type": "file", "file": {"url": "https://i.example/b", "expiry_time": "t"}}, "https://i.example/b"),
        (
            {"type": "custom_emoji", "custom_emoji": {"id": "x", "url": "https://i.example/c"}},
            "https://i.example/c",
        ),
        ({"type": "icon", "icon": {"name": "snake", "color": "purple"}}, None),
    ],
)
def test_icons(icon: Any, shown: str | None) -> None:
    """An icon is an emoji or an address; Notion's own icons have neither."""
    assert values.icon_value({"icon": icon}) == shown


def test_covers() -> None:
    """A cover is an address, hosted or external."""
    assert (
        values.cover_url({"cover": {"type": "external", "external": {"url": "https://c.example"}}})
        == "https://c.example"
    )
    assert (
        values.cover_url({"cover": {"type": "file", "file": {"url": "https://h.example?s"}}})
        == "https://h.example?s"
    )
    assert values.cover_url({"cover": None}) is None
    assert values.cover_url({}) is None


def test_stamps_are_moments() -> None:
    """The forms of pages and of databases are compared as the moments they mean."""
    moment = datetime(2026, 7, 4, 9, 8, tzinfo=UTC)
    assert (
        values.instant("2026-07-04T09:08:00.000Z")
        == values.instant("2026-07-04T09:08:00.000+00:00")
        == moment
    )
    assert values.instant("2026-07-04T11:08:00.000+02:00") == values.instant("2026-07-04T09:08:00") == moment
    with pytest.raises(ValueError, match="yesterday"):
        values.instant("yesterday")


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        (PAGE, PAGE),
        (f" {PAGE.replace('-', '').upper()} ", PAGE),
        (f"https://www.notion.so/{PAGE.replace('-', '')}", PAGE),
        (f"https://www.notion.so/team/A-Title-2024-{PAGE.replace('-', '')}?v={OTHER.replace('-', '')}", PAGE),
        (f"notion.so/team/{PAGE}?pvs=4#{OTHER.replace('-', '')}", PAGE),
        (f"https://studio.notion.site/{OTHER}/Sub-{PAGE.replace('-', '')}/", PAGE),
        (f"https://app.notion.com/p/Title-{PAGE.replace('-', '')}?p={OTHER.replace('-', '')}&pm=s", PAGE),
        (f"https://notes.example/%ED%95%9C%EA%B5%AD{PAGE.replace('-', '')}", PAGE),
        (f"https://www.notion.so/team?v={OTHER.replace('-', '')}", None),
        (f"https://www.notion.so/?p={OTHER.replace('-', '')}", None),
        (f"https://www.notion.so/{PAGE.replace('-', '')}ab", None),
        ("https://[broken", None),
        ("", None),
        ("not an id", None),
    ],
)
def test_ids_from_what_people_paste(reference: str, found: str | None) -> None:
    """An id alone or the last one in the path of an address, never a view's, a peeked page's or a block's."""
    assert ids.id_from_reference(reference) == found


def test_only_an_id_is_normalised() -> None:
    """Dashes stand where a UUID has them, and nothing else is an id."""
    assert ids.normalize_id("38C9CE7B60A4817B84AEE63702A6C78E") == PAGE
    for wrong in (
        PAGE[:-1],
        f"x{PAGE}",
        "38c9ce7b60a4-817b84ae-e63702a6c78e",
        "３８c9ce7b60a4817b84aee63702a6c78e",
        "",
    ):
        assert ids.normalize_id(wrong) is None
    assert ids.short_id(PAGE) == "e63702a6c78e"
