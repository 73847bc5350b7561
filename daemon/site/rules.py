"""What the settings say of a source's rows: which are published (`PUBLISH_FILTER`), and from when on (`PUBLISH_AT`).

Names of properties and options are taken without regard to case; an exact name comes first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from daemon.notion.schema import Column

T = TypeVar("T")
FILTER, AT = "PUBLISH_FILTER", "PUBLISH_AT"
CHOICES = ("select", "status", "checkbox")
"""The types of properties that a filter can ask for."""
YES = frozenset({"true", "yes", "on", "1"})
NO = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class Condition:
    """A property that has to have one of these values: names of options, or a yes or a no."""

    property: str
    accepted: tuple[str, ...]

    def holds(self, value: str | bool | None) -> bool:
        """Whether a row with this value passes; an empty one never does."""
        wanted = {text.casefold() for text in self.accepted}
        if isinstance(value, bool):
            return bool(wanted & (YES if value else NO))
        return value is not None and value.strip().casefold() in wanted


@dataclass(frozen=True, slots=True)
class Rule:
    """Every condition has to hold, and the date under `at`, where there is one, has to have come."""

    conditions: tuple[Condition, ...] = ()
    at: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return {"filter": [[c.property, list(c.accepted)] for c in self.conditions], "at": self.at}

    @classmethod
    def from_json(cls, told: Mapping[str, Any] | None) -> "Rule | None":
        """What `as_json` made."""
        if told is None:
            return None
        return cls(tuple(Condition(name, tuple(values)) for name, values in told["filter"]), told["at"])


def named(things: Mapping[str, T], name: str) -> tuple[str, T] | None:
    """What goes by that name, with the name as it is written there; None: nothing does."""
    if name in things:
        return name, things[name]
    folded = name.casefold()
    return next(((own, thing) for own, thing in things.items() if own.casefold() == folded), None)


def misfits(rule: Rule, source: str, columns: Mapping[str, Column]) -> list[str]:
    """What a rule asks of a data source that cannot be: properties it has not, or of another type. A line each."""
    found = [_misfit(condition, source, columns) for condition in rule.conditions]
    if rule.at is not None:
        found.append(_not_a_date(rule.at, source, columns))
    return [line for line in found if line is not None]


def _misfit(condition: Condition, source: str, columns: Mapping[str, Column]) -> str | None:
    there = named(columns, condition.property)
    if there is None:
        return _absent(FILTER, condition.property, source, columns, CHOICES)
    name, column = there
    if column.type not in CHOICES:
        right = _usable(columns, CHOICES)
        return f"{FILTER}: '{name}' of the source {source} is of type {column.type}; {right}"
    if column.type == "checkbox" and not {text.casefold() for text in condition.accepted} <= YES | NO:
        return f"{FILTER}: '{name}' of the source {source} is a checkbox; write {name}=true or {name}=false"
    return None


def _not_a_date(name: str, source: str, columns: Mapping[str, Column]) -> str | None:
    there = named(columns, name)
    if there is None:
        return _absent(AT, name, source, columns, ("date",))
    if there[1].type != "date":
        right = _usable(columns, ("date",))
        return f"{AT}: '{there[0]}' of the source {source} is of type {there[1].type}; {right}"
    return None


def _absent(setting: str, name: str, source: str, columns: Mapping[str, Column], types: Iterable[str]) -> str:
    all_names = ", ".join(f"'{own}'" for own in columns)
    right = f"it has {all_names}; {_usable(columns, types)}"
    return f"{setting}: the source {source} has no property '{name}'; {right}"


def _usable(columns: Mapping[str, Column], types: Iterable[str]) -> str:
    usable = [f"'{name}'" for name, column in columns.items() if column.type in types]
    if usable:
        return f"name one of these: {', '.join(usable)}"
    return f"none of them can be used, so add one of type {' or '.join(types)} in Notion"


def without_options(rule: Rule, source: str, columns: Mapping[str, Column]) -> list[str]:
    """Conditions that no row can meet, because the property has none of the options. A line each."""
    found = []
    for condition in rule.conditions:
        there = named(columns, condition.property)
        if there is None or there[1].type not in ("select", "status"):
            continue
        options = there[1].options
        if not any(condition.holds(option) for option in options):
            wanted = " or ".join(f"'{text}'" for text in condition.accepted)
            has = ", ".join(f"'{option}'" for option in options) or "no option at all"
            found.append(
                f"{FILTER}: '{there[0]}' of the source {source} has no option {wanted}; it has {has}"
            )
    return found
