"""Looks, in a store that others filled, for what earlier daemons wrote of our pages under slugs they have left."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Connection

from daemon import jsontext
from daemon.kv.base import KV
from daemon.ledger import meta, publishing, records
from daemon.ledger.ledger import Ledger, chunks
from daemon.ledger.meta import Fact
from daemon.notion.ids import normalize_id
from daemon.site.redirects import Former, recovered, slug_of_redirect
from daemon.sync.compose import Composition

log = structlog.get_logger(__name__)


async def search(kv: KV, ledger: Ledger, site: Composition, now: float) -> tuple[int, bool]:
    """Have the pages of ours removed that lie under slugs they no longer have. What else is there is not ours.

    To be called when every page of the site has its key. `now`: epoch seconds. Out: how many were found, with the
    former slugs of ours that are told of (the site has to be worked out again for them), and whether to search once
    more. Raises KVError.
    """
    unknown = await ledger.call(records.unknown_keys, [key async for key in kv.scan("page:*")])
    found = {key: page async for key, page in pages_shown(kv, unknown) if site.is_ours(page)}
    former = await _former_slugs(kv, ledger, site, found, now)
    # Held back only because it was not known that they were published: they are, and the search begins again.
    hidden = {page for page in found.values() if not site.is_published(page)}
    back = hidden - site.drafts_among(hidden)
    leftovers = {key: page for key, page in found.items() if page not in back}

    def adopt(db: Connection) -> None:
        records.adopt_for_removal(db, leftovers)
        publishing.were_shown(db, back)
        publishing.add_former(db, former)
        meta.put(db, Fact.STORE_UNSEARCHED, bool(back) or None)

    await ledger.call(adopt)
    told = {"found": sorted(leftovers), "published": len(back)}
    log.info("searched the store for pages under former slugs", action="leftovers", **told)
    return len(found) + len(former), bool(back)


async def pages_shown(kv: KV, keys: Sequence[str]) -> AsyncIterator[tuple[str, str]]:
    """(key, Notion's id) of those values that are pages. Raises KVError."""
    for some in chunks(keys):
        for key, text in zip(some, await kv.get_many(some), strict=True):
            page = _page_shown(text)
            if page is not None:
                yield key, page


async def _former_slugs(
    kv: KV, ledger: Ledger, site: Composition, found: Mapping[str, str], now: float
) -> dict[str, Former]:
    """Slugs that pages of ours left before this ledger began, as the store tells. In: key -> page of ours."""
    keys = await ledger.call(records.unknown_keys, [key async for key in kv.scan("redirect:*")])
    values: dict[str, Any] = {}
    for some in chunks(keys):
        for key, text in zip(some, await kv.get_many(some), strict=True):
            with suppress(ValueError):
                values[slug_of_redirect(key) or ""] = jsontext.loads(text or "null")
    left = {key.removeprefix("page:"): page for key, page in found.items()}
    return recovered(values, left, site.slugs, now)


def _page_shown(text: str | None) -> str | None:
    """The id of the page that a value says it shows; None when it says nothing of the kind."""
    try:
        value = jsontext.loads(text or "")
    except ValueError:
        return None
    meta_of = value.get("meta") if isinstance(value, dict) else None
    page = meta_of.get("notionId") if isinstance(meta_of, dict) else None
    return normalize_id(page) if isinstance(page, str) else None
