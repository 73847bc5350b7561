"""Columns and cells: schemas from short descriptions, and plain Python values to what a page keeps."""

from collections.abc import Callable, Mapping
from typing import Any

from daemon.demo.model import DataSource, Property
from daemon.demo.normal import Normaliser
from daemon.demo.wire import IdMaker, Json

_COLORS = ("default", "gray", "brown", "orange", "yellow", "green", "blue", "purple", "pink", "red")
_STAMP_KINDS = {"created_time", "last_edited_time", "created_by", "last_edited_by"}
_PLAIN_KINDS = {"title", "rich_text", "url", "email", "phone_number", "checkbox", "date", "people", "files"}
_CONFIGURED_KINDS = {
    "select",
    "multi_select",
    "status",
    "number",
    "relation",
    "formula",
    "rollup",
    "unique_id",
}
KINDS = _PLAIN_KINDS | _STAMP_KINDS | _CONFIGURED_KINDS | {"button", "place", "verification"}
COMPUTED = _STAMP_KINDS | {"formula", "rollup", "unique_id"}
EMPTY_LISTS = {"multi_select", "relation", "people", "files"}
_OPTION_KINDS = ("select", "multi_select", "status")


def make_schema(columns: Mapping[str, str | Json], ids: IdMaker) -> dict[str, Property]:
    """Columns by id, from names and types (`"select"`) or configurations (`{"select": {"options": [...]}}`).

    A title column named `Name` is added when none is given. Raises ValueError for a type that does not exist.
    """
    made = [make_property(name, described, ids) for name, described in columns.items()]
    if not any(p.kind == "title" for p in made):
        made.insert(0, Property("title", "Name", "title", {}))
    return {p.id: p for p in made}


def make_property(name: str, described: str | Json, ids: IdMaker) -> Property:
    """One column; see `make_schema`."""
    if isinstance(described, str):
        kind, config = described, {}
    else:
        kind = described.get("type") or next((k for k in described if k in KINDS), "")
        config = dict(described.get(kind) or {})
    if kind not in KINDS:
        raise ValueError(
            f"column {name!r}: {kind!r} is no property type; known are {', '.join(sorted(KINDS))}"
        )
    property_id = "title" if kind == "title" else ids.property_id()
    description = described.get("description") if isinstance(described, dict) else None
    return Property(property_id, name, kind, _completed(kind, config, ids), description)


def _completed(kind: str, config: Json, ids: IdMaker) -> Json:
    if kind in _OPTION_KINDS:
        given = config.get("options", [])
        options = [{"name": o} if isinstance(o, str) else o for o in given]
        made = [_option(o["name"], i, ids, o.get("color")) for i, o in enumerate(options)]
        return {"options": made, **_groups(kind, made, ids)}
    if kind == "number":
        return {"format": config.get("format", "number")}
    if kind == "unique_id":
        return {"prefix": config.get("prefix")}
    if kind == "relation":
        return {"database_id": None, "type": "single_property", "single_property": {}, **config}
    if kind == "rollup":
        names = (
            "rollup_property_name",
            "relation_property_name",
            "rollup_property_id",
            "relation_property_id",
        )
        return {**dict.fromkeys(names), "function": "show_original", **config}
    if kind == "formula":
        return {"expression": config.get("expression", "")}
    return config


def _option(name: str, position: int, ids: IdMaker, color: str | None = None) -> Json:
    shade = color or _COLORS[position % len(_COLORS)]
    return {"id": ids.random(), "name": name, "color": shade, "description": None}


def _groups(kind: str, options: list[Json], ids: IdMaker) -> Json:
    if kind != "status":
        return {}
    names = (("To-do", "gray"), ("In progress", "blue"), ("Complete", "green"))
    groups = [{"id": ids.random(), "name": name, "color": color, "option_ids": []} for name, color in names]
    groups[0]["option_ids"] = [o["id"] for o in options]
    return {"groups": groups}


class Cells:
    """Turns values given to the workspace into what a page keeps for a column.

    Kept are: rich text in its read form, or a plain string for an undecorated one; option ids; dates, files
    and computed values in Notion's form; ids of related pages and people; everything else as it is.
    """

    def __init__(self, ids: IdMaker, normal: Normaliser) -> None:
        self._ids = ids
        self._normal = normal
        self._converters: dict[str, Callable[[Property, Any], Any]] = {
            "title": self._text,
            "rich_text": self._text,
            "select": self._one_option,
            "status": self._one_option,
            "multi_select": self._options,
            "date": _date,
            "relation": _ids_of,
            "people": _ids_of,
            "files": self._files,
        }

    def stored(self, column: Property, value: Any) -> Any:
        """`value` as it is kept: a plain value, or a whole property value (`{"select": {"name": "x"}}`)."""
        if isinstance(value, dict) and column.kind in value:
            value = value[column.kind]
        if column.kind in ("formula", "rollup"):
            return _computed(column, value)
        if value is None:
            return () if column.kind in EMPTY_LISTS else None
        convert = self._converters.get(column.kind)
        return convert(column, value) if convert else value

    def _text(self, _column: Property, value: Any) -> Any:
        return value if isinstance(value, str) else self._normal.rich_text(value)

    def _one_option(self, column: Property, value: Any) -> str:
        return self._option_id(column, value)

    def _options(self, column: Property, values: Any) -> tuple[str, ...]:
        return tuple(self._option_id(column, value) for value in values)

    def _option_id(self, column: Property, value: Any) -> str:
        """The id of the option with that name or id; a new name becomes a new option."""
        wanted = {"name": value} if isinstance(value, str) else value
        for option in column.config["options"]:
            if option["id"] == wanted.get("id") or option["name"] == wanted.get("name"):
                return str(option["id"])
        option = _option(wanted["name"], len(column.config["options"]), self._ids, wanted.get("color"))
        column.config["options"].append(option)
        if column.kind == "status":
            column.config["groups"][0]["option_ids"].append(option["id"])
        return str(option["id"])

    def _files(self, _column: Property, values: Any) -> tuple[Json, ...]:
        return tuple(self._file(value) for value in values)

    def _file(self, value: Json) -> Json:
        if "url" in value:
            return {"name": value["name"], "type": "external", "external": {"url": value["url"]}}
        part = {"type": "file", "file": {"name": value["name"]}} if value.get("hosted") else value
        given = {k: v for k, v in part.items() if k != "name"}
        return {"name": value.get("name", "file"), **(self._normal.file(given) or {})}


def _date(_column: Property, value: Any) -> Json:
    if isinstance(value, str):
        value = {"start": value}
    return {"start": value["start"], "end": value.get("end"), "time_zone": value.get("time_zone")}


def _ids_of(_column: Property, values: Any) -> tuple[str, ...]:
    return tuple(value if isinstance(value, str) else str(value["id"]) for value in values)


def _computed(column: Property, value: Any) -> Json:
    """A formula's or rollup's result in Notion's form, from a plain value or from that form."""
    if isinstance(value, dict) and value.get("type"):
        made = dict(value)
    elif isinstance(value, bool):
        made = {"type": "boolean", "boolean": value}
    elif isinstance(value, int | float):
        made = {"type": "number", "number": value}
    elif isinstance(value, dict):
        made = {"type": "date", "date": _date(column, value)}
    elif isinstance(value, list):
        made = {"type": "array", "array": value}
    else:
        made = {"type": "string", "string": value}
    if column.kind == "rollup":
        made.setdefault("function", column.config.get("function", "show_original"))
    return made


def empty_value(column: Property) -> Any:
    """What a cell that was never filled holds."""
    if column.kind in EMPTY_LISTS:
        return ()
    if column.kind in ("title", "rich_text"):
        return ""
    if column.kind == "checkbox":
        return False
    if column.kind in ("formula", "rollup"):
        return _computed(column, None if column.kind == "formula" else [])
    return {} if column.kind == "button" else None


def option_of(column: Property, option_id: str | None) -> Json | None:
    """An option as cells show it; None when it is not set or was deleted."""
    for option in column.config["options"]:
        if option["id"] == option_id:
            return {"id": option["id"], "name": option["name"], "color": option["color"]}
    return None


def relation_target(column: Property, find: Callable[[str], DataSource | None]) -> Json:
    """A relation's configuration with the database of its data source filled in."""
    config = dict(column.config)
    source = find(config.get("data_source_id") or "")
    kind = config.get("type", "single_property")
    return {
        "database_id": source.database_id if source else config.get("database_id"),
        "data_source_id": config.get("data_source_id"),
        "type": kind,
        kind: config.get(kind, {}),
    }
