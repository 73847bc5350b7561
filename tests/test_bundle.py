"""The value under `page:{slug}`: its shape, what of the tree is kept, and what blocks tell of other pages."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.jsontext import strip_noise
from daemon.notion.values import PartialPageError
from daemon.site.bundle import (
    build_bundle,
    child_page_ids,
    child_pointers,
    listing_hash,
    page_meta,
    synced_copies,
    synced_originals,
    walk,
)
from daemon.site.slugs import Child

ID = "38c9ce7b-60a4-817b-84ae-e63702a6c78e"
NOW = datetime(2026, 1, 5, 9, 0, 0, 123456, tzinfo=UTC)


def text(content: str) -> list[dict[str, Any]]:
    """A rich text of one part."""
    return [{"type": "text", "text": {"content": content}, "plain_text": content}]


def prop(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    """A property as page objects hold it."""
    return {"id": kind, "type": kind, kind: value, **more}


def page(**properties: dict[str, Any]) -> dict[str, Any]:
    """A page object with a title and these properties."""
    return {
        "object": "page",
        "id": ID,
        "created_time": "2026-01-01T08:00:00.000Z",
        "last_edited_time": "2026-01-05T08:59:00.000Z",
        "icon": {"type": "emoji", "emoji": "🐍"},
        "cover": {"type": "external", "external": {"url": "https://c.example/a.jpg"}},
        "url": "https://app.notion.com/p/Title",
        "properties": {"Name": prop("title", text("A title")), **properties},
        "request_id": "r1",
    }


def block(kind: str, name: str, *children: dict[str, Any], **body: Any) -> dict[str, Any]:
    """A block of that type and id, with children when there are any."""
    made = {"object": "block", "id": name, "type": kind, kind: body, "has_children": bool(children)}
    return {**made, "__children": list(children)} if children else made


def synced(name: str, *children: dict[str, Any], origin: str | None = None) -> dict[str, Any]:
    """A synced block: an original, or a copy of `origin`."""
    source = {"type": "block_id", "block_id": origin} if origin else None
    return block("synced_block", name, *children, synced_from=source)


TREE = [
    block("paragraph", "p1"),
    block(
        "toggle", "t1", block("child_page", "A", title="Old A"), block("child_database", "D", title="Rows")
    ),
    synced("s1", block("child_page", "B", title="Old B"), synced("s2", block("paragraph", "p2"))),
    synced(
        "c1", block("child_page", "C", title="Old C"), synced("c2", origin="x2"), synced("s3"), origin="x1"
    ),
    synced("c3", origin="x1"),
    block("column_list", "l1", block("column", "l2", block("child_page", "E", title="E"))),
    block("link_to_page", "k1", type="page_id", page_id="A"),
    {"object": "block", "id": "partial"},
]


def bundle(source: dict[str, Any], blocks: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    """The bundle of a page with usual arguments."""
    usual: dict[str, Any] = {
        "slug": "a",
        "type": "page",
        "parent_slug": None,
        "child_pages": [],
        "titles": {},
        "synced_at": NOW,
    }
    return build_bundle(source, blocks, **(usual | given))


def test_a_bundle_has_its_shape() -> None:
    """Every field of `meta` in its order, the blocks, and the moment with milliseconds and Z."""
    made = bundle(page(), [block("paragraph", "p")], slug="a/b", type="child", parent_slug="a")
    assert made == {
        "meta": {
            "slug": "a/b",
            "notionId": ID,
            "title": "A title",
            "visibility": "public",
            "password": None,
            "lastEdited": "2026-01-05T08:59:00.000Z",
            "icon": "🐍",
            "cover": "https://c.example/a.jpg",
            "fullWidth": False,
            "type": "child",
            "parentSlug": "a",
            "createdTime": "2026-01-01T08:00:00.000Z",
            "excerpt": None,
            "tags": [],
            "properties": {},
        },
        "blocks": [block("paragraph", "p")],
        "syncedAt": "2026-01-05T09:00:00.123Z",
    }
    assert list(made["meta"])[:2] == ["slug", "notionId"] and list(made["meta"])[8:12] == [
        "fullWidth",
        "type",
        "parentSlug",
        "createdTime",
    ]


def test_child_pages_are_listed_when_there_are_any() -> None:
    """The field comes last, in the order given, and is absent otherwise."""
    children = [{"id": "B", "title": "b", "slug": "a/b", "more": 1}, {"id": "A", "title": "a", "slug": "a/a"}]
    meta = bundle(page(), [], child_pages=children)["meta"]
    assert list(meta)[-1] == "childPages"
    assert meta["childPages"] == [
        {"id": "B", "title": "b", "slug": "a/b"},
        {"id": "A", "title": "a", "slug": "a/a"},
    ]
    assert "childPages" not in bundle(page(), [])["meta"]


def test_meta_reads_the_rows_properties() -> None:
    """Properties with a field of their own are matched in any case and not repeated; the rest stays."""
    meta = page_meta(
        page(
            Slug=prop("rich_text", text("/x")),
            VISIBILITY=prop("select", {"name": "private"}),
            Password=prop("rich_text", text("sesame")),
            Excerpt=prop("rich_text", text("short")),
            Tags=prop("multi_select", [{"name": "a"}, {"name": "b"}]),
            FullWidth=prop("checkbox", True),
            Title=prop("rich_text", text("kept: it is not the title")),
            Rank=prop("number", 3),
        )
    )
    own = {key: meta[key] for key in ("visibility", "password", "excerpt", "tags", "fullWidth", "properties")}
    assert own == {
        "visibility": "private",
        "password": "sesame",
        "excerpt": "short",
        "tags": ["a", "b"],
        "fullWidth": True,
        "properties": {"Title": "kept: it is not the title", "Rank": 3},
    }


def test_empty_properties_have_their_defaults() -> None:
    """An empty select is public, an empty text null, a full width that is no checkbox false."""
    meta = page_meta(
        page(
            visibility=prop("select", None),
            password=prop("rich_text", []),
            fullWidth=prop("rich_text", text("yes")),
            tags=prop("multi_select", []),
        )
    )
    assert (meta["visibility"], meta["password"], meta["fullWidth"], meta["tags"]) == (
        "public",
        None,
        False,
        [],
    )


def test_a_page_without_its_properties_is_refused() -> None:
    """A partial page object never becomes an empty page on the site."""
    with pytest.raises(PartialPageError):
        bundle({"object": "page", "id": ID}, [])


def test_blocks_are_kept_as_they_are() -> None:
    """Unknown fields and types, markers and children stay; only request ids go, at any depth."""
    unknown = {"object": "block", "id": "n", "type": "hologram", "hologram": {"x": 1}, "new_field": [1]}
    unshared = {**synced("c", origin="x"), "__synced_unshared": True}
    nested = {**block("toggle", "t", {**unknown, "request_id": "r"}, unshared), "request_id": "r"}
    assert bundle(page(), [nested])["blocks"] == [block("toggle", "t", unknown, unshared)]


def test_pointers_carry_the_present_title() -> None:
    """A `child_page` shows what its page is called now, also in a synced copy; unknown ones keep theirs."""
    before = copy.deepcopy(TREE)
    blocks = bundle(page(), TREE, titles={"A": "New A", "C": "New \ud83d C", "D": "not a page"})["blocks"]
    shown = {
        b["id"]: b[b["type"]]["title"]
        for b in walk(blocks)
        if b.get("type") in ("child_page", "child_database")
    }
    assert shown == {"A": "New A", "B": "Old B", "C": "New \ud83d C", "D": "Rows", "E": "E"}
    assert before == TREE


def test_walking_goes_in_reading_order() -> None:
    """Parents before children, siblings in order, copies included or not."""
    everything = [b["id"] for b in walk(TREE)]
    assert everything == [
        "p1",
        "t1",
        "A",
        "D",
        "s1",
        "B",
        "s2",
        "p2",
        "c1",
        "C",
        "c2",
        "s3",
        "c3",
        "l1",
        "l2",
        "E",
        "k1",
        "partial",
    ]
    assert [b["id"] for b in walk(TREE, into_copies=False)] == [
        i for i in everything if i not in ("C", "c2", "s3")
    ]
    assert list(walk([])) == []


def test_depth_and_width_are_no_matter() -> None:
    """5,000 levels and 20,000 siblings are walked and built without running out of stack."""
    deep = block("paragraph", "end")
    for level in range(5000):
        deep = block("toggle", f"t{level}", deep)
    wide = [block("paragraph", str(number)) for number in range(20_000)]
    blocks = bundle(page(), [deep, *wide])["blocks"]
    assert sum(1 for _ in walk(blocks)) == 25_001


def test_child_pointers_belong_to_the_original() -> None:
    """Child pages and databases count at any depth, but not those that a synced copy shows."""
    assert child_pointers(TREE) == [
        Child("A", "page"),
        Child("D", "database"),
        Child("B", "page"),
        Child("E", "page"),
    ]
    assert child_page_ids(TREE) == ["A", "B", "C", "E"]


def test_synced_blocks_are_told_apart() -> None:
    """Originals of this page, and the originals of everything it shows a copy of."""
    assert synced_originals(TREE) == ["s1", "s2"]
    assert synced_copies(TREE) == ["x1", "x2"]


def test_a_listing_without_news_has_the_same_hash() -> None:
    """Stamps, Notion's own addresses, new signatures and the order of properties are no news."""

    def listed(signature: str, minute: str, url: str) -> dict[str, Any]:
        hosted = {
            "type": "file",
            "file": {"url": f"https://h.example/c?token={signature}", "expiry_time": minute},
        }
        edited = {"id": "e", "type": "last_edited_time", "last_edited_time": minute}
        files = prop("files", [{"name": "f", **hosted}])
        made = page(Files=files, Edited=edited, Sum=prop("formula", {"type": "number", "number": 3}))
        return made | {"cover": hosted, "last_edited_time": minute, "url": url, "request_id": signature}

    one, two = listed("1", "2026-01-05T08:00:00.000Z", "old"), listed("2", "2026-01-05T09:00:00.000Z", "new")
    two["properties"] = dict(reversed(two["properties"].items()))
    assert listing_hash(one) == listing_hash(two)


@pytest.mark.parametrize(
    "news",
    [
        {
            "properties": {
                "Sum": prop("formula", {"type": "number", "number": 4}),
                "Name": prop("title", text("A title")),
            }
        },
        {
            "properties": {
                "Sum": prop("formula", {"type": "number", "number": 3}),
                "Name": prop("title", text("B title")),
            }
        },
        {"icon": {"type": "emoji", "emoji": "🐢"}},
        {"cover": None},
    ],
)
def test_a_listing_with_news_has_another_hash(news: dict[str, Any]) -> None:
    """A computed property, the title, the icon or the cover that changed without a stamp is noticed."""
    listed = page(Sum=prop("formula", {"type": "number", "number": 3}))
    assert listing_hash(listed | news) != listing_hash(listed)


def test_a_completed_page_has_the_hash_of_its_listing() -> None:
    """A listing cuts long relations short: that alone is no news."""
    cut = page(Rel=prop("relation", [{"id": f"r{number}"} for number in range(25)], has_more=True))
    full = page(Rel=prop("relation", [{"id": f"r{number}"} for number in range(40)], has_more=False))
    assert listing_hash(cut) == listing_hash(full)


@pytest.mark.parametrize(
    "properties",
    [
        {"Sum": prop("formula", {"type": "number", "number": 3})},
        {"Rel": prop("relation", [{"id": f"r{number}"} for number in range(40)], has_more=False)},
        {"Edited": prop("last_edited_time", "2026-01-05T08:00:00.000Z")},
        {"excerpt": prop("last_edited_time", "2026-01-05T08:00:00.000Z")},
    ],
)
def test_a_hash_from_what_is_known_is_the_same(properties: dict[str, Any]) -> None:
    """A read gives the hash that a listing gives, whether or not its `meta` can be used for it.

    Fails when `meta` is used for a page of which a listing shows less: every sweep would read such a page again.
    """
    read = page(**properties)
    assert listing_hash(read, page_meta(strip_noise(read))) == listing_hash(read)
