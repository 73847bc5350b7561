"""Writes what differs: records to the key-value store, in atomic batches, by the one daemon that holds the lease.

A batch holds every key that one change touches (a page that moves leaves its old key in the same breath), and is
marked in the ledger afterwards: killed in between, it is simply written again.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection

from daemon import jsontext
from daemon.clock import Clock
from daemon.kv.base import (
    KV,
    MAX_BATCH_BYTES,
    KVError,
    KVQuotaExceeded,
    KVValueTooLarge,
    Write,
)
from daemon.ledger import assets, owed, records
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.records import Pending, ReadFacts
from daemon.sync import leftovers
from daemon.sync.compose import Composition
from daemon.sync.groups import writable
from daemon.sync.lease import Lease, Standing
from daemon.sync.plan import retry_delay_seconds

log = structlog.get_logger(__name__)
BACK_OFF_FIRST_SECONDS = 5
BACK_OFF_LONGEST_SECONDS = 60
QUOTA_BACK_OFF_SECONDS = 900.0
"""How long a store that refuses for reasons of quota or capacity is left alone."""
GROUPS_FETCHED_AT_ONCE = 20
STATUS_BYTES = 8_192
"""Room for `sync:status`, which travels with a batch."""


@dataclass
class Published:
    """What one round of writing did. `written`: keys by kind; `pages`: the type of each page among them, by its id."""

    written: Counter[str] = field(default_factory=Counter)
    pages: dict[str, str] = field(default_factory=dict)
    deleted: int = 0
    refused: int = 0
    batches: int = 0
    is_outdated: bool = False
    """Whether the ledger knows better than the composition: something was not written for that."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A pending key, rendered. `page_type`: what kind of page the value shows, if it is one."""

    row: Pending
    write: Write
    page_type: str | None = None
    files: frozenset[str] = frozenset()
    """The hosted files that the value names."""

    @property
    def digest(self) -> str | None:
        value = self.write.value
        return None if value is None else hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()


class Publisher:
    """Writes by the lease. `problem` says why nothing is written, `paused_until` (monotonic) until when."""

    def __init__(self, kv: KV, ledger: Ledger, clock: Clock, lease: Lease) -> None:
        self._kv = kv
        self._ledger = ledger
        self._clock = clock
        self._lease = lease
        self._is_met = False
        self._is_full = False
        self._failures = 0
        self.failing_since: float | None = None
        """The monotonic second since which the store takes nothing."""
        self.problem: str | None = None
        self.error: KVError | None = None
        self.paused_until = float("-inf")
        self.on_publish: Callable[[Mapping[str, ReadFacts]], None] = lambda _: None
        """Told, before anything is written, what the pages of the site to be published were last read as."""
        self.on_written: list[Callable[[Sequence[str]], None]] = []
        """Told of each batch that was marked: the pages whose keys it set."""
        self.site_paths: Mapping[str, str] | None = None
        """Where the pages of each source are on the site that is told what changed; None: no site is told."""
        lease.on_lost = self._owe  # the store has lost them, the site may still show them

    async def meet_store(self) -> None:
        """Find out whether the store is the one that the ledger wrote. Never raises KVError: each cycle tries again."""
        try:
            await self._lease.check()
        except KVError as error:
            self._back_off(error)
        else:
            self._is_met = True
            self._is_well()

    async def publish(self, site: Composition) -> Published:
        """Write every key that differs. Never raises for what the store does: it is tried again next cycle."""
        done = Published()
        self.on_publish(site.facts.reads)
        try:
            if not self.is_paused and not self._is_met:
                await self.meet_store()
                done.is_outdated = self._is_met  # what was written is not there, if it is another store
            if not self.is_paused:
                self._is_full = False
                await self._try_to_write(site, done)
            if self._is_full:
                await self._try_to_write(site, done, deletions_only=True)
        except LedgerError:
            # What the store took may not be marked as written: it is sent again, but not with every cycle.
            self._failures += 1
            self.paused_until = self._clock.monotonic() + self._wait_seconds
            raise
        return done

    async def _try_to_write(
        self, site: Composition, done: Published, *, deletions_only: bool = False
    ) -> None:
        now = self._clock.now().timestamp()
        try:
            groups = writable(site, await self._ledger.call(records.pending, now))
            if deletions_only:
                groups = [group for group in groups if all(row.wanted is None for row in group)]
            if groups and await self._lease.may_write():
                await self._write_all(site, groups, done)
                if not deletions_only:
                    self._is_well()
        except KVError as error:
            # Full of data it still takes deletions; a store that refuses even those is out of requests.
            self._is_full = isinstance(error, KVQuotaExceeded) and not deletions_only
            self._back_off(error)

    async def _write_all(self, site: Composition, groups: list[list[Pending]], done: Published) -> None:
        batch: list[list[_Item]] = []
        size = 0
        async for items in self._rendered(site, groups):
            group_size = sum(item.write.size_bytes for item in items)
            if batch and size + group_size > MAX_BATCH_BYTES - STATUS_BYTES:
                await self._write(batch, done)
                batch, size = [], 0
            if items:
                batch.append(items)
                size += group_size
            else:
                done.is_outdated = True
            if self._lease.standing is not Standing.OWNER:
                return
        if batch:
            await self._write(batch, done)

    async def _write(self, groups: Sequence[Sequence[_Item]], done: Published) -> None:
        """Apply groups as one batch; if the store refuses it for its size, each group alone."""
        items = [item for group in groups for item in group]
        # Before it is sent: killed, or left without an answer, we would not know whether the store took it.
        await self._ledger.call(_begin, items)
        try:
            if not await self._lease.apply([item.write for item in items]):
                return
        except KVValueTooLarge as error:
            if len(groups) > 1:
                for group in groups:
                    if self._lease.standing is Standing.OWNER:
                        await self._write([group], done)
                return
            done.refused += 1
            await self._refuse(items, str(error))
            return
        await self._ledger.call(self._mark_written, items)
        pages = [item.row.owner_id for item in items if item.row.kind == "page" and item.write.value]
        for listener in self.on_written:
            listener(pages)
        done.batches += 1
        done.deleted += sum(1 for item in items if item.write.value is None)
        done.written.update(item.row.kind for item in items if item.write.value is not None)
        done.pages.update({item.row.owner_id: item.page_type for item in items if item.page_type})

    def _mark_written(self, db: Connection, items: Sequence[_Item]) -> None:
        self._owe(db, [item.row.key for item in items])
        marks = [(item.row, item.digest) for item in items]
        records.mark_written(db, marks, self._clock.now().timestamp())
        assets.hold_only(db, {item.row.key: item.files for item in items})

    def _owe(self, db: Connection, keys: Sequence[str]) -> None:
        if self.site_paths is not None:
            owed.owe(db, keys, self.site_paths)

    async def heartbeat(self) -> None:
        """Renew the lease when nothing else has. Never raises KVError.

        One that fails is repeated when the back-off is over: on a quiet day nothing else would notice that the store
        is there again.
        """
        if self._lease.is_beat_due and not self.is_paused:
            await self._beat()

    async def tell_status(self) -> None:
        """Renew `sync:status`, which told of the first sync until now; it waits for a store that is not ours yet."""
        if self._lease.standing is Standing.OWNER and not self.is_paused:
            await self._beat()

    async def _beat(self) -> None:
        try:
            await self._lease.beat()
            self._is_well()
        except KVError as error:
            self._back_off(error)

    async def find_leftovers(self, site: Composition) -> int:
        """Once, in a store that others filled: what they left of our pages is removed. Out: how many were found."""
        if self._lease.standing is Standing.STANDBY or self.is_paused:
            return 0
        try:
            if not await self._lease.may_write():  # where all is held back nothing was written yet
                return 0
            now = self._clock.now().timestamp()
            count, self._lease.is_unsearched = await leftovers.search(self._kv, self._ledger, site, now)
        except KVError as error:
            self._back_off(error)
            return 0
        return count

    async def _refuse(self, items: Sequence[_Item], problem: str) -> None:
        keys = [item.row.key for item in items]
        log.error("the store refuses a value", action="value_refused", keys=keys, reason=problem)
        await self._ledger.call(records.refuse, keys, problem, self._clock.now().timestamp())

    async def _rendered(
        self, site: Composition, groups: Sequence[Sequence[Pending]]
    ) -> AsyncIterator[list[_Item]]:
        """The values of one group after the other; what they are made of is fetched for a few groups at once."""
        for start in range(0, len(groups), GROUPS_FETCHED_AT_ONCE):
            some = groups[start : start + GROUPS_FETCHED_AT_ONCE]
            rows = [row for group in some for row in group if row.kind == "page" and row.wanted is not None]
            owners = [row.owner_id for row in rows]
            content = await self._ledger.call(records.snapshots, owners) if owners else {}
            for group in some:
                yield self._render(site, group, content)

    def _render(
        self, site: Composition, group: Sequence[Pending], content: dict[str, tuple[str, bytes]]
    ) -> list[_Item]:
        """The values of a group; empty when its pages changed since the site was composed (next cycle then)."""
        items: list[_Item] = []
        for row in group:
            value = None if row.wanted is None else self._value(site, row, content)
            if row.wanted is not None and value is None:
                return []
            shows_page = row.kind == "page" and value is not None
            page_type = site.layout.places[row.owner_id].type if shows_page else None
            files = frozenset() if value is None else frozenset(site.files_named(row.kind, row.owner_id))
            items.append(_Item(row, Write(row.key, value), page_type, files))
        return items

    def _value(self, site: Composition, row: Pending, content: dict[str, tuple[str, bytes]]) -> str | None:
        wanted = site.wanted.get(row.key)
        if wanted is None or wanted.hash != row.wanted:
            return None
        now = self._clock.now()
        if row.kind == "redirect":
            return jsontext.dumps(site.redirects[row.key])
        if row.kind != "page":
            return jsontext.dumps(site.render_list(row.kind, row.owner_id, now))
        content_hash, packed = content.get(row.owner_id, ("", b""))
        if content_hash != site.facts.reads[row.owner_id].content_hash:
            return None
        snapshot: dict[str, Any] = jsontext.unpack(packed)
        return jsontext.dumps(site.render_page(snapshot["page"], snapshot["blocks"], now))

    @property
    def is_paused(self) -> bool:
        """Whether the store is left alone for now."""
        return self._clock.monotonic() < self.paused_until

    @property
    def _wait_seconds(self) -> float:
        return retry_delay_seconds(self._failures, BACK_OFF_FIRST_SECONDS, BACK_OFF_LONGEST_SECONDS)

    def _is_well(self) -> None:
        """The store took what it was given."""
        self._failures, self.failing_since, self.problem, self.error = 0, None, None, None

    def _back_off(self, error: KVError) -> None:
        self._failures += 1
        wait = self._wait_seconds
        if isinstance(error, KVQuotaExceeded):
            wait = QUOTA_BACK_OFF_SECONDS
        wait = max(wait, error.retry_after_seconds or 0.0)
        self.paused_until = self._clock.monotonic() + wait
        self.problem, self.error = str(error), error
        self.failing_since = self._clock.monotonic() if self.failing_since is None else self.failing_since
        log.error(
            "the key-value store cannot be written: what was read waits in the ledger",
            action="store_failed",
            error=str(error),
            hint=error.hint,
            next_try_in_seconds=round(wait, 1),
        )


def _begin(db: Connection, items: Sequence[_Item]) -> None:
    records.begin_write(db, [item.row.key for item in items])
    assets.hold(db, {item.row.key: item.files for item in items if item.files})
