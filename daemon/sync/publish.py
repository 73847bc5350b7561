"""Writes what differs: records to the key-value store, in atomic batches, by the one daemon that owns it.

A batch holds every key that one change touches (a page that moves leaves its old key in the same breath), is applied
by one script only while `sync:owner` still carries our fencing token, and is marked in the ledger afterwards: killed
in between, it is simply written again.
"""

import asyncio
import hashlib
import secrets
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
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
    KVUnavailable,
    KVValueTooLarge,
    Owner,
    Write,
)
from daemon.ledger import assets, meta, owed, publishing, records
from daemon.ledger.ledger import Ledger, LedgerError, chunks
from daemon.ledger.meta import Fact
from daemon.ledger.records import Pending, ReadFacts
from daemon.notion.ids import normalize_id
from daemon.site.indexes import key_page
from daemon.site.redirects import Former, recovered, slug_of_redirect
from daemon.sync.compose import Composition
from daemon.sync.plan import retry_delay_seconds

log = structlog.get_logger(__name__)
STATUS_KEY = "sync:status"
BACK_OFF_FIRST_SECONDS = 5
BACK_OFF_LONGEST_SECONDS = 60
QUOTA_BACK_OFF_SECONDS = 900.0
"""How long a store that refuses for reasons of quota or capacity is left alone."""
TAKE_OVER_AFTER_HEARTBEATS = 3.0
RELEASE_SECONDS = 2.0
"""How long giving the store back may take: a store that hangs must not hold up the end of the process."""
DELETIONS_LEVEL = 2_000_000
GROUPS_FETCHED_AT_ONCE = 20
STATUS_BYTES = 8_192
"""Room for `sync:status`, which travels with a batch."""


class Standing(StrEnum):
    """Whether this daemon may write. `NEW`: it has not written yet and takes the store with its first write."""

    NEW = "new"
    OWNER = "owner"
    STANDBY = "standby"


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
    """The one writer. `problem` says why nothing is written, `paused_until` (monotonic) until when."""

    def __init__(self, kv: KV, ledger: Ledger, clock: Clock, heartbeat_seconds: float) -> None:
        self._kv = kv
        self._ledger = ledger
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds
        self._owner: Owner | None = None
        self._met: Owner | None = None
        self._has_met = False
        self._last_sign: tuple[int, float] | None = None
        self._last_sign_at = clock.monotonic()
        self._in_doubt = False
        self._is_full = False
        self._failures = 0
        self._last_beat = clock.monotonic()
        self.daemon_id = uuid.uuid4().hex
        self.standing = Standing.NEW
        self.problem: str | None = None
        self.error: KVError | None = None
        self.paused_until = float("-inf")
        self.status_text: Callable[[], str] = lambda: "{}"
        self.may_claim: Callable[[], bool] = lambda: True
        """Whether Notion has answered since the start: a daemon that it refuses must not push another aside."""
        self.on_publish: Callable[[Mapping[str, ReadFacts]], None] = lambda _: None
        """Told, before anything is written, what the pages of the site to be published were last read as."""
        self.on_written: list[Callable[[Sequence[str]], None]] = []
        """Told of each batch that was marked: the pages whose keys it set."""
        self.on_standing: Callable[[], None] = lambda: None
        """Called when it has taken the store, or stands by."""
        self.took_over_at = float("-inf")
        """The monotonic second at which it came out of standby last."""
        self.is_unsearched = False
        """Whether the store was filled by somebody else, who may have left pages of ours under other slugs."""
        self.site_paths: Mapping[str, str] | None = None
        """Where the pages of each source are on the site that is told what changed; None: no site is told."""

    # Whose store it is -------------------------------------------------------------------------------------------

    async def check_store(self) -> None:
        """At start: is this the store, with the content, that the ledger wrote? If not, everything is written anew."""
        await self._compare(await self._meet())

    async def _meet(self) -> Owner | None:
        """Read who owns the store; a daemon that is new remembers whom it found when it came."""
        present = await self._kv.read_owner()
        if not self._has_met:
            self._met, self._has_met = present, True
        return present

    async def _compare(self, owner: Owner | None) -> str:
        """The content id to write under; forgets what was written when the store is not the one we know."""

        def question(db: Connection) -> tuple[str, bool, bool]:
            content_id, ledger_id = meta.get(db, Fact.CONTENT_ID), ledger_identity(db)
            if owner is not None and (owner.ledger_id, owner.content_id) == (ledger_id, content_id):
                return str(content_id), False, bool(meta.get(db, Fact.STORE_UNSEARCHED))
            known = records.written_any(db)
            self._owe(db, records.deletions_owed(db))  # the store has lost them, the site may still show them
            records.forget_written(db)
            meta.put(db, Fact.STORE_UNSEARCHED, True)
            if content_id is None or owner is not None or known:
                content_id = uuid.uuid4().hex
                meta.put(db, Fact.CONTENT_ID, content_id)
            return str(content_id), known, True

        content_id, rewritten, self.is_unsearched = await self._ledger.call(question)
        if rewritten:
            log.warning(
                "the key-value store is not the one this ledger wrote: every key is written again",
                action="store_changed",
            )
        return content_id

    async def _claim(self) -> bool:
        """Take the store with the next fencing token. False: not entitled to, or somebody else was quicker."""
        if not self.may_claim():
            return False
        present = await self._meet()
        if self.standing is Standing.NEW and self._is_newer(present):
            self._stand_by()
            return False
        content_id = await self._compare(present)
        ledger_id = await self._ledger.call(ledger_identity)
        now = self._clock.now().timestamp()
        token = max((present.token if present else 0) + 1, _fresh_token(now))
        mine = Owner(token, self.daemon_id, ledger_id, content_id, now)
        if not await self._kv.claim(mine, present):
            return False
        if self.standing is Standing.STANDBY:
            self.took_over_at = self._clock.monotonic()
        self._owner, self.standing, self._in_doubt = mine, Standing.OWNER, False
        self.on_standing()
        log.info("owns the key-value store", action="owner", token=token)
        return True

    @property
    def is_entitled(self) -> bool:
        """Whether it owns the store, or may take it: if not, what is to be written has to wait."""
        return self.standing is Standing.OWNER or (self.standing is Standing.NEW and self.may_claim())

    async def may_write(self) -> bool:
        """Own the store, taking it if it was never tried; in standby look whether it became free."""
        if self.standing is Standing.OWNER:
            return not self._in_doubt or await self._renew()
        if self.standing is Standing.STANDBY and not await self._has_become_free():
            return False
        return await self._claim()

    async def _renew(self) -> bool:
        """After a batch without an answer: it may still arrive, so it must find another token than ours."""
        present = await self._kv.read_owner()
        if present is not None and present.daemon_id != self.daemon_id:
            self._stand_by()
            return False
        return await self._claim()

    async def is_free(self) -> bool:
        """Whether no other daemon writes to the store: nobody has it, it was given back, or its owner fell silent."""
        present = await self._kv.read_owner()
        if present is None or present.released or present.daemon_id == self.daemon_id:
            return True
        age = self._clock.now().timestamp() - present.heartbeat
        return age > TAKE_OVER_AFTER_HEARTBEATS * self._heartbeat_seconds

    def _is_newer(self, present: Owner | None) -> bool:
        """Whether the owner came after us: it took the store since our start, so it is not ours to take back."""
        if present is None or present.released:
            return False
        return present.daemon_id not in (self.daemon_id, self._met.daemon_id if self._met else None)

    async def _has_become_free(self) -> bool:
        """Whether the owner left, or died since we stand by: by our clock alone, the owner's may show another time."""
        present = await self._kv.read_owner()
        if present is None or present.released or present.daemon_id == self.daemon_id:
            return True
        now, sign = self._clock.monotonic(), (present.token, present.heartbeat)
        if sign != self._last_sign:
            self._last_sign, self._last_sign_at = sign, now
        return now - self._last_sign_at > TAKE_OVER_AFTER_HEARTBEATS * self._heartbeat_seconds

    def _stand_by(self) -> None:
        self._owner, self.standing = None, Standing.STANDBY
        self.on_standing()
        log.warning("another daemon writes to this store: standing by", action="standby")

    async def heartbeat(self) -> None:
        """Show that the owner lives, and find out whether it still owns. Costs one command.

        One that fails is repeated when the back-off is over: on a quiet day nothing else would notice that the store
        is there again.
        """
        now = self._clock.monotonic()
        is_early = now - self._last_beat < self._heartbeat_seconds or now < self.paused_until
        if is_early or self.standing is Standing.STANDBY:
            return
        try:
            if self._owner is None:
                await self._claim()
            elif await self.may_write():
                await self._apply([])
            self._last_beat = now
            self._is_well()
        except KVError as error:
            self._back_off(error)

    async def release(self) -> None:
        """On a clean exit: whoever comes next need not wait for our heartbeat to grow old."""
        if self._owner is None:
            return
        owner, self._owner = self._owner, None
        # With a token of its own, so that a batch still on its way is not applied after it.
        now = self._clock.now().timestamp()
        leaving = replace(owner, token=owner.token + 1, heartbeat=now, released=True)
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._kv.claim(leaving, owner)
        except (KVError, TimeoutError) as error:
            log.warning("ownership could not be released", action="release_failed", error=str(error))

    # Writing -----------------------------------------------------------------------------------------------------

    async def publish(self, site: Composition) -> Published:
        """Write every key that differs. Never raises for what the store does: it is tried again next cycle."""
        done = Published()
        self.on_publish(site.facts.reads)
        try:
            if self._clock.monotonic() >= self.paused_until:
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
            if groups and await self.may_write():
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
            if self.standing is not Standing.OWNER:
                return
        if batch:
            await self._write(batch, done)

    async def _write(self, groups: Sequence[Sequence[_Item]], done: Published) -> None:
        """Apply groups as one batch; if the store refuses it for its size, each group alone."""
        items = [item for group in groups for item in group]
        # Before it is sent: killed, or left without an answer, we would not know whether the store took it.
        await self._ledger.call(_begin, items)
        try:
            if not await self._apply([item.write for item in items]):
                return
        except KVValueTooLarge as error:
            if len(groups) > 1:
                for group in groups:
                    if self.standing is Standing.OWNER:
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

    async def _apply(self, writes: Sequence[Write]) -> bool:
        """One atomic script. False: the store is somebody else's now, and nothing was written."""
        assert self._owner is not None
        beat = replace(self._owner, heartbeat=self._clock.now().timestamp())
        # A full store still takes deletions: only they go without the status, which is a write.
        frees_only = bool(writes) and all(write.value is None for write in writes)
        told = [] if frees_only else [Write(STATUS_KEY, self.status_text())]
        try:
            applied = await self._kv.apply([*writes, *told], beat)
        except KVUnavailable:
            self._in_doubt = True
            raise
        if not applied:
            self._stand_by()
            return False
        self._owner = beat
        self._last_beat = self._clock.monotonic()
        return True

    async def find_leftovers(self, site: Composition) -> int:
        """Once, in a store that others filled: have the pages of ours removed that lie under slugs they no longer have.

        Out: how many, with the former slugs of ours that are told of; the site has to be worked out again for them. To
        be called when every page of the site has its key. What else is there is not ours.
        """
        if self.standing is Standing.STANDBY or self._clock.monotonic() < self.paused_until:
            return 0
        try:
            if not await self.may_write():  # where all is held back nothing was written yet
                return 0
            keys = [key async for key in self._kv.scan("page:*")]
            unknown = await self._ledger.call(records.unknown_keys, keys)
            found = {key: page async for key, page in self.pages_shown(unknown) if site.is_ours(page)}
            former = await self._former_slugs(site, found)
        except KVError as error:
            self._back_off(error)
            return 0
        # Held back only because it was not known that they were published: they are, and the search begins again.
        hidden = {page for page in found.values() if not site.is_published(page)}
        back = hidden - site.drafts_among(hidden)
        leftovers = {key: page for key, page in found.items() if page not in back}

        def adopt(db: Connection) -> None:
            records.adopt_for_removal(db, leftovers)
            publishing.were_shown(db, back)
            publishing.add_former(db, former)
            meta.put(db, Fact.STORE_UNSEARCHED, bool(back) or None)

        await self._ledger.call(adopt)
        self.is_unsearched = bool(back)
        told = {"found": sorted(leftovers), "published": len(back)}
        log.info("searched the store for pages under former slugs", action="leftovers", **told)
        return len(found) + len(former)

    async def _former_slugs(self, site: Composition, found: Mapping[str, str]) -> dict[str, Former]:
        """Slugs that pages of ours left before this ledger began, as the store tells. In: key -> page of ours."""
        keys = await self._ledger.call(
            records.unknown_keys, [key async for key in self._kv.scan("redirect:*")]
        )
        values: dict[str, Any] = {}
        for some in chunks(keys):
            for key, text in zip(some, await self._kv.get_many(some), strict=True):
                with suppress(ValueError):
                    values[slug_of_redirect(key) or ""] = jsontext.loads(text or "null")
        left = {key.removeprefix("page:"): page for key, page in found.items()}
        return recovered(values, left, site.slugs, self._clock.now().timestamp())

    async def pages_shown(self, keys: Sequence[str]) -> AsyncIterator[tuple[str, str]]:
        """(key, Notion's id) of those values that are pages."""
        for some in chunks(keys):
            for key, text in zip(some, await self._kv.get_many(some), strict=True):
                page = _page_shown(text)
                if page is not None:
                    yield key, page

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
    def _wait_seconds(self) -> float:
        return retry_delay_seconds(self._failures, BACK_OFF_FIRST_SECONDS, BACK_OFF_LONGEST_SECONDS)

    def _is_well(self) -> None:
        """The store took what it was given."""
        self._failures, self.problem, self.error = 0, None, None

    def _back_off(self, error: KVError) -> None:
        self._failures += 1
        wait = self._wait_seconds
        if isinstance(error, KVQuotaExceeded):
            wait = QUOTA_BACK_OFF_SECONDS
        wait = max(wait, error.retry_after_seconds or 0.0)
        self.paused_until = self._clock.monotonic() + wait
        self.problem, self.error = str(error), error
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


def _fresh_token(now: float) -> int:
    """A token that no store ever held. Counting from 1 again in an emptied store, two daemons would share one."""
    return int(now) * 2**20 + secrets.randbits(20)


def ledger_identity(db: Connection) -> str:
    """The id of this ledger, made at its first use."""
    identity = meta.get(db, Fact.LEDGER_ID)
    if identity is None:
        identity = uuid.uuid4().hex
        meta.put(db, Fact.LEDGER_ID, identity)
    return str(identity)


def _page_shown(text: str | None) -> str | None:
    """The id of the page that a value says it shows; None when it says nothing of the kind."""
    try:
        value = jsontext.loads(text or "")
    except ValueError:
        return None
    meta_of = value.get("meta") if isinstance(value, dict) else None
    page = meta_of.get("notionId") if isinstance(meta_of, dict) else None
    return normalize_id(page) if isinstance(page, str) else None


def grouped(rows: Iterable[Pending]) -> Iterator[list[Pending]]:
    """Pending keys in the groups that must be written together, higher levels first, pure deletions last.

    Lists come right after the pages of the level that they name.

    Keys belong together when the same page wants one and leaves another: a page that moves, what tells where it went,
    and through it whoever takes its place.
    """
    rows = list(rows)
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    for row in rows:
        for owner in {row.owner_id, row.written_owner_id or row.owner_id}:
            leader[find(f"key {_place(row.key)}")] = find(f"owner {owner}")
    groups: dict[str, list[Pending]] = defaultdict(list)
    for row in rows:
        groups[find(f"key {_place(row.key)}")].append(row)
    yield from sorted(groups.values(), key=_urgency)


def _place(key: str) -> str:
    """A page's key, and that of a redirect from its slug, are one place: only one of the two is ever there."""
    slug = slug_of_redirect(key)
    return key if slug is None else key_page(slug)


def writable(site: Composition, rows: Iterable[Pending]) -> list[list[Pending]]:
    """The groups to write now: all but the pages that wait for copies of their files.

    One that moves, or takes another's place, does not wait: lists name it where it is from now on.
    """
    return [group for group in grouped(rows) if len(group) > 1 or not _is_held(site, group[0])]


def _is_held(site: Composition, row: Pending) -> bool:
    return row.owner_id in site.held and row.kind == "page" and row.wanted is not None


def _urgency(group: Sequence[Pending]) -> tuple[int, bool, str]:
    levels = [row.level for row in group if row.wanted is not None]
    return min(levels, default=DELETIONS_LEVEL), group[0].kind != "page", group[0].key
