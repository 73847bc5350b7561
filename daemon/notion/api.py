"""The one door to Notion: every request goes through here, with its budget, deadline, retries and errors.

Built on the official Python client with its own retry switched off. What that client leaves open is closed
here: it drops unknown arguments, does not escape path parts, and lets raw transport and JSON errors
through, so requests are composed here and sent with its `request`.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, unquote
from uuid import UUID

import httpx
from notion_client import AsyncClient
from notion_client.errors import HTTPResponseError, InvalidPathParameterError, RequestTimeoutError

from daemon import __version__, jsontext
from daemon.clock import Clock
from daemon.notion.connections import Connections
from daemon.notion.errors import (
    NotionIncomplete,
    NotionUnavailable,
    NotionValidation,
    error_from_answer,
    http_date,
)
from daemon.notion.limiter import Lane, Limiter
from daemon.notion.listing import Answer, Fetch, collect, incomplete, once_each
from daemon.notion.retry import Retrier, RetryPolicy

__all__ = ["Answer", "Lane", "NotionApi", "incomplete"]

_PAGE_SIZE = 100  # the most Notion gives at once
_CONNECT_SECONDS = 10.0
_STAMPS = {"edited": "last_edited_time", "created": "created_time"}


@dataclass(slots=True)
class _Call:
    """One request as it is sent. `body` belongs to a listing and may change between its pages."""

    endpoint: str
    path: str
    method: Literal["GET", "POST"] = "GET"
    query: dict[str, Any] | None = None
    body: dict[str, Any] | None = None
    lists: bool = False


@dataclass(slots=True)
class _Heard:
    """What the head of an answer said."""

    status: int | None = None
    date: float | None = None


_heard: ContextVar[_Heard] = ContextVar("heard")


class _Client(AsyncClient):
    """The official client with a JSON decoder that takes half as long."""

    def _parse_response(self, response: httpx.Response) -> Any:
        return jsontext.loads(response.content) if response.is_success else super()._parse_response(response)


class NotionApi:
    """Reads from Notion. Every method raises a NotionError when it cannot give what its name promises."""

    def __init__(  # noqa: PLR0913 - the settings of the door, all by name
        self,
        *,
        token: str,
        base_url: str,
        version: str,
        requests_per_minute: int,
        clock: Clock,
        deadline_seconds: float = 60.0,
        max_in_flight: int = 8,
        policy: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`base_url` without `/v1`; `deadline_seconds` for one try of one request, body included.

        Raises ValueError if the token cannot be sent in a header.
        """
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("the Notion token holds characters that cannot be part of one")
        self.limiter = Limiter(clock, requests_per_minute, max_in_flight)
        self.requests = 0
        self.has_answered = False
        """Whether Notion gave a good answer. A search that finds nothing is none: any integration gets that."""
        self.requests_by_endpoint: Counter[tuple[str, str]] = Counter()
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._notion_ahead_seconds: float | None = None
        self._retrier = Retrier(clock, self.limiter, rng or random.Random(), policy or RetryPolicy())
        self._root = f"{base_url.rstrip('/')}/v1/"
        self._http = httpx.AsyncClient(
            transport=transport or Connections(max_in_flight),
            event_hooks={"response": [self._hear]},
        )
        self._client = _Client(
            client=self._http,
            auth=token,
            base_url=base_url.rstrip("/"),
            notion_version=version,
            retry=False,
            logger=logging.getLogger("daemon.notion.sdk"),
            log_level=logging.CRITICAL,  # it would log every failed try, with Notion's own words in it
        )
        # The client has just put its own over what the http client was made with.
        self._http.headers["User-Agent"] = f"notion-kv-sync/{__version__}"
        self._http.timeout = httpx.Timeout(deadline_seconds, connect=min(_CONNECT_SECONDS, deadline_seconds))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # Notion's clock

    def notion_now(self) -> float:
        """What Notion's clock shows now, in unix seconds: never ahead of it, at most about a second behind.

        Before the first answer: our own clock.
        """
        if self._notion_ahead_seconds is None:
            return self._clock.now().timestamp()
        return self._clock.monotonic() + self._notion_ahead_seconds

    @property
    def clock_offset_seconds(self) -> float:
        """How far Notion's clock is ahead of ours (negative: behind), to about a second."""
        return self.notion_now() - self._clock.now().timestamp()

    # Single objects

    async def me(self, lane: Lane = Lane.FEED) -> Answer:
        """The integration's own user: the cheapest proof that the token works."""
        return await self._send(_Call("users/me", "users/me"), lane)

    async def page(self, page_id: str, lane: Lane) -> Answer:
        """A page object: properties, stamps, parent; not its content."""
        return await self._send(_Call("pages", f"pages/{_uuid(page_id)}"), lane)

    async def block(self, block_id: str, lane: Lane) -> Answer:
        """A block without its children."""
        return await self._send(_Call("blocks", f"blocks/{_uuid(block_id)}"), lane)

    async def database(self, database_id: str, lane: Lane) -> Answer:
        """A database: the container that names its data sources."""
        return await self._send(_Call("databases", f"databases/{_uuid(database_id)}"), lane)

    async def data_source(self, data_source_id: str, lane: Lane) -> Answer:
        """A data source: its schema and its parents."""
        return await self._send(_Call("data_sources", f"data_sources/{_uuid(data_source_id)}"), lane)

    async def view(self, view_id: str, lane: Lane) -> Answer:
        """A view of a database: its name, its database and its data source."""
        return await self._send(_Call("views", f"views/{_uuid(view_id)}"), lane)

    async def property_items(self, page_id: str, property_id: str, lane: Lane) -> list[dict[str, Any]]:
        """The whole value of a property, as property items. `property_id` just as Notion gives it."""
        # Notion gives it percent-encoded already, and wants to see exactly that again.
        name = quote(unquote(property_id), safe="")
        path = f"pages/{_uuid(page_id)}/properties/{name}"

        async def fetch(cursor: str | None) -> Answer:
            answer = await self._send(_listing("properties", path, cursor), lane)
            if answer.body.get("object") == "list":
                return answer
            return Answer({"results": [answer.body], "has_more": False}, answer.date)

        return await collect(fetch, f"the values of property {name}", unique_ids=False)

    # Listings

    def children(self, block_id: str, lane: Lane) -> AsyncIterator[Answer]:
        """The first level under a block or page, a page of results at a time."""
        return once_each(*self._children_listing(block_id, lane))

    async def all_children(self, block_id: str, lane: Lane) -> list[dict[str, Any]]:
        """The first level under a block or page, whole and in order."""
        return await collect(*self._children_listing(block_id, lane), unique_ids=True)

    def query(
        self,
        data_source_id: str,
        lane: Lane,
        *,
        edited_on_or_after: float | None = None,
        created_on_or_after: float | None = None,
        sort: Literal["edited", "created"] = "edited",
    ) -> AsyncIterator[Answer]:
        """The rows of a data source, oldest first, a page of results at a time. Bounds are unix seconds.

        Notion cuts listings off at 10,000 results: `incomplete(answer.body)` tells. Rows may be partial
        objects, and a wiki's rows may be data sources.
        """
        body: dict[str, Any] = {
            "sorts": [{"timestamp": _STAMPS[sort], "direction": "ascending"}],
            "page_size": _PAGE_SIZE,
        }
        bounds = {"last_edited_time": edited_on_or_after, "created_time": created_on_or_after}
        filters = [_on_or_after(stamp, bound) for stamp, bound in bounds.items() if bound is not None]
        if filters:
            body["filter"] = filters[0] if len(filters) == 1 else {"and": filters}
        path = f"data_sources/{_uuid(data_source_id)}/query"
        return self._posted_listing(_Call("query", path, "POST", body=body, lists=True), lane)

    async def rows(self, data_source_id: str, lane: Lane) -> AsyncIterator[Answer]:
        """Every row of a data source once, in the order of creation, a page of results at a time.

        Where Notion cuts the listing off, it goes on from the newest `created_time` seen: that never
        changes, so nothing slips through between two windows
        (https://developers.notion.com/guides/data-apis, large data sources). Raises NotionIncomplete if a
        window cannot get beyond its own first moment: then the absence of a row means nothing.
        """
        seen: set[str] = set()
        start: float | None = None
        while True:
            is_cut, newest = False, start
            async for answer in self.query(data_source_id, lane, created_on_or_after=start, sort="created"):
                is_cut = is_cut or incomplete(answer.body)
                rows = [row for row in answer.body["results"] if row["id"] not in seen]
                seen.update(row["id"] for row in rows)
                newest = _newest_created(rows, newest)
                yield Answer({**answer.body, "results": rows}, answer.date)
            if not is_cut:
                return
            if newest is None or newest == start:
                raise NotionIncomplete(f"Notion does not list all rows of data source {data_source_id}.")
            start = newest

    def search_pages(self, lane: Lane, *, in_trash: bool = False) -> AsyncIterator[Answer]:
        """The pages that the search index knows, newest edit first: a hint, never proof of absence."""
        wanted: dict[str, Any] = {"property": "object", "value": "page"}
        if in_trash:
            wanted["in_trash"] = True
        newest_first = {"timestamp": "last_edited_time", "direction": "descending"}
        body = {"filter": wanted, "sort": newest_first, "page_size": _PAGE_SIZE}
        return self._posted_listing(_Call("search", "search", "POST", body=body, lists=True), lane)

    def _children_listing(self, block_id: str, lane: Lane) -> tuple[Fetch, str]:
        path = f"blocks/{_uuid(block_id)}/children"

        async def fetch(cursor: str | None) -> Answer:
            return await self._send(_listing("children", path, cursor), lane)

        return fetch, path

    def _posted_listing(self, call: _Call, lane: Lane) -> AsyncIterator[Answer]:
        body = call.body or {}

        async def fetch(cursor: str | None) -> Answer:
            if cursor is None:
                body.pop("start_cursor", None)
            else:
                body["start_cursor"] = cursor
            return await self._send(call, lane)

        return once_each(fetch, call.path)

    # One request

    async def _send(self, call: _Call, lane: Lane) -> Answer:
        return await self._retrier.run(lane, partial(self._ask, call))

    async def _ask(self, call: _Call) -> Answer:
        """One try. What comes out is an Answer of the right shape or a NotionError."""
        heard = _Heard()
        _heard.set(heard)
        try:
            body = await self._exchange(call)
        except HTTPResponseError as error:
            failure = error_from_answer(error.status, error.headers, error.body)
            if isinstance(failure, NotionUnavailable) and failure.wants_less and call.body:
                # For this try and the rest of the listing.
                call.body["page_size"] = max(1, call.body["page_size"] // 2)
            raise failure from None
        except (RequestTimeoutError, TimeoutError):
            message = f"Notion did not answer {call.endpoint} within {self._deadline_seconds:g} s."
            raise NotionUnavailable(message) from None
        except InvalidPathParameterError:
            raise NotionValidation(f"This cannot be part of an address: {call.path}") from None
        except httpx.HTTPError as error:
            raise NotionUnavailable(_lost_connection(error), status=heard.status) from None
        except ValueError:
            message = f"Notion's answer to {call.endpoint} was not JSON."
            raise NotionUnavailable(message, status=heard.status) from None
        finally:
            self._count(call.endpoint, heard.status)
        if not _has_right_shape(body, call):
            raise NotionUnavailable(f"Notion's answer to {call.endpoint} was no {call.endpoint} at all.")
        self.has_answered = self.has_answered or call.endpoint != "search" or bool(body["results"])
        return Answer(body, self._clock.now().timestamp() if heard.date is None else heard.date)

    async def _exchange(self, call: _Call) -> Any:
        # httpx's own timeouts begin anew with every piece that arrives; this one does not.
        async with asyncio.timeout(self._deadline_seconds):
            # A whole address: httpx would parse a path twice more to put it behind the base, and to add a query.
            return await self._client.request(
                path=self._root + call.path, method=call.method, query=call.query, body=call.body
            )

    async def _hear(self, response: httpx.Response) -> None:
        heard = _heard.get()
        heard.status = response.status_code
        heard.date = http_date(response.headers.get("date"))
        if heard.date is not None:
            self._notion_ahead_seconds = heard.date - self._clock.monotonic()

    def _count(self, endpoint: str, status: int | None) -> None:
        self.requests += 1
        self.requests_by_endpoint[endpoint, "none" if status is None else f"{status // 100}xx"] += 1


def _uuid(object_id: str) -> str:
    """The id in its dashed form: nothing else may become part of an address."""
    try:
        return str(UUID(object_id))
    except ValueError:
        raise NotionValidation(f"{object_id!r} is not the id of anything in Notion.") from None


def _listing(endpoint: str, path: str, cursor: str | None) -> _Call:
    """The request for a page of results. The query of the first never changes: as part of the address it costs less."""
    lists = endpoint == "children"
    if cursor is None:
        return _Call(endpoint, f"{path}?page_size={_PAGE_SIZE}", lists=lists)
    return _Call(endpoint, path, query={"page_size": _PAGE_SIZE, "start_cursor": cursor}, lists=lists)


def _on_or_after(stamp: str, unix_seconds: float) -> dict[str, Any]:
    moment = datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds")
    return {"timestamp": stamp, stamp: {"on_or_after": moment.replace("+00:00", "Z")}}


def _newest_created(rows: list[dict[str, Any]], newest: float | None) -> float | None:
    """The newest `created_time` among the rows (partial objects have none) and `newest`, in unix seconds."""
    stamps = (row["created_time"] for row in rows if row.get("created_time"))
    times = [datetime.fromisoformat(stamp).timestamp() for stamp in stamps]
    return max([*times, *([newest] if newest is not None else [])], default=None)


def _has_right_shape(body: Any, call: _Call) -> bool:
    if not isinstance(body, dict) or body.get("object") == "error":
        return False
    return not call.lists or isinstance(body.get("results"), list)


def _lost_connection(error: httpx.HTTPError) -> str:
    # Other errors may quote what was sent, headers included.
    reason = f": {error}" if isinstance(error, httpx.ConnectError) else ""
    return f"The connection to Notion failed ({type(error).__name__}{reason})."
