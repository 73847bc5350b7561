"""What is said of the rules by which rows are published. Pure: columns in, findings out."""

from collections.abc import Mapping, Sequence

from daemon.config import SourceSetting
from daemon.doctor.findings import Finding, Level, sentence
from daemon.notion.schema import Column
from daemon.site.rules import Rule, misfits, without_options


def rule_fits(
    source: SourceSetting, rule: Rule, data_sources: Sequence[Mapping[str, Column]]
) -> list[Finding]:
    """Whether every data source of a source has what its rule asks for."""
    about = f"source {source.name}"
    wrong = dict.fromkeys(line for columns in data_sources for line in misfits(rule, source.name, columns))
    odd = dict.fromkeys(
        line for columns in data_sources for line in without_options(rule, source.name, columns)
    )
    found = [_finding(Level.PROBLEM, about, line) for line in wrong]
    found += [_finding(Level.NOTE, about, line) for line in odd]
    if found or not data_sources:
        return found
    return [Finding(Level.OK, about, "It has every property that decides which of its rows are published.")]


def _finding(level: Level, about: str, line: str) -> Finding:
    what, _, todo = line.partition("; ")
    return Finding(level, about, sentence(what), sentence(todo))
