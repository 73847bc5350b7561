"""Pure: from the facts of all pages to the keys there should be, each with the hash of what it should hold.

The hash is taken over what goes into a value, not over the value: so a key can be compared without rendering it, and
values are rendered only when they are written.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from daemon.jsontext import content_hash
from daemon.ledger.records import SiteFacts, Wanted
from daemon.site.bundle import build_bundle
from daemon.site.files import FileFacts, FileLinks, Shown
from daemon.site.indexes import (
    BUNDLE_FIELDS,
    INDEX_FIELDS,
    database_bundle,
    iso_ms,
    key_database,
    key_index,
    key_page,
    source_index,
)
from daemon.site.redirects import Former, follow, key_redirect, redirects
from daemon.site.slugs import Layout, Place, lay_out
from daemon.site.visibility import Visibility, judge

CLOCK_JITTER_SECONDS = 60.0
"""Notion tells the time in whole seconds, so what we think it shows may go back a little."""


@dataclass
class Composition:
    """The site as it should be at `made_at` (Notion's clock). `wanted`: key -> what it should hold.

    `former`: the slugs that pages left, as they are to be kept.
    """

    facts: SiteFacts
    layout: Layout
    visibility: Visibility
    made_at: float
    wanted: dict[str, Wanted] = field(default_factory=dict)
    former: dict[str, Former] = field(default_factory=dict)
    redirects: dict[str, dict[str, str]] = field(default_factory=dict)
    links: FileLinks = field(default_factory=FileLinks)
    held: Mapping[str, float] = field(default_factory=dict)
    """Pages that wait for copies of new files, and until when at most (Notion's clock); `unborn`: those of them that
    have no key yet, and are listed nowhere."""
    unborn: frozenset[str] = frozenset()
    is_unsure: bool = False
    """Nobody knows yet what the store held before: what is held back may have been published until now."""

    def is_of(self, now: float) -> bool:
        """Whether no date has come since it was worked out, and the clock was not set back."""
        due = self.visibility.changes_at
        return now > self.made_at - CLOCK_JITTER_SECONDS and (due is None or now < due)

    @property
    def changes_at(self) -> float | None:
        """When it changes by itself: the next date comes, or a page has waited long enough for its files."""
        due = self.visibility.changes_at
        return min([*self.held.values(), *([] if due is None else [due])], default=None)

    def is_published(self, page_id: str) -> bool:
        """Whether a page has its key: it has a settled slug, was read whole at least once, and waits for nothing."""
        place = self.layout.places.get(page_id)
        is_ready = page_id in self.facts.reads and page_id not in self.unborn
        return place is not None and place.settled and is_ready

    @cached_property
    def counts(self) -> dict[str, int]:
        """How much is on the site: pages by type, lists, and what waits for its slug or its first reading."""
        published = Counter(
            place.type for page, place in self.layout.places.items() if self.is_published(page)
        )
        kinds = Counter(wanted.kind for wanted in self.wanted.values())
        return {
            **dict(sorted(published.items())),
            "published": published.total(),
            "databases": kinds["database"],
            "keys": kinds.total(),
            "waiting": len(self.layout.places) - published.total(),
            **({"heldBack": len(self.visibility.held)} if self.visibility.held else {}),
        }

    @property
    def slugs(self) -> dict[str, str]:
        """Which page is published under each slug."""
        places = self.layout.places
        return {places[page].slug: page for page in places if self.is_published(page)}

    def is_ours(self, page_id: str) -> bool:
        """Whether a page is published, or known and held back: no other key than its own shows it."""
        return self.is_published(page_id) or page_id in self.layout.hidden

    def drafts_among(self, pages: Collection[str]) -> set[str]:
        """Those of these pages that are held back although they were published until now.

        What was published is not held back because nothing can be told of it, nor with all the others of its source.
        """
        hidden = _judged(self.facts, self.made_at, self.facts.shown | set(pages))[1].hidden
        return set(pages) & hidden.keys()

    def child_pages(self, page_id: str) -> list[dict[str, str]]:
        """The published child pages of a page, in reading order."""
        children = (child.id for child in self.facts.pages[page_id].children if child.kind == "page")
        return [
            {"id": child, "title": self._title(child), "slug": self.layout.places[child].slug}
            for child in children
            if self.is_published(child)
        ]

    def titles(self, page_id: str) -> dict[str, str]:
        """The present titles of all pages that a page's blocks point to."""
        shown = [child.id for child in self.facts.pages[page_id].children if child.kind == "page"]
        shown += self.facts.reads[page_id].shows
        return {page: self._title(page) for page in shown if page in self.facts.reads}

    def listed(self, pages: Iterable[str]) -> list[tuple[str, str, dict[str, Any]]]:
        """(slug, page id, card) of the published ones among these pages, for an index or a database bundle."""
        published = (page for page in dict.fromkeys(pages) if self.is_published(page))
        return [(self.layout.places[page].slug, page, self._card(page)) for page in published]

    def shown_files(self, page_id: str) -> dict[str, Shown]:
        """What a page's bundle holds of each file that Notion hosts, by its id."""
        return {file.id: self._shown(file) for file in self._files(page_id)}

    def _files(self, page_id: str) -> tuple[FileFacts, ...]:
        return () if self.links.mode == "off" else self.facts.files.get(page_id, ())

    def _shown(self, file: FileFacts) -> Shown:
        return self.links.shown(file, self.facts.previous_files.get((file.holder, file.kind)))

    def files_named(self, kind: str, owner_id: str) -> set[str]:
        """The files that the value of a key names: of a page all of its own, of a list its members' covers."""
        if kind == "redirect":
            return set()
        if kind == "page":
            return {shown.source_id for shown in self.shown_files(owner_id).values() if shown.url}
        members = self.members(owner_id) if kind == "index" else self.rows_of(owner_id)
        covers = (self._cover(page) for page in members if self.is_published(page))
        return {shown.source_id for shown in covers if shown is not None and shown.url}

    def _cover(self, page_id: str) -> Shown | None:
        cover = next((file for file in self._files(page_id) if file.kind == "cover"), None)
        return self._shown(cover) if cover is not None else None

    def _card(self, page_id: str) -> dict[str, Any]:
        card, cover = self.facts.cards[page_id], self._cover(page_id)
        return card if cover is None else {**card, "cover": cover.url}

    def held_in(self, kind: str, owner_id: str) -> frozenset[str]:
        """The pages that wait for files among those that the value of a key shows."""
        if kind == "page":
            return frozenset({owner_id}) if owner_id in self.held else frozenset()
        if not self.held or kind not in ("index", "database"):
            return frozenset()
        members = self.members(owner_id) if kind == "index" else self.rows_of(owner_id)
        return frozenset(page for page in members if page in self.held and page not in self.unborn)

    def members(self, name: str) -> list[str]:
        """The rows of a source, or its page. A retired source counts only where no configured one has its name."""
        return self._members.get(name, [])

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        members: dict[str, list[str]] = {}
        for source in self.facts.sources:
            named = members.setdefault(source.name, [])
            named += [source.page_id] if source.page_id else []
            named += _rows(self.facts, source.data_source_ids)
        out = self.visibility.kept_out
        return {
            name: [page for page in dict.fromkeys(pages) if page not in out.get(name, ())]
            for name, pages in members.items()
        }

    def rows_of(self, database_id: str) -> list[str]:
        """The rows of a database inside a page, those apart that are held back."""
        rows = _rows(self.facts, self.facts.databases[database_id].data_source_ids)
        return [row for row in rows if row not in self.visibility.held]

    def render_page(
        self, page: dict[str, Any], blocks: list[dict[str, Any]], now: datetime
    ) -> dict[str, Any]:
        """The value of a page's key."""
        place = self.layout.places[page["id"]]
        return build_bundle(
            page,
            blocks,
            slug=place.slug,
            type=place.type,
            parent_slug=place.parent_slug,
            child_pages=self.child_pages(page["id"]),
            titles=self.titles(page["id"]),
            synced_at=now,
            files=self.shown_files(page["id"]),
        )

    def render_list(self, kind: str, owner_id: str, now: datetime) -> dict[str, Any]:
        """The value of an index or of a database bundle."""
        if kind == "index":
            return source_index(self.listed(self.members(owner_id)), now)
        name = self.facts.database_names.get(owner_id, "")
        return database_bundle(owner_id, name, self.listed(self.rows_of(owner_id)), now)

    def _title(self, page_id: str) -> str:
        return str(self.facts.cards[page_id].get("title") or "")


def held_pages(facts: SiteFacts, links: FileLinks, notion_now: float) -> dict[str, float]:
    """Pages that wait for copies of new files, and until when at most."""
    waits = {page: links.holds_until(files) for page, files in facts.files.items()}
    return {page: until for page, until in waits.items() if notion_now < until}


def compose(
    facts: SiteFacts,
    written_keys: Iterable[str],
    now: float,
    links: FileLinks | None = None,
    held: Mapping[str, float] = MappingProxyType({}),
    unborn: frozenset[str] = frozenset(),
    *,
    is_unsure: bool = False,
) -> Composition:
    """The keys there should be now (unix seconds, Notion's clock).

    `written_keys`: lists among them are kept up to date even while rows are unread. `held`, `unborn`: pages that wait
    for copies of their files.
    """
    seen, layout = _judged(facts, now, facts.shown)
    site = Composition(facts, layout, seen, now, links=links or FileLinks(), held=held, unborn=unborn)
    site.is_unsure = is_unsure
    written = set(written_keys)
    for page_id, place in site.layout.places.items():
        if site.is_published(page_id):
            wanted = Wanted("page", page_id, place.level, _page_hash(site, place), place.source)
            site.wanted[key_page(place.slug)] = wanted
    for source in facts.sources:
        _want_index(site, source.name, source.listed or source.stuck, written)
    for database_id in site.layout.databases:
        _want_database(site, database_id, written)
    _want_redirects(site)
    return site


def _judged(facts: SiteFacts, now: float, shown: AbstractSet[str]) -> tuple[Visibility, Layout]:
    """What is held back, and where everything else is. `shown`: pages that were published until now."""
    seen = judge(facts.sources, facts.rows, facts.cards, shown, now)
    kept_back = {page: one.source for page, one in seen.held.items()}
    return seen, lay_out(facts.sources, facts.rows, facts.databases, facts.pages, kept_back, seen.kept_out)


def _page_hash(site: Composition, place: Place) -> str:
    read = site.facts.reads[place.id]
    own = [read.content_hash, read.stamp, place.slug, place.type, place.parent_slug]
    parts: list[Any] = [*own, site.child_pages(place.id), sorted(site.titles(place.id).items())]
    if files := site.shown_files(place.id):
        parts.append([[each, shown.url, shown.measures] for each, shown in sorted(files.items())])
    return content_hash(parts)


def _want_index(site: Composition, name: str, listed: bool, written: set[str]) -> None:
    key, pages = key_index(name), site.members(name)
    is_doubtful = site.is_unsure and not pages and bool(site.visibility.kept_out.get(name))
    listed = listed and not is_doubtful  # an empty one would be the first that is heard of a wrong filter
    if key not in site.wanted and (key in written or (listed and _all_there(site, pages))):
        site.wanted[key] = Wanted("index", name, 0, _list_hash(site, pages, INDEX_FIELDS))


def _want_database(site: Composition, database_id: str, written: set[str]) -> None:
    database, key = site.facts.databases.get(database_id), key_database(database_id)
    if database is None or not database.data_source_ids:
        return
    rows = site.rows_of(database_id)
    if key in written or (database.listed and _all_there(site, rows)):
        name = site.facts.database_names.get(database_id, "")
        level = site.layout.places[site.layout.databases[database_id]].level + 1
        site.wanted[key] = Wanted("database", database_id, level, _list_hash(site, rows, BUNDLE_FIELDS, name))


def _want_redirects(site: Composition) -> None:
    places, facts, after = site.layout.places, site.facts, site.slugs
    known = places.keys() | site.layout.hidden.keys()
    site.former = follow(facts.former, facts.slugs_before, after, known, site.made_at)
    for slug, (to, one) in redirects(site.former, after).items():
        key, since = key_redirect(slug), iso_ms(datetime.fromtimestamp(one.since, UTC))
        site.redirects[key] = {"to": to, "since": since}
        digest = content_hash([to, since])
        site.wanted[key] = Wanted("redirect", one.page_id, places[one.page_id].level, digest)


def _list_hash(site: Composition, pages: Iterable[str], fields: Sequence[str], *more: str) -> str:
    """Over what a list shows of its members; the order follows from it."""
    members = sorted(site.listed(pages), key=itemgetter(1))
    shown = [(slug, page_id, [facts.get(name) for name in fields]) for slug, page_id, facts in members]
    return content_hash([more, shown])


def _rows(facts: SiteFacts, data_source_ids: Iterable[str]) -> list[str]:
    return [row for ds in data_source_ids for row in facts.rows.get(ds, ()) if row in facts.pages]


def _all_there(site: Composition, pages: Sequence[str]) -> bool:
    known = site.facts.pages
    is_read = all(known[page].listed or known[page].stuck for page in pages if page in known)
    return is_read and site.unborn.isdisjoint(pages)
