"""`/metrics`: what it says, that it is true, and that saying it costs nothing."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from daemon import metrics
from daemon.demo import blocks as b
from daemon.ledger import records
from daemon.ledger.ledger import LedgerError
from daemon.meters import PREFIX
from daemon.sync.lease import Standing
from tests.support.web import SECRET, Daemon, a_daemon, a_small_site

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"
HAS_PROC = Path("/proc/self/stat").exists()
HOUR_SECONDS = 3600.0

Samples = dict[str, float]


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon that has synced the sample site; an hour has passed since."""
    async with a_daemon(tmp_path, site=a_small_site) as it:
        await it.settle()
        it.clock.advance(HOUR_SECONDS)
        yield it


async def scraped(daemon: Daemon) -> str:
    """A fresh scrape, as text."""
    daemon.clock.advance(metrics.FRESH_SECONDS)
    answer = await daemon.http.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith(
        "text/plain; version=0.0.4"
    )
    return answer.text


async def measured(daemon: Daemon) -> Samples:
    """A fresh scrape: samples by name without the prefix, labels as Prometheus writes them."""
    return samples(await scraped(daemon))


def samples(text: str) -> Samples:
    """A scrape's lines as a mapping."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {
        name.removeprefix(f"{PREFIX}_"): float(value) for name, value in (x.rsplit(" ", 1) for x in lines)
    }


async def edit(daemon: Daemon, page: str, text: str) -> None:
    """Somebody adds a paragraph; the daemon looks a poll interval later."""
    daemon.sandbox.workspace.append_blocks(page, [b.paragraph(text)])
    daemon.clock.advance(15.0)
    await daemon.cycle()


async def a_row(daemon: Daemon, title: str = "Row") -> str:
    """A page of the pages source, published and settled an hour ago."""
    row = daemon.sandbox.workspace.add_row(daemon.sample.pages_data_source, title, {})
    await daemon.settle()
    daemon.clock.advance(HOUR_SECONDS)
    return row


# The form ------------------------------------------------------------------------------------------------------------


async def test_the_document_lists_what_the_endpoint_gives(daemon: Daemon) -> None:
    """Every name in both, with the same type. Fails when either has one that the other has not."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    await daemon.app.cycle.sweep.run()
    given = re.findall(r"^# TYPE (\w+) (\w+)$", await scraped(daemon), re.MULTILINE)
    if not HAS_PROC:
        rows = [row for row in rows if not row[0].startswith("process_")]
    assert sorted(given) == sorted(rows) and len(dict(rows)) == len(rows)


async def test_names_follow_the_conventions(daemon: Daemon) -> None:
    """The official parser reads it; base units, `_total` on counters and on nothing else, a sentence for each.

    Fails when a counter is called a gauge, or a unit is missing.
    """
    text = await scraped(daemon)
    assert text.endswith("\n") and "_created" not in text
    for family in text_string_to_metric_families(text):
        assert family.documentation.endswith("."), family.name
        assert family.name.startswith((f"{PREFIX}_", "process_"))
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|count|sum|total)$", family.name), family.name
    times = re.findall(rf"^# TYPE {PREFIX}_\w*_(?:age|duration|interval|paused)(\w*) ", text, re.MULTILINE)
    assert sorted(times) == ["_seconds"] * 4 + ["_seconds_total"]
    totals = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    assert {name for name, kind in totals.items() if kind == "counter"} == {
        name for name in totals if name.endswith("_total")
    }


async def test_nothing_of_the_content_is_told(daemon: Daemon) -> None:
    """No id, no title, no slug of any page, with pages failing, refused and held. Fails when a label names one."""
    row = await a_row(daemon, "Zanzibar")
    daemon.sandbox.faults.add(path=rf"/blocks/{row}/children", status=500, times=100)
    await edit(daemon, row, "more")
    text = await scraped(daemon)
    assert samples(text)["pages_failing"] == 1
    site = daemon.app.cycle.site
    assert site is not None
    for page, place in site.layout.places.items():
        assert page not in text and page.replace("-", "") not in text
        title = str(site.facts.cards[page].get("title"))
        for told in (title, place.slug):
            assert f'"{told}"' not in text and (len(told) < 8 or told not in text), told
    assert "zanzibar" not in text.lower()


# The numbers ---------------------------------------------------------------------------------------------------------


async def test_counts_are_those_of_the_parts(daemon: Daemon) -> None:
    """Requests as the sandbox counted them, the rest as `/status` says it. Fails when anything is counted twice."""
    said = await measured(daemon)
    known = (await daemon.http.get("/status", headers={"x-sync-secret": SECRET})).json()
    asked = sum(value for name, value in said.items() if name.startswith("notion_requests_total"))
    assert asked == len(daemon.sandbox.requests) > 15
    assert said['notion_requests_total{endpoint="children",status="2xx"}'] == 26
    assert said["kv_commands_total"] == daemon.app.kv.commands > 0
    assert said["kv_sent_bytes_total"] == daemon.app.kv.bytes_written > 4_000
    assert said['cycles_total{outcome="success"}'] == said["cycle_duration_seconds_count"] == 2
    assert said["pages_known"] == known["pages"]["known"] == 13
    assert said["site_keys"] == known["counts"]["keys"]
    types = {name: value for name, value in said.items() if name.startswith("site_pages{")}
    assert sum(types.values()) == known["counts"]["published"] and types['site_pages{type="post"}'] == 10
    assert (said["notion_budget_requests"], said["notion_budget_left_requests"]) == (100_000, 100_000)
    assert (said["healthy"], said["ready"], said['kv_standing{standing="owner"}']) == (0, 1, 1)
    assert said["last_success_age_seconds"] == HOUR_SECONDS + metrics.FRESH_SECONDS
    assert said["pages_unread"] == said["pages_due"] == said["keys_waiting"] == said["removals_held"] == 0


async def test_work_that_is_owed_is_counted(daemon: Daemon) -> None:
    """Due, to settle, failing, waiting for the store, held, unread. Fails when one of them stays at zero."""
    workspace = daemon.sandbox.workspace
    row, other = await a_row(daemon), await a_row(daemon, "Other")
    await edit(daemon, row, "fresh")
    assert (await measured(daemon))["pages_to_settle"] == 1
    daemon.sandbox.faults.add(path=rf"/blocks/{other}/children", status=500, times=100)
    await edit(daemon, other, "failing")
    workspace.add_row(daemon.sample.pages_data_source, "Unread", {})
    await daemon.app.cycle.run(daemon.clock.monotonic())
    said = await measured(daemon)
    assert said["pages_failing"] == 1 and said["pages_unread"] == said["pages_due"] == 1
    assert said['cycles_total{outcome="problem"}'] == 0
    await daemon.app.ledger.call(records.rewrite)
    await daemon.app.ledger.call(records.refuse, ["page:row"], "too large", 0.0)
    said = await measured(daemon)
    assert (said["keys_waiting"], said["keys_refused"]) == (said["site_keys"], 1)
    daemon.app.cycle.lease.standing = Standing.STANDBY
    said = await measured(daemon)
    assert (said['kv_standing{standing="owner"}'], said['kv_standing{standing="standby"}']) == (0, 1)


async def test_held_removals_and_the_sweep(daemon: Daemon) -> None:
    """All rows of a source disappear: held, and the sweep's age is there. Fails when either is left out."""
    assert "last_sweep_age_seconds" not in await measured(daemon)
    for page in list(daemon.app.cycle.site.members("posts") if daemon.app.cycle.site else []):
        daemon.sandbox.workspace.unshare(page)
    await daemon.app.cycle.sweep.run()
    await daemon.settle()
    daemon.clock.advance(90.0)
    said = await measured(daemon)
    assert said["removals_held"] == 10
    assert 490 < said["last_sweep_age_seconds"] < 500


async def test_pauses_are_counted_as_they_pass(daemon: Daemon) -> None:
    """A refusal with Retry-After: counted once, its seconds as time goes by, overlapping ones not twice.

    Fails when a pause counts before it is over, and when two that overlap are added up.
    """
    limiter = daemon.app.api.limiter
    daemon.clock.advance(1000.0)
    limiter.refused(100.0)
    daemon.clock.advance(29.0)
    said = await measured(daemon)
    assert (said["notion_refusals_total"], said["notion_paused_seconds_total"]) == (1, 30)
    limiter.refused(90.0)
    daemon.clock.advance(999.0)
    said = await measured(daemon)
    assert (said["notion_refusals_total"], said["notion_paused_seconds_total"]) == (2, 120)


async def test_refusals_by_notion_are_seen(daemon: Daemon) -> None:
    """429 with a wait, over HTTP. Fails when only the limiter's own tests know of it."""
    daemon.sandbox.faults.add(status=429, retry_after=7, times=1)
    await daemon.cycle()
    said = await measured(daemon)
    assert (said["notion_refusals_total"], said["notion_paused_seconds_total"]) == (1, 7)
    assert sum(value for name, value in said.items() if 'status="4xx"' in name) >= 1


async def test_every_outcome_has_its_count(daemon: Daemon) -> None:
    """A problem, a refused token, a crash. Fails when one is taken for another."""
    vitals = daemon.app.vitals
    daemon.sandbox.faults.add(status=500, times=1000)
    await daemon.cycle()
    vitals.stopped("the token was revoked")
    vitals.failed("the ledger is away")
    said = await measured(daemon)
    outcomes = {name: value for name, value in said.items() if name.startswith("cycles_total")}
    assert outcomes == {
        'cycles_total{outcome="success"}': 2,
        'cycles_total{outcome="problem"}': 1,
        'cycles_total{outcome="refused"}': 1,
        'cycles_total{outcome="crashed"}': 1,
    }
    assert said["cycle_duration_seconds_count"] == 3


# The lag of edits ----------------------------------------------------------------------------------------------------


async def lags(daemon: Daemon) -> tuple[float, float]:
    """How many edits were measured, and their seconds together."""
    said = await measured(daemon)
    return said["edit_to_kv_seconds_count"], said["edit_to_kv_seconds_sum"]


async def test_an_edit_is_measured_from_its_stamp(daemon: Daemon) -> None:
    """From the floored minute to the batch; a second edit under the same stamp too; neither the first sync nor
    a settling read that finds nothing.

    Fails when a first sync counts, when the second edit does not, and when the settling read counts as an edit.
    """
    assert await lags(daemon) == (0, 0)
    row = await a_row(daemon)
    count, total = await lags(daemon)
    assert count == 1  # its creation
    wait_for_second(daemon, 20)
    await edit(daemon, row, "first")
    assert await lags(daemon) == (2, total + 35)
    daemon.sandbox.workspace.append_blocks(row, [b.paragraph("second")])  # at second 36 of that minute
    daemon.clock.advance(60.0)
    await daemon.cycle()
    found = await lags(daemon)
    assert found[0] == 3 and 70 < found[1] - total - 35 < 120
    await daemon.settle()
    assert await lags(daemon) == found


def wait_for_second(daemon: Daemon, second: int) -> None:
    """Let time pass until this second of a minute."""
    daemon.clock.advance((second - daemon.clock.now().timestamp()) % 60)


async def test_what_is_no_edit_is_not_measured(daemon: Daemon) -> None:
    """A forced full sync, every key again, a child's new title in its parent, a value that moved without a stamp.

    Fails when every key that is written counts.
    """
    row = await a_row(daemon)
    child = daemon.sandbox.workspace.create_page(row, "Child")
    await daemon.settle()
    daemon.clock.advance(HOUR_SECONDS)
    before = await lags(daemon)
    await daemon.app.cycle.begin_force()
    await daemon.settle()
    await daemon.app.cycle.end_force()
    await daemon.app.ledger.call(records.rewrite)
    await daemon.settle()
    written = daemon.app.kv.bytes_written
    assert await lags(daemon) == before
    daemon.sandbox.workspace.set_title(child, "Renamed")
    await daemon.settle()
    assert (await lags(daemon))[0] == before[0] + 1  # the child's own
    assert daemon.app.kv.bytes_written > written


async def test_a_store_that_was_away_is_part_of_the_lag(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at once, written an hour later: that is how long the site was behind. Fails when reading ends the count."""
    row = await a_row(daemon)
    before = await lags(daemon)
    daemon.app.cycle.publisher.paused_until = daemon.clock.monotonic() + HOUR_SECONDS
    await edit(daemon, row, "while the store is away")
    assert await lags(daemon) == before
    daemon.clock.advance(HOUR_SECONDS)
    await daemon.cycle()
    count, total = await lags(daemon)
    assert count == before[0] + 1 and total - before[1] >= HOUR_SECONDS


async def test_taking_over_is_no_edit(daemon: Daemon) -> None:
    """What another daemon published while this one stood by is not measured when it is written again.

    Fails when edits count from the start of the process.
    """
    row = await a_row(daemon)
    before = await lags(daemon)
    lease = daemon.app.cycle.lease
    lease._stand_by()
    daemon.sandbox.workspace.append_blocks(row, [b.paragraph("published by the other one")])
    daemon.clock.advance(HOUR_SECONDS)
    assert await lease.may_write() or await lease.may_write()
    await daemon.settle()
    assert await lags(daemon) == before


# What it costs -------------------------------------------------------------------------------------------------------


def changes(db: Connection) -> Any:
    """How many rows this connection has changed so far."""
    return db.exec_driver_sql("SELECT total_changes()").scalar()


async def test_a_scrape_touches_nothing(daemon: Daemon) -> None:
    """No request, no command, no row written, by ten scrapes. Fails when it asks instead of reading."""
    before = (len(daemon.sandbox.requests), daemon.app.kv.commands, await daemon.app.ledger.call(changes))
    for _ in range(10):
        await scraped(daemon)
    assert before == (
        len(daemon.sandbox.requests),
        daemon.app.kv.commands,
        await daemon.app.ledger.call(changes),
    )


async def test_scrapes_at_once_share_one(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of them ask the ledger once. Fails when each asks for itself."""
    asked = 0
    plain = metrics.ledger_facts

    def counted(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return plain(*args)

    monkeypatch.setattr(metrics, "ledger_facts", counted)
    daemon.clock.advance(metrics.FRESH_SECONDS)
    await asyncio.gather(*(daemon.http.get("/metrics") for _ in range(100)))
    assert asked == 1
    await scraped(daemon)
    assert asked == 2


async def test_without_a_ledger_the_rest_is_told(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """200, `ledger_readable` 0, and none of the numbers that only it knows. Fails when a scrape fails with it."""

    async def away(*_: Any) -> None:
        raise LedgerError("The ledger's disk is gone", "Bring it back.")

    monkeypatch.setattr(daemon.app.ledger, "call", away)
    said = await measured(daemon)
    assert said["ledger_readable"] == 0 and "pages_known" not in said
    assert said["kv_commands_total"] > 0
    monkeypatch.undo()
    assert (await measured(daemon))["pages_known"] == 13
