"""What the daemon says of itself: the brief form that anybody may see, and the full one for who has the secret."""

import re
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from daemon import __version__, alarm, revalidate
from daemon.assets import Files
from daemon.clock import Clock
from daemon.config import Settings
from daemon.kv.base import KV
from daemon.ledger import assets, cycles, links, publishing, records, removals, sources, tasks, work
from daemon.ledger.ledger import Ledger
from daemon.notion.api import NotionApi
from daemon.site.indexes import iso_ms
from daemon.site.slugs import row_slug
from daemon.site.visibility import Why
from daemon.sync.compose import Composition
from daemon.sync.cycle import Cycle
from daemon.sync.hints import Hints
from daemon.vitals import Vitals, verdict

CLOCK_OFF_SECONDS = 120.0
MOST_LISTED = 100
JOBS_LISTED = 10
_HOST = re.compile(
    r"\b(?:[a-z][a-z0-9-]*:[0-9]{4,5}|[a-z0-9-]+(?:\.[a-z0-9-]+)+:[0-9]{1,5})\b|\bhttps?://\S+", re.IGNORECASE
)
"""A host with its port, or an address."""
_ID = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)
NOT_TYPES = frozenset(("published", "databases", "keys", "waiting", "heldBack"))
"""What the counts hold beside the types of pages."""


class Parts(Protocol):
    """What the status is read from."""

    settings: Settings
    clock: Clock
    ledger: Ledger
    kv: KV
    api: NotionApi
    cycle: Cycle
    vitals: Vitals
    hints: Hints
    files: Files


def brief(parts: Parts) -> dict[str, Any]:
    """Version, state, counts and times; no titles, slugs or ids. Costs no request and no query."""
    known = _known(parts)
    last = known["lastCycle"]
    shown = None if last is None else {**last, "problem": without_names(last["problem"])}
    return {**known, "reason": without_names(known["reason"]), "lastCycle": shown}


def _known(parts: Parts) -> dict[str, Any]:
    now, vitals = parts.clock.monotonic(), parts.vitals
    healthy, state, reason = verdict(parts)
    return {
        "version": __version__,
        "state": state,
        "healthy": healthy,
        "ready": vitals.ready,
        "reason": reason,
        "uptimeSeconds": round(now - vitals.started_at),
        "counts": parts.cycle.site.counts if parts.cycle.site is not None else {},
        "lastSuccess": moment(vitals.last_success_time),
        "lastCycle": _cycle_numbers(vitals.last_summary),
    }


async def full(parts: Parts) -> dict[str, Any]:
    """Everything a person needs to see what goes on and why something does not."""
    return {**_known(parts), **await parts.ledger.call(_details, parts)}


def without_names(text: str | None) -> str | None:
    """A reason as anybody may see it: what is said of a failure may name pages, databases, and the store's host."""
    return None if text is None else _HOST.sub("…", _ID.sub("…", text))


def moment(unix_seconds: float | None) -> str | None:
    """A time as ISO 8601 in UTC."""
    return None if unix_seconds is None else iso_ms(datetime.fromtimestamp(unix_seconds, UTC))


def _details(db: Connection, parts: Parts) -> dict[str, Any]:
    notion_now, limiter = parts.api.notion_now(), parts.api.limiter
    left = work.backlog(db, notion_now)
    return {
        "cycles": [_cycle(summary) for summary in cycles.recent(db)],
        "jobs": [job_in_short(task) for task in tasks.newest(db, JOBS_LISTED)],
        "sources": _sources(db),
        "intervals": {
            "pollSeconds": round(parts.vitals.poll_seconds, 1),
            "sweepSeconds": round(parts.vitals.sweep_seconds, 1),
        },
        "budget": {
            "perMinute": limiter.budget,
            "effectivePerMinute": limiter.effective_budget,
            "left": limiter.budget_left,
            "pausedForSeconds": round(limiter.paused_for_seconds, 1),
        },
        "pages": {
            "known": left.total,
            "unread": left.unread,
            "due": left.due,
            "toSettle": left.later,
            "failing": left.failing,
        },
        "failed": _with_moments(work.troubled(db, MOST_LISTED)),
        "failedListings": _with_moments(sources.troubled(db)[:MOST_LISTED]),
        "refused": _with_moments(records.refused(db)),
        "recordsWaiting": records.pending_count(db),
        "conflicts": _conflicts(parts.cycle.site),
        "publishing": held_back(parts.cycle.site),
        "held": _held(db),
        "skippedDatabases": [
            {"id": row.id, "name": row.name, "reason": row.problem}
            for row in sources.databases(db)
            if row.skipped
        ],
        "store": {
            "kind": parts.kv.name,
            "standing": parts.cycle.lease.standing.value,
            "problem": parts.cycle.publisher.problem,
        },
        "webhooks": {
            "configured": bool(parts.settings.notion_webhook_verification_token),
            "events": parts.hints.events,
            "refused": parts.hints.refused,
            "lastEventAt": moment(parts.hints.last_event_at),
        },
        "revalidation": _revalidation(db) if parts.settings.revalidate_url else None,
        "failureWebhook": alarm.shown(db) if parts.settings.sync_failure_webhook else None,
        "files": _files(db, parts),
        "warnings": warnings(parts),
    }


def _held(db: Connection) -> list[dict[str, Any]]:
    """Removals that wait for a person, by what people call them."""
    found = links.held_links(db)
    named = removals.names(db, [child for _, child, _, _ in found])
    held = []
    for parent, child, kind, evidence in found:
        title, slug = named.get(child, ("", None))
        known = {"parentId": parent, "id": child, "kind": kind, "title": title, "slug": slug}
        held.append({**known, "evidence": evidence})
    return held


def _files(db: Connection, parts: Parts) -> dict[str, Any]:
    """What became of the files that Notion hosts."""
    files = parts.files
    store = files.store
    told: dict[str, Any] = {"mode": files.links.mode, "store": store.kind if store is not None else None}
    told["troubled"] = []
    if files.are_off:
        return told
    counted = assets.counts(db, store.id if store is not None else None)
    return {**told, **counted, "troubled": _with_moments(assets.troubled(db, MOST_LISTED))}


def _with_moments(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "nextTryAt": moment(row["nextTryAt"])} for row in rows]


def job_in_short(task: tasks.Task) -> dict[str, Any]:
    """A job in short; `/api/jobs/{id}` has its steps."""
    return {
        "id": task.id,
        "state": task.state,
        "kind": task.kind,
        "origin": task.origin,
        "force": bool(task.options.get("force")),
        "only": task.options.get("only"),
        "createdAt": moment(task.created_at),
        "finishedAt": moment(task.finished_at),
        "nextTryAt": moment(task.next_try_at),
        "problem": task.problem,
    }


def _revalidation(db: Connection) -> dict[str, Any]:
    known = revalidate.shown(db)
    times = ("lastSuccess", "failedAt", "nextTry")
    return {name: moment(value) if name in times else value for name, value in known.items()}


def _sources(db: Connection) -> list[dict[str, Any]]:
    members, listed = sources.row_counts(db), {row.id: row for row in sources.data_sources(db)}
    rules = publishing.rules(db)
    found = []
    for row in sources.sources(db):
        known = [listed[ds] for ds in row.data_source_ids if ds in listed]
        marks = [ds.watermark for ds in known if ds.watermark is not None]
        problems = [row.problem, *(ds.problem for ds in known), rules[row.name, row.ref].problem]
        found.append(
            {
                "name": row.name,
                "id": row.ref,
                "kind": row.kind,
                "retired": row.retired,
                "dataSources": list(row.data_source_ids),
                "rows": sum(members.get(ds.id, 0) for ds in known),
                "watermark": moment(min(marks)) if marks else None,
                "problem": next((problem for problem in problems if problem), None),
            }
        )
    return found


def held_back(site: Composition | None) -> dict[str, Any]:
    """The rows that are not published: how many, and which come next or wait for their property."""
    if site is None:
        return {"heldBack": 0, "scheduled": 0, "next": [], "drafts": [], "redirects": 0}
    held = site.visibility.held
    dated = sorted((one.until, page) for page, one in held.items() if one.until is not None)
    drafts = [page for page, one in held.items() if one.why is not Why.DATE]
    return {
        "heldBack": len(held),
        "scheduled": len(dated),
        "next": [{**_row(site, page), "at": moment(at)} for at, page in dated[:MOST_LISTED]],
        "drafts": [{**_row(site, page), "why": held[page].why.value} for page in drafts[:MOST_LISTED]],
        "redirects": len(site.redirects),
    }


def _row(site: Composition, page: str) -> dict[str, Any]:
    """What a row that is held back is called, and the slug that it would want."""
    facts = site.facts.pages[page]
    slug = row_slug(facts.raw_slug, facts.title, page)
    return {"id": page, "title": facts.title, "slug": slug, "source": site.visibility.held[page].source}


def _conflicts(site: Composition | None) -> list[dict[str, str]]:
    conflicts = site.layout.conflicts if site is not None else []
    return [
        {"slug": c.slug, "keptBy": c.kept_by, "yieldedBy": c.yielded_by, "givenSlug": c.given_slug}
        for c in conflicts[:MOST_LISTED]
    ]


def warnings(parts: Parts) -> list[str]:
    """What is not wrong yet but worth a look."""
    said = list(parts.settings.all_warnings)
    offset = parts.api.clock_offset_seconds
    if abs(offset) > CLOCK_OFF_SECONDS:
        way = "behind" if offset > 0 else "ahead of"
        said.append(f"This machine's clock is {abs(offset):.0f} s {way} Notion's: set it right (NTP).")
    if parts.vitals.poll_seconds > parts.settings.poll_interval_seconds:
        said.append(
            f"Polling every {parts.vitals.poll_seconds:.0f} s instead of {parts.settings.poll_interval_seconds:g} s: "
            "more would use over a fifth of the request budget. NOTION_REQUESTS_PER_MINUTE raises it on larger plans."
        )
    return said


def _cycle(summary: dict[str, Any]) -> dict[str, Any]:
    return {"startedAt": moment(summary.get("started_at")), **(_cycle_numbers(summary) or {})}


def _cycle_numbers(summary: dict[str, Any] | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    names = {
        "duration_seconds": "durationSeconds",
        "found": "found",
        "read": "read",
        "failed": "failed",
        "removed": "removed",
        "written": "written",
        "deleted": "deleted",
        "notion_requests": "notionRequests",
        "kv_commands": "kvCommands",
        "due": "due",
        "pending": "pending",
        "problem": "problem",
    }
    return {shown: summary.get(name) for name, shown in names.items()}
