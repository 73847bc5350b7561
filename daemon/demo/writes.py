"""The endpoints that change something: checked as Notion checks them, then done by the workspace."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from daemon.demo.calls import Call, listed
from daemon.demo.errors import ApiError, failed, validation_error
from daemon.demo.model import DataSource
from daemon.demo.normal import DEFAULTS
from daemon.demo.properties import COMPUTED
from daemon.demo.wire import Json

MAX_CHILDREN = 100
MAX_BLOCKS = 1000
MAX_TEXT = 2000
_READ_ONLY_BLOCKS = frozenset({"unsupported", "link_preview"})
_ARCHIVED = "Can't edit block that is archived. You must unarchive the block before editing."


def create_page(call: Call) -> bytes:
    """A page under a page, a row of a data source, or a page at the top of the workspace."""
    call.only_keys("parent", "properties", "children", "icon", "cover", "position")
    parent = call.body.get("parent")
    if not isinstance(parent, dict):
        raise failed("body.parent", "defined", ...)
    properties = _object(call, "properties")
    children = _checked_children(call.body.get("children", []), "body.children")
    looks = {"icon": call.body.get("icon"), "cover": call.body.get("cover")}
    source = _target_source(call, parent)
    with call.workspace.edited_by(call.workspace.bot_id):
        if source is not None:
            cells = _cells(source, properties)
            title = cells.pop("title", [])
            made = call.workspace.add_row(source.id, title, cells, blocks=children, **looks)
        else:
            title = _plain_title(properties)
            made = call.workspace.create_page(_target_block(call, parent), title, blocks=children, **looks)
    page = call.workspace.pages[made]
    return call.render.page(page, page.present)


def update_page(call: Call) -> bytes:
    """Properties, looks, lock and trash of a page."""
    page = call.page(call.id_of("page"))
    call.only_keys(
        "properties", "icon", "cover", "in_trash", "is_locked", *(["archived"] if call.old else [])
    )
    workspace, body = call.workspace, call.body
    trashing = body.get("in_trash", body.get("archived"))
    if page.present.in_trash and trashing is not False:
        raise validation_error(_ARCHIVED)
    properties = _object(call, "properties")
    with workspace.edited_by(workspace.bot_id):
        if trashing is False and page.present.in_trash:
            workspace.restore(page.id)
        if properties:
            _set_cells(call, page.id, properties)
        if "icon" in body:
            workspace.set_icon(page.id, body["icon"])
        if "cover" in body:
            workspace.set_cover(page.id, body["cover"])
        if "is_locked" in body:
            workspace.lock(page.id, bool(body["is_locked"]))
        if trashing:
            workspace.trash(page.id)
    return call.render.page(page, page.present)


def _set_cells(call: Call, page_id: str, properties: Json) -> None:
    kind, parent_id = call.workspace.pages[page_id].present.parent
    if kind != "data_source_id":
        call.workspace.set_title(page_id, _plain_title(properties))
        return
    cells = _cells(call.workspace.data_sources[parent_id], properties)
    call.workspace.set_properties(page_id, cells)


def move_page(call: Call) -> bytes:
    """Give a page another parent."""
    page = call.page(call.id_of("page"))
    call.only_keys("parent")
    parent = call.body.get("parent")
    if not isinstance(parent, dict):
        raise failed("body.parent", "defined", ...)
    source = _target_source(call, parent)
    target = source.id if source is not None else _target_block(call, parent)
    with call.workspace.edited_by(call.workspace.bot_id):
        try:
            call.workspace.move(page.id, target)
        except ValueError as problem:
            raise validation_error(f"Cannot move the page: {problem}.") from None
    return call.render.page(page, page.present)


def append_children(call: Call) -> bytes:
    """Put new blocks into a page or block; answers with those it made."""
    container = call.block_id(call.id_of("block"))
    call.only_keys("children", "position", *(["after"] if call.old else []))
    if "children" not in call.body:
        raise failed("body.children", "defined", ...)
    children = _checked_children(call.body["children"], "body.children")
    if container in call.workspace.databases:
        raise validation_error("Block does not support children.")
    if container in call.workspace.trashed:
        raise validation_error(_ARCHIVED)
    after, first = _position(call)
    if after is not None and after not in call.workspace.children_ids(container):
        raise validation_error(
            f"Block with ID {after} to append children after is not a child of the parent."
        )
    with call.workspace.edited_by(call.workspace.bot_id):
        if first:
            made = call.workspace.insert_first(container, children)
        else:
            made = call.workspace.append_blocks(container, children, after=after)
    return listed([call.render.block(block_id) for block_id in made], "block", None)


def _position(call: Call) -> tuple[str | None, bool]:
    """(the block to follow, whether at the very beginning)."""
    if call.body.get("after") is not None:
        return call.checked_id(call.body["after"], "body.after"), False
    position = call.body.get("position")
    if position is None:
        return None, False
    kind = position.get("type") if isinstance(position, dict) else None
    if kind == "after_block":
        given = position.get("after_block", {})
        return call.checked_id(
            given.get("id") if isinstance(given, dict) else given, "body.position.after_block.id"
        ), False
    if kind not in ("start", "end"):
        raise failed("body.position.type", '`"after_block"`, `"start"` or `"end"`', kind)
    return None, kind == "start"


def update_block(call: Call) -> bytes:
    """Change a block's body, or put it into the trash or out of it."""
    block_id = call.block_id(call.id_of("block"))
    workspace, body = call.workspace, call.body
    block = workspace.blocks.get(block_id)
    kind = block.kind if block is not None else ""
    call.only_keys(
        "type", "object", "in_trash", *([kind] if kind else []), *(["archived"] if call.old else [])
    )
    trashing = body.get("in_trash", body.get("archived"))
    if block_id in workspace.trashed and trashing is not False:
        raise validation_error(_ARCHIVED)
    with workspace.edited_by(workspace.bot_id):
        if trashing is not None:
            (workspace.trash if trashing else workspace.restore)(block_id)
        if kind and kind in body:
            _check_texts(body[kind], f"body.{kind}")
            workspace.update_block(block_id, {kind: body[kind]})
    return call.render.block(block_id)


def delete_block(call: Call) -> bytes:
    """Put a block, or the page or database behind it, into the trash."""
    block_id = call.block_id(call.id_of("block"))
    if block_id in call.workspace.trashed:
        raise validation_error(_ARCHIVED)
    with call.workspace.edited_by(call.workspace.bot_id):
        call.workspace.trash(block_id)
    return call.render.block(block_id)


# Where things go


def _target_source(call: Call, parent: Json) -> DataSource | None:
    """The data source that a parent object means; None when it means something else."""
    if "data_source_id" in parent:
        return call.data_source(call.checked_id(parent["data_source_id"], "body.parent.data_source_id"))
    if "database_id" not in parent:
        return None
    database = call.database(call.checked_id(parent["database_id"], "body.parent.database_id"))
    if len(database.data_sources) != 1:
        raise ApiError(
            400,
            "validation_error",
            "Databases with multiple data sources are not supported in this endpoint: give a data_source_id.",
            additional_data={
                "error_type": "multiple_data_sources_for_database",
                "child_data_source_ids": database.data_sources,
                "minimum_api_version": "2025-09-03",
            },
        )
    return call.workspace.data_sources[database.data_sources[0]]


def _target_block(call: Call, parent: Json) -> str | None:
    """The page or block a parent object means; None for the workspace."""
    if parent.get("workspace") is True or parent.get("type") == "workspace":
        return None
    for name in ("page_id", "block_id"):
        if name in parent:
            target = call.block_id(call.checked_id(parent[name], f"body.parent.{name}"))
            if target in call.workspace.databases:
                raise call.missing("page", target)
            return target
    raise failed("body.parent.page_id", "defined", ...)


# What is in them


def _object(call: Call, name: str) -> Json:
    given = call.body.get(name, {})
    if not isinstance(given, dict):
        raise failed(f"body.{name}", "an object or `undefined`", given)
    return given


def _plain_title(properties: Json) -> Any:
    """The title of a page outside databases, its only property."""
    for name, value in properties.items():
        given = value.get("title") if isinstance(value, dict) else value
        if name != "title" and not (isinstance(value, dict) and "title" in value):
            raise validation_error(f"{name} is not a property that exists.")
        return given or []
    return []


def _cells(source: DataSource, properties: Json) -> dict[str, Any]:
    """Property values by column id; 400 for columns that do not exist or cannot be set."""
    cells: dict[str, Any] = {}
    for name, value in properties.items():
        column = source.column(name) or source.schema.get(unquote(name))
        if column is None:
            raise validation_error(f"{name} is not a property that exists.")
        if column.kind in COMPUTED:
            raise validation_error(f"Cannot update property {name}: its value is computed.")
        given = value if isinstance(value, dict) else {column.kind: value}
        if column.kind not in given:
            raise validation_error(f"{name} is expected to be {column.kind}.")
        if column.kind in ("title", "rich_text"):
            _check_texts({"rich_text": given[column.kind]}, f"body.properties.{name}")
        cells[column.id] = given[column.kind]
    return cells


def _checked_children(children: Any, where: str) -> list[Json]:
    """Blocks that were sent, within Notion's limits on their number, depth and length."""
    if not isinstance(children, list):
        raise failed(where, "an array or `undefined`", children)
    if _check_level(children, where, depth=0) > MAX_BLOCKS:
        raise validation_error(f"body failed validation: a request may hold {MAX_BLOCKS} blocks at most.")
    return children


def _check_level(children: Sequence[Any], where: str, depth: int) -> int:
    if len(children) > MAX_CHILDREN:
        raise failed(f"{where}.length", f"≤ `{MAX_CHILDREN}`", len(children))
    count = 0
    for place, child in enumerate(children):
        at = f"{where}[{place}]"
        if not isinstance(child, dict):
            raise failed(at, "an object", child)
        kind = child.get("type") or next((k for k in child if k in DEFAULTS), "")
        if kind not in DEFAULTS or kind in _READ_ONLY_BLOCKS or not isinstance(child.get(kind), dict):
            raise failed(f"{at}.{kind or 'type'}", "defined", ...)
        _check_texts(child[kind], f"{at}.{kind}")
        count += 1 + _check_below(child, child[kind], f"{at}.{kind}", depth)
    return count


def _check_below(child: Json, content: Json, where: str, depth: int) -> int:
    below = content.get("children", child.get("children"))
    if not below:
        return 0
    if depth == 2:
        raise failed(f"{where}.children", "not present", below)
    content["children"] = below
    return _check_level(below, f"{where}.children", depth + 1)


def _check_texts(content: Json, where: str) -> None:
    """2,000 characters a run, 100 runs a list."""
    for key in ("rich_text", "caption"):
        items = content.get(key)
        if not isinstance(items, list):
            continue
        if len(items) > MAX_CHILDREN:
            raise failed(f"{where}.{key}.length", f"≤ `{MAX_CHILDREN}`", len(items))
        for place, item in enumerate(items):
            words = item.get("text", {}).get("content", "") if isinstance(item, dict) else ""
            if len(words) > MAX_TEXT:
                raise failed(f"{where}.{key}[{place}].text.content.length", f"≤ `{MAX_TEXT}`", len(words))
