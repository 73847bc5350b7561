"""Pure: from the status to what the page shows, in words and with ages instead of bare moments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.status import NOT_TYPES

_TYPES = {"page": "page", "post": "post", "child": "child page", "row": "database row"}
_STORES = {"embedded": "The embedded store, at /kv", "upstash": "Upstash REST", "redis": "Redis"}
_STANDINGS = {
    "new": "not written to yet",
    "owner": "written by this daemon",
    "standby": "written by another daemon",
}


@dataclass(frozen=True)
class Headline:
    """The state in a few words. `tone`: good, busy, warn or bad. `done` of `total`: how far it is, if that is known."""

    tone: str
    text: str
    detail: str | None = None
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Tile:
    """A number that is looked at often."""

    label: str
    value: int
    note: str = ""
    tone: str = ""


def build_view(status: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What the template needs: `status` as `daemon.status` gives it, brief or full, and what follows from it."""
    return {
        "status": status,
        "now": now,
        "is_full": "pages" in status,
        "headline": headline(status),
        "tiles": tiles(status),
        "types": types(status["counts"]),
        "store": store(status.get("store", {})),
        "files": files(status.get("files", {})),
        "warnings": status.get("warnings", []),
    }


def headline(status: Mapping[str, Any]) -> Headline:
    """The state as a person would say it."""
    reason = sentence(status["reason"])
    make = _HEADLINES.get(status["state"])
    if make is not None:
        return make(status, reason)
    if reason is not None:
        return Headline("warn", "Having trouble", f"{reason} It goes on trying.")
    return _working(status)


def _first_sync(status: Mapping[str, Any], reason: str | None) -> Headline:
    counts, pages = status["counts"], status.get("pages")
    if pages is not None:
        done, total, what = pages["known"] - pages["unread"], pages["known"], "read"
    else:
        done = counts.get("published", 0)
        total, what = done + counts.get("waiting", 0), "published"
    tone = "busy" if reason is None else "warn"
    if not total:
        return Headline(tone, "First sync: looking at what there is", reason)
    return Headline(tone, f"First sync: {done:,} of {plural(total, 'page')} {what}", reason, done, total)


def _working(status: Mapping[str, Any]) -> Headline:
    cycle = status["lastCycle"] or {}
    pages = status.get("pages") or {"due": cycle.get("due") or 0, "failing": 0}
    unwritten = status.get("recordsWaiting", cycle.get("pending") or 0)
    if pages["due"] > pages["failing"]:
        return Headline("busy", "Catching up", f"{plural(pages['due'], 'page')} to read.")
    if status.get("held"):
        return _held(status, f"{plural(len(status['held']), 'removal')} to be confirmed, see below.")
    if pages["failing"] or status.get("refused"):
        return Headline("warn", "In step, but not everywhere", "What is in the way is listed below.")
    if unwritten:
        return Headline("busy", "Catching up", f"{plural(unwritten, 'key')} to write.")
    return Headline("good", "In step", "The site shows what is written in Notion.")


def _held(_status: Mapping[str, Any], reason: str | None) -> Headline:
    return Headline("warn", "In step, but removals are held", reason)


_HEADLINES: dict[str, Callable[[Mapping[str, Any], str | None], Headline]] = {
    "first sync": _first_sync,
    "standby": lambda _, reason: Headline("busy", "Standing by", reason),
    "degraded": _held,
    "waiting": lambda _, reason: Headline("busy", "Waiting", reason),
    "stopped": lambda _, reason: Headline("bad", "Stopped: Notion refuses", reason),
    "failing": lambda _, reason: Headline("bad", "Failing", reason),
}


def tiles(status: Mapping[str, Any]) -> list[Tile]:
    """The numbers at the top."""
    counts, pages = status["counts"], status.get("pages")
    waiting = counts.get("waiting", 0)
    held = counts.get("heldBack", 0)
    notes = [f"{waiting:,} waiting"] if waiting else []
    notes += [f"{held:,} held back"] if held else []
    published = Tile("Published pages", counts.get("published", 0), ", ".join(notes))
    keys = Tile("Keys in the store", counts.get("keys", 0))
    if pages is None:
        return [published, keys]
    keys = Tile(
        keys.label, keys.value, f"{unwritten:,} to write" if (unwritten := status["recordsWaiting"]) else ""
    )
    failing = pages["failing"]
    return [
        published,
        keys,
        Tile("To read", pages["due"], tone="busy" if pages["due"] else ""),
        Tile("To settle", pages["toSettle"], "fresh edits, read once more" if pages["toSettle"] else ""),
        Tile("Failing", failing, "see below" if failing else "", "warn" if failing else ""),
    ]


def types(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Published pages by type, under the names that people use: those of the sources first, then what lies below."""
    names = [name for name in counts if name not in NOT_TYPES]
    names.sort(key=lambda name: (name in ("child", "row"), name not in ("page", "post"), name))
    return [(_type(name, counts[name]), counts[name]) for name in names]


def _type(name: str, count: int) -> str:
    noun = _TYPES.get(name)
    return name if noun is None else noun if count == 1 else f"{noun}s"


def store(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Which store it is, and who writes to it."""
    kind, standing = str(facts.get("kind", "")), str(facts.get("standing", ""))
    return _STORES.get(kind, kind), _STANDINGS.get(standing, standing)


def work(job: Mapping[str, Any]) -> str:
    """What a job does: `sync`, `full sync of posts`, `republish`."""
    if job["kind"] != "sync":
        return str(job["kind"]).replace("-", " ")
    return ("full sync" if job["force"] else "sync") + (f" of {job['only']}" if job["only"] else "")


def caller(origin: str) -> str:
    """Who asked for a job."""
    return {"http": "a call", "trigger": "a trigger", "qstash": "QStash", "cron": "FULL_SYNC_CRON"}.get(
        origin, f"a {origin}"
    )


def files(facts: Mapping[str, Any]) -> str:
    """What became of the files that Notion hosts, in a sentence."""
    if facts.get("mode", "off") == "off":
        return "Files keep Notion’s own links, which die after an hour."
    done = "copied" if facts["mode"] == "mirror" else "measured"
    counted = [f"{facts['copied']:,} {done}"]
    for name, words in (("waiting", "waiting"), ("failed", "failed"), ("refused", "not to be copied")):
        if facts[name]:
            counted.append(f"{facts[name]:,} {words}")
    return f"Files: {', '.join(counted)}."


def plural(count: int, noun: str) -> str:
    """`1 page`, `1,200 pages`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def sentence(text: str | None) -> str | None:
    """`text` with a capital at its beginning and a full stop at its end."""
    if not text:
        return None
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def duration(seconds: float) -> str:
    """A length of time: `0.42 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


def age(moment: str, now: datetime) -> str:
    """How far a moment (ISO 8601) is from now: `4 s ago`, `in 2 min`."""
    seconds = round((now - datetime.fromisoformat(moment)).total_seconds())
    if seconds == 0:
        return "just now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def clock_time(moment: str, now: datetime) -> str:
    """A moment as UTC time of day, with its date unless that is today's."""
    at = datetime.fromisoformat(moment)
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}"


FILTERS: dict[str, Callable[..., str]] = {
    "age": age,
    "caller": caller,
    "clock_time": clock_time,
    "duration": duration,
    "plural": plural,
    "sentence": lambda text: sentence(text) or "",
    "work": work,
}
