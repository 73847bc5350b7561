"""Listings of unknown length, page of results after page of results, whatever their cursors do.

Only `has_more` and `next_cursor` say where a listing ends; a short page does not. A cursor may die under
way or come back: the listing then begins again, a few times at most. Cursors are never kept.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from daemon.notion.errors import NotionIncomplete, NotionValidation

_MOST_RESTARTS = 3
_MOST_PAGES = 10_000  # a million objects; a listing that goes on beyond that goes on for ever


@dataclass(frozen=True, slots=True)
class Answer:
    """What Notion answered, and when by its own clock (the `Date` header; unix seconds)."""

    body: dict[str, Any]
    date: float


Fetch = Callable[[str | None], Awaitable[Answer]]
"""Asks for the page of results at a cursor (None: the first)."""


def incomplete(body: dict[str, Any]) -> bool:
    """Whether this page of results says that the listing it belongs to was cut off (at 10,000 results)."""
    status = body.get("request_status")
    return isinstance(status, dict) and status.get("type") == "incomplete"


async def once_each(fetch: Fetch, what: str) -> AsyncIterator[Answer]:
    """The pages of results, with every object at most once even if the listing had to begin again.

    `what` names the listing in errors. Raises NotionIncomplete when it does not come to an end.
    """
    seen: set[str] = set()
    async for answer in _walk(fetch, what):
        if answer is not None:
            yield _with_unseen(answer, seen)


async def collect(fetch: Fetch, what: str, *, unique_ids: bool) -> list[dict[str, Any]]:
    """All results in Notion's order, from one uninterrupted walk: what came before a restart is forgotten.

    `unique_ids`: drop objects that were there already (something was moved while we read).
    """
    results: list[dict[str, Any]] = []
    seen: set[str] = set()
    async for answer in _walk(fetch, what):
        if answer is None:
            results, seen = [], set()
        else:
            results += (_with_unseen(answer, seen) if unique_ids else answer).body["results"]
    return results


async def _walk(fetch: Fetch, what: str) -> AsyncIterator[Answer | None]:
    """Every page of results; None says that the listing begins again."""
    for _ in range(1 + _MOST_RESTARTS):
        cursor: str | None = None
        used: set[str] = set()
        while len(used) < _MOST_PAGES:
            try:
                answer = await fetch(cursor)
            except NotionValidation as error:
                if cursor is None or not error.is_stale_cursor:
                    raise
                break
            yield answer
            if not answer.body.get("has_more"):
                return
            cursor = answer.body.get("next_cursor")
            if not isinstance(cursor, str) or cursor in used:
                break
            used.add(cursor)
        yield None
    raise NotionIncomplete(f"The listing of {what} does not come to an end: its cursors died or came back.")


def _with_unseen(answer: Answer, seen: set[str]) -> Answer:
    results = answer.body["results"]
    unseen = []
    for item in results:
        if (item_id := item.get("id")) not in seen:
            unseen.append(item)
            if item_id is not None:
                seen.add(item_id)
    return answer if len(unseen) == len(results) else replace(answer, body={**answer.body, "results": unseen})
