"""The ledger's tables. Times are unix seconds; those named `*_date` or `due_at` are on Notion's clock.

Content lives in `snapshots`, away from `pages`, so that questions about every page never read a page's blocks.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from daemon import jsontext


class Json(TypeDecorator[Any]):
    """JSON as text that any database can hold: a lone surrogate stays an escape."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else jsontext.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else jsontext.loads(value)


class Base(DeclarativeBase):
    """All tables of the ledger."""


class Meta(Base):
    """Single facts: the ids of this ledger and of the key-value content, watermarks, a running force."""

    __tablename__ = "meta"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[Any] = mapped_column(Json)


class Source(Base):
    """A configured source. One that left the settings stays, retired, so that its keys do too.

    `rule`: which of its rows are published; `rule_problem`: why it does not fit; `frozen`: nobody leaves because of it.
    """

    __tablename__ = "sources"
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    ref: Mapped[str] = mapped_column(String(36), primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    retired: Mapped[bool] = mapped_column(default=False)
    kind: Mapped[str | None] = mapped_column(String(20))
    title: Mapped[Any] = mapped_column(Json, nullable=True)
    data_source_ids: Mapped[Any] = mapped_column(Json, default=list)
    checked_at: Mapped[float | None] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[str | None] = mapped_column(Text)
    rule: Mapped[Any] = mapped_column(Json, nullable=True)
    rule_problem: Mapped[str | None] = mapped_column(Text)
    frozen: Mapped[bool] = mapped_column(default=False, server_default=false())


class DataSource(Base):
    """A data source whose rows are pages of the site, of a configured source or of a database inside a page."""

    __tablename__ = "data_sources"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    configured: Mapped[bool] = mapped_column(default=False)
    watermark: Mapped[float | None] = mapped_column(Float)
    listed_date: Mapped[float | None] = mapped_column(Float)
    swept_at: Mapped[float | None] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[str | None] = mapped_column(Text)


class Database(Base):
    """A database found inside a synced page. `skipped`: Notion does not serve it (a linked view)."""

    __tablename__ = "databases"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[Any] = mapped_column(Json, nullable=True)
    data_source_ids: Mapped[Any] = mapped_column(Json, nullable=True)
    skipped: Mapped[bool] = mapped_column(default=False)
    checked_at: Mapped[float | None] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[str | None] = mapped_column(Text)


class Page(Base):
    """A page of the site: the newest sighting, the stored read, and the work owed.

    `asked` counts the reasons, other than its own stamp, for which it was to be read: one that comes up while the
    page is being read is not settled by that read. `rest_until`: a costly page is not read before.
    """

    __tablename__ = "pages"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    # the newest sighting
    seen_stamp: Mapped[str | None] = mapped_column(String(40))
    seen_date: Mapped[float | None] = mapped_column(Float)
    seen_body: Mapped[bytes | None] = mapped_column(LargeBinary)
    listed_hash: Mapped[str | None] = mapped_column(String(64))
    # the stored read
    stamp: Mapped[str | None] = mapped_column(String(40))
    read_date: Mapped[float | None] = mapped_column(Float)
    trusted: Mapped[bool] = mapped_column(default=False)
    content_hash: Mapped[str | None] = mapped_column(String(64))
    read_hash: Mapped[str | None] = mapped_column(String(64))
    cost_requests: Mapped[int] = mapped_column(Integer, default=0)
    card: Mapped[Any] = mapped_column(Json)
    shows: Mapped[Any] = mapped_column(Json, default=list)
    # the work owed: null when nothing is
    due_at: Mapped[float | None] = mapped_column(Float)
    priority: Mapped[int] = mapped_column(Integer, default=0)
    reason: Mapped[str] = mapped_column(String(40), default="")
    asked: Mapped[int] = mapped_column(Integer, default=0)
    rest_until: Mapped[float | None] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    problem: Mapped[str | None] = mapped_column(Text)
    forced: Mapped[bool] = mapped_column(default=False)
    swept_at: Mapped[float | None] = mapped_column(Float)
    # its place on the site, as last settled
    slug: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(String(200))
    shown: Mapped[bool] = mapped_column(default=False, server_default=false())

    # In the order in which work is taken, and only of what is owed: the next page is found without sorting.
    __table_args__ = (
        Index(
            "pages_due",
            "priority",
            "due_at",
            "id",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
    )


class Snapshot(Base):
    """The last good version of a page, whole: page object and block tree, packed."""

    __tablename__ = "snapshots"
    page_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("pages.id", ondelete="CASCADE"), primary_key=True
    )
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Link(Base):
    """`parent` shows `child`: a source its page, a data source its rows, a page its child pages and databases.

    `missing` is what is known of a child that its parent no longer lists, `since` when; until that is decided it
    still counts.
    """

    __tablename__ = "links"
    parent_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    child_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    position: Mapped[int] = mapped_column(Integer, default=0)
    container_id: Mapped[str | None] = mapped_column(String(36))
    missing: Mapped[str | None] = mapped_column(String(20))
    since: Mapped[float | None] = mapped_column(Float)
    held: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (Index("links_child", "child_id"), Index("links_container", "container_id"))


class Gone(Base):
    """What was found gone from a data source or a page (empty: a page from the site).

    Older listings must not bring a row back; what left a page without a trace is looked for again every sweep.
    """

    __tablename__ = "gone"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    parent_id: Mapped[str] = mapped_column(String(36), primary_key=True, default="")
    date: Mapped[float] = mapped_column(Float)


class Copy(Base):
    """A page shows a synced copy of a block that lives elsewhere."""

    __tablename__ = "copies"
    page_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    original_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    unshared: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (Index("copies_original", "original_id"),)


class Original(Base):
    """A synced block that copies show: the page it lives on (of this site or not) and that page's stamp."""

    __tablename__ = "originals"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    host_id: Mapped[str | None] = mapped_column(String(36))
    stamp: Mapped[str | None] = mapped_column(String(40))
    content_hash: Mapped[str | None] = mapped_column(String(64))
    settle_at: Mapped[float | None] = mapped_column(Float)
    checked_at: Mapped[float | None] = mapped_column(Float)

    __table_args__ = (Index("originals_host", "host_id"),)


class Record(Base):
    """One key: the hash of what it should hold (null: nothing) and of what it does hold.

    `written_owner_id` is whose content the key holds now: a page that moves to another key, and whoever takes the old
    one, are written together. `source` and `written_source`: likewise the source below which the page of the key stands
    (null: no page), which decides its path on the site.
    """

    __tablename__ = "records"
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    owner_id: Mapped[str] = mapped_column(String(200))
    written_owner_id: Mapped[str | None] = mapped_column(String(200))
    source: Mapped[str | None] = mapped_column(String(200))
    written_source: Mapped[str | None] = mapped_column(String(200))
    level: Mapped[int] = mapped_column(Integer, default=0)
    wanted: Mapped[str | None] = mapped_column(String(64))
    written: Mapped[str | None] = mapped_column(String(64))
    digest: Mapped[str | None] = mapped_column(String(40))
    written_at: Mapped[float | None] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("records_owner", "owner_id"),)


class Owed(Base):
    """A tag or a path of which the site is to be told. `position` is its turn, `version` its last change."""

    __tablename__ = "owed"
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    value: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    version: Mapped[int] = mapped_column(Integer)

    __table_args__ = (Index("owed_position", "position"), Index("owed_version", "version"))


class FormerSlug(Base):
    """A slug under which a page was published, and since when (Notion's clock) it is not: nobody has taken it since."""

    __tablename__ = "former_slugs"
    slug: Mapped[str] = mapped_column(Text, primary_key=True)
    page_id: Mapped[str] = mapped_column(String(36))
    since: Mapped[float] = mapped_column(Float)


class CycleRow(Base):
    """What a cycle did, for people: the last few hundred are kept."""

    __tablename__ = "cycles"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    started_at: Mapped[float] = mapped_column(Float)
    summary: Mapped[Any] = mapped_column(Json)


class TaskRow(Base):
    """Work that was asked for: by a command beside the daemon, or by a trigger. Kept a while when it is over.

    `worker`: who took it; one who left without finishing leaves it to the next. `steps` and `numbers`: how far it got,
    so that whoever goes on does not begin anew. `problem`: why the last attempt failed; `next_try_at`: when the next
    one is made.
    """

    __tablename__ = "tasks"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    options: Mapped[Any] = mapped_column(Json, default=dict)
    state: Mapped[str] = mapped_column(String(10))
    worker: Mapped[str | None] = mapped_column(String(36))
    result: Mapped[Any] = mapped_column(Json, nullable=True)
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    origin: Mapped[str] = mapped_column(String(20), default="command")
    steps: Mapped[Any] = mapped_column(Json, default=list)
    numbers: Mapped[Any] = mapped_column(Json, default=dict)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    retries_left: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("tasks_state", "state"),)


class DeliveryRow(Base):
    """A call that was accepted: should it be delivered again, it stands for the same task."""

    __tablename__ = "deliveries"
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    task_id: Mapped[str] = mapped_column(String(36))
    seen_at: Mapped[float] = mapped_column(Float)


class WorkerRow(Base):
    """A process that works on this ledger, and its last sign of life: one comes every `beat_seconds`."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    role: Mapped[str] = mapped_column(String(10))
    standby: Mapped[bool] = mapped_column(default=False)
    seen_at: Mapped[float] = mapped_column(Float)
    beat_seconds: Mapped[float] = mapped_column(Float)


class Asset(Base):
    """A file that Notion hosts, at one place: a block, a property, a cover, an icon. Gone when nothing shows it.

    `url`: as Notion gave it last, dead at `expires_at`. `digest`, `store`: its copy. `measured`: its copying, or only
    the measuring of a picture, has ended well once. `refused`: no try with these settings will do better.
    """

    __tablename__ = "assets"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(20))
    url: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[float | None] = mapped_column(Float)
    first_seen_at: Mapped[float] = mapped_column(Float)
    digest: Mapped[str | None] = mapped_column(String(64))
    store: Mapped[str | None] = mapped_column(String(250))
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    measured: Mapped[bool] = mapped_column(default=False)
    refused: Mapped[bool] = mapped_column(default=False)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_try_at: Mapped[float | None] = mapped_column(Float)
    problem: Mapped[str | None] = mapped_column(Text)
    unused_since: Mapped[float | None] = mapped_column(Float)

    __table_args__ = (
        Index("assets_holder", "holder"),
        Index("assets_path", "path"),
        Index("assets_digest", "digest"),
    )


class AssetUse(Base):
    """A page shows a file, as it was last read."""

    __tablename__ = "asset_uses"
    page_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    asset_id: Mapped[str] = mapped_column(String(32), primary_key=True)

    __table_args__ = (Index("asset_uses_asset", "asset_id"),)


class AssetHold(Base):
    """The value of a key names a file: as it was written last, and while a batch is under way as it may be then."""

    __tablename__ = "asset_holds"
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    asset_id: Mapped[str] = mapped_column(String(32), primary_key=True)

    __table_args__ = (Index("asset_holds_asset", "asset_id"),)


class StoredCopy(Base):
    """The bytes of a file in a store, once, however many places show them. `url`: where readers reach them there."""

    __tablename__ = "stored_copies"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    store: Mapped[str] = mapped_column(String(250), primary_key=True)
    location: Mapped[str] = mapped_column(Text)
    url: Mapped[str | None] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(String(100))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    stored_at: Mapped[float] = mapped_column(Float)
