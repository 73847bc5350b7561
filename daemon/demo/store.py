"""Where everything in the workspace is, what lies above what, and what the integration may read."""

from collections.abc import Iterator

from daemon.demo.model import Block, ChangeLog, Database, DataSource, Page, Ref
from daemon.demo.wire import IdMaker, Json, dashed

Thing = Page | Block | Database | DataSource
WORKSPACE: Ref = ("workspace", "")


class Store:
    """The objects by id, with the questions about their place that need no clock."""

    def __init__(self, ids: IdMaker) -> None:
        self.ids = ids
        self.pages: dict[str, Page] = {}
        self.blocks: dict[str, Block] = {}
        self.databases: dict[str, Database] = {}
        self.data_sources: dict[str, DataSource] = {}
        self.changes = ChangeLog()
        self.trashed: set[str] = set()
        self.shares: dict[str, bool] = {}
        self.share_version = 0
        self.token_revoked = False
        self.space_id = ids.random()
        self.bot_id = ids.random()
        self.person_id = ids.random()
        self.users: dict[str, Json] = {}

    def find(self, object_id: str) -> Thing | None:
        """The object with that id, of whatever kind."""
        found: Thing | None = self.pages.get(object_id) or self.blocks.get(object_id)
        return found or self.databases.get(object_id) or self.data_sources.get(object_id)

    def known(self, object_id: str) -> str:
        """The id in its dashed form. Raises KeyError when nothing has it."""
        canonical = dashed(object_id)
        if canonical is None or self.find(canonical) is None:
            raise KeyError(f"nothing in the workspace has the id {object_id!r}")
        return canonical

    def parent_of(self, object_id: str) -> Ref:
        """What the object lies in; the workspace itself for top-level pages."""
        thing = self.find(object_id)
        if isinstance(thing, Page):
            return thing.present.parent
        if isinstance(thing, DataSource):
            return ("database_id", thing.database_id)
        return thing.parent if thing is not None else WORKSPACE

    def ancestors(self, object_id: str) -> Iterator[str]:
        """The ids above the object, nearest first."""
        kind, parent_id = self.parent_of(object_id)
        while kind != "workspace":
            yield parent_id
            kind, parent_id = self.parent_of(parent_id)

    def page_above(self, container_id: str) -> str | None:
        """The page in whose body the container lies, itself included; None where there is none."""
        while container_id in self.blocks:
            container_id = self.blocks[container_id].parent[1]
        return container_id if container_id in self.pages else None

    def children_ids(self, container_id: str) -> list[str]:
        """The live list of what lies directly in a page or block. Raises KeyError for anything else."""
        thing = self.pages.get(container_id) or self.blocks.get(container_id)
        if thing is None:
            raise KeyError(f"{container_id!r} is neither a page nor a block")
        return thing.children

    def in_trash(self, object_id: str) -> bool:
        """Whether the object itself was put into the trash."""
        return object_id in self.trashed

    def below_trash(self, object_id: str) -> bool:
        """Whether something above the object is in the trash."""
        return bool(self.trashed) and any(above in self.trashed for above in self.ancestors(object_id))

    def readable(self, object_id: str) -> bool:
        """Whether the integration may read the object: the nearest decision on the way up counts."""
        if not self.shares:
            return True
        if object_id in self.shares:
            return self.shares[object_id]
        return next((self.shares[above] for above in self.ancestors(object_id) if above in self.shares), True)

    def shown_children(self, container_id: str, *, lists_unshared: bool = False) -> list[str]:
        """The children that a listing shows: not those in the trash, and of pages only the readable ones."""
        if container_id in self.databases:
            return []
        listed = [c for c in self.children_ids(container_id) if c not in self.trashed]
        if not self.shares or lists_unshared:
            return listed
        return [c for c in listed if c in self.blocks or self.readable(c)]

    def has_children(self, object_id: str) -> bool:
        """Whether a block's or page's listing would show anything."""
        block = self.blocks.get(object_id)
        if block is not None and block.original_id is not None:
            original = self.blocks.get(block.original_id)
            return bool(original and original.id not in self.trashed and self.has_children(original.id))
        thing = block or self.pages.get(object_id)
        return bool(thing and thing.children) and bool(self.shown_children(object_id))

    def title_of(self, object_id: str) -> str:
        """The plain title of a page, database or data source."""
        thing = self.find(object_id)
        if isinstance(thing, Page):
            title = thing.present.properties.get("title") or ""
            return title if isinstance(title, str) else "".join(item["plain_text"] for item in title)
        if isinstance(thing, Database):
            return "".join(item["plain_text"] for item in thing.title)
        return thing.name if isinstance(thing, DataSource) else ""
