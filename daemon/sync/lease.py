"""Which daemon may write to the store: the lease that it holds on it, under a fencing token that only grows.

It is one value, `sync:owner`. Every batch is applied by a script only while that carries our token, and renews it; a
daemon that falls silent for three heartbeats loses it to whoever waits, and learns of it from its next batch.
"""

import asyncio
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum

import structlog
from sqlalchemy import Connection

from daemon.clock import Clock
from daemon.kv.base import KV, KVError, KVUnavailable, Owner, Write
from daemon.ledger import meta, records
from daemon.ledger.ledger import Ledger
from daemon.ledger.meta import Fact

log = structlog.get_logger(__name__)
STATUS_KEY = "sync:status"
TAKE_OVER_AFTER_HEARTBEATS = 3.0
RELEASE_SECONDS = 2.0
"""How long giving the store back may take: a store that hangs must not hold up the end of the process."""


class Standing(StrEnum):
    """Whether this daemon may write. `NEW`: it has not written yet and takes the store with its first write."""

    NEW = "new"
    OWNER = "owner"
    STANDBY = "standby"


class Lease:
    """This daemon's claim to the store. `standing` says whether it may write. What asks the store raises KVError."""

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
        self._last_beat = clock.monotonic()
        self.daemon_id = uuid.uuid4().hex
        self.standing = Standing.NEW
        self.on_standing: Callable[[], None] = lambda: None
        """Called when it begins to stand by, and when it owns the store."""
        self.may_claim: Callable[[], bool] = lambda: True
        """Whether Notion has answered since the start: a daemon that it refuses must not push another aside."""
        self.status_text: Callable[[], str] = lambda: "{}"
        """What `sync:status` says: it travels with each batch and each heartbeat."""
        self.on_lost: Callable[[Connection, Sequence[str]], None] = lambda *_: None
        """Told, in the transaction that notes it, of deletions owed to a store that is no longer there."""
        self.took_over_at = float("-inf")
        """The monotonic second at which it came out of standby last."""
        self.is_unsearched = False
        """Whether the store was filled by somebody else, who may have left pages of ours under other slugs."""

    async def check(self) -> None:
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
            self.on_lost(db, records.deletions_owed(db))  # the site may still show them
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

    @property
    def is_beat_due(self) -> bool:
        """Whether it is time for a sign of life: nothing has renewed the lease for a heartbeat."""
        is_silent = self._clock.monotonic() - self._last_beat >= self._heartbeat_seconds
        return is_silent and self.standing is not Standing.STANDBY

    async def beat(self) -> None:
        """Show that the owner lives, and find out whether it still owns. Costs one command."""
        began = self._clock.monotonic()
        if self._owner is None:
            await self._claim()
        elif await self.may_write():
            await self.apply([])
        self._last_beat = began

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

    async def apply(self, writes: Sequence[Write]) -> bool:
        """Apply a batch with `sync:status`, all or nothing, and renew the lease. False: it is somebody else's now."""
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
