"""Holds what the settings ask of the sources' rows against the properties that these have.

At the start a rule that cannot be followed ends the process, as any other wrong setting does: as soon as Notion tells
what there is, before anything is published or removed because of it. Later somebody may rename a property or an
option: then the rows stay as they are, and it is said.
"""

import structlog

from daemon.ledger import publishing, sources
from daemon.ledger.ledger import Ledger
from daemon.ledger.publishing import SourceRule
from daemon.ledger.sources import SourceRow
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError, NotionNotFound
from daemon.notion.limiter import Lane
from daemon.notion.schema import columns_of
from daemon.site.rules import AT, FILTER, Rule, misfits, without_options
from daemon.sync.feeds import STOPS_THE_RUN, Feeds

log = structlog.get_logger(__name__)


class RuleError(Exception):
    """A setting asks for a property that is not there. `problems`: one line each, with what there is."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Rulebook:
    """Examines the rules of the configured sources."""

    def __init__(self, api: NotionApi, ledger: Ledger, feeds: Feeds) -> None:
        self._api = api
        self._ledger = ledger
        self._feeds = feeds
        self._begun: set[tuple[str, str]] = set()
        self._is_over = False

    async def begin(self) -> None:
        """Examine every rule that this process has not examined yet. Raises RuleError.

        A source that does not answer is asked again in the next cycle.
        """
        if self._is_over:
            return
        for source in await self._unexamined():
            if source.kind is None:
                await self._feeds.resolve_source(source)
        problems: list[str] = []
        for source in await self._unexamined():
            problems += await self._guarded(source, Lane.FEED)
        if problems:
            raise RuleError(problems)
        self._is_over = not await self._unexamined()

    async def look_again(self, lane: Lane) -> None:
        """Examine all rules: something may have been renamed."""
        for source, _ in await self._ruled():
            await self._guarded(source, lane)

    async def _ruled(self) -> list[tuple[SourceRow, SourceRule]]:
        rules = await self._ledger.call(publishing.rules)
        rows = await self._ledger.call(sources.sources)
        found = [(row, rules[row.name, row.ref]) for row in rows if not row.retired]
        return [(row, rule) for row, rule in found if rule.rule is not None]

    async def _unexamined(self) -> list[SourceRow]:
        return [source for source, _ in await self._ruled() if (source.name, source.ref) not in self._begun]

    async def _guarded(self, source: SourceRow, lane: Lane) -> list[str]:
        """What makes the rule of a source impossible, if it is examined for the first time; else it is noted."""
        try:
            return await self._examine(source, lane)
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.info("rule not examined", action="rule_unexamined", source=source.name, error=str(error))
            return []

    async def _examine(self, source: SourceRow, lane: Lane) -> list[str]:
        rules = await self._ledger.call(publishing.rules)
        known, key = rules[source.name, source.ref], (source.name, source.ref)
        if source.kind is None or known.rule is None:
            return []
        wrong, odd = await self._compare(source, known.rule, lane)
        if wrong and key not in self._begun:
            return wrong
        self._begun.add(key)
        problem = " ".join(f"{line}. Its rows stay as they are." for line in [*wrong, *odd]) or None
        if problem is not None and problem != known.problem:
            log.error("a rule does not fit its source", action="rule_misfits", reason=problem)
        # A property that is not there is not on the rows either; of an option only the schema tells.
        await self._ledger.call(publishing.rule_examined, key, problem, frozen=bool(odd))
        return []

    async def _compare(self, source: SourceRow, rule: Rule, lane: Lane) -> tuple[list[str], list[str]]:
        """What the rule asks for that cannot be, and that is not there at present."""
        if source.kind == "page":
            setting = FILTER if rule.conditions else AT
            return [f"{setting}: the source {source.name} is a page, not a database; leave it out"], []
        wrong: dict[str, None] = {}
        odd: dict[str, None] = {}
        for data_source in source.data_source_ids:
            try:
                columns = columns_of((await self._api.data_source(data_source, lane)).body)
            except NotionNotFound:
                continue  # one that the database no longer names, or out of reach: its rows are asked for elsewhere
            wrong |= dict.fromkeys(misfits(rule, source.name, columns))
            odd |= dict.fromkeys(without_options(rule, source.name, columns))
        return list(wrong), list(odd)
