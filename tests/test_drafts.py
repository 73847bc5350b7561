"""PUBLISH_FILTER: a row that does not pass is nowhere on the site, and nothing leaves because something was renamed."""

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command as alembic
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from daemon import jsontext
from daemon.config import SettingsError, load_settings
from daemon.demo import blocks as b
from daemon.doctor import Doctor, Level
from daemon.kv.base import Write
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger import links, migrate, publishing, removals
from daemon.notion.schema import Column, columns_of
from daemon.site.rules import Condition, Rule, misfits, without_options
from daemon.site.slugs import SourceFacts
from daemon.site.visibility import ALL_AT_ONCE, Held, Why, judge, judge_row
from daemon.status import held_back
from daemon.sync.rulebook import RuleError
from daemon.sync.verify import Kind
from tests.support.oracle import check
from tests.support.process import command
from tests.support.redis_server import free_port
from tests.support.web import SECRET, a_daemon
from tests.support.world import OLD, World, a_world
from tests.test_crash import served

BASE = {
    "NOTION_TOKEN": "ntn_x",
    "NOTION_PAGES_DB": "0123456789abcdef0123456789abcdef",
    "NOTION_POSTS_DB": "fedcba9876543210fedcba9876543210",
    "KV_URL": "redis://h",
}
PUBLISHED = Rule((Condition("Status", ("Published",)),))
SCHEMA: dict[str, Any] = {
    "slug": "rich_text",
    "Status": {"status": {"options": ["Draft", "Published", "Live"]}},
}


# Settings ------------------------------------------------------------------------------------------------------------


def test_settings_become_rules() -> None:
    """Several conditions of a source all hold, several values are one condition; a backslash takes a sign as it is."""
    rules = load_settings(
        BASE
        | {
            "PUBLISH_FILTER": r"posts:Status=Published|Live, pages:Published=true,posts:To\=do\, done=a\|b",
            "PUBLISH_AT": "posts:Goes live",
        }
    ).publish_rules
    status = Condition("Status", ("Published", "Live"))
    assert rules["pages"] == Rule((Condition("Published", ("true",)),))
    assert rules["posts"] == Rule((status, Condition("To=do, done", ("a|b",))), "Goes live")
    assert load_settings(BASE).publish_rules == {}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PUBLISH_FILTER", "hubs:Status=Published", "names no source that there is"),
        ("PUBLISH_FILTER", "Status=Published", "entry 1 names no source"),
        ("PUBLISH_FILTER", "posts:Status", "is no condition"),
        ("PUBLISH_FILTER", "posts:Status=|", "is no condition"),
        ("PUBLISH_FILTER", "posts:Status=a,posts:status=b", "entry 2 names a property"),
        ("PUBLISH_AT", "posts:", "names no property"),
        ("PUBLISH_AT", "posts:Day,posts:Night", "entry 2 names no property, or a source named before"),
        ("PUBLISH_AT", "hubs:Day", "names no source"),
    ],
)
def test_settings_that_cannot_be_followed(name: str, value: str, told: str) -> None:
    """One line, with what would be right."""
    with pytest.raises(SettingsError) as caught:
        load_settings(BASE | {name: value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}: ") and told in problem


COLUMNS = {
    "Name": Column("title"),
    "Status": Column("status", ("Draft", "Published")),
    "Done": Column("checkbox"),
    "Day": Column("date"),
}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule((Condition("status", ("x",)), Condition("DONE", ("Yes",))), "day"), ""),
        (Rule((Condition("State", ("x",)),)), "no property 'State'; it has 'Name', 'Status', 'Done', 'Day'"),
        (
            Rule((Condition("Name", ("x",)),)),
            "'Name' of the source posts is of type title; name one of these",
        ),
        (Rule((Condition("Done", ("done",)),)), "is a checkbox; write Done=true or Done=false"),
        (Rule((), "Night"), "PUBLISH_AT: the source posts has no property 'Night'"),
        (Rule((), "Status"), "'Status' of the source posts is of type status; name one of these: 'Day'"),
    ],
)
def test_what_a_source_does_not_have_is_named_with_what_it_has(rule: Rule, told: str) -> None:
    """Property and type, in one line; names without regard to case."""
    found = misfits(rule, "posts", COLUMNS)
    assert len(found) == bool(told) and told in "".join(found)


def test_an_option_that_no_row_can_have_is_told() -> None:
    """One that is there is enough; a checkbox has none."""
    rule = Rule((Condition("Status", ("Live", "published")), Condition("Done", ("1",))))
    assert without_options(rule, "posts", COLUMNS) == []
    (line,) = without_options(Rule((Condition("STATUS", ("Live", "On")),)), "posts", COLUMNS)
    assert "no option 'Live' or 'On'; it has 'Draft', 'Published'" in line
    assert columns_of({}) == {}


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "shown", "held"),
    [
        ({"Status": "Published", "Done": True}, False, None),
        ({"STATUS": " published ", "done": True}, False, None),
        ({"Status": "Draft", "Done": True}, True, Why.FILTER),
        ({"Status": None, "Done": True}, True, Why.FILTER),
        ({"Status": "Published", "Done": False}, True, Why.FILTER),
        ({"Done": True}, True, None),  # renamed: as it was
        ({"Done": True}, False, Why.UNKNOWN),
        ({"Done": False}, True, Why.FILTER),  # what can be told counts
        ({}, True, None),
    ],
)
def test_a_row_passes_when_every_condition_holds(
    choices: dict[str, Any], shown: bool, held: Why | None
) -> None:
    """Fails when a property that is not there counts as one that is empty."""
    rule = Rule((Condition("Status", ("Published",)), Condition("Done", ("yes",))))
    source = SourceFacts("posts", None, ("ds",), True, False, rule)
    found = judge_row(source, {"choices": choices}, shown=shown, now=0.0)
    assert found == (None if held is None else Held("posts", held))


def judged(count: int, shown: int, passing: int = 0, **more: Any) -> tuple[set[str], set[str]]:
    """(held back, refused) of a source of `count` rows, of which the first `shown` were published."""
    rows = [f"r{n}" for n in range(count)]
    cards = {r: {"choices": {"Status": "Published" if n < passing else "Draft"}} for n, r in enumerate(rows)}
    source = SourceFacts("posts", None, ("ds",), True, False, PUBLISHED, **more)
    found = judge([source], {"ds": rows}, cards, set(rows[:shown]), 0.0)
    return {*found.held}, {row for rows in found.refused.values() for row in rows}


def test_all_rows_at_once_are_not_believed() -> None:
    """Three published rows or more, all of them; one that still passes, and the others are."""
    assert judged(5, ALL_AT_ONCE) == ({"r3", "r4"}, {"r0", "r1", "r2"})
    assert judged(5, ALL_AT_ONCE - 1) == ({"r0", "r1", "r2", "r3", "r4"}, set())
    assert judged(5, 5, passing=1) == ({"r1", "r2", "r3", "r4"}, set())
    assert judged(5, 0) == ({"r0", "r1", "r2", "r3", "r4"}, set())
    assert judged(5, 2, frozen=True) == ({"r2", "r3", "r4"}, set())


def test_one_source_that_lets_a_row_pass_is_enough() -> None:
    """Two sources share a database; one that left the settings has no say beside one that is there."""
    cards = {"p": {"choices": {"Status": "Published"}}, "d": {"choices": {"Status": "Draft"}}}
    rows = {"ds": ["p", "d"]}
    public = SourceFacts("posts", None, ("ds",), True, False, PUBLISHED)
    drafts = SourceFacts("drafts", None, ("ds",), True, False, Rule((Condition("Status", ("Draft",)),)))
    found = judge([public, drafts], rows, cards, set(), 0.0)
    assert not found.held and found.kept_out == {"posts": {"d"}, "drafts": {"p"}}
    retired = SourceFacts("old", None, ("ds",), True, False, retired=True)
    found = judge([public, retired], rows, cards, set(), 0.0)
    assert {*found.held} == {"d"} and found.kept_out["old"] == {"d"}


# End to end ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world; tests build a site in it and start."""
    async with a_world(tmp_path) as made:
        yield made


async def begin(world: World, **rules: Rule) -> None:
    """Everything that was built is old news, and the daemon has read it."""
    world.rules = rules
    world.clock.advance(OLD)
    await world.start()
    await world.settle()


async def restart(world: World, **rules: Rule) -> None:
    """The next process, with other settings."""
    await world.stop()
    world.rules = rules
    await world.start()
    await world.catch_up()


async def set_status(world: World, row: str, status: str | None) -> None:
    """Somebody sets a status; the daemon sees it, and trusts it."""
    world.workspace.set_properties(row, {"Status": status})
    world.clock.advance(OLD)
    await world.settle()


async def test_a_draft_and_all_that_is_below_it_is_nowhere(world: World) -> None:
    """Posts shown inline on the home page: neither their page, nor the index, the list on the home page, the children
    of a draft, nor the database inside it; and its slug is free, although it is older.

    Published, all of it is there; unpublished, all of it goes, and Notion is asked nothing for it but the edit.
    Fails when a draft is laid out like other rows, and when what is below it is forgotten while it is held back.
    """
    workspace = world.workspace
    pages = world.add_source("pages")
    home = workspace.add_row(pages, "Home", {"slug": "/"})
    database, posts = workspace.create_database(home, "Posts", SCHEMA)
    world.sources.append(("posts", database))
    draft = workspace.add_row(posts, "Draft", {"slug": "post", "Status": "Draft"}, blocks=[b.paragraph("x")])
    child = workspace.create_page(draft, "Child")
    workspace.create_page(child, "Grandchild")
    _, inside = workspace.create_database(draft, "Inside", {"slug": "rich_text"})
    workspace.add_row(inside, "Row", {"slug": "row"})
    world.clock.advance(120)
    post = workspace.add_row(posts, "Post", {"slug": "post", "Status": "Published"})
    await begin(world, posts=PUBLISHED)
    keys = {"page:index", "page:post", "pages:index", "posts:index", f"db:{database}:cursor:_"}
    assert await world.keys() == keys
    assert [item["notionId"] for item in (await world.value("posts:index"))["items"]] == [post]
    listed = (await world.value(f"db:{database}:cursor:_"))["bundle"]["items"]
    assert [item["id"] for item in listed] == [post]
    assert (await world.value("page:post"))["meta"]["notionId"] == post
    assert world.cycle.site is not None and not world.cycle.site.layout.conflicts
    told = held_back(world.cycle.site)
    named = {"id": draft, "title": "Draft", "slug": "post", "source": "posts", "why": "filter"}
    assert (told["heldBack"], told["drafts"]) == (1, [named])
    owner = await world.kv.read_owner()
    assert owner is not None  # a ledger before this one may have left the draft in the store
    await world.kv.apply([Write("page:leak", jsontext.dumps({"meta": {"notionId": draft}}))], owner)
    found = await world.cycle.store_check.compare(world.cycle.site)
    assert [(one.kind, one.name) for one in found.differences] == [(Kind.FORMER, "page:leak")]
    await world.cycle.store_check.mark(found.differences)
    await world.catch_up()
    assert await world.keys() == keys

    await set_status(world, draft, "published")
    below = {f"page:post{end}" for end in ("/child", "/child/grandchild", "/row")}
    assert below < await world.keys()
    await check(world)
    await set_status(world, draft, "Draft")
    assert await world.keys() == keys
    async with world.counted() as seen:
        await restart(world)  # without a filter: from the ledger alone
    assert not [r for r in seen if r.path.startswith(("/pages/", "/blocks/"))]
    await check(world)
    async with world.counted() as seen:
        await restart(world, posts=PUBLISHED)
    assert not [r for r in seen if r.path.startswith(("/pages/", "/blocks/"))]
    assert await world.keys() == keys


async def test_a_life_of_drafts_and_dates(world: World) -> None:
    """Rows that pass and stop passing, wait for dates, move, are renamed and trashed, with children and an inline list.

    After each handful of edits every key is what the rules make of the workspace, and each redirect leads to a page.
    """
    rng, workspace = random.Random(1), world.workspace
    pages = world.add_source("pages")
    home = workspace.add_row(pages, "Home", {"slug": "/"})
    database, posts = workspace.create_database(home, "Posts", {**SCHEMA, "Day": "date"})
    world.sources.append(("posts", database))
    rows = [
        workspace.add_row(posts, f"Row {n}", {"slug": f"row-{n}", "Status": rng.choice(["Draft", "Live"])})
        for n in range(8)
    ]
    workspace.add_row(posts, "Always", {"slug": "always", "Status": "Live"})
    below = [workspace.create_page(row, "Child") for row in rows[:4]]
    days: dict[str, datetime] = {}

    def passes(row: str) -> bool:
        if workspace.page(row).parent[1] != posts:
            return True
        column = next(c for c in workspace.data_sources[posts].schema.values() if c.name == "Status")
        chosen = workspace.page(row).properties.get(column.id)
        option = next((o for o in column.config["options"] if o["id"] == chosen), None)
        is_due = row not in days or days[row] <= world.clock.now()
        return option is not None and option["name"] in ("Published", "Live") and is_due

    def edit(row: str) -> None:
        match rng.randrange(7):
            case 0 | 1:
                workspace.set_properties(row, {"Status": rng.choice(["Draft", "Live", "Published", None])})
            case 2:
                days[row] = world.clock.now() + timedelta(seconds=rng.choice([-OLD, OLD / 2, 3 * OLD]))
                workspace.set_properties(row, {"Day": days[row].isoformat()})
            case 3:
                workspace.set_properties(row, {"slug": rng.choice(["", "same", "other", f"t{rng.random()}"])})
            case 4:
                workspace.set_title(rng.choice(below), f"Title {rng.randrange(9)}")
            case 5:
                below.append(workspace.create_page(row, "Child"))
            case 6:
                (workspace.restore if row in workspace.trashed else workspace.trash)(row)

    await begin(world, posts=Rule((Condition("status", ("published", "live")),), "day"))
    for _ in range(6):
        for row in rng.sample(rows, 4):
            if row in workspace.trashed:
                workspace.restore(row)
            edit(row)
        world.clock.advance(OLD)
        await world.settle()
        await world.sweep()
        await check(world, passes=passes)


async def test_a_source_that_would_be_empty_at_once_is_held_until_a_person_says_so(world: World) -> None:
    """A setting that no row passes: nothing leaves, it is said; let go, everything goes, and stays away.

    Fails when a row that stops passing is held back whatever else does.
    """
    rows = world.add_source("pages", SCHEMA)
    made = [world.workspace.add_row(rows, f"R{n}", {"slug": f"r{n}", "Status": "Live"}) for n in range(3)]
    await begin(world)
    await restart(world, pages=PUBLISHED)
    assert await world.slugs() == {"r0", "r1", "r2"}
    held = await world.ledger.call(links.held_links)
    assert {(parent, row, why) for parent, row, _, why in held} == {
        ("pages", row, "unpublished") for row in made
    }
    (one,) = await world.ledger.call(removals.held)
    assert one.count == 3 and one.rows == (("R0", "r0"), ("R1", "r1"), ("R2", "r2"))
    await set_status(world, made[0], "Published")
    assert await world.slugs() == {"r0"} and not await world.ledger.call(links.held_links)
    await restart(world)
    assert await world.slugs() == {"r0", "r1", "r2"}
    await set_status(world, made[0], "Live")
    await restart(world, pages=PUBLISHED)
    (one,) = await world.ledger.call(removals.held)
    assert (one.kind, one.title) == ("rows of", "pages") and "its 3 published rows" in one.reason
    assert await world.ledger.call(removals.let_go, [one.key]) == 1
    world.cycle.changed = True
    await world.catch_up()
    assert await world.slugs() == set()
    await restart(world, pages=PUBLISHED)
    assert await world.slugs() == set() and not await world.ledger.call(removals.held)


async def test_a_row_that_became_a_draft_leaves_although_its_blocks_cannot_be_read(world: World) -> None:
    """Its last good version is not kept for that; one that was a draft waits until it can be read whole.

    Fails when only a whole read tells whether a row is published.
    """
    rows = world.add_source("pages", SCHEMA)
    leaves, comes = (
        world.workspace.add_row(rows, name, {"slug": name, "Status": status}, blocks=[b.paragraph(name)])
        for name, status in (("leaves", "Published"), ("comes", "Draft"))
    )
    await begin(world, pages=PUBLISHED)
    for page, status in ((leaves, "Draft"), (comes, "Published")):
        world.workspace.set_properties(page, {"Status": status})
        world.workspace.append_blocks(page, [b.paragraph("more")])
        world.sandbox.faults.add(500, path=f"/blocks/{page}/children", times=100)
    await world.poll()
    await world.poll()  # the tries outlast the cycle in which they began
    assert await world.slugs() == set()
    world.sandbox.faults.clear()
    world.clock.advance(OLD)
    await world.settle()
    assert await world.slugs() == {"comes"}
    assert len((await world.value("page:comes"))["blocks"]) == 2


@pytest.mark.parametrize("what", ["property", "option"])
async def test_what_is_renamed_while_the_daemon_runs_takes_nothing_offline(world: World, what: str) -> None:
    """Rows stay as they are, those too that are read again; new ones wait; it is said, until it fits again.

    Fails when a property that is not there counts as empty, and when an option that is not there counts as another.
    """
    rows = world.add_source("pages", SCHEMA)
    made = [
        world.workspace.add_row(rows, f"R{n}", {"slug": f"r{n}", "Status": "Published"}) for n in range(2)
    ]
    draft = world.workspace.add_row(rows, "Draft", {"slug": "draft", "Status": "Draft"})
    await begin(world, pages=PUBLISHED)
    column = next(c for c in world.workspace.data_sources[rows].schema.values() if c.name == "Status")
    option = next(o for o in column.config["options"] if o["name"] == "Published")

    async def rename(property_name: str, option_name: str) -> None:
        world.workspace.rename_property(rows, column.name, property_name)
        option["name"] = option_name
        for row in made:
            world.workspace.set_icon(row, None)  # so that what it shows is made anew
        world.clock.advance(OLD)
        await world.sweep()
        await world.settle()

    await rename("State" if what == "property" else "Status", "On" if what == "option" else "Published")
    column_now = column.name
    new = world.workspace.add_row(rows, "New", {"slug": "new", column_now: "Draft"})
    world.clock.advance(OLD)
    await world.settle()
    assert await world.slugs() == {"r0", "r1"}
    (rule,) = (await world.ledger.call(publishing.rules)).values()
    assert rule.problem is not None and ("'State'" if what == "property" else "'On'") in rule.problem
    with pytest.raises(RuleError, match=r"it has .*'State'") if what == "property" else _nothing():
        await restart(world, pages=PUBLISHED)
    assert await world.slugs() == {"r0", "r1"}
    await rename("Status", "Published")
    await restart(world, pages=PUBLISHED)
    await set_status(world, draft, "Published")
    await set_status(world, new, "Published")
    await set_status(world, made[0], "Draft")
    assert await world.slugs() == {"r1", "draft", "new"}
    (rule,) = (await world.ledger.call(publishing.rules)).values()
    assert rule.problem is None


class _nothing:  # noqa: N801 - stands where pytest.raises may stand
    """No error is expected."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


async def test_a_filter_that_names_no_property_ends_the_start(tmp_path: Path) -> None:
    """Exit code 2 and one line with the properties there are; what was published stays, and nothing is published.

    Fails when the loop takes it for a cycle that crashed.
    """
    async with served(2) as site:
        settings = {**site.settings, "EMBEDDED_KV": "1", "PUBLISH_FILTER": "pages:State=Published"}
        settings |= {"HOST": "127.0.0.1", "PORT": str(free_port())}
        first = await command(tmp_path, settings, "run")
        assert first.code == 2, first.err
        assert "PUBLISH_FILTER: the source pages has no property 'State'; it has 'slug', 'Name'" in first.err
        assert not any(r.path.endswith("/children") for r in site.sandbox.requests)
        assert (await command(tmp_path, {**settings, "PUBLISH_FILTER": ""}, "sync")).code == 0
        second = await command(tmp_path, settings, "sync")
        assert (second.code, "no property 'State'" in second.err) == (2, True)
        store = EmbeddedKV(tmp_path / "data" / "kv.db")
        assert {key async for key in store.scan("page:*")} == {"page:row-0", "page:row-1"}
        await store.close()


async def test_doctor_and_status_tell_of_rules(tmp_path: Path) -> None:
    """The doctor holds them against the columns; the page shows titles to whoever has the secret, else a number."""
    settings = {"PUBLISH_FILTER": "posts:Fresh=true", "PUBLISH_AT": "pages:Day"}
    async with a_daemon(tmp_path, settings=settings) as daemon:
        workspace, posts = daemon.sandbox.workspace, daemon.sample.posts_data_source
        told = [
            finding
            async for finding in Doctor(daemon.app.settings, (), daemon.clock).findings()
            if "PUBLISH" in finding.what
        ]
        assert [(one.level, one.about) for one in told] == [
            (Level.PROBLEM, "source pages"),
            (Level.PROBLEM, "source posts"),
        ]
        assert "'Title'" in told[1].todo
        workspace.add_property(posts, "Fresh", "checkbox")
        workspace.add_property(daemon.sample.pages_data_source, "Day", "date")
        workspace.add_row(posts, "A <secret> draft", {})
        workspace.add_row(posts, "News", {"Fresh": True})
        workspace.add_row(daemon.sample.pages_data_source, "Tomorrow", {"Day": "2099-01-01"})
        await daemon.settle()
        full = (await daemon.http.get("/status", headers={"x-sync-secret": SECRET})).json()
        held = full["publishing"]
        assert held["scheduled"] == 1 and held["heldBack"] == full["counts"]["heldBack"] > 2
        assert [row["slug"] for row in held["next"]] == ["tomorrow"]
        assert held["next"][0]["at"] == "2099-01-01T00:00:00.000Z"
        page = (await daemon.http.get("/", params={"secret": SECRET})).text
        assert "A &lt;secret&gt; draft" in page and "/tomorrow" in page and "2099-01-01" in page
        brief = await daemon.http.get("/status"), await daemon.http.get("/")
        assert not any(word in answer.text for answer in brief for word in ("draft<", "omorrow"))
        assert brief[0].json()["counts"]["heldBack"] == held["heldBack"]


async def test_a_ledger_of_the_version_before_is_told_apart_without_reading_again(world: World) -> None:
    """What has a slug was published; the values that rules ask for come out of what was read.

    Fails when the cards of an older ledger are believed to hold them, and when the tables are made anew by copying:
    what was read goes with the old ones.
    """
    rows = world.add_source("pages", SCHEMA)
    world.workspace.add_row(rows, "One", {"slug": "one", "Status": "Published"})
    world.workspace.add_row(rows, "Two", {"slug": "two", "Status": "Draft"})
    await begin(world)
    await world.stop()
    _age(world.folder / "ledger.db")
    world.rules = {"pages": PUBLISHED}
    await world.start()
    async with world.counted() as seen:
        await world.catch_up()
        assert await world.slugs() == {"one"}
        assert await world.cycle.republish() == 2
    assert not [r for r in seen if r.path.startswith(("/pages/", "/blocks/"))]


def _age(file: Path) -> None:
    """Make a ledger one of the version before: its tables, and cards without what rules ask for."""
    old = file.with_name("old.db")
    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as db:
        script = ScriptDirectory.from_config(migrate.config(db))
        alembic.upgrade(migrate.config(db), str(script.get_revision("0004").down_revision))
        tables = {
            name: [c["name"] for c in inspect(db).get_columns(name)] for name in inspect(db).get_table_names()
        }
    engine.dispose()
    with closing(sqlite3.connect(old, isolation_level=None)) as db:
        db.execute("ATTACH ? AS new", [str(file)])
        for table, columns in tables.items():
            if table != "alembic_version":
                names = ", ".join(columns)
                db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM new.{table}")
        db.execute("DELETE FROM meta WHERE name = 'cards_version'")
        db.execute("UPDATE pages SET card = json_remove(card, '$.choices', '$.dates')")
    old.replace(file)
