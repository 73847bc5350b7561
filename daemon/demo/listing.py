"""Queries and search: which objects, in which order, as of when, from which cursor on."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zlib import crc32

from daemon.demo.errors import cursor_refused, failed, validation_error
from daemon.demo.habits import Habits
from daemon.demo.model import DataSource, Page, PageVersion
from daemon.demo.wire import Json, floored, to_ms
from daemon.demo.workspace import Workspace

STAMP_NAMES = ("last_edited_time", "created_time")
_MAX_SESSIONS = 1000
_MAX_KEPT = 8
_CompareDate = Callable[[int, int, int], bool]
_OPERATORS: dict[str, _CompareDate] = {
    "equals": lambda value, start, end: start <= value < end,
    "before": lambda value, start, end: value < start,
    "after": lambda value, start, end: value >= end,
    "on_or_before": lambda value, start, end: value < end,
    "on_or_after": lambda value, start, end: value >= start,
}

Hit = tuple[tuple[Any, ...], str, Page | DataSource, PageVersion | None]
"""A result with its sort key and id; pages come in the version that the listing shows."""
Keep = Callable[[Page, PageVersion], bool]


def in_share(seed: int, object_id: str, share: float) -> bool:
    """Whether the object is among that share (0..1) of all; always the same ones for a seed."""
    return share > 0 and crc32(f"{seed}:{object_id}".encode()) / 2**32 < share


@dataclass(frozen=True)
class _Descending:
    """A sort key turned round."""

    value: Any

    def __lt__(self, other: "_Descending") -> bool:
        return bool(other.value < self.value)


@dataclass
class _Session:
    """What a cursor of a query or search stands for."""

    about: Hashable
    opened_at: float
    returned: int
    next_key: tuple[Any, ...]
    frozen: list[Hit]


@dataclass(frozen=True)
class Result:
    """One page of a listing."""

    hits: list[Hit]
    next_cursor: str | None
    capped: bool


class Listings:
    """Answers queries and searches over one workspace."""

    def __init__(self, workspace: Workspace, habits: Habits, seed: int) -> None:
        self._workspace = workspace
        self._habits = habits
        self._seed = seed
        self._random = Random(seed)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._continuations = 0
        self._kept: OrderedDict[Hashable, list[Hit]] = OrderedDict()

    # What is asked for

    def rows(
        self, source: DataSource, at: float, sorts: list[Json], keep: "Filter", archived: bool
    ) -> list[Hit]:
        """The rows of a data source as of monotonic second `at`, sorted and filtered."""
        order = _Order(sorts, source, self._habits, self._seed)
        key = (
            "rows",
            source.id,
            source.changes.state_at(at),
            archived,
            order.identity,
            keep.identity,
            *self._about(),
        )
        return self._keep(key, lambda: self._sorted_rows(source, at, order, keep, archived))

    def _sorted_rows(
        self, source: DataSource, at: float, order: "_Order", keep: "Filter", archived: bool
    ) -> list[Hit]:
        place = ("data_source_id", source.id)
        hidden = {i for i, shared in self._workspace.shares.items() if not shared}
        pages = self._workspace.pages
        below = self._habits.trash_reaches_down == "flag" and self._workspace.below_trash(source.id)
        earliest_ms = keep.earliest_edit_ms
        found: list[Hit] = []
        for row_id in source.rows:
            page = pages[row_id]
            version = page.versions[-1]
            if version.at > at:
                older = page.as_of(at)
                if older is None:
                    continue
                version = older
            if version.edited_ms < earliest_ms:
                continue  # most rows of a poll end here
            if version.parent != place or version.in_trash or below or version.is_archived != archived:
                continue
            if row_id not in hidden and keep.passes(page, version):
                found.append((order.key(page, version), row_id, page, version))
        found.sort(key=lambda hit: hit[0])
        return found

    def found(self, at: float, search: "Search") -> list[Hit]:
        """What search returns as of monotonic second `at`, newest edit first or last."""
        key = (
            "search",
            self._workspace.changes.state_at(at),
            search,
            self._habits.search_forgets,
            *self._about(),
        )
        return self._keep(key, lambda: self._sorted_search(at, search))

    def _sorted_search(self, at: float, search: "Search") -> list[Hit]:
        order = _Order(
            [{"timestamp": "last_edited_time", "direction": search.direction}], None, self._habits, 0
        )
        found: list[Hit] = []
        if search.kind != "data_source":
            for page in self._workspace.pages.values():
                version = page.as_of(at)
                if version is not None and self._shows(
                    page.id, version.in_trash, version.is_archived, search
                ):
                    found.append((order.key(page, version), page.id, page, version))
        if search.kind != "page":
            for source in self._workspace.data_sources.values():
                trashed = source.in_trash or self._workspace.databases[source.database_id].in_trash
                if source.created_at <= at and self._shows(source.id, trashed, False, search):
                    found.append((order.stamp_key(source.edited_ms, source.id), source.id, source, None))
        found.sort(key=lambda hit: hit[0])
        return found

    def _shows(self, object_id: str, trashed: bool, archived: bool, search: "Search") -> bool:
        workspace, forgets = self._workspace, self._habits.search_forgets
        if trashed != search.in_trash or archived:
            return False
        if workspace.shares and not workspace.readable(object_id):
            return False
        if workspace.trashed and not trashed and workspace.below_trash(object_id):
            return False
        if forgets and in_share(self._seed, object_id, forgets):
            return False
        return not search.words or search.words in workspace.title_of(object_id).lower()

    def _about(self) -> tuple[Hashable, ...]:
        """What else a listing depends on."""
        habits, workspace = self._habits, self._workspace
        compared = habits.stamp_granularity_seconds if habits.compares == "shown" else None
        trash = frozenset(workspace.trashed) if habits.trash_reaches_down == "flag" else None
        return (compared, workspace.share_version, trash)

    def _keep(self, key: Hashable, make: Callable[[], list[Hit]]) -> list[Hit]:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    # Paging

    def page_of(
        self, hits: list[Hit], about: Hashable, cursor: str | None, page_size: int, now: float
    ) -> Result:
        """The next results of a listing; a cursor is bound to `about`, the request without its cursor.

        Raises a 400 for a cursor that is unknown, of another request, too old, or refused out of habit.
        """
        session = self._resume(cursor, about, now) if cursor is not None else None
        if session is not None and self._habits.cursor_position == "snapshot":
            hits = session.frozen
        returned = session.returned if session else 0
        start = self._start(hits, session)
        allowed = min(self.size(page_size), max(0, self._habits.result_cap - returned))
        taken = hits[start : start + allowed]
        rest = start + len(taken) < len(hits)
        returned += len(taken)
        capped = rest and returned >= self._habits.result_cap
        if not rest or capped:
            return Result(taken, None, capped)
        following = hits[start + len(taken)]
        left = _Session(about, session.opened_at if session else now, returned, following[0], hits)
        same = cursor if cursor is not None and self._habits.cursor_repeats else None
        return Result(taken, same or self._open(left, following[1], cursor), False)

    def size(self, page_size: int) -> int:
        """How many results a page really holds."""
        return self._random.randint(1, max(1, page_size - 1)) if self._habits.short_pages else page_size

    def _start(self, hits: list[Hit], session: _Session | None) -> int:
        if session is None:
            return 0
        if self._habits.cursor_position == "key":
            return bisect_left(hits, session.next_key, key=lambda hit: hit[0])
        return session.returned

    def _open(self, session: _Session, next_id: str, cursor: str | None) -> str:
        session_id = cursor.split(":")[1] if cursor else self._workspace.ids.random()
        made = f"s:{session_id}:{next_id}"
        self._sessions[made] = session
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return made

    def _resume(self, cursor: str, about: Hashable, now: float) -> _Session:
        session = self._sessions.get(cursor)
        lifetime = self._habits.cursor_lifetime_seconds
        self.refuse_by_habit(cursor)
        if session is None or session.about != about:
            raise cursor_refused(cursor)
        if lifetime is not None and now - session.opened_at > lifetime:
            raise cursor_refused(cursor)
        return session

    def refuse_by_habit(self, cursor: str) -> None:
        """Count a continuation; raises the 400 when it is one that dies."""
        dies = self._habits.cursor_dies
        self._continuations += 1
        if dies >= 1 and self._continuations % int(dies) == 0:
            raise cursor_refused(cursor)
        if 0 < dies < 1 and self._random.random() < dies:
            raise cursor_refused(cursor)


@dataclass(frozen=True)
class Search:
    """A search that was asked for."""

    kind: str | None
    in_trash: bool
    words: str
    direction: str


class _Order:
    """A sort order: turns rows into keys whose natural order is the wanted one. Ties go by id."""

    def __init__(self, sorts: list[Json], source: DataSource | None, habits: Habits, seed: int) -> None:
        self._sorts = sorts
        self._source = source
        self._seed = seed
        self._granularity = habits.stamp_granularity_seconds if habits.compares == "shown" else 0
        self.identity = repr(sorts)

    def key(self, page: Page, version: PageVersion) -> tuple[Any, ...]:
        if not self._sorts:
            return (crc32(f"{self._seed}:{page.id}".encode()), page.id)
        if len(self._sorts) == 1 and "timestamp" in self._sorts[0]:
            edited = self._sorts[0]["timestamp"] == "last_edited_time"
            return self.stamp_key(version.edited_ms if edited else page.created_ms, page.id)
        return (*(self._part(sort, page, version) for sort in self._sorts), page.id)

    def stamp_key(self, ms: int, object_id: str) -> tuple[Any, ...]:
        shown = floored(ms, self._granularity)
        return (-shown if self._sorts[0].get("direction") == "descending" else shown, object_id)

    def _part(self, sort: Json, page: Page, version: PageVersion) -> Any:
        if "timestamp" in sort:
            edited = sort["timestamp"] == "last_edited_time"
            value: Any = floored(version.edited_ms if edited else page.created_ms, self._granularity)
        else:
            value = _comparable(self._source, sort["property"], page, version)
        empty = value is None or value == ""
        shown = (0,) if empty else (1, value)
        return (empty, _Descending(shown) if sort.get("direction") == "descending" else shown)


def _comparable(source: DataSource | None, name: str, page: Page, version: PageVersion) -> Any:
    """A cell's value as sorting sees it: words, numbers, dates by their start, options by their place."""
    column = source.column(name) if source else None
    if column is None:
        return None
    if column.kind in STAMP_NAMES:
        return version.edited_ms if column.kind == "last_edited_time" else page.created_ms
    value = version.properties.get(column.id)
    if column.kind in ("select", "status"):
        places = [option["id"] for option in column.config["options"]]
        return places.index(value) if value in places else None
    if isinstance(value, dict):
        value = value.get("start", value.get(value.get("type", ""), None))
    if isinstance(value, list):
        value = "".join(item.get("plain_text", "") for item in value)
    return value.lower() if isinstance(value, str) else value if isinstance(value, int | float) else None


class Filter:
    """A timestamp filter, or a compound of such, read from a query's body."""

    def __init__(self, given: Any, habits: Habits) -> None:
        """Raises a 400 for anything else; filters on properties are not served here."""
        self.identity = repr(given)
        self._granularity = habits.stamp_granularity_seconds if habits.compares == "shown" else 0
        self.earliest_edit_ms = -1
        """Rows edited before that do not pass, whatever else is asked."""
        self._keep = self._compile(given, "body.filter", depth=0) if given is not None else None

    def passes(self, page: Page, version: PageVersion) -> bool:
        return self._keep is None or self._keep(page, version)

    def _compile(self, given: Any, where: str, depth: int) -> Keep:
        if not isinstance(given, dict):
            raise failed(where, "an object", given)
        for word, every in (("and", all), ("or", any)):
            if word in given:
                return self._compound(given[word], f"{where}.{word}", depth, every)
        if "property" in given:
            raise validation_error(
                f"{where}.property: this sandbox serves timestamp filters and compounds of them only."
            )
        name = given.get("timestamp")
        if name not in STAMP_NAMES:
            raise failed(f"{where}.timestamp", '`"created_time"` or `"last_edited_time"`', name)
        return self._condition(name, given.get(name), f"{where}.{name}", only_condition=depth == 0)

    def _compound(self, parts: Any, where: str, depth: int, every: Callable[[Any], bool]) -> Keep:
        if not isinstance(parts, list):
            raise failed(where, "an array", parts)
        if depth == 2:
            raise failed(where, "not present", parts)
        if len(parts) > 100:
            raise failed(f"{where}.length", "≤ `100`", len(parts))
        tests = [self._compile(part, f"{where}[{i}]", depth + 1) for i, part in enumerate(parts)]
        return lambda page, version: every(test(page, version) for test in tests)

    def _condition(self, name: str, condition: Any, where: str, *, only_condition: bool) -> Keep:
        if not isinstance(condition, dict) or len(condition) != 1:
            raise failed(where, "an object with one condition", condition)
        word, value = next(iter(condition.items()))
        if word not in _OPERATORS:
            raise failed(f"{where}.{word}", "not present", value)
        start, end = _moment(value, f"{where}.{word}")
        compare, granularity = _OPERATORS[word], self._granularity
        if only_condition and name == "last_edited_time" and word == "on_or_after":
            self.earliest_edit_ms = start
        if name == "created_time":
            return lambda page, version: compare(floored(page.created_ms, granularity), start, end)
        return lambda page, version: compare(floored(version.edited_ms, granularity), start, end)


def _moment(value: Any, where: str) -> tuple[int, int]:
    """The milliseconds a date or time covers, end excluded. Without a zone it is UTC."""
    try:
        parsed = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise failed(where, "a valid ISO 8601 date string", value) from None
    moment = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    start = to_ms(moment)
    whole_day = len(value) == len("2026-01-05")
    return start, start + (int(timedelta(days=1).total_seconds() * 1000) if whole_day else 1)
