"""A progress bar for a sync: pages read of those known, and keys still to be written."""

import asyncio
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from daemon.ledger import records, work
from daemon.status import Parts

REFRESH_SECONDS = 0.25


class Progress:
    """Shown while the block runs, on a terminal as a moving bar, elsewhere as one last line."""

    def __init__(self, parts: Parts, console: Console, doing: str = "Reading Notion") -> None:
        self._parts = parts
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("pages"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._task = self._bar.add_task(doing, total=None, note="")
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> "Progress":
        self._bar.start()
        self._watching = asyncio.ensure_future(self._watch())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._bar.stop()

    async def _watch(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Show what the ledger says now; to be called at the end too: the last look may be older than the work."""
        left = await self._parts.ledger.call(work.backlog, self._parts.api.notion_now())
        waiting = await self._parts.ledger.call(records.pending_count)
        undone = max(left.unread, left.due)
        pause = self._parts.api.limiter.paused_for_seconds
        note = f"waiting {pause:.0f} s for Notion" if pause else f"{waiting} keys to write" if waiting else ""
        self._bar.update(self._task, total=left.total, completed=left.total - undone, note=note)
