"""The settings that say which rows of a source are published, and from when on."""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from daemon.config_rules import SourceSetting
from daemon.env import Reader, hint
from daemon.site.rules import AT, FILTER, Condition, Rule

_ESCAPED = re.compile(r"\\(.)")


def publish_rules(reader: Reader, sources: Collection[SourceSetting]) -> Mapping[str, Rule]:
    """Source name -> its rule, of `PUBLISH_FILTER` and `PUBLISH_AT`; sources without one are left out."""
    known = [source.name for source in sources]
    conditions: dict[str, list[Condition]] = {}
    for where, name, text in _entries(reader, FILTER, known):
        condition = _condition(reader, where, text)
        before = conditions.setdefault(name, [])
        if condition and any(condition.property.casefold() == one.property.casefold() for one in before):
            right = "write it once, with all values that may pass: Status=Published|Live"
            reader.problem(FILTER, f"{where} names a property of the source {name} again", right)
        before += [condition] if condition else []
    dates: dict[str, str] = {}
    for where, name, text in _entries(reader, AT, known):
        if name in dates or not text:
            right = "write source:property once for each source, such as posts:Goes live"
            reader.problem(AT, f"{where} names no property, or a source named before", right)
        dates[name] = _plain(text)
    names = dict.fromkeys([*conditions, *dates])
    return MappingProxyType({n: Rule(tuple(conditions.get(n, ())), dates.get(n)) for n in names})


def _entries(reader: Reader, setting: str, known: Collection[str]) -> list[tuple[str, str, str]]:
    """(which entry, source, the rest) of every entry whose source there is."""
    found = []
    entries = [entry for entry in _split(reader.text(setting), ",") if entry]
    for number, entry in enumerate(entries, start=1):
        name, colon, rest = (part.strip() for part in entry.partition(":"))
        if colon and name in known:
            found.append((f"entry {number}", name, rest))
            continue
        there = ", ".join(known) or "none could be read"
        example = "posts:Status=Published" if setting == FILTER else "posts:Goes live"
        right = f"begin it with the name of a source ({there}) and a colon, such as {example}{hint(entry)}"
        reader.problem(setting, f"entry {number} names no source that there is", right)
    return found


def _condition(reader: Reader, where: str, text: str) -> Condition | None:
    name, *values = _split(text, "=", at_most=1)
    accepted = tuple(_plain(value) for value in _split("".join(values), "|") if value)
    if name and accepted:
        return Condition(_plain(name), accepted)
    right = "write source:property=value, or source:property=one|other where several values may pass"
    reader.problem(FILTER, f"{where} is no condition", right)
    return None


def _split(text: str, sign: str, *, at_most: int = 0) -> list[str]:
    """The parts between the signs that no backslash stands before; `at_most` so many signs count, 0: all."""
    return [part.strip() for part in re.split(rf"(?<!\\){re.escape(sign)}", text, maxsplit=at_most)]


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
