"""Copies the files that pages show into the store, beside the cycles: a few at once, what is new first.

What is to be done is in the ledger, so a kill loses nothing. A file that cannot be copied fails alone: its page keeps
an address that works, and it is tried again later. Without a store pictures are only measured.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from daemon.assets.fetch import Fetched, Fetcher, FetchError
from daemon.assets.fresh import BusyError, FileGoneError, FreshAddresses
from daemon.assets.store import Place, Store, StoreError, clear_spool
from daemon.clock import Clock
from daemon.ledger import assets
from daemon.ledger.assets import Copied, Todo
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.notion.errors import NotionBlocked, NotionError, NotionUnauthorized
from daemon.notion.files import HostedFile

log = structlog.get_logger(__name__)
MOST_AT_ONCE = 4
TAKEN_AT_ONCE = 50
"""How many files are looked up in the ledger at once: new ones come first, so not too many."""
WAKE_SECONDS = 5.0
"""How often at most the schedule is woken while there is more to copy: every time may rewrite pages."""
LEFTOVER_SECONDS = 3600.0
REMOVED_AT_ONCE = 100


class Copier:
    """Works when it is poked, until nothing is due. `may_work` is asked before every file."""

    def __init__(
        self, ledger: Ledger, fresh: FreshAddresses, fetcher: Fetcher, store: Store | None, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._fresh = fresh
        self._fetcher = fetcher
        self._store = store
        self._clock = clock
        self._working: asyncio.Task[None] | None = None
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._queue: list[Todo] = []
        self._locks: dict[str, asyncio.Lock] = {}
        self._is_poked = False
        self._has_news = False
        self._woke_at = clock.monotonic()
        self._stopped_by: Exception | None = None
        self.may_work: Callable[[], bool] = lambda: True
        self.on_news: Callable[[], None] = lambda: None
        """Called when bundles may hold other addresses now."""
        self.on_pause: Callable[[], None] = lambda: None
        """Called when there is nothing more to do now, and now and then before: it is worth publishing."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being copied."""
        return self._working is None or self._working.done()

    def poke(self) -> None:
        """There may be something to do."""
        self._is_poked = True
        if self.is_idle:
            self._working = asyncio.create_task(self._work(), name="copier")

    async def drain(self) -> None:
        """Work until nothing is due."""
        self.poke()
        if self._working is not None:
            await asyncio.shield(self._working)

    async def stop(self) -> None:
        """Abandon what is under way: none of it is kept, all of it is still due."""
        tasks = [task for task in (self._working, *self._in_flight.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._fresh.close()
        await self._fetcher.close()
        if self._store is not None:
            await self._store.close()

    # Copying ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        self._stopped_by = None
        self._queue = []
        try:
            while self._is_poked or self._in_flight:
                self._is_poked = False
                await self._top_up()
                if self._in_flight:
                    await asyncio.wait(self._in_flight.values(), return_when=asyncio.FIRST_COMPLETED)
                    self._is_poked = True
        except LedgerError as error:
            log.error("files wait: the ledger cannot be used", action="assets_failed", cause=error.cause)
        except Exception:
            log.exception("copying files crashed", action="assets_crashed")
        self._pause()

    def _pause(self) -> None:
        self._woke_at = self._clock.monotonic()
        if self._has_news:
            self._has_news = False
            self.on_pause()

    async def _top_up(self) -> None:
        while len(self._in_flight) < MOST_AT_ONCE and self._stopped_by is None and self.may_work():
            if not self._queue:
                self._queue = await self._due()
            if not self._queue:
                return
            todo = self._queue.pop(0)
            task = asyncio.create_task(self._one(todo), name=f"copy {todo.id}")
            self._in_flight[todo.path] = task
            task.add_done_callback(partial(self._landed, todo.path))

    async def _due(self) -> list[Todo]:
        return await self._ledger.call(
            assets.to_fetch,
            store=self._store.id if self._store is not None else None,
            now=self._clock.now().timestamp(),
            limit=TAKEN_AT_ONCE,
            busy_paths=list(self._in_flight),
        )

    def _landed(self, path: str, _: asyncio.Task[None]) -> None:
        self._in_flight.pop(path, None)

    async def _one(self, todo: Todo) -> None:
        """One file: kept whole, or failed with its reason."""
        try:
            await self._try(todo)
        except (LedgerError, NotionUnauthorized, NotionBlocked) as error:
            self._stopped_by = error  # no fault of the file's
            return
        except FetchError as error:
            await self._failed(todo, str(error), refused=error.refused)
        except (StoreError, FileGoneError, BusyError) as error:
            await self._failed(todo, str(error))
        except NotionError as error:
            await self._failed(todo, f"{error} {error.hint}")
        except Exception as error:
            log.exception("a file could not be copied", action="asset_crashed", asset=todo.id)
            await self._failed(todo, f"{type(error).__name__} while copying this file; see the log.")
        self._has_news = True
        self.on_news()
        # One that takes long must not keep the others from being published.
        if not self._queue or self._clock.monotonic() - self._woke_at >= WAKE_SECONDS:
            self._pause()

    async def _try(self, todo: Todo) -> None:
        file = await self._fresh.address(todo)
        try:
            await self._fetch(todo, file)
        except FetchError as error:
            if not error.denied:
                raise
            # It was read an hour ago, or Notion's clock is not ours: once with an address of this moment.
            await self._fetch(todo, await self._fresh.address(todo, anew=True))

    async def _fetch(self, todo: Todo, file: HostedFile) -> None:
        if self._store is None:
            measures = await self._fetcher.measure(file.url)
            await self._keep(todo, None, measures)
            return
        # With the lock, a copy that is being removed is not taken for one that is there.
        async with self._fetcher.fetch(file.url, todo.kind) as fetched, self._lock(fetched.digest):
            copy = await self._copied(self._store, fetched, todo)
            await self._keep(todo, copy, fetched.measures)

    async def _copied(self, store: Store, fetched: Fetched, todo: Todo) -> Copied:
        known = await self._ledger.call(assets.known_copy, fetched.digest, store.id)
        if known is not None:
            return known
        return await store.put(fetched, Place(todo.page_id, todo.holder, todo.path))

    async def _keep(self, todo: Todo, copy: Copied | None, measures: tuple[int, int] | None) -> None:
        now = self._clock.now().timestamp()
        await self._ledger.call(assets.fetched, todo.path, copy, measures, now)
        size = copy.size_bytes if copy is not None else None
        log.debug("file copied", action="asset_copied", asset=todo.id, bytes=size)

    async def _failed(self, todo: Todo, problem: str, *, refused: bool = False) -> None:
        now = self._clock.now().timestamp()
        log.warning("file could not be copied", action="asset_failed", asset=todo.id, reason=problem)
        try:
            await self._ledger.call(assets.failed, todo.path, problem, now, refused=refused)
        except LedgerError as error:
            self._stopped_by = error

    def _lock(self, digest: str) -> asyncio.Lock:
        for name in [name for name, lock in self._locks.items() if not lock.locked() and name != digest]:
            del self._locks[name]
        return self._locks.setdefault(digest, asyncio.Lock())

    # Removing --------------------------------------------------------------------------------------------------

    async def tidy(self, grace_seconds: float) -> int:
        """Forget files that nothing has shown or named for so long, and remove their copies. Out: how many copies."""
        now = self._clock.now().timestamp()
        await self._ledger.call(assets.forget_unused, now, grace_seconds)
        if self._store is None:
            return 0
        removed = 0
        for copy in await self._ledger.call(assets.unneeded_copies, self._store.id, REMOVED_AT_ONCE):
            removed += await self._remove(self._store, copy)
        if removed:
            log.info(
                "copies of files removed that nothing shows any more", action="assets_removed", count=removed
            )
        return removed

    async def _remove(self, store: Store, copy: Copied) -> bool:
        async with self._lock(copy.digest):
            if not await self._ledger.call(assets.is_unneeded, copy.digest):
                return False
            try:
                await store.remove(copy)
            except StoreError as error:
                log.warning("a copy could not be removed", action="asset_stays", reason=str(error))
                return False
            await self._ledger.call(assets.forget_copy, copy.digest, store.id)
            return True


def clear_leftovers(spool: Path, clock: Clock) -> None:
    """Remove what earlier processes were fetching when they died."""
    clear_spool(spool, clock.now().timestamp() - LEFTOVER_SECONDS)
