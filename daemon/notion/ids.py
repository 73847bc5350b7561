"""Notion's ids: UUIDs, written with or without dashes, alone or inside an address."""

import re
from urllib.parse import unquote, urlsplit

_UNDASHED = r"[0-9a-f]{32}"
_DASHED = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(f"{_UNDASHED}|{_DASHED}", re.ASCII | re.IGNORECASE)
_VIEW = re.compile(f"[?&]v=(?:{_ID.pattern})", re.ASCII | re.IGNORECASE)
_ID_INSIDE = re.compile(f"(?<![0-9a-f])(?:{_ID.pattern})(?![0-9a-f])", re.ASCII | re.IGNORECASE)


def normalize_id(text: str) -> str | None:
    """The id as a dashed lower-case UUID; None when `text` is not an id and nothing else."""
    text = text.strip()
    return _dashed(text) if _ID.fullmatch(text) else None


def id_from_reference(text: str) -> str | None:
    """The id that an id or a Notion URL (of any host, with or without scheme) points to; None without one.

    Of a URL it is the last id in the path. The query holds the ids of views (`?v=`) and of pages peeked at
    (`?p=`), the fragment those of blocks: neither is meant.
    """
    text = text.strip()
    if plain := normalize_id(text):
        return plain
    try:
        path = unquote(urlsplit(text).path)
    except ValueError:
        return None
    found = _ID_INSIDE.findall(path)
    return _dashed(found[-1]) if found else None


def names_only_a_view(text: str) -> bool:
    """Whether a reference without an id in its path has the id of a view in its query (`?v=`)."""
    return id_from_reference(text) is None and _VIEW.search(text) is not None


def short_id(page_id: str) -> str:
    """The last 12 hex digits of an id: ids made in a hurry share their first ones."""
    return page_id.replace("-", "").lower()[-12:]


def _dashed(text: str) -> str:
    digits = text.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
