"""Slugs from titles and properties, and the layout of the site: one page, one place, one slug."""

import time
import unicodedata
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.site.slugs import (
    Child,
    Conflict,
    DatabaseFacts,
    Layout,
    PageFacts,
    SourceFacts,
    child_slug,
    inline_row_slug,
    lay_out,
    own_slug,
    row_slug,
    slugify,
)

ID = "38c9ce7b-60a4-817b-84ae-e63702a6c78e"


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hello World", "hello-world"),
        ("  --Hello -- / World!-- ", "hello-world"),
        ("Crème Brûlée, ŁÓDŹ & Straße", "creme-brulee-łodz-straße"),
        ("İstanbul", "istanbul"),
        ("한국어 페이지", "한국어-페이지"),
        ("हिन्दी में", "हिन्दी-में"),
        ("مَرْحَبًا بِكُمْ", "مَرْحَبًا-بِكُمْ"),
        ("Ένα Δύο", "ένα-δύο"),
        ("Й ё", "й-ё"),
        ("ﬁne ①② Ⅳ x²", "fine-12-iv-x2"),
        ("٣ अध्याय २", "٣-अध्याय-२"),
        ("tab\tnew\nline\u00a0nbsp\u2003em", "tab-new-line-nbsp-em"),
        ("snake_case & C++", "snakecase-c"),
        ("2020–2021", "20202021"),
        ("non\u2011breaking", "non-breaking"),
        ("🚀 Launch 🎉", "launch"),
        ("❤\ufe0f Love", "\ufe0f-love"),
        ("1\ufe0f\u20e3 First", "1\ufe0f\u20e3-first"),
        ("half \ud83d moon", "half-moon"),
        ("🚀", "e63702a6c78e"),
        ("❤\ufe0f", "\ufe0f"),
        ("\ud83d", "e63702a6c78e"),
        ("", "e63702a6c78e"),
        (" - ", "e63702a6c78e"),
    ],
)
def test_titles_become_slugs(title: str, slug: str) -> None:
    """Every script keeps its letters, marks and digits, Latin letters lose marks; nothing left: the id."""
    assert slugify(title, ID) == unicodedata.normalize("NFC", slug)


@given(st.text(st.characters(exclude_categories=())))
def test_any_title_gives_a_usable_slug(title: str) -> None:
    """Whatever is typed: never empty, never a hyphen too many, only what is kept, always encodable."""
    slug = slugify(title, ID)
    assert slug and slug.encode() and "--" not in slug and slug == slug.strip("-")
    assert all(character == "-" or unicodedata.category(character)[0] in "LMN" for character in slug)


@pytest.mark.parametrize(
    ("kind", "value", "slug"),
    [
        ("rich_text", [{"plain_text": " /a/b "}], "/a/b"),
        ("title", [{"plain_text": "x"}], "x"),
        ("url", "/u", "/u"),
        ("formula", {"type": "string", "string": "f"}, "f"),
        ("formula", {"type": "number", "number": 5}, None),
        ("rich_text", [{"plain_text": "  "}], None),
        ("url", None, None),
        ("number", 5, None),
        ("checkbox", True, None),
    ],
)
def test_own_slugs(kind: str, value: Any, slug: str | None) -> None:
    """A text, title, URL or text formula named `slug` in any case is the row's own slug."""
    assert own_slug({"id": ID, "properties": {"SLUG": {"type": kind, kind: value}}}) == slug


def test_a_page_without_a_slug_property_has_none() -> None:
    """Child pages and rows of other databases have no such property."""
    assert own_slug({"id": ID, "properties": {"title": {"type": "title", "title": []}}}) is None


@pytest.mark.parametrize(
    ("raw", "slug"),
    [
        ("about", "about"),
        ("/About Us/", "About Us"),
        ("/a/b/", "a/b"),
        ("/", "index"),
        ("//", "index"),
        (None, "the-title"),
        ("", "the-title"),
        ("  ", "the-title"),
        ("\ud83d", "the-title"),
        ("a\ud83d\x00b", "ab"),
    ],
)
def test_slugs_of_rows(raw: str | None, slug: str) -> None:
    """A row has the slug it says, as it is apart from the slashes around it, else its title's."""
    assert row_slug(raw, "The Title", ID) == slug


@pytest.mark.parametrize(
    ("raw", "slug"),
    [
        ("/a/b", "a/b"),
        ("/b", "b"),
        ("/b/", "b"),
        ("a/b", "a/b"),
        ("a/b/", "a/b"),
        ("b", "up/here/b"),
        ("b/", "up/here/b"),
        ("/", "index"),
        (None, "up/here/the-title"),
        ("\ud83d", "up/here/the-title"),
    ],
)
def test_slugs_of_rows_inside_pages(raw: str | None, slug: str) -> None:
    """Absolute, path and relative slugs of a database inside a page."""
    assert inline_row_slug(raw, "The Title", ID, "up/here") == slug


def test_slugs_of_child_pages() -> None:
    """A child page is under its parent."""
    assert child_slug("up/here", "The Title", ID) == "up/here/the-title"
    assert child_slug("up", "🚀", ID) == "up/e63702a6c78e"


def page_id(number: int) -> str:
    """An id whose first digits are shared with all others."""
    return str(uuid.UUID(int=(0xABC << 116) + number))


def tail(number: int) -> str:
    """The last 12 hex digits of `page_id(number)`."""
    return f"{number:012x}"


class Site:
    """A site under construction: pages are numbers, created in the order of their numbers."""

    def __init__(self) -> None:
        self.sources: list[SourceFacts] = []
        self.rows: dict[str, list[str]] = {}
        self.databases: dict[str, DatabaseFacts] = {}
        self.pages: dict[str, PageFacts] = {}

    def source(self, name: str, *numbers: int, page: int | None = None, **state: bool) -> None:
        """A configured source with these rows, or of this page."""
        known: dict[str, Any] = {"listed": True, "stuck": False} | state
        self.sources.append(SourceFacts(name, page_id(page) if page else None, (name,), **known))
        self.rows[name] = [page_id(number) for number in numbers]

    def database(self, name: str, *numbers: int, **state: bool) -> None:
        """A database inside pages, of two data sources, with these rows."""
        known = {"listed": True, "stuck": False} | state
        self.databases[name] = DatabaseFacts(name, (f"{name}-1", f"{name}-2"), **known)
        self.rows |= {
            f"{name}-1": [page_id(n) for n in numbers[:1]],
            f"{name}-2": [page_id(n) for n in numbers[1:]],
        }

    def page(
        self,
        number: int,
        title: str,
        *inside: int | str,
        raw: str | None = None,
        before: str | None = None,
        **state: Any,
    ) -> None:
        """A page with child pages (numbers) and databases (names) inside; `before`: its slug until now."""
        created = f"2026-01-05T09:{number % 60:02}:00.000Z"
        known: dict[str, Any] = {"listed": True, "stuck": False, "created_time": created} | state
        children = tuple(
            Child(item, "database") if isinstance(item, str) else Child(page_id(item), "page")
            for item in inside
        )
        facts = PageFacts(page_id(number), title, raw, settled_slug=before, children=children, **known)
        self.pages[facts.id] = facts

    def lay_out(self) -> Layout:
        """The layout, checked for what holds of every layout."""
        layout = lay_out(self.sources, self.rows, self.databases, self.pages)
        settled = [place.slug for place in layout.places.values() if place.settled]
        assert len(settled) == len(set(settled))
        assert layout.waiting == {place.id for place in layout.places.values() if not place.settled}
        assert layout == lay_out(self.sources, self.rows, self.databases, dict(reversed(self.pages.items())))
        return layout

    def slugs(self) -> dict[int, str]:
        """The settled slug of each page by its number."""
        numbers = {place_id: uuid.UUID(place_id).int & 0xFFFF for place_id in self.pages}
        return {numbers[place.id]: place.slug for place in self.lay_out().places.values() if place.settled}


@pytest.fixture
def site() -> Site:
    """An empty site."""
    return Site()


def test_levels_types_and_parents(site: Site) -> None:
    """Rows, child pages and rows of inline databases stand where they belong, level by level."""
    site.source("posts", 2)
    site.source("pages", 1)
    site.source("hubs", 3)
    site.page(1, "Home", 4, "db", raw="/")
    site.page(2, "Post", raw="post")
    site.page(3, "Hub")
    site.page(4, "Child", 7)
    site.page(5, "Row", raw="row")
    site.page(6, "Absolute", raw="/abs/x")
    site.page(7, "Grandchild")
    site.database("db", 5, 6)
    layout = site.lay_out()
    shown = [(p.slug, p.type, p.parent_slug, p.level, p.source) for p in layout.places.values()]
    assert shown == [
        ("index", "page", None, 0, "pages"),
        ("post", "post", None, 0, "posts"),
        ("hub", "hubs", None, 0, "hubs"),
        ("index/child", "child", "index", 1, "pages"),
        ("index/row", "row", "index", 1, "pages"),
        ("abs/x", "row", "index", 1, "pages"),
        ("index/child/grandchild", "child", "index/child", 2, "pages"),
    ]
    assert layout.places[page_id(7)].parent_id == page_id(4)
    assert layout.databases == {"db": page_id(1)}
    assert not layout.waiting and not layout.conflicts


def test_a_page_as_source_has_the_sources_name(site: Site) -> None:
    """The page itself and everything under it; the slug is the name, whatever its title says."""
    site.source("hubs", page=1)
    site.page(1, "Welcome", 2, raw="ignored")
    site.page(2, "Below")
    layout = site.lay_out()
    assert [(p.slug, p.type) for p in layout.places.values()] == [("hubs", "hubs"), ("hubs/below", "child")]


def test_the_oldest_keeps_the_slug(site: Site) -> None:
    """Within a level creation decides, not the order of listing; the other is named with what it got."""
    site.source("pages", 3, 1, 2)
    for number in (1, 2, 3):
        site.page(number, "Same")
    assert site.slugs() == {1: "same", 2: f"same-{tail(2)}", 3: f"same-{tail(3)}"}
    assert site.lay_out().conflicts == [
        Conflict("same", page_id(1), page_id(2), f"same-{tail(2)}"),
        Conflict("same", page_id(1), page_id(3), f"same-{tail(3)}"),
    ]


def test_creation_is_compared_as_a_moment(site: Site) -> None:
    """Stamps in another zone or form are the moments they mean; an unreadable one is the youngest."""
    site.source("pages", 1, 2, 3)
    site.page(1, "Same", created_time="2026-01-05T10:00:00.000+00:00")
    site.page(2, "Same", created_time="2026-01-05T10:30:00.000+01:00")
    site.page(3, "Same", created_time="")
    assert site.slugs() == {1: f"same-{tail(1)}", 2: "same", 3: f"same-{tail(3)}"}


def test_created_in_the_same_minute_the_smaller_id_wins(site: Site) -> None:
    """Stamps are floored to minutes, so ids have to decide."""
    site.source("pages", 2, 1)
    for number in (1, 2):
        site.page(number, "Same", created_time="2026-01-05T10:00:00.000Z")
    assert site.slugs() == {1: "same", 2: f"same-{tail(2)}"}


def test_a_level_above_wins_over_age(site: Site) -> None:
    """A row of a source keeps its slug against an older page below."""
    site.source("pages", 2, 3)
    site.page(1, "Child")
    site.page(2, "Parent", 1)
    site.page(3, "Other", raw="parent/child")
    assert site.slugs() == {2: "parent", 3: "parent/child", 1: f"parent/child-{tail(1)}"}


def test_children_use_the_slug_their_parent_got(site: Site) -> None:
    """Below a page that had to yield, everything is under the yielded slug."""
    site.source("pages", 1, 2)
    site.page(1, "Same", 3)
    site.page(2, "Same", 4)
    site.page(3, "Child")
    site.page(4, "Child")
    assert site.slugs()[3] == "same/child"
    assert site.slugs()[4] == f"same-{tail(2)}/child"


def test_even_the_suffixed_slug_may_be_taken(site: Site) -> None:
    """Somebody may have written exactly the slug that a suffix would make."""
    site.source("pages", 1, 2, 3)
    site.page(1, "Same")
    site.page(2, "Other", raw=f"same-{tail(3)}")
    site.page(3, "Same")
    assert site.slugs()[3] == f"same-{tail(3)}-{tail(3)}"


def test_a_page_belongs_to_its_shallowest_place(site: Site) -> None:
    """The posts database shown on the home page yields posts, not a second copy of them."""
    site.source("pages", 1)
    site.source("posts", 2)
    site.page(1, "Home", "db", 3)
    site.page(2, "Post", 4)
    site.page(3, "Child", 4)
    site.page(4, "Both")
    site.database("db", 2)
    layout = site.lay_out()
    assert layout.places[page_id(2)].type == "post" and layout.places[page_id(2)].slug == "post"
    assert layout.places[page_id(4)].slug == "post/both"
    assert layout.databases == {"db": page_id(1)}
    assert len(layout.places) == 4


def test_ties_between_places(site: Site) -> None:
    """At the same depth: pages before posts before others, then the older parent, then reading order."""
    site.source("docs", 1)
    site.source("posts", 2)
    site.source("pages", 5, 4)
    site.page(1, "Doc", 6)
    site.page(2, "Post", 6, 7)
    site.page(4, "Older", 8, "db")
    site.page(5, "Younger", 6, 8, "db")
    for number in (6, 7, 8, 9):
        site.page(number, f"Shared {number}")
    site.database("db", 8, 9)
    layout = site.lay_out()
    assert [layout.places[page_id(n)].parent_slug for n in (6, 7, 8, 9)] == [
        "younger",
        "post",
        "older",
        "older",
    ]
    assert layout.places[page_id(8)].type == "child"
    assert layout.databases == {"db": page_id(4)}


def test_a_row_of_two_sources_belongs_to_the_first(site: Site) -> None:
    """One page, one type."""
    site.source("posts", 1)
    site.source("pages", 1)
    site.page(1, "Both")
    assert site.lay_out().places[page_id(1)].type == "page"


def test_cycles_end(site: Site) -> None:
    """A page inside itself, or inside its own grandchild, is visited once."""
    site.source("pages", 1)
    site.page(1, "A", 1, 2)
    site.page(2, "B", 3, "db")
    site.page(3, "C", 1, 2, "db")
    site.database("db", 1, 3)
    assert site.slugs() == {1: "a", 2: "a/b", 3: "a/b/c"}


def test_pages_never_sighted_are_passed_over(site: Site) -> None:
    """An id in a listing that nothing is known of is neither placed nor waited for."""
    site.source("pages", 1, 99)
    site.page(1, "A", 98, 2)
    site.page(2, "B", 3)
    site.page(3, "C")
    assert site.slugs() == {1: "a", 2: "a/b", 3: "a/b/c"}


def test_nothing_is_published_before_all_sources_are_listed(site: Site) -> None:
    """An older page might still turn up and want the slug: so everything new waits, with what is below."""
    site.source("pages", 1)
    site.source("posts", listed=False)
    site.page(1, "A", 2)
    site.page(2, "B")
    assert site.slugs() == {}
    assert site.lay_out().waiting == {page_id(1), page_id(2)}


def test_a_listing_that_keeps_failing_is_not_waited_for(site: Site) -> None:
    """A stuck source, page or database holds nobody up."""
    site.source("pages", 1, 2)
    site.source("posts", listed=False, stuck=True)
    site.page(1, "A", 3, "db")
    site.page(2, "Stuck", listed=False, stuck=True)
    site.page(3, "B", 4)
    site.page(4, "C")
    site.database("db", listed=False, stuck=True)
    assert site.slugs() == {1: "a", 2: "stuck", 3: "a/b", 4: "a/b/c"}


@pytest.mark.parametrize("known", [True, False])
def test_a_level_waits_for_all_that_could_add_to_it(site: Site, known: bool) -> None:
    """An unread page or an unlisted database above holds back the level below, not its own level."""
    site.source("pages", 1, 2)
    site.page(1, "A", 3, "db")
    site.page(2, "Unread", listed=known)
    site.page(3, "B", 4)
    site.page(4, "C")
    if not known:
        site.database("db")
    assert site.slugs() == {1: "a", 2: "unread"}
    site.page(2, "Read")
    site.database("db")
    assert site.slugs() == {1: "a", 2: "read", 3: "a/b", 4: "a/b/c"}


def test_deeper_levels_wait_for_their_own_parents_only_after_those_above(site: Site) -> None:
    """Level by level: an unread page on level 1 leaves level 1 settled and level 2 waiting."""
    site.source("pages", 1)
    site.page(1, "A", 2, 3)
    site.page(2, "B", 4)
    site.page(3, "Unread", listed=False)
    site.page(4, "C")
    assert site.slugs() == {1: "a", 2: "a/b", 3: "a/unread"}


def test_what_was_published_stays_while_a_level_is_incomplete(site: Site) -> None:
    """Pages keep the slug they have, renamed or not; new ones wait, and so does what is below them."""
    site.source("pages", 1, 2, listed=False)
    site.page(1, "Renamed", 3, before="old")
    site.page(2, "New", 4)
    site.page(3, "Child", before="old/child")
    site.page(4, "Child", before="elsewhere/child")
    assert site.slugs() == {1: "old", 3: "old/child"}
    site.sources[0] = SourceFacts("pages", None, ("pages",), True, False)
    assert site.slugs() == {1: "renamed", 2: "new", 3: "renamed/child", 4: "new/child"}


def test_a_kept_slug_yields_to_the_finished_levels_above(site: Site) -> None:
    """While its level is incomplete a page does not keep a slug that a level above has taken, but waits."""
    site.source("pages", 1, 2, 3)
    site.page(1, "A", 4)
    site.page(2, "Row", raw="a/child")
    site.page(3, "Unread", listed=False)
    site.page(4, "Child", 5, before="a/child")
    site.page(5, "Below", before="a/child/below")
    assert site.slugs() == {1: "a", 2: "a/child", 3: "unread"}
    site.page(3, "Read")
    assert site.slugs()[4] == f"a/child-{tail(4)}"


def test_two_pages_published_under_one_slug_do_not_both_keep_it(site: Site) -> None:
    """Should the past hold one slug twice, the older page keeps it and the younger waits."""
    site.source("pages", 1, 2, listed=False)
    site.page(1, "A", before="same")
    site.page(2, "B", before="same")
    assert site.slugs() == {1: "same"}


def test_conflicts_stay_visible_while_a_level_is_incomplete(site: Site) -> None:
    """A page that had to yield before is still named."""
    site.source("pages", 1, 2, listed=False)
    site.page(1, "Same", before="same")
    site.page(2, "Same", before=f"same-{tail(2)}")
    assert site.lay_out().conflicts == [Conflict("same", page_id(1), page_id(2), f"same-{tail(2)}")]


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Small sites with everything in them that can go wrong: cycles, shared children, equal titles, gaps."""
    site, numbers = Site(), range(1, 9)
    some: st.SearchStrategy[Sequence[int]] = st.lists(st.sampled_from(numbers), max_size=4, unique=True)
    names = st.sampled_from(["x", "y", "", "🚀"])
    slugs = st.sampled_from([None, None, "/", "x", "/x/y", "x/y", f"x-{tail(2)}"])
    old = st.sampled_from([None, "x", "x/y", "index", "old"])
    for name in ("posts", "pages", "docs"):
        site.source(name, *draw(some), listed=draw(st.booleans()), stuck=draw(st.booleans()))
    for name in ("db", "other"):
        site.database(name, *draw(some), listed=draw(st.booleans()))
    for number in draw(some) or numbers:
        inside: list[int | str] = [
            *draw(some),
            *draw(st.lists(st.sampled_from(["db", "other", "gone"]), max_size=2)),
        ]
        state = {"listed": draw(st.booleans()), "stuck": draw(st.booleans())}
        site.page(number, draw(names), *inside, raw=draw(slugs), before=draw(old), **state)
    return site


@settings(deadline=None, max_examples=150)
@given(sites())
def test_every_layout_holds_together(site: Site) -> None:
    """Slugs are unique, parents stand one level above, nobody is settled under a parent that waits."""
    layout = site.lay_out()
    for place in layout.places.values():
        if place.parent_id is None:
            assert place.level == 0 and place.parent_slug is None
            continue
        parent = layout.places[place.parent_id]
        assert (place.level, place.source, place.parent_slug) == (
            parent.level + 1,
            parent.source,
            parent.slug,
        )
        assert parent.settled or not place.settled
    facts: list[SourceFacts | PageFacts] = [*site.sources, *site.pages.values()]
    if all(fact.listed or fact.stuck for fact in facts) and not layout.databases:
        assert not layout.waiting


def test_ten_thousand_pages_are_laid_out_at_once() -> None:
    """The layout of a large site takes a blink (the bound leaves room for slow machines)."""
    site = Site()
    site.source("pages", *range(1, 2001))
    for number in range(1, 10_001):
        inside = range(2 * number + 1999, 2 * number + 2001) if number <= 4000 else ()
        site.page(number, f"Über 한국어 {number % 3000}", *inside)
    started = time.perf_counter()
    layout = lay_out(site.sources, site.rows, site.databases, site.pages)
    assert time.perf_counter() - started < 1.5
    assert len({place.slug for place in layout.places.values()}) == len(layout.places) == 10_000
