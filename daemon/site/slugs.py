"""Slugs: how a title becomes one, and which page of the site has which.

`lay_out` settles the whole site at once, level by level, from what is known of its pages: a pure function,
so the same knowledge always gives the same site.
"""

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from daemon.notion.ids import short_id
from daemon.notion.values import instant, property_named, property_value
from daemon.site.rules import Rule

_HYPHENS = frozenset("-\N{HYPHEN}")
_Kind = Literal["source", "top_row", "child", "inline_row"]

_SLUG_TYPES = ("rich_text", "title", "url", "formula")


def slugify(title: str, page_id: str) -> str:
    """A title as one part of a slug.

    NFKD; marks dropped after Latin letters only (`é` becomes `e`, Korean and Hindi stay whole); NFC; lower
    case; letters, marks and digits of every script are kept; runs of spaces or hyphens become one hyphen,
    none at either end. When nothing is left: the last 12 hex digits of the page's id.
    """
    return _title_slug(title) or short_id(page_id)


@lru_cache(maxsize=32_768)  # the whole site is laid out again and again, with nearly the same titles
def _title_slug(title: str) -> str:
    text = title if title.isascii() else _fold_latin(title)
    kept = "".join(map(_kept, text.lower()))
    return "-".join(filter(None, kept.split("-")))


def _fold_latin(title: str) -> str:
    folded: list[str] = []
    before = ""
    for character in unicodedata.normalize("NFKD", title):
        script = _script(character)
        if script != "mark":
            before = script
        elif before == "latin":
            continue
        folded.append(character)
    return unicodedata.normalize("NFC", "".join(folded))


@lru_cache(maxsize=4096)
def _script(character: str) -> Literal["mark", "latin", "other"]:
    if unicodedata.category(character).startswith("M"):
        return "mark"
    return "latin" if unicodedata.name(character, "").startswith("LATIN ") else "other"


@lru_cache(maxsize=4096)
def _kept(character: str) -> str:
    """What a lower-case character becomes in a slug: itself, a hyphen, or nothing."""
    if character.isspace() or character in _HYPHENS:
        return "-"
    return character if unicodedata.category(character)[0] in "LMN" else ""


def own_slug(page: Mapping[str, Any]) -> str | None:
    """What the page's own `slug` property says, without white space around it; None when it says nothing.

    The property may be a rich text, a title, a URL or a formula that gives text.
    """
    prop = property_named(page, "slug")
    if prop is None or prop.get("type") not in _SLUG_TYPES:
        return None
    value = property_value(prop)
    return value.strip() or None if isinstance(value, str) else None


def row_slug(raw: str | None, title: str, page_id: str) -> str:
    """The slug that a row of a configured source wants: its own (`/` alone is `index`), else its title's."""
    written = _writable(raw)
    return _trimmed(written) if written else slugify(title, page_id)


def inline_row_slug(raw: str | None, title: str, page_id: str, parent_slug: str) -> str:
    """The slug that a row of a database inside a page wants.

    `/a/b` is absolute, `a/b` is used as it is, `b` and a row's title go under the parent's slug.
    """
    written = _writable(raw)
    if not written:
        return child_slug(parent_slug, title, page_id)
    if "/" in written.rstrip("/") or not written.strip("/"):
        return _trimmed(written)
    return f"{parent_slug}/{_trimmed(written)}"


def child_slug(parent_slug: str, title: str, page_id: str) -> str:
    """The slug that a child page wants."""
    return f"{parent_slug}/{slugify(title, page_id)}"


def _writable(raw: str | None) -> str:
    """A slug as somebody wrote it, without what no key can hold: lone surrogates and control characters."""
    return "".join(c for c in raw or "" if unicodedata.category(c) not in ("Cs", "Cc")).strip()


def _trimmed(written: str) -> str:
    return written.strip("/ ") or "index"


@dataclass(frozen=True, slots=True)
class Child:
    """A page or a database inside a page, in the place where its block stands."""

    id: str
    kind: Literal["page", "database"]


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the ledger knows of a page. `created_time` as Notion writes it.

    `settled_slug`: the slug it was published under before. `listed`: its children are known, it has been
    read at least once. `stuck`: reading it keeps failing, nobody waits for it.
    """

    id: str
    title: str
    raw_slug: str | None
    created_time: str
    settled_slug: str | None
    listed: bool
    stuck: bool
    children: tuple[Child, ...]


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A configured source: rows of data sources, or one page whose slug is the source's name.

    `rule`: which of its rows are published. `frozen`: it asks for an option that is not there, so nobody leaves for it.
    """

    name: str
    page_id: str | None
    data_source_ids: tuple[str, ...]
    listed: bool
    stuck: bool
    rule: Rule | None = None
    frozen: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """A database inside a page. `stuck`: listing it keeps failing, or the API does not serve this view."""

    id: str
    data_source_ids: tuple[str, ...]
    listed: bool
    stuck: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands on the site. `slug` is to be published only when `settled`, else it is a wish."""

    id: str
    slug: str
    type: str
    parent_id: str | None
    parent_slug: str | None
    level: int
    source: str
    settled: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two pages wanted `slug`: the older kept it, the other one has `given_slug`."""

    slug: str
    kept_by: str
    yielded_by: str
    given_slug: str


@dataclass(slots=True)
class Layout:
    """The site: its pages level by level, the page that shows each database, and who has to wait.

    `hidden`: pages that are known and not on the site, because they or a page above are held back, with their source.
    """

    places: dict[str, Place] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    databases: dict[str, str] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    hidden: dict[str, str] = field(default_factory=dict)


def lay_out(
    sources: Sequence[SourceFacts],
    rows: Mapping[str, Sequence[str]],
    databases: Mapping[str, DatabaseFacts],
    pages: Mapping[str, PageFacts],
    held: Mapping[str, str] = MappingProxyType({}),
    kept_out: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Layout:
    """Which pages are on the site, each in one place and under one slug.

    `rows` are page ids by data source. Level 0 holds the rows of all sources and the pages that are
    sources; level n+1 the child pages of level n and the rows of the databases inside it. A page belongs to
    the shallowest place it is reached from (then: source, age of the parent, reading order), which also
    ends every cycle.

    A level is complete when the one above is and everything that could add to it has been listed or is
    stuck. In a complete level the page created first has the slug it wants, later ones yield. In an
    incomplete one a page keeps the slug it was published under, if that is still free; the others wait,
    with everything below them.

    Pages that are missing from `pages` are passed over and not waited for; a database missing from
    `databases` is one that has not been listed yet.

    `held`: rows that are not published, with their source; they have no slug, nor has anything that is reached only
    through them. `kept_out`: by source, rows that others may publish and it does not.
    """
    survey = _Survey(rows, databases, pages, Layout(), held, kept_out)
    settlement = _Settlement(survey.layout)
    ordered = sorted(sources, key=_source_rank)
    claims = survey.top(ordered)
    complete = all(source.listed or source.stuck for source in sources)
    while claims:
        settlement.settle(claims, complete)
        claims, all_listed = survey.below(claims, {source.name: i for i, source in enumerate(ordered)})
        complete = complete and all_listed
    survey.hide()
    return survey.layout


def _source_rank(source: SourceFacts) -> int:
    return {"pages": 0, "posts": 1}.get(source.name, 2)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A page in the place where it was first reached."""

    page: PageFacts
    kind: _Kind
    source: str
    parent: PageFacts | None
    level: int
    age: tuple[datetime, str]

    @property
    def type(self) -> str:
        if self.kind == "child":
            return "child"
        if self.kind == "inline_row":
            return "row"
        return {"pages": "page", "posts": "post"}.get(self.source, self.source)

    def wanted(self, parent_slug: str) -> str:
        page = self.page
        match self.kind:
            case "source":
                return self.source
            case "top_row":
                return row_slug(page.raw_slug, page.title, page.id)
            case "inline_row":
                return inline_row_slug(page.raw_slug, page.title, page.id, parent_slug)
            case "child":
                return child_slug(parent_slug, page.title, page.id)


@dataclass(slots=True)
class _Survey:
    """Walks the site level by level and gives every page the first place it is reached from."""

    rows: Mapping[str, Sequence[str]]
    databases: Mapping[str, DatabaseFacts]
    pages: Mapping[str, PageFacts]
    layout: Layout
    held: Mapping[str, str]
    kept_out: Mapping[str, Collection[str]]
    reached: set[str] = field(default_factory=set)

    def top(self, sources: Sequence[SourceFacts]) -> list[_Claim]:
        claims: list[_Claim] = []
        for source in sources:
            if source.page_id is not None:
                claims += self._claim([source.page_id], "source", source.name, None)
            out = self.kept_out.get(source.name, ())
            for data_source_id in source.data_source_ids:
                rows = [row for row in self.rows.get(data_source_id, ()) if row not in out]
                claims += self._claim(rows, "top_row", source.name, None)
        return claims

    def below(self, above: Sequence[_Claim], source_ranks: Mapping[str, int]) -> tuple[list[_Claim], bool]:
        """The level under `above`, and whether everything that adds to it has been listed or is stuck."""
        claims: list[_Claim] = []
        all_listed = True
        for parent in sorted(above, key=lambda claim: (source_ranks[claim.source], claim.age)):
            all_listed = all_listed and (parent.page.listed or parent.page.stuck)
            for child in parent.page.children:
                if child.kind == "page":
                    claims += self._claim([child.id], "child", parent.source, parent)
                elif child.id not in self.layout.databases:
                    self.layout.databases[child.id] = parent.page.id
                    facts = self.databases.get(child.id)
                    all_listed = all_listed and facts is not None and (facts.listed or facts.stuck)
                    claims += self._database_rows(facts, parent)
        return claims, all_listed

    def _database_rows(self, database: DatabaseFacts | None, parent: _Claim) -> Iterator[_Claim]:
        for data_source_id in database.data_source_ids if database else ():
            yield from self._claim(self.rows.get(data_source_id, ()), "inline_row", parent.source, parent)

    def _claim(
        self, page_ids: Sequence[str], kind: _Kind, source: str, parent: _Claim | None
    ) -> Iterator[_Claim]:
        for page_id in page_ids:
            page = self.pages.get(page_id)
            if page is None or page_id in self.reached or page_id in self.held:
                continue
            self.reached.add(page_id)
            above, level = (parent.page, parent.level + 1) if parent else (None, 0)
            yield _Claim(page, kind, source, above, level, (_created(page), page.id))

    def hide(self) -> None:
        """What is held back, and what is reached only through it: known, and not on the site."""
        pending = [(page, source) for page, source in self.held.items() if page in self.pages]
        while pending:
            page_id, source = pending.pop()
            if page_id in self.layout.hidden or page_id in self.reached:
                continue
            self.layout.hidden[page_id] = source
            for child in self.pages[page_id].children:
                database = self.databases.get(child.id) if child.kind == "database" else None
                rows = (
                    [row for ds in database.data_source_ids for row in self.rows.get(ds, ())]
                    if database
                    else []
                )
                below = [child.id] if child.kind == "page" else rows
                pending += [(page, source) for page in below if page in self.pages]


@dataclass(slots=True)
class _Settlement:
    """Gives out slugs, one level after the other; one that is given out stays with its page."""

    layout: Layout
    taken: dict[str, str] = field(default_factory=dict)

    def settle(self, claims: Sequence[_Claim], complete: bool) -> None:
        """Put the pages of a level into the layout, in reading order; the oldest chooses its slug first."""
        slugs: dict[str, str] = {}
        for claim in sorted(claims, key=lambda claim: claim.age):
            wanted = claim.wanted(self._parent_slug(claim) or "")
            given = self._free(wanted, claim.page.id) if complete else self._kept(claim)
            slugs[claim.page.id] = given or wanted
            if given is None:
                self.layout.waiting.add(claim.page.id)
                continue
            holder = self.taken.get(wanted)
            if holder is not None and given != wanted:
                self.layout.conflicts.append(Conflict(wanted, holder, claim.page.id, given))
            self.taken[given] = claim.page.id
        for claim in claims:
            self._place(claim, slugs[claim.page.id])

    def _free(self, wanted: str, page_id: str) -> str:
        slug = wanted
        while slug in self.taken:
            slug = f"{slug}-{short_id(page_id)}"
        return slug

    def _kept(self, claim: _Claim) -> str | None:
        """The slug that the page was published under, if it may go on being so."""
        slug = claim.page.settled_slug
        waits = slug is None or slug in self.taken
        return None if waits or (claim.parent and claim.parent.id in self.layout.waiting) else slug

    def _parent_slug(self, claim: _Claim) -> str | None:
        return self.layout.places[claim.parent.id].slug if claim.parent else None

    def _place(self, claim: _Claim, slug: str) -> None:
        page_id = claim.page.id
        self.layout.places[page_id] = Place(
            id=page_id,
            slug=slug,
            type=claim.type,
            parent_id=claim.parent.id if claim.parent else None,
            parent_slug=self._parent_slug(claim),
            level=claim.level,
            source=claim.source,
            settled=page_id not in self.layout.waiting,
        )


def _created(page: PageFacts) -> datetime:
    """When the page was created; a stamp that cannot be read counts as the youngest."""
    try:
        return instant(page.created_time)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
