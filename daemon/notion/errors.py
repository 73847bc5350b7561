"""What can go wrong between the daemon and Notion, as one small tree: callers need to know no status codes.

Whether trying again later can help is in `retryable`; what a person should do is in `hint`.
Statuses and codes: https://developers.notion.com/reference/status-codes and /reference/request-limits.
"""

# ruff: noqa: N818 - all of them are errors; the names say which

import json
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, ClassVar

LONGEST_PAUSE_SECONDS = 3600.0
"""A Retry-After beyond an hour is more likely a mistake than a wish; asking once an hour does no harm."""

_BLOCKED = "public_api_request_blocked"
_LONGEST_MESSAGE = 400
_URL_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*")
_TOKEN = re.compile(r"\b(?:secret|ntn)_\w+|(?<=Bearer )[^\s\"']+")
_CHILDREN_REFUSED = re.compile(
    r"block type \S+ is not supported via the api"
    r"|does(?: not|n't) support (?:having )?children"
    r"|children (?:of [^.]{0,80} )?are not supported",
    re.IGNORECASE,
)


class NotionError(Exception):
    """Notion did not do what was asked."""

    hint: str = "Try again; if it stays, look at https://www.notion-status.com."
    """The next step for a person."""
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without anybody doing anything."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """`message` is one sentence; tokens and the query parts of URLs are taken out of it."""
        super().__init__(without_secrets(message))
        self.status = status
        self.code = code
        self.request_id = request_id

    @property
    def message(self) -> str:
        """What went wrong, in one sentence."""
        return str(self.args[0])


class NotionUnauthorized(NotionError):
    """The token is not valid (any more): nothing can be read, the run stops, what is published stays."""

    hint = (
        "Check NOTION_TOKEN: the integration's secret at https://www.notion.so/profile/integrations "
        "may have been renewed, revoked or expired."
    )


class NotionBlocked(NotionError):
    """Notion has blocked this connection (a 429 that never clears): the run stops."""

    hint = "Notion has blocked this integration's requests: write to Notion's support with the request id."


class NotionNotFound(NotionError):
    """The object never was, is gone for good, or is not shared: Notion does not tell which."""

    hint = "Share the page or database with the integration (its ••• menu, Connections), or check the id."


class NotionForbidden(NotionError):
    """The integration lacks a capability."""

    hint = "Give the integration the capability to read content (its settings page, Capabilities)."


class NotionValidation(NotionError):
    """Notion does not accept this request; it never will."""

    hint = "If the message names an id, check the setting that holds it; otherwise please report this."

    def __init__(self, message: str, *, error_type: str | None = None, **details: Any) -> None:
        """`error_type`: Notion's own name for the mistake, from `additional_data`."""
        super().__init__(message, **details)
        if error_type == "multiple_data_sources_for_database":
            self.hint = (
                "This database has several data sources, which this API version cannot read: "
                "set NOTION_VERSION to 2025-09-03 or newer."
            )

    @property
    def is_stale_cursor(self) -> bool:
        """The listing's cursor has died: the listing must begin again."""
        return "start_cursor" in self.message

    @property
    def children_not_supported(self) -> bool:
        """Notion says that this block's children cannot be read through the API: it is a leaf."""
        return _CHILDREN_REFUSED.search(self.message) is not None


class NotionUnavailable(NotionError):
    """No proper answer: refused for now, an outage, a timeout, a lost connection, not Notion's own answer."""

    hint = "Usually passes by itself; if it stays, check NOTION_BASE_URL and https://www.notion-status.com."
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        wants_less: bool = False,
        **details: Any,
    ) -> None:
        """`retry_after_seconds`: how long to leave Notion alone; `wants_less`: it asks for shorter pages."""
        super().__init__(message, **details)
        self.retry_after_seconds = retry_after_seconds
        self.wants_less = wants_less

    @property
    def is_refusal(self) -> bool:
        """Notion is there but wants fewer requests."""
        return self.status in (429, 529)


class NotionIncomplete(NotionError):
    """A listing that does not come to an end: nothing may be concluded from what it did not show."""

    hint = "Usually passes by itself: the listing is tried again in the next cycle."
    retryable = True


def error_from_answer(status: int, headers: Mapping[str, str], text: str) -> NotionError:
    """The error that an answer with a failing status means.

    Only JSON with a code is Notion speaking. Anything else (an HTML page of the network edge, a proxy, a
    wrong NOTION_BASE_URL) says nothing about the object asked for, whatever its status: `NotionUnavailable`.
    """
    body = _error_body(text)
    code = body.get("code")
    if not isinstance(code, str):
        code = None
    extra = body.get("additional_data")
    extra = extra if isinstance(extra, dict) else {}
    details: dict[str, Any] = {"status": status, "code": code, "request_id": _request_id(body, headers)}
    message = (
        f"Notion answered {status} {code or '(not in its own words)'}: {body.get('message') or 'no reason'}"
    )
    if status == 429 and extra.get("rate_limit_reason") == _BLOCKED:
        return NotionBlocked(message, **details)
    if code is not None:
        kind = {401: NotionUnauthorized, 403: NotionForbidden}.get(status)
        if kind is not None:
            return kind(message, **details)
        if status == 404 and code == "object_not_found":
            return NotionNotFound(message, **details)
        if 400 <= status < 500 and status not in (404, 408, 409, 425, 429):
            return NotionValidation(message, error_type=extra.get("error_type"), **details)
    return NotionUnavailable(
        message,
        retry_after_seconds=retry_after_seconds(headers, extra),
        wants_less=bool(extra.get("retry_guidance")),
        **details,
    )


def retry_after_seconds(headers: Mapping[str, str], extra: Mapping[str, Any]) -> float | None:
    """How long Notion wants to be left alone; None when it does not say, or says something useless.

    `Retry-After` in seconds (decimals too) or as an HTTP date, else its copy in `additional_data`.
    At most an hour.
    """
    for value in (headers.get("retry-after"), extra.get("retry_after")):
        seconds = _seconds(value, headers.get("date"))
        if seconds is not None and seconds > 0:
            return min(seconds, LONGEST_PAUSE_SECONDS)
    return None


@lru_cache(maxsize=16)  # the answers of one second carry the same date
def http_date(text: str | None) -> float | None:
    """An HTTP date as unix seconds; None if it is missing or unreadable."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):  # the parser's own mistakes included
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def without_secrets(text: str) -> str:
    """`text` without tokens and the query parts of URLs (signatures live there), cut to a readable length."""
    text = _URL_QUERY.sub(r"\1?…", _TOKEN.sub("[token]", text))
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def _seconds(value: object, date: str | None) -> float | None:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        until, now = http_date(str(value)), http_date(date)
        return None if until is None or now is None else until - now
    return seconds if math.isfinite(seconds) else None


def _error_body(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _request_id(body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    found = body.get("request_id") or headers.get("x-notion-request-id") or headers.get("cf-ray")
    return found if isinstance(found, str) else None
