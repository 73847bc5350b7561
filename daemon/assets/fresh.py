"""Addresses that are fresh: Notion signs a file's address anew at every read of the block or page that holds it.

One is remembered until shortly before it dies. However many readers ask at once, Notion is asked once.
"""

import asyncio
from typing import Protocol

from daemon.ledger import assets
from daemon.ledger.ledger import Ledger
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionNotFound
from daemon.notion.files import HostedFile, files_of_block, files_of_page
from daemon.notion.limiter import Lane
from daemon.notion.values import is_full_page

MARGIN_SECONDS = 120.0
"""An address is not given out that dies sooner: whoever gets it needs time to use it."""
MOST_UNDER_WAY = 50
"""So many different questions may wait for Notion; further readers are told to come again."""


class FileGoneError(Exception):
    """Notion shows no such file at this place any more."""


class BusyError(Exception):
    """Too many questions wait for Notion already."""


class HeldFile(Protocol):
    """A file as the ledger knows it."""

    @property
    def id(self) -> str: ...
    @property
    def holder(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def expires_at(self) -> float | None: ...


class FreshAddresses:
    """Gives them out, in the lane of reading pages: polling keeps its reserve."""

    def __init__(self, api: NotionApi, ledger: Ledger) -> None:
        self._api = api
        self._ledger = ledger
        self._asking: dict[str, asyncio.Task[dict[str, HostedFile]]] = {}

    async def address(self, file: HeldFile, *, anew: bool = False) -> HostedFile:
        """The file with an address that works now. `anew`: although the one that is known should.

        Raises FileGoneError, BusyError, NotionError, LedgerError.
        """
        if not anew and self.lives(file):
            return HostedFile(file.holder, "", file.url, file.expires_at)
        found = await self._ask(file.holder)
        if file.id not in found:
            raise FileGoneError(f"Notion shows no such file in {file.holder} any more.")
        return found[file.id]

    def lives(self, file: HeldFile) -> bool:
        """Whether the address that is known still works for a while."""
        return self.lives_seconds(file) > MARGIN_SECONDS

    def lives_seconds(self, file: HeldFile) -> float:
        """How long the address that is known still works. One that is not signed works for ever."""
        if file.expires_at is None:
            return 0.0 if "?" in file.url else float("inf")
        return max(file.expires_at - self._api.notion_now(), 0.0)

    async def close(self) -> None:
        """Drop what is asked."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask(self, holder: str) -> dict[str, HostedFile]:
        what, _, rest = holder.partition(":")
        name = f"{what}:{rest.partition(':')[0]}"
        task = self._asking.get(name)
        if task is None:
            if len(self._asking) >= MOST_UNDER_WAY:
                raise BusyError("too many files are asked for at once")
            task = asyncio.create_task(self._look(what, rest.partition(":")[0]), name=f"fresh {name}")
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        # One reader that leaves takes the answer from nobody.
        return await asyncio.shield(task)

    async def _look(self, what: str, object_id: str) -> dict[str, HostedFile]:
        try:
            if what == "block":
                files = files_of_block((await self._api.block(object_id, Lane.READ)).body)
            else:
                page = (await self._api.page(object_id, Lane.READ)).body
                files = files_of_page(page) if is_full_page(page) else []
        except NotionNotFound as error:
            raise FileGoneError(str(error)) from None
        await self._ledger.call(assets.refresh, files)
        return {file.id: file for file in files}
