"""What the site should be, worked out from the sandbox's own model and the rules alone: no code of the daemon's."""

import json
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from daemon.demo.workspace import Workspace
from tests.support.world import World

Json = dict[str, Any]


@dataclass
class Spot:
    """A page in its place."""

    id: str
    kind: str
    source: str
    parent: "Spot | None" = None
    slug: str = ""


@dataclass
class Site:
    """The whole site: pages by slug, lists by key."""

    spots: dict[str, Spot] = field(default_factory=dict)
    databases: dict[str, list[str]] = field(default_factory=dict)
    indexes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def by_slug(self) -> dict[str, Spot]:
        return {spot.slug: spot for spot in self.spots.values()}

    @property
    def keys(self) -> set[str]:
        """Every key there should be."""
        return {f"page:{slug}" for slug in self.by_slug} | {*self.databases} | {*self.indexes}


def slugified(title: str, page_id: str) -> str:
    """A title as a slug."""
    kept, after_latin = "", False
    for character in unicodedata.normalize("NFKD", title):
        if unicodedata.category(character)[0] == "M":
            kept += "" if after_latin else character
        else:
            after_latin = "LATIN" in unicodedata.name(character, "")
            kept += character
    text = unicodedata.normalize("NFC", kept).lower()
    text = re.sub(r"[\s\-\u2010]+", "-", text)
    text = "".join(c for c in text if c == "-" or unicodedata.category(c)[0] in "LMN")
    return re.sub("-+", "-", text).strip("-") or page_id.replace("-", "")[-12:]


class Oracle:
    """Answers for one workspace and its configured sources: (name, id of a database, data source or page)."""

    def __init__(self, workspace: Workspace, sources: list[tuple[str, str]]) -> None:
        self._workspace = workspace
        self._sources = sorted(sources, key=lambda s: {"pages": 0, "posts": 1}.get(s[0], 2))

    def site(self) -> Site:
        """The site as it should be now."""
        site = Site()
        level = self._top(site)
        while level:
            self._settle(site, level)
            level = self._below(site, level)
        for name, ref in self._sources:
            members = [ref] if ref in self._workspace.pages else self._rows(ref)
            site.indexes[f"{name}:index"] = self._newest_first(
                site, members, lambda page: site.spots[page].slug
            )
        for key in site.databases:
            rows = self._rows(key.split(":")[1])
            site.databases[key] = self._newest_first(site, rows, lambda page: page)
        return site

    def facts(self, site: Site, spot: Spot) -> Json:
        """What the page's key should say, blocks as their texts."""
        children = [
            (c, site.spots[c]) for kind, c in self._pointers(spot.id) if kind == "page" and c in site.spots
        ]
        return {
            "notionId": spot.id,
            "slug": spot.slug,
            "title": self._workspace.title_of(spot.id),
            "type": {"top": {"pages": "page", "posts": "post"}.get(spot.source, spot.source)}.get(
                spot.kind, spot.kind
            ),
            "parentSlug": spot.parent.slug if spot.parent else None,
            "childPages": [(c, self._workspace.title_of(c), below.slug) for c, below in children],
            "texts": self._texts(spot.id),
        }

    def _top(self, site: Site) -> list[Spot]:
        found = []
        for name, ref in self._sources:
            is_page = ref in self._workspace.pages
            for page in [ref] if is_page else self._rows(ref):
                found.append(Spot(page, "source" if is_page else "top", name))
        return self._new(site, found)

    def _below(self, site: Site, level: list[Spot]) -> list[Spot]:
        names = [name for name, _ in self._sources]
        found = []
        for parent in sorted(level, key=lambda spot: (names.index(spot.source), self._age(spot.id))):
            for kind, child in self._pointers(parent.id):
                if kind == "page":
                    found.append(Spot(child, "child", parent.source, parent))
                elif self._workspace.databases[child].linked:
                    continue
                else:
                    site.databases[f"db:{child}:cursor:_"] = []
                    found += [Spot(row, "row", parent.source, parent) for row in self._rows(child)]
        return self._new(site, found)

    def _new(self, site: Site, found: list[Spot]) -> list[Spot]:
        fresh: dict[str, Spot] = {}
        for spot in found:
            if spot.id not in site.spots and self._workspace.readable(spot.id):
                fresh.setdefault(spot.id, spot)
        return list(fresh.values())

    def _settle(self, site: Site, level: list[Spot]) -> None:
        for spot in sorted(level, key=lambda spot: self._age(spot.id)):
            spot.slug = self._wanted(spot)
            while spot.slug in site.by_slug:
                spot.slug += "-" + spot.id.replace("-", "")[-12:]
            site.spots[spot.id] = spot

    def _wanted(self, spot: Spot) -> str:
        if spot.kind == "source":
            return spot.source
        above = f"{spot.parent.slug}/" if spot.parent else ""
        own = "" if spot.kind == "child" else self._own_slug(spot.id)
        if not own:
            return above + slugified(self._workspace.title_of(spot.id), spot.id)
        if spot.kind == "row" and "/" not in own:
            return above + own
        return own.strip("/ ") or "index"

    def _own_slug(self, page: str) -> str:
        version = self._workspace.page(page)
        source = self._workspace.data_sources[version.parent[1]]
        column = next((c for c in source.schema.values() if c.name.lower() == "slug"), None)
        return str(version.properties.get(column.id) or "").strip() if column else ""

    def _rows(self, ref: str) -> list[str]:
        database = self._workspace.databases.get(ref)
        sources = database.data_sources if database else [ref]
        return [
            row for source in sources for row in self._workspace.rows(source) if self._workspace.readable(row)
        ]

    def _pointers(self, container: str) -> list[tuple[str, str]]:
        """Child pages and databases of a page, in reading order."""
        found = []
        for child in self._workspace.children(container):
            if child in self._workspace.pages:
                found += [("page", child)] if self._workspace.readable(child) else []
            elif child in self._workspace.databases:
                found += [("database", child)] if self._workspace.readable(child) else []
            else:
                found += self._pointers(child)
        return found

    def _texts(self, container: str) -> list[str]:
        """The plain text runs of every block, in reading order; copies show their originals."""
        found = []
        for child in self._workspace.children(container):
            block = self._workspace.blocks.get(child)
            if block is None:
                continue
            found += plain_runs(json.loads(block.content))
            inside = block.original_id or child
            if inside in self._workspace.blocks and self._workspace.readable(inside):
                found += self._texts(inside)
        return found

    def _age(self, page: str) -> tuple[int, str]:
        created = self._workspace.pages[page].created_ms
        return created - created % 60_000, page

    def _newest_first(self, site: Site, pages: list[str], then: Any) -> list[str]:
        shown = [page for page in dict.fromkeys(pages) if page in site.spots]
        edited = {page: self._workspace.page(page).edited_ms // 60_000 for page in shown}
        ordered = sorted(shown, key=lambda page: (-edited[page], then(page)))
        return [site.spots[page].slug for page in ordered]


def plain_runs(content: Json) -> list[str]:
    """The texts of a block's own rich text, mentions and formulas apart."""
    runs = content.get("rich_text") or []
    return [run["text"]["content"] for run in runs if run["type"] == "text"]


def published_facts(bundle: Json) -> Json:
    """A page's value in the form of `Oracle.facts`."""
    meta = bundle["meta"]
    named = ("notionId", "slug", "title", "type", "parentSlug")
    children = [(c["id"], c["title"], c["slug"]) for c in meta.get("childPages", [])]
    return {**{name: meta[name] for name in named}, "childPages": children, "texts": _runs(bundle["blocks"])}


def _runs(blocks: list[Json]) -> list[str]:
    return [
        run
        for block in blocks
        for run in [*plain_runs(block[block["type"]] or {}), *_runs(block.get("__children") or [])]
    ]


async def check(world: World) -> None:
    """The store holds exactly what the rules say, key by key; raises AssertionError with what differs."""
    oracle = Oracle(world.workspace, world.sources)
    site = oracle.site()
    there = await world.keys()
    wrong: Json = dict.fromkeys(site.keys - there, "not there") | dict.fromkeys(
        there - site.keys, "left over"
    )
    for slug, spot in site.by_slug.items():
        key = f"page:{slug}"
        if key in there:
            said, wanted = published_facts(await world.value(key)), oracle.facts(site, spot)
            wrong |= {
                f"{key} {name}": (said[name], wanted[name]) for name in wanted if said[name] != wanted[name]
            }
    for key, slugs in (site.indexes | site.databases).items():
        if key in there:
            value = await world.value(key)
            items = value["items"] if "items" in value else value["bundle"]["items"]
            listed = [item["path" if "path" in item else "slug"] for item in items]
            wrong |= {key: (listed, slugs)} if listed != slugs else {}
    if wrong:
        raise AssertionError("\n".join(f"{key}: {what}" for key, what in wrong.items()))
