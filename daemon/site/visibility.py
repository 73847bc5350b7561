"""Pure: which rows are published now, which are held back, and until when.

The facts are those that a page's card holds, so nothing has to be read again when the settings change. What cannot be
told (a property that a row does not have, because it was renamed) leaves a row as it was: published, or held back.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from daemon.notion.values import properties_of, property_value
from daemon.site.rules import CHOICES, named
from daemon.site.slugs import SourceFacts

ALL_AT_ONCE = 3
"""When so many published rows or more, all that a source has, stop passing at once, they are held for a person."""


class Why(StrEnum):
    """Why a row is held back."""

    FILTER = "filter"
    DATE = "date"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Held:
    """A row that is not published. `until` (unix seconds, Notion's clock): only its date keeps it back."""

    source: str
    why: Why
    until: float | None = None


@dataclass(slots=True)
class Visibility:
    """What is not published. `held`: by page; `kept_out`: rows that a source itself does not publish, by its name.

    `refused`: rows that would all leave a source at once, and stay until a person says so, by its name.
    `changes_at`: when the next date comes.
    """

    held: dict[str, Held] = field(default_factory=dict)
    kept_out: dict[str, set[str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    changes_at: float | None = None


def publishing_facts(page: Mapping[str, Any]) -> dict[str, Any]:
    """The values on which a rule can depend, by property: choices and dates. Raises `PartialPageError`."""
    choices: dict[str, Any] = {}
    dates: dict[str, Any] = {}
    for name, prop in properties_of(page).items():
        if prop.get("type") in CHOICES:
            choices[name] = property_value(prop)
        elif prop.get("type") == "date":
            told = property_value(prop)
            dates[name] = told and [told["start"], told["time_zone"]]
    return {"choices": choices, "dates": dates}


def moment(start: str | None, zone: str | None) -> float | None:
    """A date of Notion's as unix seconds: by its own offset, else its time zone, else UTC; None: it is none.

    A date without a time of day begins at midnight. A time that a change of clocks leaves out counts as that much
    later; of one that comes twice the first counts.
    """
    try:
        told = datetime.fromisoformat(start or "")
        if told.tzinfo is None:
            told = told.replace(tzinfo=ZoneInfo(zone) if zone else UTC)
        return told.astimezone(UTC).timestamp()
    except (
        ValueError,
        KeyError,
        OverflowError,
        OSError,
    ):  # zoneinfo has many ways to say that there is no such zone
        return None


def judge_row(source: SourceFacts, card: Mapping[str, Any], *, shown: bool, now: float) -> Held | None:
    """Whether a source holds a row back. `shown`: it was published until now."""
    rule, sure = source.rule, True
    if rule is None:
        return None
    for condition in rule.conditions:
        there = named(card.get("choices") or {}, condition.property)
        if there is None:
            sure = False
        elif not condition.holds(there[1]):
            if not source.frozen:
                return Held(source.name, Why.FILTER)
            sure = False
    if rule.at is not None:
        there = named(card.get("dates") or {}, rule.at)
        comes_at = moment(*there[1]) if there and there[1] else None
        if comes_at is not None and comes_at > now:
            return Held(source.name, Why.DATE, comes_at) if sure or shown else Held(source.name, Why.UNKNOWN)
        # A row whose date is empty is published at once; one whose date cannot be read stays as it is.
        sure = sure and there is not None and (comes_at is not None or there[1] is None)
    return None if sure or shown else Held(source.name, Why.UNKNOWN)


def judge(
    sources: Sequence[SourceFacts],
    rows: Mapping[str, Sequence[str]],
    cards: Mapping[str, Mapping[str, Any]],
    shown: AbstractSet[str],
    now: float,
) -> Visibility:
    """Which rows are held back. `rows` by data source; `shown`: pages that were published until now.

    A row that several sources have is published as soon as one of them lets it pass. A source that left the settings
    has a say only where no configured one has.
    """
    found = Visibility()
    if all(source.rule is None for source in sources):
        return found
    verdicts: dict[str, list[Held | None]] = {}
    deciding = _deciding(sources)
    for source in deciding:
        for row in _rows(source, rows, deciding[source]):
            held = judge_row(source, cards.get(row) or {}, shown=row in shown, now=now)
            verdicts.setdefault(row, []).append(held)
            if held is not None:
                found.kept_out.setdefault(source.name, set()).add(row)
    found.held = {row: held[0] for row, held in verdicts.items() if held[0] is not None and all(held)}
    _refuse_all_at_once(found, sources, rows, shown)
    for source in sources:
        mine = set(_rows(source, rows, source.data_source_ids)) & found.held.keys()
        found.kept_out.setdefault(source.name, set()).update(mine)
    dates = [held.until for verdict in verdicts.values() for held in verdict if held and held.until]
    found.changes_at = min(dates, default=None)
    return found


def _deciding(sources: Sequence[SourceFacts]) -> dict[SourceFacts, list[str]]:
    """For each source the data sources of whose rows it decides."""
    configured = {ds for source in sources if not source.retired for ds in source.data_source_ids}
    return {
        source: [ds for ds in source.data_source_ids if not source.retired or ds not in configured]
        for source in sources
    }


def _rows(
    source: SourceFacts, rows: Mapping[str, Sequence[str]], data_source_ids: Iterable[str]
) -> list[str]:
    return list(dict.fromkeys(row for ds in data_source_ids for row in rows.get(ds, ())))


def _refuse_all_at_once(
    found: Visibility,
    sources: Sequence[SourceFacts],
    rows: Mapping[str, Sequence[str]],
    shown: AbstractSet[str],
) -> None:
    """A setting that names the wrong option, or an option that was renamed, would empty a source: not believed."""
    for source in sources:
        were = [row for row in _rows(source, rows, source.data_source_ids) if row in shown]
        if len(were) >= ALL_AT_ONCE and all(row in found.held for row in were):
            found.refused[source.name] = were
    for row in {row for refused in found.refused.values() for row in refused}:
        del found.held[row]
        for kept_out in found.kept_out.values():
            kept_out.discard(row)
