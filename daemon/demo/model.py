"""What the workspace is made of: pages with their recent versions, blocks, databases, data sources."""

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from daemon.demo.wire import Json

Ref = tuple[str, str]
"""A parent: `("page_id", id)`, `block_id`, `data_source_id`, `database_id`, or `("workspace", "")`."""


@dataclass(slots=True)
class Block:
    """A block that is neither a page nor a database. `content` is the JSON text of its body."""

    id: str
    kind: str
    content: bytes
    parent: Ref
    created_ms: int
    edited_ms: int
    created_by: str
    edited_by: str
    children: list[str] = field(default_factory=list)
    in_trash: bool = False
    original_id: str | None = None
    """Of a synced copy: the block whose children it shows."""


@dataclass(frozen=True, slots=True)
class PageVersion:
    """A page's own state between two edits; never changed, so that lagging listings can show it."""

    at: float
    """The monotonic second from which it holds."""
    parent: Ref
    edited_ms: int
    edited_by: str
    properties: dict[str, Any]
    icon: Json | None = None
    cover: Json | None = None
    in_trash: bool = False
    is_archived: bool = False
    is_locked: bool = False
    rendered: dict[Any, bytes] = field(default_factory=dict, compare=False)


@dataclass(slots=True)
class Page:
    """A page: what never changes, its body, and its versions (oldest first, the last is the present one)."""

    id: str
    created_ms: int
    created_by: str
    versions: list[PageVersion]
    children: list[str] = field(default_factory=list)

    @property
    def present(self) -> PageVersion:
        return self.versions[-1]

    def as_of(self, at: float) -> PageVersion | None:
        """The version that held at monotonic second `at`; None when the page did not exist yet."""
        for version in reversed(self.versions):
            if version.at <= at:
                return version
        return None


@dataclass(slots=True)
class Property:
    """A column. `config` is what its type's key holds in the schema."""

    id: str
    name: str
    kind: str
    config: Json
    description: str | None = None


class ChangeLog:
    """When something changed that a listing shows: lets a listing be kept while nothing has."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def note(self, at: float) -> None:
        if not self._times or at >= self._times[-1]:
            self._times.append(at)
        else:
            insort(self._times, at)

    def state_at(self, at: float) -> tuple[int, int]:
        """A value that stays the same as long as a listing as of `at` would."""
        return len(self._times), bisect_right(self._times, at)


@dataclass(slots=True)
class DataSource:
    """A table: its schema and the pages that are or recently were its rows."""

    id: str
    database_id: str
    name: str
    schema: dict[str, Property]
    created_ms: int
    edited_ms: int
    created_by: str
    edited_by: str
    created_at: float
    rows: dict[str, None] = field(default_factory=dict)
    changes: ChangeLog = field(default_factory=ChangeLog)
    schema_version: int = 0
    next_number: int = 1
    in_trash: bool = False

    def columns(self) -> Iterator[Property]:
        """The columns as responses order them: by id, the title last."""
        others = sorted((p for p in self.schema.values() if p.kind != "title"), key=lambda p: p.id)
        yield from others
        yield from (p for p in self.schema.values() if p.kind == "title")

    def column(self, name: str) -> Property | None:
        """The column of that name or id."""
        by_id = self.schema.get(name)
        return by_id or next((p for p in self.schema.values() if p.name == name), None)


@dataclass(slots=True)
class Database:
    """The container of data sources. `linked`: a view of somebody else's, which the API does not serve."""

    id: str
    title: list[Json]
    parent: Ref
    inline: bool
    created_ms: int
    edited_ms: int
    created_by: str
    edited_by: str
    data_sources: list[str] = field(default_factory=list)
    icon: Json | None = None
    cover: Json | None = None
    in_trash: bool = False
    linked: bool = False
