"""Pure: which keys must be written together, in which order, and which have to wait for files."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from daemon.ledger.records import Pending
from daemon.site.indexes import key_page
from daemon.site.redirects import slug_of_redirect
from daemon.sync.compose import Composition

DELETIONS_LEVEL = 2_000_000


def grouped(rows: Iterable[Pending]) -> Iterator[list[Pending]]:
    """Pending keys in the groups that must be written together, higher levels first, pure deletions last.

    Lists come right after the pages of the level that they name.

    Keys belong together when the same page wants one and leaves another: a page that moves, what tells where it went,
    and through it whoever takes its place.
    """
    rows = list(rows)
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    for row in rows:
        for owner in {row.owner_id, row.written_owner_id or row.owner_id}:
            leader[find(f"key {_place(row.key)}")] = find(f"owner {owner}")
    groups: dict[str, list[Pending]] = defaultdict(list)
    for row in rows:
        groups[find(f"key {_place(row.key)}")].append(row)
    yield from sorted(groups.values(), key=_urgency)


def _place(key: str) -> str:
    """A page's key, and that of a redirect from its slug, are one place: only one of the two is ever there."""
    slug = slug_of_redirect(key)
    return key if slug is None else key_page(slug)


def writable(site: Composition, rows: Iterable[Pending]) -> list[list[Pending]]:
    """The groups to write now: all but the pages that wait for copies of their files, and the lists that show them.

    A page that moves, or takes another's place, does not wait: lists name it where it is from now on. And no list waits
    while a page comes or goes: it would name what is not there any more.
    """
    groups = list(grouped(rows))
    alone = [group[0] for group in groups if len(group) == 1]
    waiting = {row.owner_id for row in alone if row.kind == "page" and _held(site, row)}
    if any(_comes_or_goes(row) for group in groups for row in group):
        return [group for group in groups if len(group) > 1 or group[0].owner_id not in waiting]
    return [group for group in groups if len(group) > 1 or waiting.isdisjoint(_held(site, group[0]))]


def _comes_or_goes(row: Pending) -> bool:
    return row.kind == "page" and (row.wanted is None or row.written_owner_id is None)


def _held(site: Composition, row: Pending) -> frozenset[str]:
    return frozenset() if row.wanted is None else site.held_in(row.kind, row.owner_id)


def _urgency(group: Sequence[Pending]) -> tuple[int, bool, str]:
    levels = [row.level for row in group if row.wanted is not None]
    return min(levels, default=DELETIONS_LEVEL), group[0].kind != "page", group[0].key
