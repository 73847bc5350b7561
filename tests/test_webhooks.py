"""What Notion tells by webhook: who may tell, what is taken from it, and how little it costs.

The sandbox speaks as Notion does: events of the edits of its workspace, signed, over HTTP, to the daemon's own server.
"""

import asyncio
import hashlib
import hmac
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon import jsontext, log
from daemon.app import App
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.demo.sandbox import Sandbox
from daemon.demo.webhooks import FAILURES_TO_PAUSE, WebhookHabits
from daemon.doctor import Doctor, Level
from daemon.doctor.about_webhooks import SILENT_SECONDS, WebhookFacts, findings
from daemon.kv.base import Owner
from daemon.ledger import handshakes, links, work
from daemon.ledger.ledger import LedgerError
from daemon.sync.hints import OUTSIDE_SECONDS
from daemon.sync.inbox import LOOK_AGAIN_SECONDS, MOST_WAITING
from daemon.web.server import Server
from tests.support.web import SECRET, a_daemon
from tests.support.webhooks import BLIND, DATABASE, TOKEN, HeldClock, Subscribed, settled, subscribed, until

ADDRESS = "/webhooks/notion"
WITH_SECRET = {"x-sync-secret": SECRET}
SAFE_SECONDS = 1.0


def signed(body: bytes, token: str = TOKEN) -> dict[str, str]:
    """The header with which Notion would send a body."""
    return {"x-notion-signature": "sha256=" + hmac.new(token.encode(), body, hashlib.sha256).hexdigest()}


async def status(http: httpx.AsyncClient) -> dict[str, Any]:
    """What `/status` says of webhooks to who has the secret."""
    told: dict[str, Any] = (await http.get("/status", headers=WITH_SECRET)).json()["webhooks"]
    return told


def looks(requests: Any) -> list[str]:
    """The pages that were asked for, in order."""
    return [r.path.rsplit("/", 1)[1] for r in requests if r.path.startswith("/pages/")]


# In time ----------------------------------------------------------------------------------------------------------


async def test_an_edit_of_which_only_the_event_tells_is_published_within_a_second(tmp_path: Path) -> None:
    """Search forgets, queries lag, the next poll is an hour away: the event alone wakes the loop, and nobody polls.

    Fails when an event waits for the next turn, and when it makes a turn that looks for changes.
    """
    async with subscribed(tmp_path) as site, site.working():
        site.daemon.sandbox.habits = BLIND
        for page in (site.small.rows[0], site.small.grandchild):
            before = site.daemon.clock.monotonic()
            async with site.counted() as asked:
                site.workspace.append_blocks(page, [b.paragraph("only the event tells")])
                assert await site.subscription.deliver() == [200]

                async def is_published(wanted: str = page) -> bool:
                    return "only the event tells" in await site.said(wanted)

                await until(is_published)
            assert site.daemon.clock.monotonic() - before < SAFE_SECONDS
            assert [r.path for r in asked if r.method == "POST"] == []
            assert looks(asked) == [page]


async def test_the_daemon_itself_attends_to_events(tmp_path: Path) -> None:
    """`run` as a whole, on the machine's clock: from the edit to the key within a second, and a clean stop at once.

    Fails when `run` does not start what attends to events, and when it leaves that running.
    """
    sandbox = Sandbox(habits=Habits(search_forgets=1.0, query_lag_seconds=10_000.0))
    database, rows = sandbox.workspace.create_database(
        sandbox.workspace.create_page(None, "Root"), "Pages", {"slug": "rich_text"}
    )
    row = sandbox.workspace.add_row(rows, "Hello", {"slug": "hello"}, blocks=[b.paragraph("first")])
    sandbox.habits = Habits()
    async with sandbox.serve() as notion_url:
        environment = {
            "NOTION_TOKEN": "ntn_sandbox",
            "NOTION_BASE_URL": notion_url,
            "NOTION_PAGES_DB": database,
            "NOTION_WEBHOOK_VERIFICATION_TOKEN": TOKEN,
            "POLL_INTERVAL_SECONDS": "3600",
            "EMBEDDED_KV": "1",
            "DATA_DIR": str(tmp_path),
            "HOST": "127.0.0.1",
            "PORT": "0",
        }
        app, stop = App(load_settings(environment)), asyncio.Event()
        await app.open()
        try:
            # Where `run` serves is known to its log alone; a second server of the same daemon takes the events in.
            async with Server(app).serving() as url:
                running = asyncio.create_task(app.run(stop))
                async with asyncio.timeout(30):
                    await app.vitals.became_ready.wait()
                subscription = sandbox.subscribe(f"{url}{ADDRESS}")
                subscription.token = TOKEN
                took_seconds = []
                for number in range(3):
                    sandbox.workspace.append_blocks(row, [b.paragraph(f"edit {number}")])
                    began = time.monotonic()
                    assert await subscription.deliver() == [200]

                    async def is_published(wanted: str = f"edit {number}") -> bool:
                        return wanted in (await app.kv.get("page:hello") or "")

                    await until(is_published)
                    took_seconds.append(time.monotonic() - began)
                    app.hints._inbox._rests_until.clear()
                # The best of three, because the machine may be busy with something else.
                assert min(took_seconds) < SAFE_SECONDS
                stop.set()
                await running
        finally:
            await app.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name() in ("hints", "asking", "listing")]


async def test_an_event_for_a_page_that_is_being_read_has_it_read_again(tmp_path: Path) -> None:
    """An edit, and its event, come after the blocks were listed: the read under way does not answer for them.

    Fails when an event for a page in flight is taken as answered by that read.
    """
    async with subscribed(tmp_path) as site:
        page = site.small.rows[0]
        (toggle,) = site.workspace.append_blocks(page, [b.toggle("more", [b.paragraph("inside")])])
        site.daemon.sandbox.habits = BLIND

        async def meanwhile(_: str, path: str) -> None:
            if path != f"/blocks/{toggle}/children":
                return
            site.daemon.sandbox.watchers.clear()
            site.later()
            site.workspace.append_blocks(page, [b.paragraph("second")])
            await site.subscription.deliver()
            await site.daemon.app.hints.attend()

        site.daemon.sandbox.watchers.append(meanwhile)
        async with site.counted() as asked:
            await site.tell()
        assert looks(asked) == [page, page]
        assert "second" in await site.said(page)


async def test_a_cycle_that_waits_for_a_slow_page_takes_an_event_up_at_once(tmp_path: Path) -> None:
    """One page's answer hangs; another one's event is read beside it, in the same cycle.

    Fails when a cycle looks for more to read only when a page it reads is done.
    """
    async with subscribed(tmp_path) as site, site.working():
        slow, quick = site.small.rows[0], site.small.rows[1]
        reached, released, read = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def hang(method: str, path: str) -> None:
            if path == f"/blocks/{slow}/children":
                reached.set()
                await released.wait()
            elif path == f"/blocks/{quick}/children":
                read.set()

        site.daemon.sandbox.watchers.append(hang)
        site.workspace.append_blocks(slow, [b.paragraph("slow")])
        await site.subscription.deliver()
        await reached.wait()
        inquiry = site.daemon.app.cycle._inquiring
        assert inquiry is not None
        await asyncio.wait([inquiry])
        await asyncio.sleep(0)  # from here on nothing but the event makes the cycle look again
        site.workspace.append_blocks(quick, [b.paragraph("quick")])
        await site.subscription.deliver()
        await read.wait()
        assert not released.is_set()
        released.set()


async def test_an_edit_does_not_wait_for_what_is_asked_beside_it(tmp_path: Path) -> None:
    """A page that is not on the site, and a list, do not answer for now; an edit is published meanwhile.

    Fails when one thing after the other is looked at.
    """
    async with subscribed(tmp_path) as site, site.working():
        outside = site.workspace.create_page(None, "Outside")
        site.subscription.add(site.subscription.event("data_source.content_updated", site.small.job_rows))
        released, reached = asyncio.Event(), set[str]()

        async def hang(_: str, path: str) -> None:
            if path in (f"/pages/{outside}", f"/data_sources/{site.small.job_rows}/query"):
                reached.add(path)
                await released.wait()

        async def are_both_waiting() -> bool:
            return len(reached) == 2

        site.daemon.sandbox.watchers.append(hang)
        # The one that is listed comes first: whatever is not on the site is asked for one by one.
        site.subscription._waiting.reverse()
        assert set(await site.subscription.deliver(at_once=1)) == {200}
        await until(are_both_waiting)
        page = site.small.grandchild
        site.workspace.append_blocks(page, [b.paragraph("meanwhile")])
        await site.subscription.deliver()

        async def is_published() -> bool:
            return "meanwhile" in await site.said(page)

        await until(is_published)
        assert not released.is_set()
        released.set()


async def test_a_read_made_for_an_event_is_not_trusted_sooner_than_a_polls(tmp_path: Path) -> None:
    """A second edit within the same stamp, of which nothing tells: the read that settles the first one finds it.

    Fails when an event's read counts as settled.
    """
    async with subscribed(tmp_path) as site:
        page = site.small.rows[0]
        site.daemon.sandbox.habits = BLIND
        site.workspace.append_blocks(page, [b.paragraph("first")])
        assert await site.tell() == [200]
        site.subscription.habits.loses = 1.0
        site.workspace.append_blocks(page, [b.paragraph("second")])
        assert await site.tell() == []
        assert "first" in await site.said(page) and "second" not in await site.said(page)
        site.daemon.clock.advance(75.0)
        await site.daemon.catch_up()
        assert "second" in await site.said(page)


# Who may tell ------------------------------------------------------------------------------------------------------

EVENT = b'{"id": "367cba44-b6f3-4c92-81e7-6a2e9659efd4", "type": "page.created", "entity": {"id": "x"}}'


AS_THEY_CAME = (
    b'{ "type" :\t"page.created",\r\n "entity" : {"id":"\\u0030"} }\n\n',
    b'{"b":1,"a":2,"b":3,"n":1.0,"m":1e2,"u":"\\u00fc\\/\\ud83d\\ude00"}',
    '{"workspace_name": "Zoë ❄ 한글"}'.encode(),
    b'\xef\xbb\xbf{"type": "comment.created"}',
)


async def test_trap_47_a_signature_is_that_of_the_bytes_that_came(tmp_path: Path) -> None:
    """Whoever parses a body and writes it again has another one. Fails when that is what is verified."""
    async with a_daemon(tmp_path, settings={"NOTION_WEBHOOK_VERIFICATION_TOKEN": TOKEN}) as daemon:
        for body in AS_THEY_CAME:
            rewritten = jsontext.dumps(json.loads(body.decode("utf-8-sig"))).encode()
            assert rewritten != body
            assert (await daemon.http.post(ADDRESS, content=body, headers=signed(body))).status_code == 200
            refused = await daemon.http.post(ADDRESS, content=body, headers=signed(rewritten))
            assert refused.status_code == 401, body


WRONG_SIGNATURES = (
    None,
    "",
    "sha256=",
    signed(EVENT)["x-notion-signature"].removeprefix("sha256="),
    signed(EVENT)["x-notion-signature"].replace("sha256", "sha1"),
    signed(EVENT)["x-notion-signature"][:-1],
    signed(EVENT)["x-notion-signature"] + "0",
    signed(EVENT, "secret_of_a_former_subscription")["x-notion-signature"],
    signed(EVENT, "")["x-notion-signature"],
    signed(EVENT + b" ")["x-notion-signature"],
    "sha256=é",
    TOKEN,
)


async def test_what_notion_did_not_sign_is_refused_and_not_even_parsed(tmp_path: Path) -> None:
    """401 as JSON, nothing counted as an event, and nothing of the token told.

    Fails when the header is not required, or compared in part.
    """
    async with a_daemon(tmp_path, settings={"NOTION_WEBHOOK_VERIFICATION_TOKEN": TOKEN}) as daemon:
        for signature in WRONG_SIGNATURES:
            headers = [] if signature is None else [(b"x-notion-signature", signature.encode())]
            answer = await daemon.http.post(ADDRESS, content=EVENT, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), signature
            assert TOKEN not in answer.text
        told = await status(daemon.http)
        refused = len(WRONG_SIGNATURES)
        assert told == {"configured": True, "events": 0, "refused": refused, "lastEventAt": None}


async def test_without_a_token_nobody_is_believed(tmp_path: Path) -> None:
    """503, also for what is signed with nothing at all. Fails when no token is taken for an empty one."""
    async with a_daemon(tmp_path) as daemon:
        for token in ("", "None", TOKEN):
            answer = await daemon.http.post(ADDRESS, content=EVENT, headers=signed(EVENT, token))
            assert answer.status_code == 503 and answer.json()["error"] == "not_configured"
        assert (await status(daemon.http))["events"] == 0
        assert (await daemon.http.get(ADDRESS)).status_code == 405


ANY_SHAPE = (
    b"",
    b"null",
    b"17",
    b"[]",
    b"no json",
    b"\xff\xfe",
    b"[" * 100_000,
    b"1" * 10_000,
    b'{"type": "page.dreamt_of", "entity": {"id": "0ef104cd477e80e18571cfd10e92339a", "type": "page"}}',
    b'{"type": "dream.created", "entity": {"id": "0ef104cd477e80e18571cfd10e92339a", "type": "dream"}}',
    b'{"type": "page.created", "entity": {"id": {"id": []}, "type": 7}, "data": 4, "id": 3}',
    b'{"type": "page.created", "entity": null, "data": {"parent": {"type": "block"}}, "more": {"a": [1]}}',
    b'{"type": "comment.created", "entity": {"id": "0ef104cd477e80e18571cfd10e92339a", "type": "comment"}}',
    b'{"type": "view.created", "entity": {"id": "0ef104cd477e80e18571cfd10e92339a", "type": "view"}}',
    b'{"verification_token": "secret_0123456789abcdef"}',
    b'{"pad": "' + b"x" * 900_000 + b'"}',
)


async def test_trap_46_whatever_notion_signed_is_acknowledged(tmp_path: Path) -> None:
    """Unknown kinds, fields and shapes: 200, and the daemon goes on. Fails when what is not understood is refused."""
    async with a_daemon(tmp_path, settings={"NOTION_WEBHOOK_VERIFICATION_TOKEN": TOKEN}) as daemon:
        for body in ANY_SHAPE:
            answer = await daemon.http.post(ADDRESS, content=body, headers=signed(body))
            assert (answer.status_code, answer.json()) == (200, {"ok": True}), body[:60]
            await daemon.app.hints.attend()
        assert (await status(daemon.http))["events"] == len(ANY_SHAPE)
        assert looks(daemon.sandbox.requests) == ["0ef104cd-477e-80e1-8571-cfd10e92339a"]
        large = b"x" * 1_000_001
        assert (await daemon.http.post(ADDRESS, content=large, headers=signed(large))).status_code == 413


async def test_trap_46_refusing_is_what_pauses_a_subscription(tmp_path: Path) -> None:
    """The sandbox gives up on who refuses, as Notion does, tells nobody, and `/status` is where it is seen.

    Fails when the time of the last event is not kept, or not over a restart.
    """
    async with subscribed(tmp_path) as site:
        site.subscription.add({"type": "page.of_tomorrow"})
        assert await site.tell() == [200]
        last = (await status(site.daemon.http))["lastEventAt"]
        site.subscription.token = "secret_of_a_former_subscription"
        for number in range(FAILURES_TO_PAUSE):
            site.subscription.add({"type": "page.created", "number": number})
        assert set(await site.tell()) == {401}
        assert site.subscription.paused and await site.tell() == []
        told = await status(site.daemon.http)
        assert (told["lastEventAt"], told["refused"]) == (last, FAILURES_TO_PAUSE)
        await site.daemon.app.hints.open()
        assert (await status(site.daemon.http))["lastEventAt"] == last is not None


# Handshakes --------------------------------------------------------------------------------------------------------


async def test_a_subscription_is_set_up_from_the_handshake_to_the_first_event(tmp_path: Path) -> None:
    """Notion brings a token; doctor shows it and nothing else does; once it is set, its events are believed.

    A new subscription has another token, and what the former one signs is refused. Fails when a handshake is refused,
    is not hidden from the log, is kept beside a configured token, or opens anything.
    """
    tokens: list[str] = []
    async with a_daemon(tmp_path) as daemon:
        with log_lines() as lines:
            for _ in range(5):
                subscription = daemon.sandbox.subscribe(f"{daemon.url}{ADDRESS}")
                assert await subscription.verify() == 200
                tokens.insert(0, subscription.token)
                daemon.clock.advance(60.0)
        kept = await daemon.app.ledger.call(handshakes.kept)
        assert [handshake.token for handshake in kept] == tokens[:3]
        doctor = Doctor(daemon.app.settings, [], daemon.clock)
        said = [finding async for finding in doctor.findings() if finding.about == "webhooks"]
        assert [finding.shown for finding in said] == tokens[:3]
        assert "60 s ago" in said[0].what and "NOTION_WEBHOOK_VERIFICATION_TOKEN" in said[0].todo
        pages = [await daemon.http.get(path, headers=WITH_SECRET) for path in ("/status", "/", "/health")]
        shown = [page.text for page in pages] + [repr(kept), *lines, log.redact(f"x{tokens[0]}y")]
        assert lines and not [text for text in shown for token in tokens[:3] if token in text]
        event = subscription.body(subscription.event("page.created", daemon.sample.root))
        answer = await daemon.http.post(ADDRESS, content=event, headers=signed(event, tokens[0]))
        assert answer.status_code == 503  # not by being sent, only by being set
    settings = {"NOTION_WEBHOOK_VERIFICATION_TOKEN": tokens[1]}
    async with a_daemon(tmp_path, settings=settings) as daemon:
        assert await daemon.app.ledger.call(handshakes.kept) == []
        newer = daemon.sandbox.subscribe(f"{daemon.url}{ADDRESS}")
        assert await newer.verify() == 200
        assert await daemon.app.ledger.call(handshakes.kept) == []
        answers = [
            (await daemon.http.post(ADDRESS, content=event, headers=signed(event, token))).status_code
            for token in (tokens[1], tokens[0], newer.token)
        ]
        assert answers == [200, 401, 401]


async def test_what_a_stranger_can_do_with_handshakes_is_bounded(tmp_path: Path) -> None:
    """A hundred made-up tokens: one write in ten seconds, three kept, three hidden, none of them long or strange.

    Fails when each is written, and when the log's list of secrets grows with them.
    """
    async with a_daemon(tmp_path) as daemon:
        registered = len(log._registry._forms)
        answers = []
        for number in range(100):
            answers.append(
                await daemon.http.post(ADDRESS, json={"verification_token": f"stranger_{number:09}"})
            )
            daemon.clock.advance(1.0)
        codes = [answer.status_code for answer in answers]
        assert (codes.count(200), codes.count(429)) == (10, 90)
        assert "retry-after" in answers[1].headers
        assert len(await daemon.app.ledger.call(handshakes.kept)) == 3
        assert len(log._registry._forms) - registered == 3
        for odd in ("x", "y" * 201, "a b" * 10, "\n" * 20, "é" * 20, 7, None, ["secret_0123456789abcdef"]):
            daemon.clock.advance(60.0)
            assert (await daemon.http.post(ADDRESS, json={"verification_token": odd})).status_code == 503
        padded = {"verification_token": "secret_0123456789abcdef", "pad": "x" * 1000}
        assert (await daemon.http.post(ADDRESS, json=padded)).status_code == 503
        assert len(await daemon.app.ledger.call(handshakes.kept)) == 3


@pytest.mark.parametrize(
    ("ago_seconds", "level", "words"),
    [
        (None, Level.NOTE, "none has come yet"),
        (60.0, Level.OK, "60 s ago"),
        (SILENT_SECONDS + 1, Level.NOTE, "3 days ago"),
    ],
)
def test_doctor_sees_a_subscription_that_went_silent(
    tmp_path: Path, ago_seconds: float | None, level: Level, words: str
) -> None:
    """When the last event came, and that none came for days, with where to look. Fails when silence is fine."""
    environment = {
        "NOTION_TOKEN": "ntn_sandbox",
        "NOTION_PAGES_DB": DATABASE,
        "NOTION_WEBHOOK_VERIFICATION_TOKEN": TOKEN,
        "PUBLIC_URL": "https://sync.example.com",
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(tmp_path),
    }
    now = 1_800_000_000.0
    facts = WebhookFacts((), None if ago_seconds is None else now - ago_seconds)
    (said,) = findings(load_settings(environment), facts, now)
    assert said.level is level and words in said.what and TOKEN not in f"{said}"
    assert "https://sync.example.com/webhooks/notion" in said.what and bool(said.todo) is (
        level is Level.NOTE
    )


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """Everything that is logged while the block runs, as it is written."""
    sink, lines = io.StringIO(), list[str]()
    log.setup_logging("debug", "json", stream=sink)
    try:
        yield lines
    finally:
        lines += sink.getvalue().splitlines()


# Places ------------------------------------------------------------------------------------------------------------


async def test_nothing_is_removed_on_an_events_word(tmp_path: Path) -> None:
    """`page.deleted` and `page.moved` of pages that are where they were: each is asked for, and stays.

    Fails when an event is believed.
    """
    async with subscribed(tmp_path) as site:
        before = sorted(await site.daemon.page_keys())
        victims = site.small.pages
        for page in victims:
            site.subscription.add(site.subscription.event("page.deleted", page))
            site.subscription.add(site.subscription.event("page.moved", page))
        for database in (DATABASE, site.small.jobs):
            site.subscription.add(site.subscription.event("database.deleted", database))
        site.subscription.add(site.subscription.event("data_source.deleted", site.small.job_rows))
        async with site.counted() as asked:
            await site.tell()
        assert sorted(looks(asked)) == sorted({*victims, *looks(asked)})
        assert sorted(await site.daemon.page_keys()) == before


async def test_a_page_leaves_and_comes_back_when_its_events_say_so_and_notion_agrees(tmp_path: Path) -> None:
    """Trashed, then restored with the stamp it had: gone and back without a poll, a sweep or a look at the trash.

    Fails when what an event brings back is taken for a listing that is older than the removal.
    """
    async with subscribed(tmp_path) as site:
        site.daemon.sandbox.habits = Habits(trash_moves_stamp=False, search_forgets=1.0)
        for page in (site.small.rows[0], site.small.grandchild):
            site.workspace.trash(page)
            async with site.counted() as asked:
                await site.tell()
            assert page in looks(asked) and await site.said(page) == []
            site.later()
            site.workspace.restore(page)
            await site.tell()
            assert await site.said(page) != []
            site.later()


async def test_a_mass_of_deletions_is_held_however_it_is_told(tmp_path: Path) -> None:
    """Access is lost, and an event comes for every post: none is removed until a person says so.

    Fails when what an event led to counts for less than what a sweep found.
    """
    async with subscribed(tmp_path) as site:
        rows = [*site.small.rows, site.small.parent]
        for row in rows:
            site.subscription.add(site.subscription.event("page.deleted", row))
            site.workspace.unshare(row)
        await site.tell()
        for _ in range(4):
            site.daemon.clock.advance(120.0)
            await site.daemon.catch_up()
        await site.daemon.app.cycle.sweep.run()
        site.daemon.app.cycle.changed = True
        await site.daemon.catch_up()
        assert [page for page in site.small.pages if not await site.said(page)] == []
        assert len(await site.daemon.app.ledger.call(links.held_links)) >= len(rows)


async def test_what_is_new_appears_by_its_event(tmp_path: Path) -> None:
    """A row of a source or of a database inside a page, a child page on a page or deep in its blocks, which are known
    or as new.

    Fails when only pages that are known are looked at.
    """
    async with subscribed(tmp_path) as site:
        site.daemon.sandbox.habits = BLIND
        workspace, text = site.workspace, [b.paragraph("inside")]
        toggles = [b.toggle("outer", [b.toggle("inner")])]
        (known,) = workspace.append_blocks(site.small.child, toggles)
        await site.tell()
        site.later()
        (new,) = workspace.append_blocks(site.small.grandchild, toggles)
        made = [
            workspace.add_row(site.small.source, "Brand new row", blocks=text),
            workspace.add_row(site.small.job_rows, "Brand new job", blocks=text),
            workspace.create_page(site.small.rows[2], "Brand new page", blocks=text),
            workspace.create_page(workspace.children(known)[0], "Brand new in a toggle", blocks=text),
            workspace.create_page(workspace.children(new)[0], "Brand new in a new toggle", blocks=text),
        ]
        only_this(site, "page.created", *made)
        await site.tell()
        for page in made:
            assert await site.said(page) == [workspace.title_of(page), "inside"]


def only_this(site: Subscribed, kind: str, *things: str) -> None:
    """Of all that waits to be told, the events of one kind about these things."""
    site.subscription._waiting[:] = [
        event
        for event in site.subscription._waiting
        if event["type"] == kind and event["entity"]["id"] in things
    ]


async def test_a_page_that_moves_is_where_it_says(tmp_path: Path) -> None:
    """To another page, off the site, and onto it again, by `page.moved` alone.

    Fails when a move is looked at where the page was and not where it is.
    """
    async with subscribed(tmp_path) as site:
        site.daemon.sandbox.habits = BLIND
        page, course = site.small.grandchild, site.small.parent
        outside = site.workspace.create_page(None, "Outside")
        for place in (course, outside, site.small.rows[2]):
            site.later()
            site.workspace.move(page, place)
            only_this(site, "page.moved", page)
            await site.tell()
            bundles = [await site.published(key) for key in await site.daemon.page_keys()]
            slugs = {bundle["meta"]["notionId"]: bundle["meta"]["slug"] for bundle in bundles if bundle}
            if place == outside:
                assert page not in slugs
            else:
                assert slugs[page].startswith(f"{slugs[place]}/")


# Databases ---------------------------------------------------------------------------------------------------------


async def test_a_data_source_whose_content_changed_is_listed_again(tmp_path: Path) -> None:
    """A row came and one went, and only the data source's event tells; more events while it rests make one listing.

    Fails when a listing is made for each event, and when what came while it rested is forgotten.
    """
    async with subscribed(tmp_path) as site:
        site.daemon.sandbox.habits = Habits(search_forgets=1.0)
        source = site.small.job_rows
        gone = site.workspace.rows(source)[0]
        made = site.workspace.add_row(source, "Brand new")
        site.workspace.trash(gone)
        only_this(site, "data_source.content_updated", source)
        await site.tell()
        assert await site.said(made) == ["Brand new"] and await site.said(gone) == []
        async with site.counted() as asked:
            for number in range(5):
                site.workspace.add_row(source, f"One of many {number}")
                only_this(site, "data_source.content_updated", source)
                await site.subscription.deliver()
                await site.daemon.app.hints.attend()
                await settled(site.daemon.app.hints)
        assert asked == []
        site.daemon.clock.advance(11.0)
        async with site.counted() as asked:
            await site.look()
        assert [r.path for r in asked if r.path.endswith("/query")] == [f"/data_sources/{source}/query"]
        site.subscription.add(site.subscription.event("database.content_updated", site.small.jobs))
        async with site.counted() as asked:
            await site.subscription.deliver()
            await site.look()
        assert [r.path for r in asked] == [f"/databases/{site.small.jobs}"]
        site.daemon.clock.advance(11.0)
        async with site.counted() as asked:
            await site.look()
        assert [r.path for r in asked if r.path.endswith("/query")] == [f"/data_sources/{source}/query"]
        bundle = await site.published(f"db:{site.small.jobs}:cursor:_")
        assert bundle is not None and "One of many 4" in [item["title"] for item in bundle["bundle"]["items"]]


async def test_a_second_data_source_and_its_rows_come_with_its_event(tmp_path: Path) -> None:
    """Of a configured database, and of one inside a page: its owner is asked again, and it is listed. So it is when the
    first thing heard of it is one of its rows.

    Fails when a data source that is not known is nobody's.
    """
    async with subscribed(tmp_path) as site:
        for kind, database in (
            ("data_source.created", DATABASE),
            ("data_source.created", site.small.jobs),
            ("page.created", DATABASE),
        ):
            made = site.workspace.add_data_source(database, "Second", {"slug": "rich_text"})
            row = site.workspace.add_row(made, f"Of the second, by {kind}")
            only_this(site, kind, made, row)
            await site.tell()
            assert await site.said(row) == [site.workspace.title_of(row)]
            site.later()


async def test_a_database_is_renamed_deleted_and_found_when_its_events_say_so(tmp_path: Path) -> None:
    """Its name by `database.schema_updated`, its end and a new one by their events, each after a look.

    Fails when the page on which a database stands is not read again.
    """
    async with subscribed(tmp_path) as site:
        site.daemon.sandbox.habits = Habits(search_forgets=1.0)
        database = site.small.jobs
        site.workspace.set_title(database, "Openings")
        site.subscription.add(site.subscription.event("database.schema_updated", database))
        await site.tell()
        bundle = await site.published(f"db:{database}:cursor:_")
        assert bundle is not None and bundle["bundle"]["name"] == "Openings"
        site.later()
        site.workspace.trash(database)
        only_this(site, "database.deleted", database)
        await site.tell()
        assert await site.published(f"db:{database}:cursor:_") is None
        made, rows = site.workspace.create_database(site.small.rows[2], "New", {"slug": "rich_text"})
        site.workspace.add_row(rows, "First of the new")
        only_this(site, "database.created", made)
        await site.tell()
        bundle = await site.published(f"db:{made}:cursor:_")
        assert bundle is not None and [x["title"] for x in bundle["bundle"]["items"]] == ["First of the new"]


async def test_a_linked_view_is_looked_at_where_it_stands(tmp_path: Path) -> None:
    """Its entity is a block, and the API does not serve it: the page it was put on is read."""
    async with subscribed(tmp_path) as site:
        site.daemon.sandbox.habits = BLIND
        page = site.small.rows[2]
        linked = site.workspace.create_linked_database(page, "Elsewhere")
        only_this(site, "database.created", linked)
        assert site.subscription._waiting[0]["entity"]["type"] == "block"
        async with site.counted() as asked:
            await site.tell()
        assert looks(asked)[0] == page


# Cost --------------------------------------------------------------------------------------------------------------


async def test_a_thousand_events_over_a_few_pages_are_about_one_look_at_each(tmp_path: Path) -> None:
    """They come as fast as they can, while `/health` is asked: each page is read once, and once more if events came
    after that, and nothing else is asked.

    Fails when every event is a look, when answers wait for the work, and when the work holds up the event loop.
    """
    async with subscribed(tmp_path, rows=14) as site:
        pages = site.small.pages
        assert len(pages) == 19
        app, waits = site.daemon.app, list[float]()
        app.hints._clock = HeldClock(site.daemon.clock)

        async def ask_health() -> None:
            while True:
                began = time.monotonic()
                assert (await site.daemon.http.get("/health")).status_code == 200
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.01)

        async with site.working():
            for number in range(1_000):
                event = site.subscription.event("page.content_updated", pages[number % 19])
                site.subscription.add(event)
            asking = asyncio.create_task(ask_health())
            async with site.counted() as asked:
                assert set(await site.subscription.deliver(at_once=20)) == {200}
                await until(app.cycle.is_done)
            assert sorted(looks(asked)) == sorted(pages)
            async with site.counted() as once_more:
                site.later()

                async def is_done() -> bool:
                    return not len(app.hints._inbox) and await app.cycle.is_done()

                await until(is_done)
            assert len(looks(once_more)) <= len(pages)
            asking.cancel()
        assert [r.path for r in [*asked, *once_more] if r.method == "POST"] == []
        assert app.hints.events == 1_000
        assert len(waits) > 10 and sorted(waits)[len(waits) // 2] < 0.25


async def test_events_twice_and_in_any_order_change_nothing(tmp_path: Path) -> None:
    """Three copies of each, shuffled, and again a day later: the keys are those of a daemon that polled, and a copy
    costs no request.

    Fails when a delivery that is repeated is looked at again.
    """
    async with subscribed(tmp_path) as site:
        site.subscription.habits = WebhookHabits(aggregates=False, copies=3, shuffles=True)
        page, post = site.small.grandchild, site.small.rows[0]
        site.workspace.append_blocks(page, [b.paragraph("one")])
        site.workspace.trash(post)
        site.workspace.set_title(page, "Renamed")
        made = site.workspace.create_page(page, "Made and gone")
        site.workspace.trash(made)
        await site.tell()
        told = [delivery.event for delivery in site.subscription.deliveries]
        assert (await site.said(page))[0] == "Renamed" and not await site.said(post)
        site.later()
        await site.look()
        keys = {key: await site.published(key) for key in await site.daemon.page_keys()}
        site.daemon.clock.advance(86_400.0)
        for event in told:
            site.subscription.add({**event, "attempt_number": 8})
        site.daemon.app.hints._inbox.take(site.daemon.clock.monotonic())
        async with site.counted() as asked:
            await site.subscription.deliver()
            await site.daemon.app.hints.attend()
            await settled(site.daemon.app.hints)
        assert asked == []
        await site.daemon.settle()
        assert {key: await site.published(key) for key in await site.daemon.page_keys()}.keys() == keys.keys()


async def test_what_is_outside_the_site_costs_one_look(tmp_path: Path) -> None:
    """Hundreds of edits of pages and databases that are not on the site: one GET each, and none again for a while;
    that one moved is always looked into.

    Fails when the same outsider is asked for with every edit, and when it is never asked for again.
    """
    async with subscribed(tmp_path) as site:
        outside = site.workspace.create_page(None, "Outside")
        database, source = site.workspace.create_database(outside, "Private", {"slug": "rich_text"})
        row = site.workspace.add_row(source, "Private row")
        site.subscription._waiting.clear()
        edits = [("page.content_updated", outside), ("page.properties_updated", row)]
        edits += [("data_source.content_updated", source), ("database.content_updated", database)]
        async with site.counted() as asked:
            for _ in range(10):
                for kind, thing in edits:
                    site.subscription.add(site.subscription.event(kind, thing))
                await site.tell()
                site.later()
        paths = [f"/pages/{outside}", f"/pages/{row}", f"/data_sources/{source}", f"/databases/{database}"]
        assert sorted(r.path for r in asked) == sorted(paths)
        site.subscription.add(site.subscription.event("page.moved", outside))
        async with site.counted() as asked:
            await site.tell()
        assert looks(asked) == [outside]
        site.daemon.clock.advance(OUTSIDE_SECONDS)
        site.subscription.add(site.subscription.event("page.content_updated", outside))
        async with site.counted() as asked:
            await site.tell()
        assert looks(asked) == [outside]


async def test_an_original_outside_the_site_is_followed_by_its_events(tmp_path: Path) -> None:
    """The page that holds a synced block is not on the site; what shows it is read again, edit after edit.

    Fails when such a page is an outsider like any other.
    """
    async with subscribed(tmp_path) as site:
        workspace, page = site.workspace, site.small.rows[2]
        host = workspace.create_page(None, "Outside")
        (original,) = workspace.append_blocks(host, [b.synced_original([b.paragraph("as it was")])])
        workspace.append_blocks(page, [b.synced_copy(original)])
        await site.tell()
        await site.daemon.settle()
        assert "as it was" in await site.said(page)
        site.daemon.sandbox.habits = BLIND
        for text in ("first", "second"):
            site.daemon.clock.advance(100.0)
            workspace.append_blocks(original, [b.paragraph(text)])
            only_this(site, "page.content_updated", host)
            await site.tell()
            assert text in await site.said(page)


async def test_more_than_can_be_remembered_is_left_to_a_poll(tmp_path: Path) -> None:
    """Beyond two thousand things nothing more is remembered: instead of it changes are looked for once.

    Fails when the queue grows with what comes, and when what finds no room is lost.
    """
    async with subscribed(tmp_path) as site:
        hints, schedule = site.daemon.app.hints, site.daemon.app.schedule
        schedule._take()

        def wished() -> bool:
            return schedule._wishes.look

        for number in range(MOST_WAITING + 500):
            identity = f"{number:032x}"
            hints.receive(
                {"id": f"{number + 10**9:032x}", "type": "page.created", "entity": {"id": identity}}
            )
        assert len(hints._inbox) == MOST_WAITING and wished() is False
        hints._refused_until = float("inf")  # two thousand looks are not what this is about
        await hints.attend()
        await settled(hints)
        assert len(hints._inbox) == 0 and wished() is True


async def test_trap_45_what_is_not_told_is_found_all_the_same(tmp_path: Path) -> None:
    """Half of the events never arrive, the rest are merged and late, what came to nothing is not told: after a poll
    and a sweep every key says what Notion does.

    Fails when looking for changes is left out because events come.
    """
    async with subscribed(tmp_path) as site:
        site.subscription.habits = WebhookHabits(cancels=True, shuffles=True, loses=0.5)
        for number, page in enumerate(site.small.pages):
            site.workspace.append_blocks(page, [b.paragraph(f"edit {number}")])
        made = site.workspace.add_row(site.small.source, "Brand new")
        gone = site.small.rows[0]
        site.workspace.trash(gone)
        site.workspace.restore(site.small.rows[1])
        assert 0 < len(await site.tell()) < len(site.small.pages)
        site.daemon.clock.advance(15.0)
        await site.daemon.catch_up()
        for number, page in enumerate(site.small.pages[1:], start=1):
            assert f"edit {number}" in await site.said(page)
        assert await site.said(made)
        await site.daemon.app.cycle.sweep.run()
        site.daemon.app.cycle.changed = True
        await site.daemon.catch_up()
        assert not await site.said(gone)


# When nothing can be done ------------------------------------------------------------------------------------------


async def test_on_standby_events_are_acknowledged_and_nothing_is_read(tmp_path: Path) -> None:
    """Another daemon writes: 200 for Notion, which would give up on us else, and no request to it.

    Fails when what is told to a daemon that stands by is looked at, then or when it takes over.
    """
    async with subscribed(tmp_path) as site:
        app = site.daemon.app
        site.workspace.create_page(None, "Outside")
        assert await site.subscription.deliver() == [200]
        present = await app.kv.read_owner()
        assert present is not None
        now = site.daemon.clock.now().timestamp()
        assert await app.kv.claim(Owner(present.token + 1, "another", "ledger", "content", now), present)
        site.daemon.clock.advance(400.0)
        await app.cycle.publisher.heartbeat()
        assert app.cycle.on_standby
        site.workspace.append_blocks(site.small.rows[0], [b.paragraph("for the other one")])
        site.workspace.create_page(None, "Outside too")
        async with site.counted() as asked:
            assert set(await site.subscription.deliver()) == {200}
            await app.hints.attend()
            await settled(app.hints)
        assert asked == [] and not len(app.hints._inbox) and not len(app.hints._to_ask)
        left = await app.ledger.call(work.backlog, site.daemon.app.api.notion_now())
        assert left.due == 0
        assert (await status(site.daemon.http))["lastEventAt"] is not None


async def test_a_refused_token_is_not_tried_with_every_event(tmp_path: Path) -> None:
    """Notion answers 401: one request of ours finds out, and the next events ask nothing for a while.

    Fails when each of them is a request more.
    """
    async with subscribed(tmp_path) as site:
        hints = site.daemon.app.hints
        site.workspace.revoke_token()
        async with site.counted() as asked:
            for _ in range(5):
                site.workspace.create_page(None, "Outside")
                await site.subscription.deliver()
                await hints.attend()
                await settled(hints)
        assert [r.status for r in asked] == [401]


async def test_a_ledger_that_is_away_loses_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 all the same, and looked at when it is back. Fails when what could not be kept is dropped."""
    async with subscribed(tmp_path) as site:
        app, page = site.daemon.app, site.small.rows[0]
        site.daemon.sandbox.habits = BLIND
        with monkeypatch.context() as broken:

            async def away(*_: Any, **__: Any) -> None:
                raise LedgerError("the disk is full", "Make room.")

            broken.setattr(app.ledger, "call", away)
            site.workspace.append_blocks(page, [b.paragraph("kept")])
            assert await site.subscription.deliver() == [200]
            with pytest.raises(LedgerError):
                await app.hints.attend()
            handshake = await site.daemon.http.post(ADDRESS, json={"verification_token": "secret_0123456789"})
            assert handshake.status_code == 200
        assert app.hints._inbox.ready_at(0.0) == site.daemon.clock.monotonic() + LOOK_AGAIN_SECONDS
        site.later()
        await site.look()
        assert "kept" in await site.said(page)


async def test_an_address_that_does_not_answer_costs_its_own_look_alone(tmp_path: Path) -> None:
    """Of three new pages one cannot be read by us: the two others come in. Fails when one failure ends them all."""
    async with subscribed(tmp_path) as site:
        made = [site.workspace.add_row(site.small.source, f"New {n}") for n in range(3)]
        site.subscription._waiting[:] = [site.subscription.event("page.created", page) for page in made]
        site.workspace.unshare(made[0])
        site.daemon.sandbox.habits = BLIND
        await site.tell()
        assert [bool(await site.said(page)) for page in made] == [False, True, True]
