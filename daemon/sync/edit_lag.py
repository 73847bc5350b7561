"""How long edits take from Notion to the store, as far as that can be known.

Notion stamps an edit with the minute in which it was made, so what is measured is never too small (but for the second
to which Notion tells the time) and up to a minute too large. Only edits count: not what was edited before this process
looked, not what is written for other reasons (a full sync, another store, a child's new title, a computed value).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from daemon.ledger.records import ReadFacts
from daemon.sync.plan import instant

MOST_REMEMBERED = 10_000
NOTHING_READ: Mapping[str, ReadFacts] = {}


@dataclass(slots=True)
class _Published:
    """What was last seen published of a page. `settled`: nothing can be added under this stamp any more."""

    stamp: str
    content_hash: str
    settled: bool


class EditLag:
    """Remembers what it saw published, so that nothing counts twice. Times are unix seconds on Notion's clock."""

    def __init__(self) -> None:
        self._reads = NOTHING_READ
        self._published: dict[str, _Published] = {}
        self._unsettled: set[str] = set()

    def follow(self, reads: Mapping[str, ReadFacts]) -> None:
        """What is published from now on is this; pages that were read again unchanged have settled."""
        self._reads = reads
        for page in list(self._unsettled):
            known, read = self._published.get(page), reads.get(page)
            if known is None or read is None or (read.trusted and _is_same(known, read)):
                self._unsettled.discard(page)
                if known is not None:
                    known.settled = True

    def written(self, pages: Iterable[str], notion_now: float, since: float) -> list[float]:
        """A batch with these pages was marked. Out: for each edit that it published, made after `since`, its lag."""
        lags = (self._lag(page, notion_now, since) for page in pages)
        return [lag for lag in lags if lag is not None]

    def _lag(self, page: str, notion_now: float, since: float) -> float | None:
        read = self._reads.get(page)
        if read is None or not since <= instant(read.stamp) <= notion_now:
            return None
        before = self._published.pop(page, None)
        self._remember(page, read)
        if before is not None and before.stamp == read.stamp and (before.settled or _is_same(before, read)):
            return None
        return notion_now - instant(read.stamp)

    def _remember(self, page: str, read: ReadFacts) -> None:
        self._published[page] = _Published(read.stamp, read.content_hash, read.trusted)
        if read.trusted:
            self._unsettled.discard(page)
        else:
            self._unsettled.add(page)
        if len(self._published) > MOST_REMEMBERED:
            del self._published[next(iter(self._published))]


def _is_same(known: _Published, read: ReadFacts) -> bool:
    return (known.stamp, known.content_hash) == (read.stamp, read.content_hash)
