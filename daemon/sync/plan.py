"""Decides, without I/O, what a sighting means: is the stored read stale, may a read be trusted, what is gone.

Three rules of Notion shape everything here. Stamps are floored to the minute, so a page edited twice in a minute
shows one stamp. Listings (query, search) may show bodies as they were minutes ago. And absence from a listing is
not proof of anything: only a direct answer about the page is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any

RETRY_FIRST_SECONDS = 30
RETRY_LONGEST_SECONDS = 3600
COSTLY_REREAD_SECONDS = 300.0
"""A page that costs more than a third of the request budget is not read again sooner than this."""
STUCK_AFTER_ATTEMPTS = 2
"""A listing that failed this often is no longer waited for when slugs are settled."""
HOLD_SHARE = 0.2
HOLD_COUNT = 5
HOLD_ALL_COUNT = 3


class Via(StrEnum):
    """Who told of a page: each is blind somewhere, so what it says is weighed differently."""

    QUERY = "query"
    MEMBERSHIP = "membership"
    SEARCH = "search"
    POINTER = "pointer"
    GET = "get"


class Priority(IntEnum):
    """Order of reading: fresh edits first, then reads to settle, then the backlog of a first or forced sync."""

    FRESH = 0
    SETTLE = 1
    BACKLOG = 2


@lru_cache(maxsize=65_536)
def instant(stamp: str) -> float:
    """A Notion time stamp (minute with `Z`, or milliseconds with `+00:00`) as unix seconds."""
    return datetime.fromisoformat(stamp).timestamp()


@dataclass(frozen=True, slots=True)
class Trust:
    """When a read may be believed to hold the last edit of its stamp. All values in seconds."""

    granularity_seconds: float
    slack_seconds: float
    lag_seconds: float

    def settles_at(self, stamp_seconds: float) -> float:
        """The moment, on Notion's clock, from which a GET that shows this stamp tells of its last edit."""
        return stamp_seconds + self.granularity_seconds + self.slack_seconds

    def by_get(self, stamp_seconds: float, date: float) -> bool:
        return date >= self.settles_at(stamp_seconds)

    def by_listing(self, stamp_seconds: float, date: float) -> bool:
        """A listed body may be `lag` old, so the whole stamp has to lie that much further back."""
        return date >= self.settles_at(stamp_seconds) + self.lag_seconds


@dataclass(frozen=True, slots=True)
class Sighting:
    """Somebody says: look at this page, its stamp may be `stamp`. `date` is Notion's clock (unix seconds)."""

    page_id: str
    stamp: str
    date: float
    via: Via
    body: dict[str, Any] | None = None
    listed_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a page when a sighting arrives. `stamp` is that of the stored read, if any.

    `seen_date`: when the newest stamp was told of, or confirmed by a read. `rest_until`: read it no sooner.
    `retry_at`: the last read failed, and this is when it is tried again.
    """

    seen_stamp: str | None
    seen_date: float | None
    stamp: str | None
    trusted: bool
    listed_hash: str | None
    read_hash: str | None
    rest_until: float | None = None
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`accept`: the sighting is the newest word on the page. `due`: read it, in this order of urgency.

    `ask`: begin that read with a GET, the body that the sighting brought may be old.
    """

    accept: bool
    due: Priority | None = None
    reason: str = ""
    ask: bool = False


IGNORE = Verdict(accept=False)


def judge(known: Known | None, sighting: Sighting, trust: Trust) -> Verdict:
    """What a sighting means for the page it names."""
    if known is None or known.seen_stamp is None:
        return Verdict(
            True, Priority.FRESH if sighting.via is not Via.MEMBERSHIP else Priority.BACKLOG, "new"
        )
    seen, said = instant(known.seen_stamp), instant(sighting.stamp)
    if said == seen:
        return _judge_same_stamp(known, sighting, trust)
    if said < seen and not _outranks(known, sighting, trust):
        return IGNORE
    if known.stamp is not None and instant(known.stamp) == said and sighting.via is not Via.GET:
        return Verdict(accept=True)
    return Verdict(True, Priority.FRESH, "edited")


def _outranks(known: Known, sighting: Sighting, trust: Trust) -> bool:
    """Whether an older stamp is news (a stamp from the future was corrected) and not an old listing."""
    if sighting.via is Via.GET:
        return True
    if sighting.via is Via.POINTER:
        return False
    seen_date = known.seen_date or 0.0
    if known.seen_stamp is not None and instant(known.seen_stamp) > sighting.date:
        # A stamp from the future hides every edit until then; what was stamped since it was seen is one of them.
        return instant(sighting.stamp) >= seen_date - trust.granularity_seconds
    return _surely_later(known, sighting, trust)


def _surely_later(known: Known, sighting: Sighting, trust: Trust) -> bool:
    """Whether even a listing that lags as much as Notion's do shows the page as it was after what is known of it."""
    return sighting.date > (known.seen_date or 0.0) + trust.lag_seconds + trust.granularity_seconds


def _judge_same_stamp(known: Known, sighting: Sighting, trust: Trust) -> Verdict:
    """Same stamp: only a full listing of a settled page tells more, namely computed values that moved.

    A listing that may be older than the stored read can still show what was true before it.
    """
    told = sighting.listed_hash
    if sighting.via is not Via.MEMBERSHIP or told is None or not known.trusted or told == known.read_hash:
        return IGNORE
    later = _surely_later(known, sighting, trust)
    if told == known.listed_hash and not later:
        return IGNORE
    return Verdict(True, Priority.BACKLOG, "computed", ask=not later)


def not_from_before(stamp: str, date: float, gone: float, trust: Trust) -> bool:
    """Whether a listing may bring back a page that was found gone at `gone` (Notion's clock).

    It has to be later than its lag, or to show an edit made since.
    """
    return date > gone + trust.lag_seconds + trust.granularity_seconds or instant(stamp) > gone


def newest_stamp(page_stamp: str, block_stamps: Iterable[str]) -> float:
    """The stamp that a whole read has to be trusted for: its page's, or a block's that shows a later edit.

    Blocks tell of edits that arrived while the page was being read, and of edits of synced originals, which
    never move the stamp of the pages that show them.
    """
    return max([instant(page_stamp), *(instant(stamp) for stamp in block_stamps)])


def is_from_the_future(stamp: str, date: float, trust: Trust) -> bool:
    """Whether a stamp is ahead of the answer that told of it (Notion's clock).

    Edits that bear it are made now. They cannot wait until it has settled, which may be hours away: as long as reading
    brings something new, it is repeated as if it had been stamped just now.
    """
    return instant(stamp) > date + trust.slack_seconds


def listed_body_will_do(stamp: str, listed_date: float, notion_now: float, trust: Trust) -> bool:
    """Whether a first read may use the page object a listing gave instead of asking for the page.

    Yes when that body can be trusted, or when nothing could be trusted yet: then the edit is published at once
    and read again when it has settled. In between, asking first saves the second read.
    """
    stamp_seconds = instant(stamp)
    return trust.by_listing(stamp_seconds, listed_date) or notion_now < trust.settles_at(stamp_seconds)


def retry_delay_seconds(
    failures: int, first: int = RETRY_FIRST_SECONDS, longest: int = RETRY_LONGEST_SECONDS
) -> float:
    """Back-off of what failed so many times in a row: `first` seconds, doubled every time, up to `longest`.

    Reckoned in whole numbers: a float would overflow at the 1,025th failure.
    """
    return float(min(first * 2 ** (max(failures, 1) - 1), longest))


def rests_until(read_date: float, cost_requests: int, budget: int) -> float | None:
    """Until when a page is not read again, on Notion's clock: a costly one at most every five minutes."""
    return read_date + COSTLY_REREAD_SECONDS if cost_requests > budget / 3 else None


class Evidence(StrEnum):
    """What a direct answer says of a page that a listing no longer shows."""

    ASK = "ask"
    KEPT = "kept"
    TRASHED = "trashed"
    MOVED = "moved"
    DISAPPEARED = "disappeared"


def parent_id(thing: Mapping[str, Any]) -> str | None:
    """The id a page, block or database names as its parent; for a row that of its data source."""
    parent = thing.get("parent") or {}
    for kind in ("data_source_id", "page_id", "block_id", "database_id"):
        if isinstance(parent.get(kind), str):
            return str(parent[kind])
    return None


def weigh(thing: Mapping[str, Any] | None, homes: Iterable[str]) -> Evidence:
    """Classify a page or database that left a listing, by the answer of a GET (`None`: 404).

    `homes` are the ids that count as the place it was last listed in; none: any place will do.
    """
    if thing is None:
        return Evidence.DISAPPEARED
    if thing.get("in_trash") or thing.get("archived") or thing.get("is_archived"):
        return Evidence.TRASHED
    at_home = set(homes)
    # Without a parent it is a partial object. One that is of no kind we know (the workspace itself) is another place.
    tells = bool(thing.get("parent")) and bool(at_home)
    return Evidence.MOVED if tells and parent_id(thing) not in at_home else Evidence.KEPT


def too_many(lost: int, of: int) -> bool:
    """Whether so many disappearances look like lost access: more than a few, and more than a fifth."""
    return lost > HOLD_COUNT and lost > HOLD_SHARE * of


@dataclass(frozen=True, slots=True)
class Decision:
    """Which lost members are removed, and which are held until a person says so. The others wait."""

    remove: frozenset[str] = frozenset()
    hold: frozenset[str] = frozenset()


def decide(
    gone: Mapping[str, Evidence], listed_before: int, *, is_database: bool, is_counted: bool = True
) -> Decision:
    """What becomes of members that are not listed any more.

    In: `gone` by id with the evidence, and how many members there were, those included. A few disappearances are
    ordinary; a fifth of a source, or every row of a database at once, looks like lost access. `is_counted`: whether
    every member has been looked at by now; one at a time disappearances would never look like many.
    """
    unexplained = any(evidence is Evidence.ASK for evidence in gone.values())
    if is_database and len(gone) >= max(listed_before, HOLD_ALL_COUNT):
        return Decision() if unexplained else Decision(hold=frozenset(gone))
    left = frozenset(m for m, evidence in gone.items() if evidence in (Evidence.TRASHED, Evidence.MOVED))
    lost = frozenset(m for m, evidence in gone.items() if evidence is Evidence.DISAPPEARED)
    if lost and (unexplained or not is_counted):
        return Decision(remove=left)
    if too_many(len(lost), listed_before):
        return Decision(remove=left, hold=lost)
    return Decision(remove=left | lost)
