"""The door to Notion against a server that does everything wrong that Notion, networks and proxies are known for."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from daemon.clock import DrivenClock
from daemon.notion.api import Answer, Lane, NotionApi, incomplete
from daemon.notion.errors import (
    NotionBlocked,
    NotionError,
    NotionForbidden,
    NotionIncomplete,
    NotionNotFound,
    NotionUnauthorized,
    NotionUnavailable,
    NotionValidation,
    error_from_answer,
)
from daemon.notion.retry import RetryPolicy
from tests.support.notion_stub import NotionStub, Reply, Request, Reset, error, refusal, results

TOKEN = "ntn_averysecrettoken1234567890"
PAGE = "11111111-2222-3333-4444-555555555555"
HTML = "<html><body>cloudflare</body></html>"


@pytest.fixture
def clock() -> DrivenClock:
    """Time that nobody has to wait for."""
    return DrivenClock()


@pytest.fixture
async def stub(clock: DrivenClock) -> AsyncIterator[NotionStub]:
    """A server to be scripted."""
    async with NotionStub(clock).serving() as serving:
        yield serving


@pytest.fixture
async def api(stub: NotionStub, clock: DrivenClock) -> AsyncIterator[NotionApi]:
    """The door, leading to that server."""
    made = _api(stub, clock)
    yield made
    await made.close()


def _api(stub: NotionStub, clock: DrivenClock, **settings: Any) -> NotionApi:
    defaults: dict[str, Any] = {
        "token": TOKEN,
        "base_url": stub.url,
        "version": "2026-03-11",
        "requests_per_minute": 180,
        "clock": clock,
        "rng": random.Random(1),
    }
    return NotionApi(**(defaults | settings))


def _id(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012x}"


def _blocks(*numbers: int) -> list[dict[str, Any]]:
    return [{"object": "block", "id": _id(number)} for number in numbers]


def _row(number: int, created: str = "2026-01-01T00:00:00.000Z") -> dict[str, Any]:
    return {"object": "page", "id": _id(number), "created_time": created}


def _numbers(items: list[dict[str, Any]]) -> list[int]:
    return [int(item["id"][-12:], 16) for item in items]


async def _listed(answers: AsyncIterator[Answer]) -> list[int]:
    return [number async for answer in answers for number in _numbers(answer.body["results"])]


# What is sent


async def test_requests_carry_token_version_and_our_name(api: NotionApi, stub: NotionStub) -> None:
    """The official client overwrites headers when it is made; ours must be there all the same."""
    stub.script = [Reply()]
    await api.me()
    headers = stub.requests[0].headers
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["notion-version"] == "2026-03-11"
    assert headers["user-agent"].startswith("notion-kv-sync/")
    assert "gzip" in headers["accept-encoding"]
    assert stub.requests[0].target == "/v1/users/me"


async def test_single_objects_have_their_own_addresses(api: NotionApi, stub: NotionStub) -> None:
    """Each method asks at its address, with the id dashed whatever form it came in."""
    stub.script = lambda _: Reply()
    undashed = PAGE.replace("-", "").upper()
    for method in (api.page, api.block, api.database, api.data_source):
        await method(undashed, Lane.READ)
    kinds = ["pages", "blocks", "databases", "data_sources"]
    assert [request.target for request in stub.requests] == [f"/v1/{kind}/{PAGE}" for kind in kinds]
    assert {request.method for request in stub.requests} == {"GET"}


@pytest.mark.parametrize("bad_id", ["", "x", "../users/me", f"{PAGE}?x=1#f", PAGE + "0"])
async def test_what_is_no_id_is_never_sent(api: NotionApi, stub: NotionStub, bad_id: str) -> None:
    """Path parts are not escaped by the client, so only UUIDs get that far."""
    for method in (api.page, api.block, api.database, api.data_source, api.all_children):
        with pytest.raises(NotionValidation, match="not the id"):
            await method(bad_id, Lane.READ)
    with pytest.raises(NotionValidation, match="not the id"):
        await _listed(api.rows(bad_id, Lane.READ))
    assert stub.requests == []


async def test_a_base_url_with_a_slash_works(stub: NotionStub, clock: DrivenClock) -> None:
    """A trailing slash in the setting does not end up in the address."""
    stub.script = [Reply()]
    api = _api(stub, clock, base_url=stub.url + "/")
    await api.me()
    await api.close()
    assert stub.requests[0].target == "/v1/users/me"


async def test_property_ids_arrive_as_notion_wrote_them(api: NotionApi, stub: NotionStub) -> None:
    """Property ids come percent-encoded and must go out encoded exactly once."""
    stub.script = lambda _: Reply(body={"object": "property_item", "id": "title"})
    for property_id in ("fy%3A%7B", "a%2Fb", "%25x", "title", "fy:{"):
        await api.property_items(PAGE, property_id, Lane.READ)
    names = [request.path.rsplit("/", 1)[1] for request in stub.requests]
    assert names == ["fy%3A%7B", "a%2Fb", "%25x", "title", "fy%3A%7B"]


async def test_a_single_property_item_is_a_list_of_one(api: NotionApi, stub: NotionStub) -> None:
    """Properties that are not listed come back as one object."""
    item = {"object": "property_item", "id": "abc", "type": "number", "number": 3}
    stub.script = [Reply(body=item)]
    assert await api.property_items(PAGE, "abc", Lane.READ) == [item]


async def test_long_properties_are_read_to_the_end(api: NotionApi, stub: NotionStub) -> None:
    """All property items share the property's id: none may be taken for another; a dead cursor starts over."""
    items = [{"object": "property_item", "id": "rel", "relation": {"id": _id(n)}} for n in range(6)]
    stale = error(400, "validation_error", "The start_cursor provided is invalid: c1")
    stub.script = [
        results(items[:2], "c1"), stale,
        results(items[:2], "c2"), results(items[2:4], "c3"), results(items[4:]),
    ]  # fmt: skip
    assert await api.property_items(PAGE, "rel", Lane.READ) == items
    assert [request.query.get("start_cursor") for request in stub.requests] == [
        None, ["c1"], None, ["c2"], ["c3"],
    ]  # fmt: skip


# Notion's clock


async def test_the_date_of_an_answer_is_notions(api: NotionApi, stub: NotionStub, clock: DrivenClock) -> None:
    """Notion's clock decides; between answers it is carried on by ours."""
    assert api.notion_now() == clock.now().timestamp() and api.clock_offset_seconds == 0.0
    stub.script = [Reply(date="Mon, 05 Jan 2026 09:07:30 GMT")]
    answer = await api.page(PAGE, Lane.READ)
    assert answer.date == datetime(2026, 1, 5, 9, 7, 30, tzinfo=UTC).timestamp()
    clock.advance(10)
    assert api.notion_now() == answer.date + 10
    assert api.clock_offset_seconds == 450


@pytest.mark.parametrize("date", [None, "yesterday", "Mon, 99 Foo 2026 25:61:00 GMT"])
async def test_without_a_readable_date_our_clock_serves(
    api: NotionApi, stub: NotionStub, clock: DrivenClock, date: str | None
) -> None:
    """A missing or garbled Date header is not an error and does not disturb what is known of Notion's clock."""
    stub.script = [Reply(date="Mon, 05 Jan 2026 09:07:30 GMT"), Reply(date=date)]
    known = (await api.page(PAGE, Lane.READ)).date
    assert (await api.page(PAGE, Lane.READ)).date == clock.now().timestamp()
    assert api.notion_now() == known


# Retries


@pytest.mark.parametrize(
    "failure",
    [
        error(500, "internal_server_error"),
        Reply(502, HTML),
        error(503, "service_unavailable"),
        error(503, "database_connection_unavailable"),
        error(504, "gateway_timeout"),
        Reply(504, "{broken"),
        Reply(524, HTML),
        error(529, "service_overload"),
        error(409, "conflict_error"),
        refusal(),
        Reply(429, HTML),
        Reply(403, HTML),
        Reply(404, HTML),
        Reply(401, HTML),
        error(404, "no_such_route"),
        Reply(404, {"error": {"code": "NOT_FOUND", "message": "The deployment could not be found"}}),
        Reply(200, HTML),
        Reply(200, "[1, 2"),
        Reply(200, [1, 2]),
        Reply(200, {"object": "error"}),
        Reply(302, "", {"location": "https://example.com/"}),
        Reply(200, cut=5),
    ],
    ids=lambda reply: f"{reply.status}-{str(reply.body)[:12]}",
)
async def test_every_passing_failure_of_a_read_is_retried(
    api: NotionApi, stub: NotionStub, failure: Reply
) -> None:
    """What may pass is tried again, for GET and POST alike, and the good answer is what the caller sees."""
    stub.script = [failure, Reply(body={"object": "page", "id": PAGE})]
    assert (await api.page(PAGE, Lane.READ)).body["id"] == PAGE
    stub.script = [failure, results([_row(1)])]
    assert await _listed(api.query(PAGE, Lane.FEED)) == [1]
    assert len(stub.requests) == 4


def _reset(_: Request) -> Reply:
    raise Reset


async def test_lost_connections_are_retried(api: NotionApi, stub: NotionStub) -> None:
    """A connection that is dropped instead of answered escapes the client as a raw error; not here."""
    stub.script = [_reset, _reset, Reply(body={"id": PAGE})]
    assert (await api.page(PAGE, Lane.READ)).body == {"id": PAGE}
    assert api.requests_by_endpoint == {("pages", "none"): 2, ("pages", "2xx"): 1}
    assert api.requests == 3


async def test_nobody_listening_is_unavailable_with_a_hint(stub: NotionStub, clock: DrivenClock) -> None:
    """A refused connection ends as our own error, after all tries."""
    api = _api(stub, clock, base_url="http://127.0.0.1:1")
    with pytest.raises(NotionUnavailable, match="ConnectError") as caught:
        await api.me()
    await api.close()
    assert "NOTION_BASE_URL" in caught.value.hint
    assert api.requests == 5


async def test_tries_are_capped(api: NotionApi, stub: NotionStub, clock: DrivenClock) -> None:
    """Five tries, with growing waits between them, then the error itself."""
    stub.script = lambda _: error(500, "internal_server_error")
    with pytest.raises(NotionUnavailable, match="500 internal_server_error") as caught:
        await api.page(PAGE, Lane.READ)
    assert caught.value.status == 500 and caught.value.request_id == "req-1" and caught.value.retryable
    waits = [after - before for before, after in zip(stub.times, stub.times[1:], strict=False)]
    assert len(waits) == 4
    for wait, centre in zip(waits, (0.5, 1, 2, 4), strict=True):
        assert 0.5 * centre <= wait <= 1.5 * centre
    assert len({round(wait / centre, 6) for wait, centre in zip(waits, (0.5, 1, 2, 4), strict=True)}) > 1


async def test_total_time_is_capped(api: NotionApi, stub: NotionStub, clock: DrivenClock) -> None:
    """Slow failures are not repeated as often as quick ones: two minutes are enough for one request."""

    def slow(_: Request) -> Reply:
        clock.advance(50)
        return error(504, "gateway_timeout")

    stub.script = slow
    with pytest.raises(NotionUnavailable):
        await api.page(PAGE, Lane.READ)
    assert len(stub.requests) == 3


async def test_a_long_retry_after_of_an_outage_is_left_to_the_caller(
    api: NotionApi, stub: NotionStub, clock: DrivenClock
) -> None:
    """A 503 that says when to come back is waited for, but not for longer than a request may take."""
    stub.script = [error(503, "service_unavailable", retry_after="20"), Reply()]
    await api.page(PAGE, Lane.READ)
    assert clock.monotonic() == 20
    stub.script = [error(503, "service_unavailable", retry_after="500"), Reply()]
    with pytest.raises(NotionUnavailable):
        await api.page(PAGE, Lane.READ)
    assert clock.monotonic() == 20


def test_back_off_is_bounded_and_spread() -> None:
    """However many tries, the wait stays below its cap and jitter always moves it."""
    policy = RetryPolicy()
    assert policy.wait_seconds(1, 0.0) == 0.25 and policy.wait_seconds(1, 1.0) == 0.75
    assert policy.wait_seconds(40, 1.0) == 45.0


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(400, "validation_error"), NotionValidation),
        (error(400, "missing_version"), NotionValidation),
        (error(401, "unauthorized"), NotionUnauthorized),
        (error(403, "restricted_resource"), NotionForbidden),
        (error(404, "object_not_found"), NotionNotFound),
        (
            error(429, "rate_limited", extra={"rate_limit_reason": "public_api_request_blocked"}),
            NotionBlocked,
        ),
    ],
    ids=lambda value: str(getattr(value, "status", getattr(value, "__name__", value))),
)
async def test_what_will_not_pass_is_asked_once(
    api: NotionApi, stub: NotionStub, clock: DrivenClock, reply: Reply, kind: type[NotionError]
) -> None:
    """Permanent errors come at once, with Notion's words, the request id and a next step."""
    stub.script = [reply]
    with pytest.raises(kind, match="Something") as caught:
        await api.page(PAGE, Lane.READ)
    assert type(caught.value) is kind
    assert caught.value.request_id == "req-1" and len(caught.value.hint) > 20
    assert not caught.value.retryable
    assert len(stub.requests) == 1 and clock.monotonic() == 0.0
    assert api.limiter.paused_for_seconds == 0.0


# Refusals


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (refusal(retry_after="7"), 7.0),
        (refusal(retry_after="0.2"), 0.2),
        (refusal(retry_after="150"), 150.0),
        (refusal(529, retry_after="3"), 3.0),
        (Reply(429, HTML, {"Retry-After": "4"}), 4.0),
        (refusal(retry_after="Mon, 05 Jan 2026 09:01:30 GMT"), 90.0),
        (error(429, "rate_limited", extra={"retry_after": 12}), 12.0),
        (refusal(retry_after="999999999999"), 3600.0),
    ],
)
async def test_retry_after_is_honoured(
    api: NotionApi, stub: NotionStub, clock: DrivenClock, reply: Reply, seconds: float
) -> None:
    """Seconds, decimals, dates (by Notion's clock), the copy in the body, and more than a minute."""
    stub.script = [reply, Reply()]
    await api.page(PAGE, Lane.READ)
    assert clock.monotonic() == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("value", ["", "0", "-3", "nan", "inf", "soon"])
async def test_a_useless_retry_after_means_back_off(
    api: NotionApi, stub: NotionStub, clock: DrivenClock, value: str
) -> None:
    """Without a usable time the ordinary back-off serves, for everybody."""
    stub.script = [refusal(retry_after=value), Reply()]
    await api.page(PAGE, Lane.READ)
    assert 0.25 <= clock.monotonic() <= 0.75


@pytest.mark.parametrize("status", [429, 529])
async def test_a_refusal_holds_everybody_back(api: NotionApi, stub: NotionStub, status: int) -> None:
    """A refusal pauses everybody who comes later; two requests refused together count as one."""

    both_sent = asyncio.Event()

    async def refuse_first(_: Request) -> Reply:
        if len(stub.requests) > 2:
            return Reply()
        if len(stub.requests) == 2:
            both_sent.set()
        await both_sent.wait()
        return refusal(status, retry_after="30")

    stub.script = refuse_first
    await asyncio.gather(*(api.page(PAGE, Lane.READ) for _ in range(2)))
    await asyncio.gather(*(api.page(PAGE, Lane.FEED) for _ in range(5)))
    assert [moment >= 30.0 for moment in stub.times] == [False] * 2 + [True] * 7
    assert api.limiter.effective_budget == 180


async def test_nobody_slips_through_between_refusal_and_pause(stub: NotionStub, clock: DrivenClock) -> None:
    """The pause begins before the refused request's place is given to the next one."""
    stub.script = lambda _: refusal(retry_after="30") if len(stub.requests) == 1 else Reply()
    api = _api(stub, clock, max_in_flight=1)
    await asyncio.gather(*(api.page(PAGE, Lane.READ) for _ in range(4)))
    await api.close()
    assert [moment >= 30.0 for moment in stub.times] == [False, True, True, True, True]


async def test_pauses_do_not_use_up_a_requests_time(
    api: NotionApi, stub: NotionStub, clock: DrivenClock
) -> None:
    """Four pauses of two minutes each are waited for: Notion demanded them."""
    stub.script = [refusal(retry_after="120")] * 4 + [Reply(body={"id": PAGE})]
    assert (await api.page(PAGE, Lane.READ)).body == {"id": PAGE}
    assert clock.monotonic() == pytest.approx(480, abs=0.01)


async def test_repeated_refusals_lower_the_budget(api: NotionApi, stub: NotionStub) -> None:
    """A budget that turns out smaller than configured is met with fewer requests."""
    stub.script = [refusal(retry_after="5")] * 3 + [Reply()]
    await api.page(PAGE, Lane.READ)
    assert api.limiter.effective_budget == 101


async def test_the_budget_holds_with_retries(stub: NotionStub, clock: DrivenClock) -> None:
    """Every try is a request of its own: no minute sees more than the budget, retries included."""
    stub.script = lambda _: error(500, "internal_server_error") if len(stub.requests) % 3 == 0 else Reply()
    api = _api(stub, clock, requests_per_minute=10)
    await asyncio.gather(*(api.page(PAGE, Lane.READ) for _ in range(30)))
    await api.close()
    assert api.requests == len(stub.times) == 44
    for start in stub.times:
        assert len([moment for moment in stub.times if start <= moment < start + 60]) <= 10


# Deadlines and cancellation


async def test_a_hanging_answer_ends_at_the_deadline(stub: NotionStub, clock: DrivenClock) -> None:
    """A server that never answers, or trickles for ever, costs one deadline a try and no more."""
    for_ever = asyncio.Event()

    async def hang(_: Request) -> Reply:
        await for_ever.wait()
        return Reply()

    stub.script = hang
    api = _api(stub, clock, deadline_seconds=0.02)
    with pytest.raises(NotionUnavailable, match=r"within 0\.02 s"):
        await api.page(PAGE, Lane.READ)
    await api.close()
    assert len(stub.requests) == 5 and api.limiter.in_flight == 0
    assert api.requests_by_endpoint == {("pages", "none"): 5}


async def test_a_cut_body_without_an_end_meets_the_deadline_too(stub: NotionStub, clock: DrivenClock) -> None:
    """The deadline covers the body: its head alone is not an answer."""

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.001)

    async def trickle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Endless())

    api = _api(stub, clock, deadline_seconds=0.02, transport=httpx.MockTransport(trickle))
    async with asyncio.timeout(5):
        with pytest.raises(NotionUnavailable, match="within"):
            await api.page(PAGE, Lane.READ)
    await api.close()
    assert api.requests_by_endpoint == {("pages", "2xx"): 5}


async def test_a_cancelled_request_frees_its_place(api: NotionApi, stub: NotionStub) -> None:
    """Cancelling is not swallowed by the retry, and what was under way is accounted for."""
    arrived, for_ever = asyncio.Event(), asyncio.Event()

    async def hang(_: Request) -> Reply:
        arrived.set()
        await for_ever.wait()
        return Reply()

    stub.script = hang
    task = asyncio.create_task(api.page(PAGE, Lane.READ))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert api.limiter.in_flight == 0 and api.limiter.budget_left == 179
    stub.script = [Reply(body={"id": PAGE})]
    assert (await api.page(PAGE, Lane.READ)).body == {"id": PAGE}


async def test_connections_are_few_and_reused(stub: NotionStub, clock: DrivenClock) -> None:
    """Forty requests at once use no more connections than may be under way, and the next poll finds one open."""
    stub.script = lambda _: Reply()
    api = _api(stub, clock, max_in_flight=3)
    await asyncio.gather(*(api.page(PAGE, Lane.READ) for _ in range(40)))
    await api.me()
    await api.close()
    assert stub.connections <= 3


# Listings


async def test_children_are_listed_to_the_end_in_order(api: NotionApi, stub: NotionStub) -> None:
    """Only `has_more` ends a listing: short and empty pages do not."""
    stub.script = [results(_blocks(3), "c1"), results([], "c2"), results(_blocks(1, 2))]
    assert _numbers(await api.all_children(PAGE, Lane.READ)) == [3, 1, 2]
    assert [request.query for request in stub.requests] == [
        {"page_size": ["100"]},
        {"page_size": ["100"], "start_cursor": ["c1"]},
        {"page_size": ["100"], "start_cursor": ["c2"]},
    ]
    assert {request.path for request in stub.requests} == {f"/v1/blocks/{PAGE}/children"}


async def test_has_more_without_a_cursor_is_not_the_end(api: NotionApi, stub: NotionStub) -> None:
    """A listing that claims more but does not say where cannot be completed, so it is not called complete."""
    stub.script = lambda _: results(_blocks(1), has_more=True)
    with pytest.raises(NotionIncomplete):
        await api.all_children(PAGE, Lane.READ)


async def test_a_dead_cursor_starts_the_listing_again(api: NotionApi, stub: NotionStub) -> None:
    """Pages of results already given out are not given out twice; what is new is."""
    stale = error(400, "validation_error", "The start_cursor provided is invalid: c1")
    first = [results([_row(1), _row(2)], "c1"), stale]
    again = [results([_row(1), _row(3)], "c2"), results([_row(2), _row(4)])]
    stub.script = [*first, *again]
    assert await _listed(api.query(PAGE, Lane.FEED)) == [1, 2, 3, 4]
    assert [request.body.get("start_cursor") for request in stub.requests] == [None, "c1", None, "c2"]


async def test_children_in_order_come_from_one_walk(api: NotionApi, stub: NotionStub) -> None:
    """When a walk has to begin again, its first half is forgotten: the order is that of one reading."""
    stale = error(400, "validation_error", "The start_cursor provided is invalid: c1")
    stub.script = [results(_blocks(1, 2), "c1"), stale, results(_blocks(9, 1), "c2"), results(_blocks(1, 2))]
    assert _numbers(await api.all_children(PAGE, Lane.READ)) == [9, 1, 2]


async def test_a_cursor_that_always_dies_is_given_up(api: NotionApi, stub: NotionStub) -> None:
    """After three restarts the listing is called incomplete."""

    def script(request: Request) -> Reply:
        if "start_cursor" in request.query:
            return error(400, "validation_error", "The start_cursor provided is invalid.")
        return results(_blocks(1), "c")

    stub.script = script
    with pytest.raises(NotionIncomplete, match="does not come to an end") as caught:
        await _listed(api.children(PAGE, Lane.READ))
    assert caught.value.retryable and len(stub.requests) == 8


async def test_a_cursor_that_comes_back_never_loops(api: NotionApi, stub: NotionStub) -> None:
    """The client's own helpers would go round for ever; each object still comes once."""
    stub.script = lambda request: results(
        _blocks(1), "b" if request.query.get("start_cursor") == ["a"] else "a"
    )
    seen: list[int] = []
    with pytest.raises(NotionIncomplete):
        async for answer in api.children(PAGE, Lane.READ):
            seen += _numbers(answer.body["results"])
    assert seen == [1]
    assert len(stub.requests) == 12


async def test_a_validation_error_that_is_no_cursors_is_passed_on(api: NotionApi, stub: NotionStub) -> None:
    """Only dead cursors start a listing again."""
    stub.script = [results(_blocks(1), "c1"), error(400, "validation_error", "No.")]
    with pytest.raises(NotionValidation, match=r"No\."):
        await api.all_children(PAGE, Lane.READ)


async def test_a_listing_without_results_is_no_answer(api: NotionApi, stub: NotionStub) -> None:
    """JSON of the wrong shape is tried again like any broken answer."""
    stub.script = [Reply(body={"object": "list", "has_more": False}), results(_blocks(1))]
    assert _numbers(await api.all_children(PAGE, Lane.READ)) == [1]


async def test_query_says_what_it_wants(api: NotionApi, stub: NotionStub) -> None:
    """Sorted explicitly, filtered at or after the bound in milliseconds, nothing that Notion would refuse."""
    stub.script = lambda _: results([])
    bound = datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC).timestamp()
    await _listed(api.query(PAGE, Lane.FEED))
    await _listed(api.query(PAGE, Lane.FEED, edited_on_or_after=bound))
    await _listed(
        api.query(PAGE, Lane.FEED, edited_on_or_after=bound, created_on_or_after=0.0, sort="created")
    )
    edited = {
        "timestamp": "last_edited_time",
        "last_edited_time": {"on_or_after": "2026-01-05T09:00:00.250Z"},
    }
    created = {"timestamp": "created_time", "created_time": {"on_or_after": "1970-01-01T00:00:00.000Z"}}
    by_edit = [{"timestamp": "last_edited_time", "direction": "ascending"}]
    by_creation = [{"timestamp": "created_time", "direction": "ascending"}]
    assert [request.body for request in stub.requests] == [
        {"sorts": by_edit, "page_size": 100},
        {"sorts": by_edit, "page_size": 100, "filter": edited},
        {"sorts": by_creation, "page_size": 100, "filter": {"and": [edited, created]}},
    ]
    assert {(r.method, r.target) for r in stub.requests} == {("POST", f"/v1/data_sources/{PAGE}/query")}


async def test_search_asks_for_pages_newest_first(api: NotionApi, stub: NotionStub) -> None:
    """Ordinary and trash search, and paging through them."""
    stub.script = [results([_row(1)], "c"), results([_row(2)]), results([])]
    assert await _listed(api.search_pages(Lane.FEED)) == [1, 2]
    assert await _listed(api.search_pages(Lane.UPKEEP, in_trash=True)) == []
    pages = {"property": "object", "value": "page"}
    newest = {"timestamp": "last_edited_time", "direction": "descending"}
    assert [request.body for request in stub.requests] == [
        {"filter": pages, "sort": newest, "page_size": 100},
        {"filter": pages, "sort": newest, "page_size": 100, "start_cursor": "c"},
        {"filter": pages | {"in_trash": True}, "sort": newest, "page_size": 100},
    ]
    assert {(r.method, r.target) for r in stub.requests} == {("POST", "/v1/search")}


async def test_a_listing_can_be_left_early(api: NotionApi, stub: NotionStub) -> None:
    """Whoever has seen enough stops, and no further page is asked for."""
    stub.script = lambda _: results([_row(len(stub.requests))], f"c{len(stub.requests)}")
    async for answer in api.search_pages(Lane.FEED):
        assert _numbers(answer.body["results"]) == [1]
        break
    assert len(stub.requests) == 1 and api.limiter.in_flight == 0


async def test_objects_of_other_kinds_pass_through(api: NotionApi, stub: NotionStub) -> None:
    """Data sources among a wiki's rows and partial objects are the caller's to judge."""
    odd = [{"object": "data_source", "id": _id(7)}, {"object": "page", "id": _id(8)}]
    stub.script = [results(odd), results(odd)]
    assert [answer.body["results"] async for answer in api.rows(PAGE, Lane.FEED)] == [odd]
    assert [answer.body["results"] async for answer in api.query(PAGE, Lane.FEED)] == [odd]


async def test_a_query_that_is_too_heavy_is_asked_in_smaller_pages(api: NotionApi, stub: NotionStub) -> None:
    """Notion's advice with a 503 is followed, for the retry and for the rest of that listing only."""
    heavy = error(503, "service_unavailable", extra={"retry_guidance": "Use a smaller page_size."})
    stub.script = [heavy, heavy, results([_row(1)], "c1"), results([_row(2)]), results([])]
    assert await _listed(api.query(PAGE, Lane.FEED)) == [1, 2]
    await _listed(api.query(PAGE, Lane.FEED))
    assert [request.body["page_size"] for request in stub.requests] == [100, 50, 25, 25, 100]


# Every row


async def test_every_page_of_rows_carries_its_own_date(api: NotionApi, stub: NotionStub) -> None:
    """A listing may take long; each part of it is dated by the answer that brought it."""

    def script(request: Request) -> Reply:
        reply = results([_row(2)]) if "start_cursor" in request.body else results([_row(1)], "c")
        reply.date = f"Mon, 05 Jan 2026 09:00:0{len(stub.requests)} GMT"
        return reply

    stub.script = script
    answers = [(answer.date, _numbers(answer.body["results"])) async for answer in api.rows(PAGE, Lane.FEED)]
    first = datetime(2026, 1, 5, 9, 0, 1, tzinfo=UTC).timestamp()
    assert answers == [(first, [1]), (first + 1, [2])]


class _CappedSource:
    """A data source of which one query shows no more than `cap` rows."""

    def __init__(self, created_minutes: list[int], cap: int) -> None:
        self.rows = [_row(n, f"2026-01-01T00:{m:02}:00.000Z") for n, m in enumerate(created_minutes)]
        self.cap = cap

    def __call__(self, request: Request) -> Reply:
        assert request.body["sorts"] == [{"timestamp": "created_time", "direction": "ascending"}]
        since = request.body.get("filter", {}).get("created_time", {}).get("on_or_after", "")
        matching = [row for row in self.rows if row["created_time"] >= since]
        start = int(request.body.get("start_cursor", "0"))
        end = min(start + 2, self.cap)
        if end < min(self.cap, len(matching)):
            return results(matching[start:end], str(end))
        last = results(matching[start:end])
        if len(matching) > self.cap:
            reason = {"type": "incomplete", "incomplete_reason": "query_result_limit_reached"}
            last.body["request_status"] = reason
        return last


async def test_the_cap_on_results_is_worked_around(api: NotionApi, stub: NotionStub) -> None:
    """More rows than one query shows: windows by creation, no row lost, none twice."""
    stub.script = _CappedSource([0, 0, 1, 1, 1, 2, 3, 3, 4, 5, 6], cap=4)
    assert await _listed(api.rows(PAGE, Lane.FEED)) == list(range(11))


async def test_a_moment_with_more_rows_than_the_cap_is_reported(api: NotionApi, stub: NotionStub) -> None:
    """Where no window helps, the listing says that it is not complete, and does not loop."""
    stub.script = _CappedSource([0, 1, 1, 1, 1, 1, 2], cap=4)
    seen: list[int] = []
    with pytest.raises(NotionIncomplete, match=PAGE):
        async for answer in api.rows(PAGE, Lane.FEED):
            seen += _numbers(answer.body["results"])
    assert seen == [0, 1, 2, 3, 4]


async def test_an_incomplete_page_of_results_says_so(api: NotionApi, stub: NotionStub) -> None:
    """The mark of a listing that was cut off reaches whoever pages through it."""
    stub.script = [results([_row(1)], request_status={"type": "incomplete"}), results([_row(1)])]
    assert [incomplete(answer.body) async for answer in api.query(PAGE, Lane.FEED)] == [True]
    assert [incomplete(answer.body) async for answer in api.query(PAGE, Lane.FEED)] == [False]


# Errors


@pytest.mark.parametrize(
    ("message", "is_leaf"),
    [
        ("Block type external_object_instance_page is not supported via the API.", True),
        ("Block type ai_block is not supported via the API.", True),
        ("Block does not support children.", True),
        ("Children of this block are not supported.", True),
        ("path.block_id should be a valid uuid, instead was `x`.", False),
        ("The start_cursor provided is invalid: c1", False),
        ("Something is not supported.", False),
    ],
)
def test_refused_children_are_told_from_other_mistakes(message: str, is_leaf: bool) -> None:
    """A block is a leaf only when Notion says so."""
    reply = error(400, "validation_error", message)
    failure = _failure(reply)
    assert isinstance(failure, NotionValidation)
    assert failure.children_not_supported is is_leaf
    assert failure.is_stale_cursor is ("start_cursor" in message)


def _failure(reply: Reply) -> NotionError:
    return error_from_answer(reply.status, reply.headers, httpx.Response(200, json=reply.body).text)


def test_several_data_sources_have_their_own_hint() -> None:
    """On an old API version the way out is a newer one, and the message says which setting."""
    extra = {"error_type": "multiple_data_sources_for_database", "minimum_api_version": "2025-09-03"}
    failure = _failure(error(400, "validation_error", "Multiple.", extra))
    assert "NOTION_VERSION" in failure.hint
    assert "NOTION_VERSION" not in _failure(error(400, "validation_error")).hint


def test_secrets_and_signatures_stay_out_of_messages() -> None:
    """Whatever a server echoes: tokens and signed URLs are not repeated, and nothing is endless."""
    words = (
        f"Bearer {TOKEN} and {TOKEN} at https://files.example/a.png?X-Amz-Signature=deadbeef&x=1 "
        + "x" * 5000
    )
    failure = _failure(error(400, "validation_error", words))
    text = str(failure) + repr(failure)
    assert TOKEN not in text and "deadbeef" not in text
    assert "https://files.example/a.png?…" in text
    assert len(str(failure)) <= 400


async def test_the_token_is_in_no_error_no_log_and_no_repr(
    api: NotionApi, stub: NotionStub, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures of every layer, logged as loudly as possible, never show the token."""
    caplog.set_level(logging.DEBUG)
    stub.script = [
        error(500, "internal_server_error", f"You sent {TOKEN}"),
        _reset,
        refusal(),
        Reply(404, HTML),
    ]
    stub.script.append(error(401, "unauthorized", f"API token {TOKEN} is invalid."))
    with pytest.raises(NotionUnauthorized) as caught:
        await api.page(PAGE, Lane.READ)
    shown = str(caught.value) + repr(caught.value) + repr(vars(caught.value)) + repr(api) + caplog.text
    assert TOKEN not in shown
    assert "NOTION_TOKEN" in caught.value.hint


async def test_transport_errors_do_not_repeat_what_was_sent(stub: NotionStub, clock: DrivenClock) -> None:
    """The HTTP library quotes an offending header whole; the error names only its kind."""

    async def quote(_: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError("Illegal header value b'something private'")

    api = _api(stub, clock, transport=httpx.MockTransport(quote))
    with pytest.raises(NotionUnavailable, match="LocalProtocolError") as caught:
        await api.me()
    await api.close()
    assert "private" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize("token", ["ntn_a\n", "ntn_…", "ntn_a b", "ntn_é"])
def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(token: str) -> None:
    """Line ends or typographic characters from pasting would otherwise come back inside a transport error."""
    with pytest.raises(ValueError, match="token") as caught:
        NotionApi(
            token=token,
            base_url="http://127.0.0.1:1",
            version="2026-03-11",
            requests_per_minute=180,
            clock=DrivenClock(),
        )
    assert token.strip() not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_what_was_sent_is_counted(api: NotionApi, stub: NotionStub) -> None:
    """Requests by endpoint and class of status, retries included."""
    stub.script = [
        Reply(),
        error(404, "object_not_found"),
        refusal(retry_after="1"),
        results([]),
        results([]),
    ]
    await api.me()
    with pytest.raises(NotionNotFound):
        await api.page(PAGE, Lane.READ)
    await _listed(api.query(PAGE, Lane.FEED))
    await _listed(api.search_pages(Lane.FEED))
    assert api.requests == 5
    assert api.requests_by_endpoint == {
        ("users/me", "2xx"): 1,
        ("pages", "4xx"): 1,
        ("query", "4xx"): 1,
        ("query", "2xx"): 1,
        ("search", "2xx"): 1,
    }
