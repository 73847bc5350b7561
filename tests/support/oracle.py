"""What the site should be, worked out from the sandbox's own model and the rules alone: no code of the daemon's."""

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from daemon.demo.files import PUBLIC_URL
from daemon.demo.normal import FILES_URL
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
    """Answers for one workspace and its configured sources: (name, id of a database, data source or page).

    `stamp_ms`: how coarse stamps are shown. `trash_hides`: what lies below a trashed page answers 404.
    `passes`: whether a row is published at all.
    """

    def __init__(
        self,
        workspace: Workspace,
        sources: list[tuple[str, str]],
        *,
        stamp_ms: int = 60_000,
        trash_hides: bool = False,
        passes: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._workspace = workspace
        self._stamp_ms = stamp_ms
        self._trash_hides = trash_hides
        self._passes = passes
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
            "type": spot.kind
            if spot.kind in ("child", "row")
            else {"pages": "page", "posts": "post"}.get(spot.source, spot.source),
            "parentSlug": spot.parent.slug if spot.parent else None,
            "childPages": [(c, self._workspace.title_of(c), below.slug) for c, below in children],
            "lastEdited": self._edited(spot.id),
            **self._looks(spot.id),
            "icon": _address(self._workspace.page(spot.id).icon),
            "texts": self._texts(spot.id),
        }

    def item(self, site: Site, key: str, page: str) -> Json:
        """What a list says of one of its pages."""
        looks = self._looks(page)
        if key.endswith(":index"):
            own = {"slug": site.spots[page].slug, "notionId": page, "lastEdited": self._edited(page)}
            del looks["tags"]
        else:
            own = {"path": site.spots[page].slug, "id": page}
        return {**own, **looks, "title": self._workspace.title_of(page)}

    def differences(self, store: Mapping[str, Json]) -> list[str]:
        """How a store (all its keys but `sync:*`, parsed) differs from what the rules say, a line a difference."""
        site = self.site()
        wrong = [f"{key}: not there" for key in sorted(site.keys - {*store})]
        wrong += [f"{key}: left over" for key in sorted({*store} - site.keys)]
        for slug, spot in site.by_slug.items():
            key = f"page:{slug}"
            if key in store:
                said, wanted = published_facts(store[key], self._stamp_ms), self.facts(site, spot)
                wrong += [
                    f"{key} {name}: {said[name]!r} instead of {wanted[name]!r}"
                    for name in wanted
                    if said[name] != wanted[name]
                ]
        for key, pages in (site.indexes | site.databases).items():
            if key in store:
                wrong += self._list_differences(site, key, pages, store[key])
        return wrong

    def rows_behind(self, store: Mapping[str, Json], but: Collection[str] = ()) -> list[str]:
        """Published rows of the sources whose own facts are not the present ones, those in `but` apart."""
        rows = [
            row for _, ref in self._sources if ref not in self._workspace.pages for row in self._rows(ref)
        ]
        wrong = []
        for key, value in store.items():
            page = (value.get("meta") or {}).get("notionId")
            if page in rows and page not in but:
                said = published_facts(value, self._stamp_ms)
                wanted = {"lastEdited": self._edited(page), "title": self._workspace.title_of(page)}
                wanted |= self._looks(page)
                wrong += [
                    f"{key} {n}: {said[n]!r} instead of {wanted[n]!r}" for n in wanted if said[n] != wanted[n]
                ]
        return wrong

    def _list_differences(self, site: Site, key: str, pages: list[str], value: Json) -> list[str]:
        wanted = [self.item(site, key, page) for page in pages]
        shown = value if key in site.indexes else value["bundle"]
        said = (
            [{name: item[name] for name in wanted[0]} for item in shown["items"]]
            if wanted
            else shown["items"]
        )
        for item in said:
            item["cover"] = _unsigned(item["cover"])
            item.update({"lastEdited": _units(item, self._stamp_ms)} if "lastEdited" in item else {})
        about, right = {}, {}
        if key in site.databases:
            covers = sum(1 for item in wanted if item["cover"])
            view = "gallery" if wanted and covers >= 0.6 * len(wanted) else "list"
            right = {"name": self._workspace.title_of(key.split(":")[1]), "view": view}
            about = {name: shown[name] for name in right}
        return (
            [f"{key}: {(about, said)} instead of {(right, wanted)}"]
            if (about, said) != (right, wanted)
            else []
        )

    def lists(self, parent: str, child: str) -> bool:
        """Whether a data source or a page shows this page or database, to us."""
        if parent in self._workspace.data_sources:
            return child in self._workspace.rows(parent) and self._workspace.readable(child)
        return parent in self._workspace.pages and child in [found for _, found in self._pointers(parent)]

    def _looks(self, page: str) -> Json:
        """Cover, tags and excerpt."""
        version = self._workspace.page(page)
        cells: Json = {"tags": [], "excerpt": ""}
        if version.parent[0] == "data_source_id":
            schema = self._workspace.data_sources[version.parent[1]].schema
            cells = {name: self._cell(page, schema, name) for name in cells}
            column = next((c for c in schema.values() if c.name.lower() == "tags"), None)
            names = {o["id"]: o["name"] for o in column.config["options"]} if column else {}
            cells["tags"] = [names[option] for option in cells["tags"] or []]
        return {
            "cover": _address(version.cover),
            "tags": cells["tags"],
            "excerpt": str(cells["excerpt"] or "").strip() or None,
        }

    def _cell(self, page: str, schema: Mapping[str, Any], name: str) -> Any:
        column = next((c for c in schema.values() if c.name.lower() == name), None)
        return self._workspace.page(page).properties.get(column.id) if column else None

    def _edited(self, page: str) -> int:
        """The page's stamp as it is shown, in units of its coarseness."""
        return self._workspace.page(page).edited_ms // self._stamp_ms

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
        schema = self._workspace.data_sources[self._workspace.page(page).parent[1]].schema
        return str(self._cell(page, schema, "slug") or "").strip()

    def _rows(self, ref: str) -> list[str]:
        database = self._workspace.databases.get(ref)
        sources = database.data_sources if database else [ref]
        return [
            row
            for source in sources
            for row in self._workspace.rows(source)
            if self._workspace.readable(row) and self._passes(row)
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
        """The plain text runs of every block and the titles of child pages, in reading order.

        Copies show their originals, or that these cannot be read.
        """
        found = []
        for child in self._workspace.children(container):
            block = self._workspace.blocks.get(child)
            if block is None:
                is_page = child in self._workspace.pages and self._workspace.readable(child)
                found += [f"page: {self._workspace.title_of(child)}"] if is_page else []
                continue
            found += plain_runs(json.loads(block.content))
            if block.original_id is None:
                found += self._texts(child)
            else:
                shown = self._may_be_shown(block.original_id)
                found += self._texts(block.original_id) if shown else ["unshared"]
        return found

    def _may_be_shown(self, original: str) -> bool:
        """Whether a synced copy can show this original: as long as Notion answers, in the trash too."""
        workspace = self._workspace
        hidden = self._trash_hides and workspace.below_trash(original)
        return original in workspace.blocks and workspace.readable(original) and not hidden

    def _age(self, page: str) -> tuple[int, str]:
        return self._workspace.pages[page].created_ms // self._stamp_ms, page

    def _newest_first(self, site: Site, pages: list[str], then: Any) -> list[str]:
        shown = [page for page in dict.fromkeys(pages) if page in site.spots]
        return sorted(shown, key=lambda page: (-self._edited(page), then(page)))


def published_facts(bundle: Json, stamp_ms: int) -> Json:
    """A page's value in the form of `Oracle.facts`."""
    meta = bundle["meta"]
    named = ("notionId", "slug", "title", "type", "parentSlug", "cover", "tags", "excerpt", "icon")
    children = [(c["id"], c["title"], c["slug"]) for c in meta.get("childPages", [])]
    shown = {"childPages": children, "texts": _runs(bundle["blocks"])}
    told = {**{name: meta[name] for name in named}, **shown, "lastEdited": _units(meta, stamp_ms)}
    return {**told, "cover": _unsigned(meta["cover"]), "icon": _unsigned(meta["icon"])}


def _units(told: Json, stamp_ms: int) -> int:
    return round(datetime.fromisoformat(told["lastEdited"]).timestamp() * 1000) // stamp_ms


def _address(looks: Json | None) -> str | None:
    """An emoji, or the address of an image without its signature."""
    kind = (looks or {}).get("type") or ""
    told = (looks or {}).get(kind)
    return _unsigned(told.get("url") if isinstance(told, dict) else told)


def _unsigned(address: str | None) -> str | None:
    """Without its signature; a hosted file lies at the sandbox's own address while that serves."""
    bare = address.split("?")[0] if address else None
    bare = re.sub(r"^http://127\.0\.0\.1:\d+/files/public", PUBLIC_URL, bare) if bare else None
    return re.sub(r"^http://127\.0\.0\.1:\d+/files", FILES_URL, bare) if bare else None


def plain_runs(content: Json) -> list[str]:
    """The texts of a block's own rich text, mentions and formulas apart."""
    runs = content.get("rich_text") or []
    return [run["text"]["content"] for run in runs if run["type"] == "text"]


def _runs(blocks: list[Json]) -> list[str]:
    found = []
    for block in blocks:
        content = block[block["type"]] or {}
        found += [f"page: {content['title']}"] if block["type"] == "child_page" else plain_runs(content)
        found += ["unshared"] if block.get("__synced_unshared") else _runs(block.get("__children") or [])
    return found


async def check(
    world: World, *, trash_hides: bool = False, passes: Callable[[str], bool] = lambda _: True
) -> None:
    """The store holds exactly what the rules say, key by key; raises AssertionError with what differs."""
    oracle = Oracle(world.workspace, world.sources, trash_hides=trash_hides, passes=passes)
    wrong = oracle.differences({key: await world.value(key) for key in await world.keys()})
    slugs = await world.slugs()
    wrong += [
        f"redirect:{old} leads to {to}, and there is {'a page' if old in slugs else 'none'} at {old}"
        for old, to in (await world.redirects()).items()
        if old in slugs or to not in slugs
    ]
    if wrong:
        raise AssertionError("\n".join(wrong))
