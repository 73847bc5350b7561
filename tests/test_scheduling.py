"""PUBLISH_AT: a row goes live when its moment comes, by Notion's clock, without an edit and without a request."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.clock import DrivenClock
from daemon.demo import blocks as b
from daemon.site.rules import Condition, Rule
from daemon.site.slugs import SourceFacts
from daemon.site.visibility import Held, Why, judge, judge_row, moment
from daemon.status import held_back
from tests.support.web import a_daemon
from tests.support.world import OLD, POLL_SECONDS, World, a_world, texts
from tests.test_schedule import turning

DATED = Rule((), "Goes live")
SCHEMA = {"slug": "rich_text", "Goes live": "date", "Live": "checkbox"}
NEW_YEAR = "2026-01-05T10:00:00.000Z"


def seconds(text: str) -> float:
    """A moment in UTC as unix seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# Pure ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "zone", "utc"),
    [
        ("2026-01-05", None, "2026-01-05T00:00"),
        ("2026-01-05", "America/New_York", "2026-01-05T05:00"),
        ("2026-01-05T09:30:00.000Z", None, "2026-01-05T09:30"),
        ("2026-01-05T09:30:00.000+09:00", None, "2026-01-05T00:30"),
        ("2026-01-05T09:30:00.000-03:30", "Europe/Berlin", "2026-01-05T13:00"),  # its own offset comes first
        ("2026-03-29T01:59:00", "Europe/Berlin", "2026-03-29T00:59"),  # clocks go forward at two
        (
            "2026-03-29T02:30:00",
            "Europe/Berlin",
            "2026-03-29T01:30",
        ),  # a time that never was: half an hour after
        ("2026-03-29T03:00:00", "Europe/Berlin", "2026-03-29T01:00"),
        ("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T00:30"),  # a time that comes twice: the first
        ("2026-10-25T03:00:00", "Europe/Berlin", "2026-10-25T02:00"),
        ("2026-10-25T09:00:00", None, "2026-10-25T09:00"),
        ("2026-10-25T09:00:00", "Europe/Nowhere", None),
        ("2026-10-25T09:00:00", "../../etc/passwd", None),
        ("soon", None, None),
        (None, None, None),
        ("0001-01-01", "Asia/Tokyo", None),
        ("9999-12-31T23:00:00.000-12:00", None, None),
    ],
)
def test_a_date_is_a_moment(start: str | None, zone: str | None, utc: str | None) -> None:
    """By its offset, else its time zone (across changes of clocks), else UTC; fails when the zone is left out."""
    assert moment(start, zone) == (None if utc is None else seconds(utc))


DAY = {"Goes live": ["2026-01-05T10:00:00.000Z", None]}
AT = seconds("2026-01-05T10:00")


@pytest.mark.parametrize(
    ("dates", "now", "shown", "held"),
    [
        (DAY, AT - 0.001, False, Held("posts", Why.DATE, AT)),
        (DAY, AT - 0.001, True, Held("posts", Why.DATE, AT)),
        (DAY, AT, False, None),
        ({"GOES LIVE": None}, 0.0, False, None),  # no date: nothing keeps it back
        ({"Goes live": ["soon", None]}, 0.0, False, Held("posts", Why.UNKNOWN)),
        ({"Goes live": ["soon", None]}, 0.0, True, None),
        ({}, 0.0, False, Held("posts", Why.UNKNOWN)),  # renamed: as it was
        ({}, 0.0, True, None),
    ],
)
def test_a_row_waits_for_its_date(
    dates: dict[str, list[str | None] | None], now: float, shown: bool, held: Held | None
) -> None:
    """Fails when a property that is not there counts as a date that is empty."""
    source = SourceFacts("posts", None, ("ds",), True, False, DATED)
    assert judge_row(source, {"dates": dates}, shown=shown, now=now) == held


def test_the_next_moment_is_that_of_a_row_that_only_its_date_keeps_back() -> None:
    """A draft does not go live when its date comes; fails when its date counts."""
    rule = Rule((Condition("Live", ("true",)),), "Goes live")
    source = SourceFacts("posts", None, ("ds",), True, False, rule)

    def card(live: bool, at: str | None) -> dict[str, object]:
        return {"choices": {"Live": live}, "dates": {"Goes live": at and [at, None]}}

    cards = {
        "draft": card(False, "2026-01-05T10:00:00Z"),
        "next": card(True, "2026-01-05T11:00:00Z"),
        "later": card(True, "2026-01-05T12:00:00Z"),
        "live": card(True, None),
    }
    found = judge([source], {"ds": list(cards)}, cards, set(), seconds("2026-01-05T09:00"))
    assert {*found.held} == {"draft", "next", "later"}
    assert found.changes_at == seconds("2026-01-05T11:00")


# End to end ----------------------------------------------------------------------------------------------------------


class WrongClock(DrivenClock):
    """A machine whose clock is three hours ahead of the time that passes on another one."""

    def __init__(self, real: DrivenClock) -> None:
        super().__init__()
        self._real = real

    def now(self) -> datetime:
        return self._real.now() + timedelta(hours=3)

    def monotonic(self) -> float:
        return self._real.monotonic()

    def advance(self, seconds: float) -> None:
        self._real.advance(seconds)

    async def sleep_until(self, monotonic_seconds: float) -> None:
        await self._real.sleep_until(monotonic_seconds)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose daemon has a wrong clock."""
    async with a_world(tmp_path) as made:
        made.clock = WrongClock(made.clock)
        made.rules = {"pages": DATED}
        yield made


def in_berlin(world: World, seconds_from_now: float) -> dict[str, str]:
    """A date that comes so soon, as somebody in Berlin (in winter) writes it."""
    at = world.sandbox.clock.now() + timedelta(seconds=seconds_from_now, hours=1)
    return {"start": at.strftime("%Y-%m-%dT%H:%M:%S"), "time_zone": "Europe/Berlin"}


async def test_a_row_goes_live_at_its_moment_without_a_request_for_it(world: World) -> None:
    """Within a poll of it, and not before; the idle polls until then, and that one, cost what they always do.

    Restarted and with Notion away at the moment, it goes live all the same. Moved into the future it goes offline; with
    no date it is live. Fails when our own clock decides, and when only news from Notion has the site worked out again.
    """
    rows = world.add_source("pages", SCHEMA)
    world.workspace.add_row(rows, "Now", {"slug": "now"})
    world.clock.advance(OLD)
    soon = in_berlin(world, 2 * OLD + 1000)
    row = world.workspace.add_row(
        rows, "Soon", {"slug": "soon", "Goes live": soon}, blocks=[b.paragraph("w")]
    )
    world.workspace.create_page(row, "Child")
    world.workspace.add_row(rows, "Next", {"slug": "next", "Goes live": in_berlin(world, 3 * OLD)})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    assert await world.slugs() == {"now"}
    assert world.cycle.site is not None
    told = held_back(world.cycle.site)
    at = world.cycle.site.visibility.changes_at
    assert at is not None and told["scheduled"] == 2
    assert (told["next"][0]["slug"], told["next"][0]["title"]) == ("soon", "Soon")
    assert told["next"][0]["at"] == datetime.fromtimestamp(at, UTC).isoformat(
        timespec="milliseconds"
    ).replace("+00:00", "Z")
    world.clock.advance(at - world.api.notion_now() - POLL_SECONDS - 3)
    commands = world.kv.commands
    async with world.counted() as seen:
        await world.poll()
    assert world.kv.commands == commands
    assert await world.slugs() == {"now"}
    assert [r.path.split("/")[-1] for r in seen] == ["query", "search"]
    async with world.counted() as seen:
        await world.poll()
    assert await world.slugs() == {"now", "soon", "soon/child"}
    assert [r.path.split("/")[-1] for r in seen] == ["query", "search"]
    await world.stop()
    world.clock.advance(OLD)
    await world.start()
    world.sandbox.faults.random(1.0, [503], seed=1)
    await world.poll()
    world.sandbox.faults.clear()
    assert await world.slugs() == {"now", "soon", "soon/child", "next"}
    assert list(texts((await world.value("page:soon"))["blocks"])) == ["w", ""]

    world.workspace.set_properties(row, {"Goes live": in_berlin(world, 10 * OLD)})
    await world.poll()
    assert await world.slugs() == {"now", "next"}
    world.workspace.set_properties(row, {"Goes live": None})
    await world.poll(120)
    assert await world.slugs() == {"now", "soon", "soon/child", "next"}


async def test_the_loop_wakes_for_a_date_that_comes_between_two_polls(tmp_path: Path) -> None:
    """No tick comes in the time that this test has, and nobody asks: the turn comes by itself, and asks Notion nothing.

    Fails when nothing wakes the loop.
    """
    async with a_daemon(tmp_path, settings={"PUBLISH_AT": "posts:goes LIVE"}) as daemon:
        workspace, posts = daemon.sandbox.workspace, daemon.sample.posts_data_source
        workspace.add_property(posts, "Goes live", "date")
        at = (daemon.clock.now() + timedelta(seconds=600)).isoformat()
        workspace.add_row(posts, "Soon", {"Goes live": at})
        await daemon.settle()
        assert "page:soon" not in await daemon.page_keys()
        daemon.clock.advance(600 - 400 - 5)
        written = asyncio.Event()
        daemon.app.schedule.on_cycle = lambda summary: written.set() if summary.written["page"] else None
        before = len(daemon.sandbox.requests)
        async with turning(daemon.app.schedule):
            await written.wait()
        assert "page:soon" in await daemon.page_keys()
        asked = [request.path for request in daemon.sandbox.requests[before:]]
        assert sum(path == "/search" for path in asked) <= 2
