"""The endpoints that change nothing: each takes a call and gives back the JSON text of its answer."""

from typing import Any

from daemon.demo.calls import Call, listed
from daemon.demo.errors import cursor_refused, failed, not_found, validation_error
from daemon.demo.listing import STAMP_NAMES, Filter, Hit, Search, in_share
from daemon.demo.model import Page, Property
from daemon.demo.wire import Json, encode, encoded_property_id

_ITEM_LISTS = ("title", "rich_text", "relation", "people", "rollup")


def users_me(call: Call) -> bytes:
    """The integration itself."""
    workspace = call.workspace
    owner = {"type": "workspace", "workspace": True}
    limits = {"max_file_upload_size_in_bytes": 5_368_709_120}
    bot = {
        "owner": owner,
        "workspace_name": "Sandbox",
        "workspace_id": workspace.space_id,
        "workspace_limits": limits,
    }
    return encode({**workspace.users[workspace.bot_id], "bot": bot})


def users(call: Call) -> bytes:
    """Everybody in the workspace."""
    return listed([encode(user) for user in call.workspace.users.values()], "user", None)


def user(call: Call) -> bytes:
    """One person or integration."""
    user_id = call.checked_id(call.params["id"], "path.user_id")
    found = call.workspace.users.get(user_id)
    if found is None:
        raise not_found("user", user_id, "Sandbox", call.workspace.bot_id)
    return encode(found)


def database(call: Call) -> bytes:
    """A database container."""
    return encode(call.render.database(call.database(call.id_of("database"))))


def data_source(call: Call) -> bytes:
    """A data source with its schema."""
    return encode(call.render.data_source(call.data_source(call.id_of("data_source"))))


def page(call: Call) -> bytes:
    """A page with its properties."""
    found = call.page(call.id_of("page"))
    return call.render.page(found, found.present, call.query.get("filter_properties", ()))


def block(call: Call) -> bytes:
    """A block; pages and databases have one too."""
    return call.render.block(call.block_id(call.id_of("block")))


def block_children(call: Call) -> bytes:
    """One level of a page's or block's children; a synced copy lists its original's."""
    asked = call.block_id(call.id_of("block"))
    size, cursor = call.listings.size(call.page_size()), call.cursor()
    children = call.workspace.shown_children(
        _container(call, asked), lists_unshared=call.habits.lists_unshared
    )
    start = 0
    if cursor is not None:
        call.listings.refuse_by_habit(cursor)
        if cursor not in children:
            raise cursor_refused(cursor)
        start = children.index(cursor)
    shown = children[start : start + size]
    following = children[start + size] if start + size < len(children) else None
    if following and cursor and call.habits.cursor_repeats:
        following = cursor
    return listed([_partly(call, "block", c) or call.render.block(c) for c in shown], "block", following)


def _container(call: Call, asked: str) -> str:
    """What really holds the children of the block asked for. Refuses where Notion refuses."""
    found = call.workspace.blocks.get(asked)
    if found is None:
        return asked
    if found.kind == "unsupported" and call.habits.refuse_children:
        raise validation_error("Block type unsupported is not supported via the API.")
    if found.original_id is None:
        return asked
    original = call.workspace.blocks.get(found.original_id)
    if original is None or original.in_trash or not call.visible(original.id):
        raise call.missing("block", asked)
    return original.id


def _partly(call: Call, kind: str, object_id: str) -> bytes | None:
    """The object's partial form, where habit has it."""
    if in_share(call.seed + 1, object_id, call.habits.partial_objects):
        return encode({"object": kind, "id": object_id})
    return None


def query(call: Call) -> bytes:
    """Rows of a data source, as of the lag ago."""
    source = call.data_source(call.id_of("data_source"))
    call.only_keys("filter", "sorts", "start_cursor", "page_size", "result_type", "is_archived")
    result_type = call.body.get("result_type")
    if result_type not in (None, "page", "data_source"):
        raise failed("body.result_type", '`"page"` or `"data_source"`', result_type)
    sorts, keep = _sorts(call), Filter(call.body.get("filter"), call.habits)
    at = call.now - call.habits.query_lag_seconds
    archived = bool(call.body.get("is_archived"))
    hits = call.listings.rows(source, at, sorts, keep, archived) if result_type != "data_source" else []
    about = ("query", source.id, keep.identity, repr(sorts), archived)
    found = call.listings.page_of(hits, about, call.body_cursor(), call.body_page_size(), call.now)
    only = call.query.get("filter_properties", ())
    results = [_hit(call, hit, only) for hit in found.hits]
    return listed(results, "page_or_data_source", found.next_cursor, incomplete=found.capped)


def _sorts(call: Call) -> list[Json]:
    given = call.body.get("sorts", [])
    if not isinstance(given, list):
        raise failed("body.sorts", "an array or `undefined`", given)
    for place, sort in enumerate(given):
        where = f"body.sorts[{place}]"
        if not isinstance(sort, dict) or ("timestamp" in sort) == ("property" in sort):
            raise failed(where, "an object with a timestamp or a property", sort)
        if "timestamp" in sort and sort["timestamp"] not in STAMP_NAMES:
            raise failed(f"{where}.timestamp", '`"created_time"` or `"last_edited_time"`', sort["timestamp"])
        if (
            "property" in sort
            and call.data_source(call.id_of("data_source")).column(sort["property"]) is None
        ):
            raise validation_error(f"Could not find sort property with name or id: {sort['property']}")
        _direction(sort.get("direction", "ascending"), f"{where}.direction")
    return given


def _direction(given: Any, where: str) -> str:
    if given not in ("ascending", "descending"):
        raise failed(where, '`"ascending"` or `"descending"`', given)
    return str(given)


def _hit(call: Call, hit: Hit, only: list[str] | tuple[()] = ()) -> bytes:
    _key, object_id, thing, version = hit
    if isinstance(thing, Page) and version is not None:
        return _partly(call, "page", object_id) or call.render.page(thing, version, only)
    assert not isinstance(thing, Page)
    return _partly(call, "data_source", object_id) or encode(call.render.data_source(thing))


def search(call: Call) -> bytes:
    """Pages and data sources by title, as of the lag ago."""
    call.only_keys("query", "sort", "filter", "start_cursor", "page_size")
    kind, in_trash = _search_filter(call)
    sort = call.body.get("sort", {})
    if not isinstance(sort, dict):
        raise failed("body.sort", "an object or `undefined`", sort)
    if sort.get("timestamp", "last_edited_time") != "last_edited_time":
        raise failed("body.sort.timestamp", '`"last_edited_time"`', sort["timestamp"])
    words = str(call.body.get("query", "")).strip().lower()
    asked = Search(
        kind, in_trash, words, _direction(sort.get("direction", "descending"), "body.sort.direction")
    )
    hits = call.listings.found(call.now - call.habits.search_lag_seconds, asked)
    found = call.listings.page_of(
        hits, ("search", asked), call.body_cursor(), call.body_page_size(), call.now
    )
    results = [_hit(call, hit) for hit in found.hits]
    return listed(results, "page_or_data_source", found.next_cursor, incomplete=found.capped)


def _search_filter(call: Call) -> tuple[str | None, bool]:
    given = call.body.get("filter", {})
    if not isinstance(given, dict):
        raise failed("body.filter", "an object or `undefined`", given)
    kind, in_trash = given.get("value"), given.get("in_trash", False)
    if kind is not None and given.get("property") != "object":
        raise failed("body.filter.property", '`"object"`', given.get("property", ...))
    if kind not in (None, "page", "data_source"):
        raise failed("body.filter.value", '`"page"` or `"data_source"`', kind)
    if not isinstance(in_trash, bool):
        raise failed("body.filter.in_trash", "a boolean or `undefined`", in_trash)
    return kind, in_trash


def page_property(call: Call) -> bytes:
    """One property of a page, whole: an item, or a paged list of items for what can be long."""
    found = call.page(call.id_of("page"))
    column = _column(call, found, call.params["property"])
    value = call.render.full_value(column, found, found.present)
    shown_id = encoded_property_id(column.id)
    if column.kind not in _ITEM_LISTS:
        return encode({"object": "property_item", "type": column.kind, "id": shown_id, column.kind: value})
    items, detail = _items(column, value)
    start = _offset(call.cursor(), len(items))
    size = call.listings.size(call.page_size())
    more = start + size < len(items)
    cursor = f"i:{start + size}" if more else None
    shown = [encode(_item(column, shown_id, item)) for item in items[start : start + size]]
    path = f"https://api.notion.com/v1/pages/{found.id}/properties/{shown_id}"
    following = f"{path}?start_cursor={cursor}" if cursor else None
    about = {"id": shown_id, "next_url": following, "type": column.kind, column.kind: detail}
    return listed(shown, "property_item", cursor, detail=about)


def _column(call: Call, found: Page, wanted: str) -> Property:
    kind, parent_id = found.present.parent
    source = call.workspace.data_sources.get(parent_id) if kind == "data_source_id" else None
    for column in call.render.columns(source):
        if wanted in (column.id, encoded_property_id(column.id), column.name):
            return column
    raise validation_error(f"Could not find property with name or id: {wanted}")


def _items(column: Property, value: Any) -> tuple[list[Any], Json]:
    if column.kind != "rollup":
        return value, {}
    if value.get("type") != "array":
        return [], value
    return value["array"], {**value, "array": []}


def _item(column: Property, shown_id: str, item: Any) -> Json:
    if column.kind == "rollup":
        return {
            "object": "property_item",
            "type": item["type"],
            "id": shown_id,
            item["type"]: item[item["type"]],
        }
    return {"object": "property_item", "type": column.kind, "id": shown_id, column.kind: item}


def _offset(cursor: str | None, length: int) -> int:
    if cursor is None:
        return 0
    number = cursor.removeprefix("i:")
    if number == cursor or not number.isdecimal() or int(number) >= length:
        raise cursor_refused(cursor)
    return int(number)
