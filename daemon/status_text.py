"""What `status` prints: the status as `daemon.status` gives it, for people at a terminal."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from daemon.log import redact
from daemon.web.status_page.view import plural, types


def print_status(known: dict[str, Any]) -> None:
    """Print it to standard output. What people wrote in Notion is shown as it is: brackets are no markup there."""
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    for line in _head(known):
        console.print(line)
    sources = Table("source", "kind", "rows", "looked at until", "problem")
    for row in known["sources"]:
        told = row["kind"] or "?", str(row["rows"]), row["watermark"] or "", redact(row["problem"] or "")
        sources.add_row(row["name"], *told)
    console.print(sources, soft_wrap=False)
    for line in _details(known):
        console.print(redact(line))


def called(title: str, slug: str | None) -> str:
    """What people call a page or a database: its title, and its slug if it has one."""
    return f"{title!r} ({slug})" if slug else repr(title)


def _head(known: dict[str, Any]) -> Iterator[str]:
    counts, pages = known["counts"], known["pages"]
    yield f"notion-kv-sync {known['version']}, ledger as it stands; the daemon: {known['state']}"
    shown = ", ".join(f"{count:,} {name}" for name, count in types(counts))
    unwritten = known["recordsWaiting"]
    told = f", {unwritten:,} of them still to be written" if unwritten else ""
    yield f"the site: {shown or 'nothing yet'}; {plural(counts['keys'], 'key')}{told}"
    left = {"to read": pages["due"], "to settle": pages["toSettle"], "failing": pages["failing"]}
    told = ", ".join(f"{count:,} {what}" for what, count in left.items())
    yield f"pages: {told}"


def _details(known: dict[str, Any]) -> Iterator[str]:
    """What is in the way, what waits, and what is worth a look."""
    for row in known["failed"]:
        yield f"failing: {row['slug'] or row['id']}: {row['reason']} (next try {row['nextTryAt']})"
    for row in known["failedListings"]:
        yield f"not listed: {row['name'] or row['id']}: {row['reason']} (next try {row['nextTryAt']})"
    for row in known["refused"]:
        yield f"refused by the store: {row['key']}: {row['reason']}"
    for row in known["conflicts"]:
        yield f"two pages want {row['slug']}: {row['yieldedBy']} became {row['givenSlug']}"
    for row in known["held"]:
        name = called(row["title"], row["slug"]) if row["title"] else row["id"]
        yield f"held until confirm-removals: {row['kind']} {name}: {row['evidence']}"
    for row in known["skippedDatabases"]:
        yield f"skipped: database {row['name'] or row['id']}: {row['reason']}"
    for row in known["publishing"]["next"]:
        yield f"goes live {row['at']}: {row['source']} {row['title']!r} ({row['slug']})"
    for row in known["files"]["troubled"]:
        again = f"next try {row['nextTryAt']}" if row["nextTryAt"] else "not tried again with these settings"
        yield f"file not copied: {row['name']}: {row['reason']} ({again})"
    yield from (f"warning: {warning}" for warning in known["warnings"])
    yield from _sums(known)


def _sums(known: dict[str, Any]) -> Iterator[str]:
    """What is left, in numbers, where there is something left."""
    if drafts := known["publishing"]["heldBack"] - known["publishing"]["scheduled"]:
        yield f"drafts held back: {drafts}"
    if site := known["revalidation"]:
        problem = f" ({site['problem']}. {site['hint']})" if site["problem"] else ""
        yield f"tags and paths that the site is still to be told: {site['owed']}{problem}"
    files = [name for name in ("copied", "waiting", "failed", "refused") if name in known["files"]]
    if files:
        yield "files: " + ", ".join(f"{known['files'][name]} {name}" for name in files)
