"""What an event points at, what waits to be looked at, and how the sandbox tells of edits."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.clock import DrivenClock
from daemon.demo import blocks as b
from daemon.demo.sandbox import Sandbox
from daemon.demo.webhooks import Subscription
from daemon.notion.events import Hint, Subject, event_id, handshake_token, hint_of, parsed
from daemon.sync.inbox import LOOK_AGAIN_SECONDS, MOST_REMEMBERED, Inbox

THING = "153104cd-477e-809d-8dc4-ff2d96ae3090"
PAGE = "0ef104cd-477e-80e1-8571-cfd10e92339a"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "id": ANYTHING,
        "type": st.sampled_from(["page.created", "database.moved", "data_source.", "page", ".", ""])
        | ANYTHING,
        "entity": st.fixed_dictionaries({}, optional={"id": ANYTHING, "type": ANYTHING}) | ANYTHING,
        "data": st.fixed_dictionaries({}, optional={"parent": ANYTHING}) | ANYTHING,
    },
)


def event(kind: str, entity: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    """An event in Notion's form, cut down to what is looked at."""
    entity = entity or {"id": THING, "type": kind.partition(".")[0]}
    return {"id": THING, "type": kind, "entity": entity, "data": data, "attempt_number": 1}


@pytest.mark.parametrize(
    ("told", "hint"),
    [
        (event("page.content_updated"), Hint(Subject.PAGE, THING, in_place=True)),
        (event("page.properties_updated"), Hint(Subject.PAGE, THING, in_place=True)),
        (event("page.unlocked"), Hint(Subject.PAGE, THING, in_place=True)),
        (event("page.created"), Hint(Subject.PAGE, THING)),
        (event("page.deleted"), Hint(Subject.PAGE, THING)),
        (event("page.undeleted"), Hint(Subject.PAGE, THING)),
        (event("page.moved"), Hint(Subject.PAGE, THING)),
        (event("page.transcription_block.transcript_deleted"), Hint(Subject.PAGE, THING)),
        (event("page.of_tomorrow"), Hint(Subject.PAGE, THING)),
        (event("database.schema_updated"), Hint(Subject.DATABASE, THING)),
        (event("data_source.content_updated"), Hint(Subject.DATA_SOURCE, THING, in_place=True)),
        (event("database.created", {"id": THING.replace("-", "").upper()}), Hint(Subject.DATABASE, THING)),
        (
            event("database.created", {"id": THING, "type": "block"}, parent={"id": PAGE, "type": "page"}),
            Hint(Subject.PAGE, PAGE, in_place=True),
        ),
        (
            event("database.created", {"id": THING, "type": "block"}, parent={"id": PAGE, "type": "space"}),
            None,
        ),
        (event("comment.created", {"id": THING, "type": "comment"}, page_id=PAGE), None),
        (event("view.updated"), None),
        (event("file_upload.completed"), None),
        (event("page.created", {"id": "../users/me", "type": "page"}), None),
        (event("page.created", {"id": THING, "type": "user"}), None),
        ({}, None),
    ],
)
def test_what_an_event_points_at(told: dict[str, Any], hint: Hint | None) -> None:
    """A page, a database or a data source, by its id and nothing else; most kinds point at nothing.

    Fails when a kind that nobody knows yet is an error, and when a linked view is taken for a database.
    """
    assert hint_of(told) == hint


@settings(max_examples=60)
@given(st.one_of(ANYTHING, SHAPED))
def test_no_shape_is_too_odd(told: Any) -> None:
    """Whatever it is, it points at something or at nothing."""
    hint = hint_of(told)
    assert hint is None or hint.subject in Subject
    known = event_id(told)
    assert known is None or len(known) == 36


@given(st.binary(max_size=40))
def test_no_body_is_too_odd(body: bytes) -> None:
    """Bytes that nobody signed are looked at for a handshake, and for nothing else."""
    parsed(body)
    assert handshake_token(body) is None


def hint(number: int, *, in_place: bool = True) -> Hint:
    """One of many pages."""
    return Hint(Subject.PAGE, f"{number:032x}", in_place)


def test_a_thing_is_looked_at_once_and_rests_then() -> None:
    """Pointed at ten times it waits once; pointed at while it rests it waits, and is looked at when it has rested.

    Fails when what comes up meanwhile is dropped, or looked at at once.
    """
    inbox = Inbox()
    for _ in range(10):
        inbox.add(hint(1))
    assert inbox.ready_at(5.0) == 5.0
    assert inbox.take(5.0) == [hint(1)] and inbox.ready_at(5.0) is None
    inbox.add(hint(1))
    inbox.add(hint(2))
    assert inbox.take(5.1) == [hint(2)]
    assert inbox.ready_at(5.1) == 5.0 + LOOK_AGAIN_SECONDS
    assert inbox.take(5.0 + LOOK_AGAIN_SECONDS) == [hint(1)]


def test_that_it_may_have_moved_is_not_forgotten() -> None:
    """An edit that comes before or after a move does not hide it. Fails when the last event counts alone."""
    for events in ([True, False], [False, True]):
        inbox = Inbox()
        for in_place in events:
            inbox.add(hint(1, in_place=in_place))
        assert inbox.take(0.0) == [hint(1, in_place=False)]


def test_nothing_is_remembered_without_end() -> None:
    """Ids of events, and things that rest: the oldest are forgotten. Fails when either list only grows."""
    inbox = Inbox()
    assert not inbox.is_repeated("first") and inbox.is_repeated("first")
    for number in range(MOST_REMEMBERED):
        inbox.is_repeated(str(number))
        inbox.rest((Subject.PAGE, str(number)), 1.0)
        inbox.rest((Subject.PAGE, f"other {number}"), 1.0)
    assert len(inbox._seen) == len(inbox._rests_until) == MOST_REMEMBERED
    assert not inbox.is_repeated("first")


# The sandbox --------------------------------------------------------------------------------------------------------


def told_of(subscription: Subscription) -> list[str]:
    """The kinds of events that wait to be delivered, in order."""
    return [each["type"] for each in subscription._waiting]


def test_the_sandbox_tells_of_edits_as_notion_does() -> None:
    """One event for each kind of edit, about the thing edited, in the documented envelope."""
    sandbox = Sandbox(clock=DrivenClock())
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    subscription = sandbox.subscribe("http://127.0.0.1:1/webhooks/notion")
    database, source = workspace.create_database(home, "Pages", {"slug": "rich_text"})
    row = workspace.add_row(source, "Row")
    assert told_of(subscription) == [
        "database.created",
        "page.content_updated",
        "data_source.created",
        "page.created",
        "data_source.content_updated",
    ]
    about = subscription._waiting[3]
    assert about["entity"] == {"id": row, "type": "page"}
    assert about["data"]["parent"] == {"id": database, "type": "database", "data_source_id": source}
    assert set(about) == {
        *("id", "timestamp", "workspace_id", "workspace_name", "subscription_id", "integration_id", "type"),
        *("authors", "attempt_number", "api_version", "entity", "data"),
    }
    subscription._waiting.clear()
    workspace.append_blocks(row, [b.paragraph("one")])
    workspace.append_blocks(row, [b.paragraph("two")])
    workspace.set_title(row, "Renamed")
    workspace.lock(row)
    workspace.move(row, home)
    workspace.trash(row)
    workspace.restore(row)
    workspace.rename_property(source, "slug", "path")
    workspace.trash(database)
    kinds = told_of(subscription)
    assert kinds[:4] == ["page.content_updated", "page.properties_updated", "page.locked", "page.moved"]
    assert {"page.deleted", "page.undeleted", "data_source.schema_updated", "database.deleted"} < set(kinds)
    assert kinds.count("page.content_updated") == 2  # the row's two edits as one, and its new parent's


def test_the_sandbox_keeps_to_itself_what_is_not_shared_and_what_came_to_nothing() -> None:
    """No event for what the integration cannot read; none, where it is so, for what was undone meanwhile."""
    sandbox = Sandbox(clock=DrivenClock())
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    subscription = sandbox.subscribe("http://127.0.0.1:1/webhooks/notion")
    workspace.trash(home)
    subscription.habits.cancels = True
    workspace.restore(home)
    assert told_of(subscription) == []
    workspace.unshare(home)
    workspace.set_title(home, "Secret")
    assert told_of(subscription) == []


async def test_the_sandbox_tries_again_and_gives_up() -> None:
    """An address at which nobody listens: eight tries of one event, and after twenty failures none at all."""
    sandbox = Sandbox(clock=DrivenClock())
    subscription = sandbox.subscribe("http://127.0.0.1:1/webhooks/notion")
    sandbox.workspace.create_page(None, "Home")
    for _ in range(9):
        await subscription.deliver()
    assert [each.event["attempt_number"] for each in subscription.deliveries] == list(range(1, 9))
    for _ in range(12):
        subscription.add(subscription.event("page.created", sandbox.workspace.create_page(None, "More")))
    await subscription.deliver()
    assert subscription.paused and await subscription.deliver() == []
