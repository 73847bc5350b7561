"""Which rows are published: the sources' rules, what was published until now, and the slugs that pages left."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from daemon import jsontext
from daemon.ledger import meta
from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.meta import Fact
from daemon.ledger.tables import FormerSlug, Link, Page, Record, Snapshot, Source
from daemon.notion.values import is_full_page
from daemon.site.indexes import card
from daemon.site.redirects import Former
from daemon.site.rules import Rule
from daemon.site.slugs import SourceFacts
from daemon.site.visibility import judge

CARDS_VERSION = 1
"""Raised when cards hold more than before: those in the ledger are then made anew."""
UNPUBLISH = "unpublish"
"""In place of a parent's id: what is held is that all published rows of a source are to leave it."""


@dataclass(frozen=True, slots=True)
class SourceRule:
    """A source's rule. `problem`: it does not fit the source any more; `frozen`: nobody leaves because of it."""

    rule: Rule | None
    problem: str | None
    frozen: bool


def follow_rules(db: Connection, wanted: Mapping[str, Rule]) -> None:
    """Make the rules of the configured sources those of the settings; a retired source keeps its own."""
    configured = select(Source.name, Source.ref, Source.rule).where(Source.retired.is_(False))
    for name, ref, stored in db.execute(configured).all():
        rule = wanted[name].as_json() if name in wanted else None
        if rule != stored:
            mine = (Source.name == name, Source.ref == ref)
            db.execute(update(Source).where(*mine).values(rule=rule, rule_problem=None, frozen=False))


def rules(db: Connection) -> dict[tuple[str, str], SourceRule]:
    """By name and id of the source."""
    columns = (Source.name, Source.ref, Source.rule, Source.rule_problem, Source.frozen)
    return {(r[0], r[1]): SourceRule(Rule.from_json(r[2]), r[3], r[4]) for r in db.execute(select(*columns))}


def rule_examined(db: Connection, source: tuple[str, str], problem: str | None, *, frozen: bool) -> None:
    """Notion told what a source's rows have."""
    mine = (Source.name == source[0], Source.ref == source[1])
    db.execute(update(Source).where(*mine).values(rule_problem=problem, frozen=frozen))


# What was published until now --------------------------------------------------------------------------------


def shown(db: Connection) -> set[str]:
    """The pages that had a place on the site when it was last worked out."""
    return {page for (page,) in db.execute(select(Page.id).where(Page.shown))}


def keep_shown(db: Connection, places: Collection[str], hidden: Mapping[str, str]) -> None:
    """Keep which pages have a place on the site, and of those held back (page -> source) whose they are."""
    stored = {r[0]: (r[1], r[2]) for r in db.execute(select(Page.id, Page.shown, Page.source))}
    appeared = [page for page in places if page in stored and not stored[page][0]]
    for some in chunks(appeared):
        db.execute(update(Page).where(Page.id.in_(some)).values(shown=True))
    changed = [
        {"page": page, "of": source} for page, source in hidden.items() if stored[page] != (False, source)
    ]
    if changed:
        mine = update(Page).where(Page.id == bindparam("page"))
        db.execute(mine.values(shown=False, source=bindparam("of")), changed)


def were_shown(db: Connection, pages: Iterable[str]) -> None:
    """The store shows that these pages were published, which this ledger did not know."""
    for some in chunks(pages):
        db.execute(update(Page).where(Page.id.in_(some)).values(shown=True))


def withdraw(db: Connection, page_id: str, fresh: Mapping[str, Any], now: float) -> None:
    """A published row cannot be read whole, but its page object can: if that says that it is held back, it is.

    In: the card of that object, and Notion's time. What else the card says waits for the whole page.
    """
    question = select(Page.card).where(Page.id == page_id, Page.shown)
    stored = db.execute(question).scalar()
    parents = select(Link.parent_id).where(Link.child_id == page_id, Link.kind == "row")
    rows = {data_source: [page_id] for (data_source,) in db.execute(parents)}
    if stored is None or page_id not in judge(_sources(db), rows, {page_id: fresh}, {page_id}, now).held:
        return
    decides = {name: fresh[name] for name in ("choices", "dates")}
    db.execute(update(Page).where(Page.id == page_id).values(card={**stored, **decides}))


def _sources(db: Connection) -> list[SourceFacts]:
    columns = (Source.name, Source.data_source_ids, Source.rule, Source.frozen, Source.retired)
    return [
        SourceFacts(name, None, tuple(ids or ()), True, False, Rule.from_json(rule), frozen, retired)
        for name, ids, rule, frozen, retired in db.execute(select(*columns))
    ]


def keep_refused(db: Connection, refused: Mapping[str, Collection[str]]) -> None:
    """Keep the rows that would all leave their source at once, by its name."""
    told = {name: sorted(rows) for name, rows in refused.items()} or None
    if told != meta.get(db, Fact.UNPUBLISHING):
        meta.put(db, Fact.UNPUBLISHING, told)


def refused(db: Connection) -> dict[str, list[str]]:
    """The rows that would all leave their source at once, and wait for a person, by its name."""
    return dict(meta.get(db, Fact.UNPUBLISHING) or {})


def let_go(db: Connection, source: str) -> bool:
    """A person said that these rows are really not to be published. Out: whether any waited."""
    waiting = refused(db)
    for some in chunks(waiting.get(source, ())):
        db.execute(update(Page).where(Page.id.in_(some)).values(shown=False))
    keep_refused(db, {name: rows for name, rows in waiting.items() if name != source})
    return source in waiting


# Slugs that pages left ---------------------------------------------------------------------------------------


def former_slugs(db: Connection) -> dict[str, Former]:
    """Which page had a slug last, by slug."""
    found = db.execute(select(FormerSlug.slug, FormerSlug.page_id, FormerSlug.since))
    return {slug: Former(page, since) for slug, page, since in found}


def slugs_before(db: Connection) -> dict[str, str]:
    """Which page was published under each slug when the site was last worked out."""
    ours = select(Record.key, Record.owner_id).where(Record.kind == "page", Record.wanted.is_not(None))
    return {key.removeprefix("page:"): page for key, page in db.execute(ours)}


def keep_former(db: Connection, former: Mapping[str, Former]) -> None:
    """Keep exactly these."""
    stored = former_slugs(db)
    for some in chunks(slug for slug in stored if slug not in former):
        db.execute(delete(FormerSlug).where(FormerSlug.slug.in_(some)))
    changed = [
        {"slug": slug, "page_id": one.page_id, "since": one.since}
        for slug, one in former.items()
        if stored.get(slug) != one
    ]
    upsert(db, FormerSlug, changed, update=["page_id", "since"])


def add_former(db: Connection, former: Mapping[str, Former]) -> None:
    """What else is known of slugs that pages left."""
    rows = [{"slug": slug, "page_id": one.page_id, "since": one.since} for slug, one in former.items()]
    upsert(db, FormerSlug, rows, update=[])


# Cards of an older version -----------------------------------------------------------------------------------


def renew_cards(db: Connection) -> int:
    """Make the cards anew if an older version made them, from what was read: Notion is not asked. Out: how many."""
    if meta.get(db, Fact.CARDS_VERSION) == CARDS_VERSION:
        return 0
    ids = [page for (page,) in db.execute(select(Page.id))]
    for some in chunks(ids):
        made = [
            {"page": page, "its_card": card(body)} for page, body in _bodies(db, some) if is_full_page(body)
        ]
        if made:
            db.execute(
                update(Page).where(Page.id == bindparam("page")).values(card=bindparam("its_card")), made
            )
    meta.put(db, Fact.CARDS_VERSION, CARDS_VERSION)
    return len(ids)


def _bodies(db: Connection, pages: Iterable[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    """The page objects that are kept: of the last read, else of the first listing."""
    packed = func.coalesce(Snapshot.content, Page.seen_body)
    question = select(Page.id, packed).outerjoin(Snapshot, Snapshot.page_id == Page.id)
    kept = question.where(Page.id.in_(list(pages)), packed.is_not(None))
    for page, content in db.execute(kept).all():
        told = jsontext.unpack(content)
        yield page, told.get("page", told)
