"""What Notion's webhooks say, without I/O: is a body Notion's, is it a handshake, and what does an event point at.

An event carries no content and may come late, twice, in any order or not at all: so all that is taken from it is which
thing to look at now (https://developers.notion.com/reference/webhooks-events-delivery).
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from daemon import jsontext
from daemon.notion.ids import normalize_id

SIGNATURE_HEADER = "x-notion-signature"
MOST_HANDSHAKE_BYTES = 1_000
"""A handshake holds one token: what is longer is none, and is not even parsed."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}", re.ASCII)
_EDITS = frozenset({"content_updated", "properties_updated", "locked", "unlocked"})
"""What may be said of a thing that stays where it is. Whatever else happens to it may be about its place."""


class Subject(StrEnum):
    """The kinds of things that events point at, as their types begin."""

    PAGE = "page"
    DATABASE = "database"
    DATA_SOURCE = "data_source"


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at this now. `in_place`: it was only edited, so it is where it was; else it may have come, gone or moved."""

    subject: Subject
    id: str
    in_place: bool = False


def is_signed(body: bytes, signature: str, token: str) -> bool:
    """Whether Notion, which alone shares the token with us, sent just these bytes. Takes the same time if not.

    In: the body as it came, never one that was parsed and written again; `signature` as the header has it.
    """
    digest = hmac.new(token.encode("utf-8", "surrogateescape"), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={digest}".encode(), signature.encode("utf-8", "surrogateescape"))


def handshake_token(body: bytes) -> str | None:
    """The verification token that the first call of a new subscription brings; None: this is no such call."""
    if len(body) > MOST_HANDSHAKE_BYTES:
        return None
    told = parsed(body)
    token = told.get("verification_token") if isinstance(told, Mapping) else None
    return token if isinstance(token, str) and _TOKEN.fullmatch(token) else None


def parsed(body: bytes) -> Any:
    """The value of a JSON body; None when it is none."""
    try:
        return jsontext.loads(body)
    except (ValueError, RecursionError):
        return None


def event_id(event: Any) -> str | None:
    """What tells one event from another: the same one may be delivered up to eight times."""
    given = event.get("id") if isinstance(event, Mapping) else None
    return normalize_id(given) if isinstance(given, str) else None


def hint_of(event: Any) -> Hint | None:
    """What an event points at; None where there is nothing to look at (comments, views, kinds nobody knows yet)."""
    kind = event.get("type") if isinstance(event, Mapping) else None
    subject, _, happened = kind.partition(".") if isinstance(kind, str) else ("", "", "")
    if subject not in tuple(Subject):
        return None
    entity, data = event.get("entity"), event.get("data")
    if isinstance(entity, Mapping) and entity.get("type") == "block":
        # A linked view, which the API does not serve: only the page it stands on can be looked at.
        entity = data.get("parent") if isinstance(data, Mapping) else None
        return _hint("page", entity, in_place=True) if _type(entity) == "page" else None
    # A kind of thing that is named beside the event's own kind is the thing meant.
    named = _type(entity) or subject
    return _hint(named, entity, in_place=happened in _EDITS)


def _type(thing: Any) -> str | None:
    kind = thing.get("type") if isinstance(thing, Mapping) else None
    return kind if isinstance(kind, str) else None


def _hint(subject: str, thing: Any, *, in_place: bool) -> Hint | None:
    given = thing.get("id") if isinstance(thing, Mapping) else None
    found = normalize_id(given) if isinstance(given, str) else None
    if found is None or subject not in tuple(Subject):
        return None
    return Hint(Subject(subject), found, in_place)
