"""The columns of a data source, as far as settings speak of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WITH_OPTIONS = ("select", "status")


@dataclass(frozen=True, slots=True)
class Column:
    """A property of a data source: its type, and the names of its options where it has any."""

    type: str
    options: tuple[str, ...] = ()


def columns_of(data_source: Mapping[str, Any]) -> dict[str, Column]:
    """The columns of a data source object by name."""
    found = (data_source.get("properties") or {}).items()
    return {name: Column(str(told.get("type")), _options(told)) for name, told in found}


def _options(told: Mapping[str, Any]) -> tuple[str, ...]:
    kind = told.get("type")
    if kind not in _WITH_OPTIONS:
        return ()
    return tuple(str(option.get("name")) for option in (told.get(kind) or {}).get("options") or ())
