"""A store that can be told to fail: before a command is carried out, or after it was, with the answer lost."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from daemon.kv.base import KVUnavailable, Owner, Write
from daemon.kv.embedded import EmbeddedKV

Result = TypeVar("Result")


async def _pass(_point: str) -> None:
    pass


class FlakyKV(EmbeddedKV):
    """The embedded store, save what it was told to let fail.

    `is_down`: nothing answers. `gate` is awaited with `before batch` and `after batch` around every write.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_down = False
        self.gate: Callable[[str], Awaitable[None]] = _pass
        self._failures: list[bool] = []

    def fail(self, times: int, *, applied: bool) -> None:
        """Let so many writes fail; `applied`: they are carried out, only nobody hears of it."""
        self._failures += [applied] * times

    def heal(self) -> None:
        """Answer properly from now on."""
        self.is_down = False
        self._failures.clear()

    async def flush(self) -> None:
        """Lose everything, as if somebody else had emptied the store."""
        await self.read(lambda connection: connection.execute("DELETE FROM entries").rowcount)

    async def _command(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        self._answer()
        return await super()._command(work)

    async def _write_fenced(self, writes: Sequence[Write], owner: Owner, expected_token: int | None) -> bool:
        await self.gate("before batch")
        self._answer()
        applied = self._failures.pop(0) if self._failures else None
        if applied is False:
            raise KVUnavailable("The store was told to fail")
        done = await super()._write_fenced(writes, owner, expected_token)
        if applied is True:
            raise KVUnavailable("The store was told to lose its answer")
        await self.gate("after batch")
        return done

    def _answer(self) -> None:
        if self.is_down:
            raise KVUnavailable("The store was told to be down")
