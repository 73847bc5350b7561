"""Each of the sandbox's habits does what it says, and nothing when it is off."""

from collections.abc import Callable
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx
import pytest
from notion_client import AsyncClient

from daemon.clock import DrivenClock
from daemon.demo import Habits, Sandbox
from daemon.demo import blocks as b
from tests.support.sandbox_client import Json, ids, refusal, title_of, walk

pytest_plugins = ["tests.support.sandbox_fixtures"]

OLDEST_FIRST: Json = {"sorts": [{"timestamp": "last_edited_time", "direction": "ascending"}]}
INVALID_CURSOR = "The start_cursor provided is invalid"


def posts(sandbox: Sandbox, rows: int, clock: DrivenClock | None = None) -> tuple[str, list[str]]:
    """A data source with rows, made a second apart where a clock is given: (source, rows)."""
    home = sandbox.workspace.create_page(None, "Home")
    _, source = sandbox.workspace.create_database(home, "Posts", {})
    made = []
    for number in range(rows):
        made.append(sandbox.workspace.add_row(source, f"Post {number}"))
        if clock is not None:
            clock.advance(1)
    return source, made


# Stamps


async def test_stamps_are_floored_or_exact(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Stamps show the granularity in force, whatever it was when the edit was made."""
    clock.advance(83.25)
    page = sandbox.workspace.create_page(None, "Page")
    for seconds, shown in ((60, "09:01:00.000"), (0, "09:01:23.250"), (10, "09:01:20.000")):
        sandbox.habits.stamp_granularity_seconds = seconds
        read = await notion.pages.retrieve(page)
        assert (read["created_time"], read["last_edited_time"]) == (f"2026-01-05T{shown}Z",) * 2


@pytest.mark.parametrize(("compares", "found"), [("stored", 0), ("shown", 1)])
async def test_what_filters_compare(
    sandbox: Sandbox,
    notion: AsyncClient,
    clock: DrivenClock,
    compares: Literal["stored", "shown"],
    found: int,
) -> None:
    """`equals` the stamp that was read finds the row only where the shown stamp is compared."""
    sandbox.habits.compares = compares
    clock.advance(30)
    source, rows = posts(sandbox, 1)
    shown = (await notion.pages.retrieve(rows[0]))["last_edited_time"]
    condition = {"timestamp": "last_edited_time", "last_edited_time": {"equals": shown}}
    assert len((await notion.data_sources.query(source, filter=condition))["results"]) == found


async def test_clock_skew(sandbox: Sandbox, http: httpx.AsyncClient, clock: DrivenClock) -> None:
    """A clock that is ahead shows in the date header and in stamps alike."""
    sandbox.habits.clock_skew_seconds = 180
    page = sandbox.workspace.create_page(None, "Page")
    answer = await http.get(f"/pages/{page}")
    assert parsedate_to_datetime(answer.headers["date"]) == clock.now() + timedelta(minutes=3)
    assert answer.json()["last_edited_time"] == "2026-01-05T09:03:00.000Z"


async def test_future_stamps(sandbox: Sandbox, http: httpx.AsyncClient, clock: DrivenClock) -> None:
    """Edits can be stamped ahead of a date header that is right; later edits are not."""
    page = sandbox.workspace.create_page(None, "Page")
    sandbox.habits.future_stamps_seconds = 600
    sandbox.workspace.set_title(page, "Edited")
    answer = await http.get(f"/pages/{page}")
    assert parsedate_to_datetime(answer.headers["date"]) == clock.now()
    assert answer.json()["last_edited_time"] == "2026-01-05T09:10:00.000Z"
    sandbox.habits.future_stamps_seconds = 0
    sandbox.workspace.set_title(page, "Edited again")
    assert (await http.get(f"/pages/{page}")).json()["last_edited_time"] == "2026-01-05T09:00:00.000Z"


@pytest.mark.parametrize("moves", [True, False])
async def test_which_acts_move_the_own_stamp(sandbox: Sandbox, clock: DrivenClock, moves: bool) -> None:
    """Whether trash, restore and move stamp the page itself is a habit each."""
    habits, workspace = sandbox.habits, sandbox.workspace
    habits.trash_moves_stamp = habits.restore_moves_stamp = habits.move_moves_stamp = moves
    page, other = workspace.create_page(None, "Page"), workspace.create_page(None, "Other")
    before = workspace.last_edited_ms(page)
    acts: list[Callable[[], None]] = [
        lambda: workspace.trash(page),
        lambda: workspace.restore(page),
        lambda: workspace.move(page, other),
    ]
    for act in acts:
        clock.advance(10)
        act()
        assert (workspace.last_edited_ms(page) > before) is moves
        before = workspace.last_edited_ms(page)


async def test_how_far_trash_reaches_down(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Below a trashed page: nothing shows, or the flag does, or everything is 404."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    child = workspace.create_page(home, "Child", blocks=[b.paragraph("x")])
    _, source = workspace.create_database(home, "Posts", {})
    row = workspace.add_row(source, "Row")
    text = workspace.children(child)[0]
    workspace.trash(home)
    expected: list[tuple[Literal["no", "flag"], bool, int]] = [("no", False, 1), ("flag", True, 0)]
    for reach, flag, rows in expected:
        sandbox.habits.trash_reaches_down = reach
        for page_id in (child, row):
            assert (await notion.pages.retrieve(page_id))["in_trash"] is flag
        assert (await notion.blocks.retrieve(text))["in_trash"] is flag
        assert len((await notion.data_sources.query(source))["results"]) == rows
    sandbox.habits.trash_reaches_down = "not_found"
    assert (await notion.pages.retrieve(home))["in_trash"] is True
    for asked in (
        notion.pages.retrieve(child),
        notion.pages.retrieve(row),
        notion.blocks.children.list(child),
        notion.data_sources.query(source),
    ):
        assert (await refusal(asked)).status == 404


# Lag


async def test_query_lag(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """New rows, edits, order, trash and moves reach the query late, with the stamps and bodies of before."""
    sandbox.habits.stamp_granularity_seconds = 0
    sandbox.habits.query_lag_seconds = 30
    workspace = sandbox.workspace
    source, rows = posts(sandbox, 3, clock)
    elsewhere = workspace.create_page(None, "Elsewhere")

    async def shown() -> list[str]:
        return [
            title_of(page) for page in (await notion.data_sources.query(source, **OLDEST_FIRST))["results"]
        ]

    assert await shown() == []
    clock.advance(28)
    assert await shown() == ["Post 0", "Post 1"]
    clock.advance(2)
    assert await shown() == ["Post 0", "Post 1", "Post 2"]
    stamp_before = (await notion.pages.retrieve(rows[0]))["last_edited_time"]
    workspace.set_title(rows[0], "Edited")
    workspace.trash(rows[1])
    workspace.move(rows[2], elsewhere)
    assert title_of(await notion.pages.retrieve(rows[0])) == "Edited"
    assert await shown() == ["Post 0", "Post 1", "Post 2"]
    stale = (await notion.data_sources.query(source, **OLDEST_FIRST))["results"][0]
    assert (stale["last_edited_time"], stale["in_trash"]) == (stamp_before, False)
    clock.advance(30)
    assert await shown() == ["Edited"]


async def test_query_lag_hides_edits_from_filters(
    sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock
) -> None:
    """A filter on the stamp sees the stamp of before, so a poll misses a fresh edit until the lag is over."""
    sandbox.habits.query_lag_seconds = 120
    source, rows = posts(sandbox, 1)
    clock.advance(300)
    since = {"timestamp": "last_edited_time", "last_edited_time": {"on_or_after": "2026-01-05T09:05:00Z"}}
    sandbox.workspace.set_title(rows[0], "Edited")
    assert (await notion.data_sources.query(source, filter=since))["results"] == []
    clock.advance(120)
    assert ids((await notion.data_sources.query(source, filter=since))["results"]) == rows


async def test_search_lag(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Search is late on its own, with stale bodies; queries and GETs are not concerned."""
    sandbox.habits.search_lag_seconds = 60
    source, rows = posts(sandbox, 1)
    assert (await notion.search())["results"] == []
    assert ids((await notion.data_sources.query(source))["results"]) == rows
    clock.advance(60)
    sandbox.workspace.set_title(rows[0], "Edited")
    found = {hit["id"]: hit for hit in (await notion.search())["results"]}
    assert title_of(found[rows[0]]) == "Post 0"
    clock.advance(60)
    found = {hit["id"]: hit for hit in (await notion.search())["results"]}
    assert title_of(found[rows[0]]) == "Edited"


async def test_rows_with_a_past_are_not_delayed(
    sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock
) -> None:
    """A row made with stamps in the past is in lagging listings since then."""
    sandbox.habits.query_lag_seconds = 60
    source, _ = posts(sandbox, 0)
    past = clock.now() - timedelta(days=3)
    row = sandbox.workspace.add_row(source, "Old", created_time=past)
    read = (await notion.data_sources.query(source))["results"]
    assert ids(read) == [row]
    assert (read[0]["created_time"], read[0]["last_edited_time"]) == ("2026-01-02T09:00:00.000Z",) * 2


async def test_search_forgets(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A share of the pages is never found, always the same ones."""
    _, rows = posts(sandbox, 200)
    sandbox.habits.search_forgets = 0.3
    found = [set(ids(await walk(notion.search))) for _ in range(2)]
    assert found[0] == found[1]
    assert 20 < len(set(rows) - found[0]) < 100
    sandbox.habits.search_forgets = 0.0
    assert set(rows) <= set(ids(await walk(notion.search)))


# Listings


@pytest.mark.parametrize("endpoint", ["query", "search"])
async def test_result_cap(sandbox: Sandbox, notion: AsyncClient, endpoint: str) -> None:
    """At the cap a listing ends and calls itself incomplete; below it nothing is said."""
    source, _ = posts(sandbox, 25)
    sandbox.habits.result_cap = 20

    async def page(cursor: str | None) -> Json:
        asked: Json = {"page_size": 10, "start_cursor": cursor}
        answer: Json = await (
            notion.data_sources.query(source, **asked) if endpoint == "query" else notion.search(**asked)
        )
        return answer

    first = await page(None)
    assert "request_status" not in first
    second = await page(first["next_cursor"])
    assert (second["has_more"], second["next_cursor"], len(second["results"])) == (False, None, 10)
    assert second["request_status"] == {
        "type": "incomplete",
        "incomplete_reason": "query_result_limit_reached",
    }
    sandbox.habits.result_cap = 10_000
    assert "request_status" not in await page(None)


async def test_short_pages(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Pages hold fewer results than asked for, yet a walk finds everything."""
    source, rows = posts(sandbox, 60)
    home = sandbox.workspace.create_page(None, "Long", blocks=[b.paragraph(str(n)) for n in range(60)])
    sandbox.habits.short_pages = True
    answer = await notion.data_sources.query(source, page_size=50)
    assert 1 <= len(answer["results"]) < 50
    assert answer["has_more"] is True
    assert sorted(ids(await walk(notion.data_sources.query, source))) == sorted(rows)
    assert ids(await walk(notion.blocks.children.list, home)) == sandbox.workspace.children(home)


async def test_every_third_cursor_dies(sandbox: Sandbox, notion: AsyncClient) -> None:
    """From 1 on, every n-th continuation of any listing is refused; a new walk is welcome."""
    source, rows = posts(sandbox, 10)
    sandbox.habits.cursor_dies = 3
    refused = await refusal(walk(notion.data_sources.query, source, page_size=2))
    assert (refused.status, str(refused)[: len(INVALID_CURSOR)]) == (400, INVALID_CURSOR)
    assert sandbox.count("POST", "/query") == 4
    assert len(await walk(notion.data_sources.query, source, page_size=5)) == len(rows)


async def test_some_cursors_die(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Below 1, it is the probability that a continuation is refused."""
    home = sandbox.workspace.create_page(None, "Long", blocks=[b.paragraph(str(n)) for n in range(4)])
    sandbox.habits.cursor_dies = 0.5
    second = sandbox.workspace.children(home)[2]
    refused = 0
    for _ in range(40):
        try:
            await notion.blocks.children.list(home, start_cursor=second)
        except Exception as error:
            assert str(error).startswith(INVALID_CURSOR)
            refused += 1
    assert 5 < refused < 35


async def test_cursors_grow_old(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """A walk that takes longer than a cursor lives is refused in the middle."""
    source, _ = posts(sandbox, 6)
    sandbox.habits.cursor_lifetime_seconds = 60
    first = await notion.data_sources.query(source, page_size=2)
    clock.advance(40)
    second = await notion.data_sources.query(source, page_size=2, start_cursor=first["next_cursor"])
    clock.advance(40)
    third = notion.data_sources.query(source, page_size=2, start_cursor=second["next_cursor"])
    assert str(await refusal(third)).startswith(INVALID_CURSOR)


async def test_cursors_repeat(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A listing can be made to name the same next cursor for ever."""
    source, _ = posts(sandbox, 10)
    sandbox.habits.cursor_repeats = True
    first = await notion.data_sources.query(source, page_size=2)
    second = await notion.data_sources.query(source, page_size=2, start_cursor=first["next_cursor"])
    third = await notion.data_sources.query(source, page_size=2, start_cursor=second["next_cursor"])
    assert first["next_cursor"] == second["next_cursor"] == third["next_cursor"]
    assert second["results"] == third["results"]


@pytest.mark.parametrize(
    ("position", "expected"),
    [("key", [0, 1, 3, 4, 5, 0]), ("offset", [0, 1, 4, 5, 0]), ("snapshot", [0, 1, 2, 3, 4, 5])],
)
async def test_cursors_meet_edits(
    sandbox: Sandbox,
    notion: AsyncClient,
    clock: DrivenClock,
    position: Literal["key", "offset", "snapshot"],
    expected: list[int],
) -> None:
    """A row read is edited and one unread is trashed in the middle of a walk, oldest edit first."""
    source, rows = posts(sandbox, 6, clock)
    sandbox.habits.cursor_position = position
    first = await notion.data_sources.query(source, page_size=2, **OLDEST_FIRST)
    sandbox.workspace.set_title(rows[0], "Edited")
    sandbox.workspace.trash(rows[2])
    cursor, found = first["next_cursor"], ids(first["results"])
    while cursor:
        answer = await notion.data_sources.query(source, page_size=2, start_cursor=cursor, **OLDEST_FIRST)
        found += ids(answer["results"])
        cursor = answer["next_cursor"]
    assert found == [rows[place] for place in expected]


async def test_partial_objects(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A share of the objects in listings comes with nothing but its id."""
    source, rows = posts(sandbox, 100)
    sandbox.habits.partial_objects = 0.3
    results = (await notion.data_sources.query(source))["results"]
    partial = [result for result in results if list(result) == ["object", "id"]]
    assert 10 < len(partial) < 60
    assert sorted(ids(results)) == sorted(rows)
    assert "properties" in await notion.pages.retrieve(partial[0]["id"])


async def test_unshared_children_may_be_listed(sandbox: Sandbox, notion: AsyncClient) -> None:
    """By habit a page that cannot be read is still in its parent's list."""
    home = sandbox.workspace.create_page(None, "Home")
    child = sandbox.workspace.create_page(home, "Child")
    sandbox.workspace.unshare(child)
    assert (await notion.blocks.children.list(home))["results"] == []
    sandbox.habits.lists_unshared = True
    assert ids((await notion.blocks.children.list(home))["results"]) == [child]
    assert (await refusal(notion.pages.retrieve(child))).status == 404


# Reading


async def test_rotating_urls(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Hosted files are signed anew at every read, for an hour; their path stays, and so may all of it."""
    clock.advance(0.11)
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home", icon=b.hosted_file("i.png"), cover=b.hosted_file("c.png"))
    workspace.append_blocks(home, [b.image(hosted="a b.png"), b.callout("x")])

    async def read() -> list[Json]:
        page = await notion.pages.retrieve(home)
        block = (await notion.blocks.children.list(home))["results"][0]
        return [page["icon"]["file"], page["cover"]["file"], block["image"]["file"]]

    first, second = await read(), await read()
    for before, after in zip(first, second, strict=True):
        assert before["url"] != after["url"]
        assert before["url"].split("?")[0] == after["url"].split("?")[0]
        assert "X-Amz-Date=20260105T090000Z&X-Amz-Expires=3600&X-Amz-Signature=" in before["url"]
        assert before["expiry_time"] == "2026-01-05T10:00:00.110Z"
    sandbox.habits.rotating_urls = False
    fixed = await read()
    clock.advance(600)
    assert await read() == fixed


async def test_refused_children(sandbox: Sandbox, notion: AsyncClient) -> None:
    """An unsupported block claims children and refuses to show them."""
    home = sandbox.workspace.create_page(None, "Home", blocks=[b.unsupported()])
    assert (await notion.blocks.children.list(home))["results"][0]["has_children"] is False
    sandbox.habits.refuse_children = True
    block = (await notion.blocks.children.list(home))["results"][0]
    assert block["has_children"] is True
    error = await refusal(notion.blocks.children.list(block["id"]))
    assert (error.status, error.code) == (400, "validation_error")
    assert str(error) == "Block type unsupported is not supported via the API."


async def test_a_block_among_its_descendants(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A listing can lead back to where it began."""
    home = sandbox.workspace.create_page(None, "Home", blocks=[b.toggle("a", [b.toggle("b")])])
    outer = sandbox.workspace.children(home)[0]
    inner = sandbox.workspace.children(outer)[0]
    sandbox.workspace.add_cycle(inner, outer)
    assert ids((await notion.blocks.children.list(inner))["results"]) == [outer]
    assert (await notion.blocks.retrieve(inner))["has_children"] is True


def test_ids_share_their_beginning(sandbox: Sandbox) -> None:
    """Pages and blocks made on one day differ only at the end of their ids; by habit they are random."""
    made = [sandbox.workspace.create_page(None, "Page") for _ in range(3)]
    assert len({page[:15] for page in made}) == 1
    assert len({page[-12:] for page in made}) == 3
    sandbox.habits.shared_id_prefix = False
    assert sandbox.workspace.create_page(None, "Page")[:8] != made[0][:8]


def test_same_seed_same_ids(clock: DrivenClock) -> None:
    """Two sandboxes of one seed are alike, those of different seeds are not."""
    made = [Sandbox(clock=clock, seed=seed).workspace.create_page(None, "Page") for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


async def test_page_url_base(sandbox: Sandbox, notion: AsyncClient) -> None:
    """The domain of page URLs can move without any edit."""
    page = sandbox.workspace.create_page(None, "Page")
    before = await notion.pages.retrieve(page)
    sandbox.habits.page_url_base = "https://app.notion.com/p/"
    after = await notion.pages.retrieve(page)
    assert after["url"].startswith("https://app.notion.com/p/Page-")
    assert after["last_edited_time"] == before["last_edited_time"]


# Limits


async def test_budget(sandbox: Sandbox, http: httpx.AsyncClient, clock: DrivenClock) -> None:
    """A fixed number of requests per window of 60 s; above it 429 with the whole seconds until the next."""
    clock.advance(5)
    sandbox.habits.budget_per_minute = 3
    for _ in range(3):
        assert (await http.get("/users/me")).status_code == 200
    clock.advance(12.5)
    refused = await http.get("/users/me")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "48")
    assert refused.json()["code"] == "rate_limited"
    assert refused.json()["additional_data"] == {
        "rate_limit_reason": "public_api_request_rate_limit",
        "retry_after": 48,
    }
    clock.advance(47.5)
    assert (await http.get("/users/me")).status_code == 200
    sandbox.habits.budget_per_minute = None
    assert [(await http.get("/users/me")).status_code for _ in range(5)] == [200] * 5


async def test_habits_can_be_replaced(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Assigning habits changes those in force, for workspace and server alike."""
    clock.advance(1)
    page = sandbox.workspace.create_page(None, "Page")
    sandbox.habits = Habits(stamp_granularity_seconds=0, shared_id_prefix=False)
    assert (await notion.pages.retrieve(page))["last_edited_time"] == "2026-01-05T09:00:01.000Z"
    assert sandbox.workspace.create_page(None, "Page")[:8] != page[:8]
