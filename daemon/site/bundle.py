"""One page of the site: the value under `page:{slug}`, and what a tree of blocks tells of other pages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from daemon.jsontext import content_hash, strip_noise
from daemon.notion.files import HostedFile, relinked_block, relinked_page
from daemon.notion.ids import normalize_id
from daemon.notion.values import (
    LONG_TYPES,
    REFERENCES_LISTED,
    cover_url,
    icon_value,
    list_property,
    page_title,
    properties_of,
    property_named,
    property_value,
    text_property,
)
from daemon.site.files import Shown
from daemon.site.indexes import iso_ms
from daemon.site.slugs import Child

JsonObject = dict[str, Any]

_OWN_FIELDS = frozenset({"slug", "visibility", "password", "excerpt", "tags", "fullwidth"})
"""Names (case folded) of properties that have a field of their own in `meta`; so has every title."""

_STAMP_TYPES = ("last_edited_time", "last_edited_by")
_NOT_LISTED = ("notionId", "lastEdited", "createdTime")
"""Of `meta` what does not count when two listings are compared."""


def page_meta(page: Mapping[str, Any]) -> JsonObject:
    """The part of `meta` that the page object tells by itself. Raises `PartialPageError`."""
    return {
        "notionId": normalize_id(page["id"]) or page["id"],
        "title": page_title(page),
        "visibility": text_property(page, "visibility") or "public",
        "password": text_property(page, "password"),
        "lastEdited": page.get("last_edited_time"),
        "icon": icon_value(page),
        "cover": cover_url(page),
        "fullWidth": property_value(property_named(page, "fullWidth") or {}) is True,
        "createdTime": page.get("created_time"),
        "excerpt": text_property(page, "excerpt"),
        "tags": list_property(page, "tags"),
        "properties": {
            name: property_value(prop)
            for name, prop in properties_of(page).items()
            if prop.get("type") != "title" and name.casefold() not in _OWN_FIELDS
        },
    }


def build_bundle(  # noqa: PLR0913 - everything that is known of one page comes together here
    page: Mapping[str, Any],
    blocks: Sequence[JsonObject],
    *,
    slug: str,
    type: str,
    parent_slug: str | None,
    child_pages: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    synced_at: datetime,
    files: Mapping[str, Shown] | None = None,
) -> JsonObject:
    """The value under `page:{slug}`.

    `blocks`: as read, with `__children`. `child_pages`: `{"id", "title", "slug"}` in reading order.
    `titles`: the present titles of the pages that the tree's `child_page` blocks point to. `files`: what to show
    of each file that Notion hosts, by its id (None: Notion's own addresses). Nothing passed in is touched.
    """
    own = page_meta(relinked_page(page, _addresses(files)) if files else page)
    after_full_width = {"type": type, "parentSlug": parent_slug}
    meta: JsonObject = {"slug": slug}
    for name, value in own.items():
        meta[name] = value
        if name == "fullWidth":
            meta.update(after_full_width)
    if child_pages:
        meta["childPages"] = [{"id": c["id"], "title": c["title"], "slug": c["slug"]} for c in child_pages]
    return {"meta": meta, "blocks": _present(blocks, titles, files or {}), "syncedAt": iso_ms(synced_at)}


def walk(blocks: Iterable[JsonObject], *, into_copies: bool = True) -> Iterator[JsonObject]:
    """Every block of the tree in reading order, with or without what synced copies show. Any depth."""
    pending = list(blocks)[::-1]
    while pending:
        block = pending.pop()
        yield block
        children = block.get("__children")
        if children and (into_copies or _copied_from(block) is None):
            pending.extend(reversed(children))


def child_pointers(blocks: Iterable[JsonObject]) -> list[Child]:
    """The child pages and databases of this page, in reading order.

    Those that a synced copy shows are not among them: they belong to the original's page.
    """
    pointers: list[Child] = []
    for block in walk(blocks, into_copies=False):
        if block.get("type") == "child_page":
            pointers.append(Child(block["id"], "page"))
        elif block.get("type") == "child_database":
            pointers.append(Child(block["id"], "database"))
    return pointers


def child_page_ids(blocks: Iterable[JsonObject]) -> list[str]:
    """The pages whose titles the tree shows: every `child_page`, those in synced copies too, each once."""
    return list(dict.fromkeys(block["id"] for block in walk(blocks) if block.get("type") == "child_page"))


def synced_originals(blocks: Iterable[JsonObject]) -> list[str]:
    """The ids of the synced blocks whose original is on this page (not inside a copy of something else)."""
    return [block["id"] for block in walk(blocks, into_copies=False) if _is_original(block)]


def synced_copies(blocks: Iterable[JsonObject]) -> list[str]:
    """The ids of the originals that this tree shows copies of, copies inside copies too, each once."""
    return list(dict.fromkeys(filter(None, map(_copied_from, walk(blocks)))))


def listing_hash(page: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> str:
    """A hash over what a listing tells of a page, stamps and addresses of Notion's apart.

    Two listings with the same stamp and another hash mean that a formula, a rollup or the far side of a
    relation changed. A page object whose long values were completed has the hash of the one that a listing
    cuts short. `meta`: the `page_meta` of this page without its noise, where it has been worked out already.
    """
    listed = _as_listed(page)
    if meta is None or listed is not page["properties"]:
        meta = page_meta(strip_noise({**page, "properties": listed}))
    return content_hash({name: value for name, value in meta.items() if name not in _NOT_LISTED})


def _as_listed(page: Mapping[str, Any]) -> JsonObject:
    """The properties as a listing gives them, without stamps; the very same object where nothing differs."""
    properties = properties_of(page)
    listed = {name: _cut(prop) for name, prop in properties.items() if prop.get("type") not in _STAMP_TYPES}
    same = len(listed) == len(properties) and all(listed[name] is prop for name, prop in properties.items())
    return properties if same else listed


def _cut(prop: JsonObject) -> JsonObject:
    kind = prop.get("type")
    if kind not in LONG_TYPES or len(prop.get(kind) or ()) <= REFERENCES_LISTED:
        return prop
    return {**prop, kind: prop[kind][:REFERENCES_LISTED]}


def _copied_from(block: JsonObject) -> str | None:
    """The id of the original when the block is a synced copy."""
    if block.get("type") != "synced_block":
        return None
    origin = (block.get("synced_block") or {}).get("synced_from")
    return origin.get("block_id") if origin else None


def _is_original(block: JsonObject) -> bool:
    return block.get("type") == "synced_block" and not (block.get("synced_block") or {}).get("synced_from")


def _addresses(files: Mapping[str, Shown]) -> Callable[[HostedFile], str | None]:
    """A file that nothing is known of has no address: better none than one that dies."""
    return lambda file: files[file.id].url if file.id in files else None


def _present(
    blocks: Sequence[JsonObject], titles: Mapping[str, str], files: Mapping[str, Shown]
) -> list[JsonObject]:
    """The tree as the site gets it: a copy where it differs, the very same objects elsewhere."""
    top: list[JsonObject] = []
    pending: list[tuple[Sequence[JsonObject], list[JsonObject]]] = [(blocks, top)]
    while pending:
        given, made = pending.pop()
        for block in given:
            fresh = _present_block(block, titles)
            if files:
                fresh = _with_files(fresh, files)
            children = fresh.get("__children")
            if children:
                below: list[JsonObject] = []
                fresh = {**fresh, "__children": below}
                pending.append((children, below))
            made.append(fresh)
    return top


def _present_block(block: JsonObject, titles: Mapping[str, str]) -> JsonObject:
    if "request_id" in block:
        block = {name: value for name, value in block.items() if name != "request_id"}
    title = titles.get(block["id"]) if block.get("type") == "child_page" else None
    if title is None:
        return block
    return {**block, "child_page": {**(block.get("child_page") or {}), "title": title}}


def _with_files(block: JsonObject, files: Mapping[str, Shown]) -> JsonObject:
    """A block with the addresses to show for its files; an image with its measures, where they are known."""
    measures: list[dict[str, int]] = []

    def resolve(file: HostedFile) -> str | None:
        shown = files.get(file.id)
        if shown is not None and shown.measures is not None and file.kind == "image":
            measures.append(shown.measures)
        return shown.url if shown is not None else None

    linked = relinked_block(block, resolve)
    return {**linked, "__image_meta": measures[0]} if measures else linked
