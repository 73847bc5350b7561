"""What is said of settings, ledger, store and port. Pure: facts in, findings out."""

import errno
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.assets.store import StoreError
from daemon.config import KvSetting, Settings
from daemon.doctor.findings import Finding, Level, sentence, span
from daemon.kv.base import (
    KVError,
    KVQuotaExceeded,
    KVReadOnly,
    KVUnauthorized,
    KVUnavailable,
    Owner,
)
from daemon.ledger.ledger import LedgerError

A_SECRET = "Use at least 16 characters, such as what `openssl rand -hex 24` prints."


def of_settings(settings: Settings, problems: Sequence[str]) -> list[Finding]:
    """Each problem, each warning, and a missing CRON_SECRET."""
    found = [_of_line(Level.PROBLEM, line, "") for line in problems]
    if not problems:
        names = ", ".join(source.name for source in settings.sources)
        found.append(Finding(Level.OK, "settings", f"They are complete. Sources: {names}."))
    for line in settings.warnings:
        usual = A_SECRET if " is shorter than " in line else "Change or remove it if that is not meant."
        found.append(_of_line(Level.NOTE, line, usual))
    if settings.cron_secret is None and "CRON_SECRET" not in named_in(problems):
        what = "CRON_SECRET is not set, so every endpoint that starts work or shows content answers 503."
        found.append(Finding(Level.NOTE, "settings", what, f"Set it. {A_SECRET}"))
    if settings.qstash_current_signing_key is not None and settings.public_url is None:
        what = "PUBLIC_URL is not set, so a call signed for another address of yours is taken as well."
        todo = "Set it to the address that QStash calls, without the path."
        found.append(Finding(Level.NOTE, "settings", what, todo))
    return found


def named_in(problems: Collection[str]) -> set[str]:
    """The settings that problems are about."""
    return {name for line in problems for name in re.findall(r"[A-Z][A-Z0-9_]+", line.partition(":")[0])}


def _of_line(level: Level, line: str, usual: str) -> Finding:
    """`NAME: what is wrong; what would be right`, as the settings tell it, in two sentences."""
    name, _, text = line.partition(": ")
    what, _, right = text.partition("; ")
    return Finding(level, "settings", f"{name} {what}.", sentence(right) or usual)


# Files and ledger ---------------------------------------------------------------------------------------------


def folder_refuses(about: str, folder: Path, reason: str) -> Finding:
    """A folder in which nothing can be written."""
    todo = (
        "Give this user the right to write there, or set DATA_DIR to another folder; on Railway, a volume that "
        "belongs to root needs RAILWAY_RUN_UID=0."
    )
    return Finding(Level.PROBLEM, about, f"The folder {folder} cannot be written ({reason}).", todo)


def ledger_absent(file: Path) -> Finding:
    """It will be made."""
    return Finding(Level.OK, "ledger", f"There is none yet: the first start makes {file}.")


def ledger_behind() -> Finding:
    """It will be upgraded."""
    what = "It is empty, or of an older version."
    return Finding(Level.NOTE, "ledger", what, "Nothing to do: `run` upgrades it, as does `db upgrade`.")


def ledger_works() -> Finding:
    """It was opened, and a transaction begun."""
    return Finding(Level.OK, "ledger", "It can be read and written, and is of this version.")


def removals_held(count: int) -> Finding:
    """What waits for a person (G8)."""
    what = f"{count} removals are held: so much disappeared, or stopped being published, at once."
    todo = "`confirm-removals` shows all of it by name and asks. If it is not meant, bring it back in Notion."
    return Finding(Level.NOTE, "removals", what, todo)


def ledger_refuses(error: LedgerError) -> Finding:
    """The ledger's own words: locked, read-only, newer, damaged, out of reach."""
    return Finding(Level.PROBLEM, "ledger", sentence(error.cause), error.hint)


# Store --------------------------------------------------------------------------------------------------------

_STORE_FAILS: tuple[tuple[type[KVError], str], ...] = (
    (KVUnauthorized, "The store refuses the token or password"),
    (KVReadOnly, "The store can be read but not written"),
    (KVQuotaExceeded, "The store's quota or memory is used up"),
    (KVUnavailable, "The store cannot be reached, or gives no usable answer"),
)


def store_refuses(kv: KvSetting, error: KVError) -> Finding:
    """What the store says to the ping, to the writing test, or to being asked who owns it."""
    said = next((words for kind, words in _STORE_FAILS if isinstance(error, kind)), "The store refuses")
    return Finding(Level.PROBLEM, "store", f"{said} ({error.cause}).", f"{error.hint} Set in: {kv.origin}.")


def store_works(kv: KvSetting) -> Finding:
    """It answered, and passed the writing test."""
    kind = {"upstash": "Upstash REST", "redis": "Redis"}.get(kv.kind, kv.kind)
    return Finding(Level.OK, "store", f"It ({kind}, from {kv.origin}) can be read and written.")


def store_absent(file: Path) -> Finding:
    """The embedded one will be made."""
    return Finding(Level.OK, "store", f"There is none yet: the first start makes {file}.")


def embedded_token(settings: Settings, token: str | None) -> Finding:
    """How a site reads the embedded store. `token`: the one kept in the data folder, None before it is made."""
    address = f"{settings.public_url or f'http://localhost:{settings.port}'}/kv"
    what = f"Sites read it at {address}"
    if settings.embedded_kv_token is not None:
        return Finding(Level.OK, "/kv", f"{what} with the token in EMBEDDED_KV_TOKEN.")
    if token is None:
        todo = "Start the daemon, then run doctor again; or set EMBEDDED_KV_TOKEN."
        return Finding(Level.NOTE, "/kv", f"{what} with a token that the first start makes.", todo)
    return Finding(Level.OK, "/kv", f"{what} with this token:", shown=token)


def owner(
    found: Owner | None, ledger_id: str | None, *, now: float, take_over_after_seconds: float
) -> Finding:
    """Who writes to the store. `now` in unix seconds. `ledger_id`: our own; empty: there is none; None: unknown."""
    if found is None:
        return Finding(Level.OK, "owner", "Nobody has written to the store yet.")
    age_seconds = max(now - found.heartbeat, 0.0)
    foreign = ledger_id is not None and found.ledger_id != ledger_id
    daemon = f"Daemon {found.daemon_id or '(without an id)'}"
    seen = f"last heartbeat {span(age_seconds)} ago"
    live = not found.released and age_seconds <= take_over_after_seconds
    if live and foreign:
        what = f"{daemon}, which has another ledger, writes to the store ({seen})."
        todo = (
            "A daemon that starts here takes over and rewrites every key: stop the other one, "
            "or give this one another store or KV_KEY_PREFIX."
        )
        return Finding(Level.NOTE, "owner", what, todo)
    if live:
        return Finding(Level.OK, "owner", f"{daemon} writes to the store ({seen}).")
    if foreign:
        what = f"The store was last written with another ledger ({seen})."
        return Finding(Level.NOTE, "owner", what, "Nothing to do: the next start rewrites every key.")
    if found.released:
        return Finding(Level.OK, "owner", f"No daemon runs: the last one released the store ({seen}).")
    what = f"{daemon} did not release the store and has gone silent ({seen})."
    return Finding(Level.NOTE, "owner", what, "If no daemon runs, start one: it takes over at once.")


# Site ---------------------------------------------------------------------------------------------------------


def site_told(known: Mapping[str, Any], *, now: float) -> Finding:
    """What came of telling the site what changed, as the ledger has it; it is not called for this. `now` in seconds."""
    count, problem, last = int(known["owed"]), known["problem"], known["lastSuccess"]
    ago = "" if last is None else span(max(now - last, 0.0))
    told = f"It was last told {ago} ago" if ago else "It has never been told anything"
    if problem is None:
        left = f"; {count} tags and paths are owed, the daemon tells them" if count else ""
        return Finding(Level.OK, "site", f"{told}{left}.")
    failed = span(max(now - (known["failedAt"] or now), 0.0))
    what = (
        f"The last call to REVALIDATE_URL, {failed} ago: {problem}. {told}; {count} tags and paths are owed."
    )
    return Finding(Level.PROBLEM, "site", what, f"{known['hint']} The daemon goes on trying.")


# Files --------------------------------------------------------------------------------------------------------

_KEPT = {"local": "a folder of this daemon", "s3": "the bucket {bucket}", "blob": "Vercel Blob"}


def files_off() -> Finding:
    """Nothing is done about them."""
    what = "Pages hold Notion's own links to its files, which die after an hour."
    return Finding(
        Level.NOTE, "files", what, "Set PUBLIC_URL, or a bucket, and they are copied: see docs/files.md."
    )


def files_led(settings: Settings) -> Finding:
    """Nothing is copied."""
    what = f"They are not copied: {settings.public_url}/assets leads readers to Notion's address of the hour."
    return Finding(Level.OK, "files", what)


def files_kept(settings: Settings) -> Finding:
    """The store of copies answered. Whether it may be written shows with the first copy: nothing is changed here."""
    setting = settings.assets
    where = _KEPT[setting.store].format(bucket=setting.s3_bucket)
    seen = "" if setting.store == "local" else " It answers and knows the credentials."
    return Finding(Level.OK, "files", f"Copies of Notion's files go to {where}.{seen}")


def files_refused(error: StoreError) -> Finding:
    """What the store of copies says."""
    return Finding(Level.PROBLEM, "files", error.cause, error.hint)


# Port ---------------------------------------------------------------------------------------------------------


def port_free(host: str, port: int) -> Finding:
    """It could be bound."""
    said = f"Port {port} on {host} is free." if port else f"PORT is 0: any free port on {host}."
    return Finding(Level.OK, "port", said)


def port_refused(host: str, port: int, reason: OSError, health: Mapping[str, Any] | None) -> Finding:
    """A port that cannot be had. `health`: what a daemon of ours says there, None when it is somebody else."""
    if health is not None:
        return _daemon_there(port, health)
    if reason.errno == errno.EADDRINUSE:
        what = f"Port {port} on {host} is taken by another program."
        return Finding(Level.PROBLEM, "port", what, "Set PORT to a free one, or stop what listens there.")
    if reason.errno in (errno.EACCES, errno.EPERM):
        what = f"Port {port} may not be used by this user."
        return Finding(Level.PROBLEM, "port", what, "Set PORT to one from 1024 on.")
    what = f"HOST {host} is no address that can be listened on here ({reason.strerror or reason})."
    return Finding(Level.PROBLEM, "port", what, "Leave HOST unset, or set it to an address of this machine.")


def _daemon_there(port: int, health: Mapping[str, Any]) -> Finding:
    who = f"A daemon (version {health.get('version')}) already runs on port {port}: {health.get('state')}"
    if health.get("ok"):
        return Finding(Level.OK, "port", f"{who}.")
    what = f"{who}, {health.get('reason') or 'no reason given'}"
    return Finding(Level.NOTE, "port", sentence(what), "Its log and status page say more.")
