"""Pure: where a page can be found that was published under another slug before.

What is kept is which page had a slug last; where that page is now follows from the site. So every redirect leads
straight to a page, however often that page moved, and no two can lead to each other.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Former:
    """The page that had a slug last, and since when (unix seconds) it is not there any more."""

    page_id: str
    since: float


def key_redirect(slug: str) -> str:
    """The key that tells where the page went that was published under `slug`."""
    return f"redirect:{slug}"


def slug_of_redirect(key: str) -> str | None:
    """The slug in such a key; None for any other key."""
    return key.removeprefix("redirect:") if key.startswith("redirect:") else None


def follow(
    former: Mapping[str, Former],
    before: Mapping[str, str],
    after: Mapping[str, str],
    known: Container[str],
    now: float,
) -> dict[str, Former]:
    """The slugs that pages left, brought up to date.

    In: those known so far; which page was published under each slug before, and is now; the pages that are still
    known, published or not: what is gone for good leads nowhere.
    """
    left = {slug: Former(page, now) for slug, page in before.items() if slug not in after}
    return {
        slug: one for slug, one in {**former, **left}.items() if slug not in after and one.page_id in known
    }


def redirects(former: Mapping[str, Former], after: Mapping[str, str]) -> dict[str, tuple[str, Former]]:
    """Old slug -> where its page is published now; a page that is held back leads nowhere until it is back."""
    slugs = {page: slug for slug, page in after.items()}
    return {slug: (slugs[one.page_id], one) for slug, one in former.items() if one.page_id in slugs}


def recovered(
    found: Mapping[str, Any], left: Mapping[str, str], after: Mapping[str, str], now: float
) -> dict[str, Former]:
    """What a store still tells of slugs that pages left, when the ledger that knew is lost.

    In: the values of redirects nobody knows of, by their slugs; pages of ours by the slugs under which they still lie
    there and are not any more; and who is published where.
    """
    pages = {**left, **after}
    told = {old: value.get("to") for old, value in found.items() if isinstance(value, dict)}
    led = {old: pages[to] for old, to in told.items() if isinstance(to, str) and to in pages}
    return {old: Former(page, now) for old, page in {**led, **left}.items() if old not in after}
