"""What every store of copies can do, and the one in a local folder."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from daemon.assets.fetch import Fetched
from daemon.ledger.assets import Copied
from daemon.notion.files import file_name

PIECE_BYTES = 256 * 1024
_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}$")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is shown: its page, its holder there, and the path of its address at Notion."""

    page_id: str
    holder: str
    path: str

    @property
    def name(self) -> str:
        """The name it was uploaded with."""
        return file_name(self.path)

    @property
    def extension(self) -> str:
        """The end of that name, where it is a plain one; else nothing."""
        found = _EXTENSION.search(PurePosixPath(self.path).name.lower())
        return found[0] if found else ""


class StoreError(Exception):
    """The store refused: what happened (`cause`) and what to do about it (`hint`)."""

    def __init__(self, cause: str, hint: str) -> None:
        self.cause = cause
        self.hint = hint
        super().__init__(f"{cause} {hint}")


class Store(Protocol):
    """Keeps bytes under their digest. `id` says which store it is: copies in another one are made again in this one."""

    id: str
    kind: str

    async def put(self, file: Fetched, place: Place) -> Copied:
        """Keep a file; it may be moved away. Doing it again does no harm. Raises StoreError."""

    def open(
        self, copy: Copied, start: int, length: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Some of a copy's bytes. Raises StoreError, FileNotFoundError when the copy is gone."""

    async def remove(self, copy: Copied) -> None:
        """Let a copy go; one that is gone already is no error. Raises StoreError."""

    async def check(self) -> None:
        """Return when the store answers and knows us; nothing is changed. Raises StoreError."""

    async def close(self) -> None:
        """Give connections back."""


class LocalStore:
    """Files in a folder, under their digests. Readers get them from the daemon."""

    kind = "local"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.id = "local"

    async def put(self, file: Fetched, place: Place) -> Copied:
        location = f"{file.digest[:2]}/{file.digest}"
        try:
            await asyncio.to_thread(self._move_in, file.file, location)
        except OSError as error:
            raise _folder_error(self._folder, error) from error
        return Copied(file.digest, self.id, location, None, file.media_type, file.size_bytes)

    def _move_in(self, file: Path, location: str) -> None:
        target = self._folder / location
        target.parent.mkdir(parents=True, exist_ok=True)
        # Before the ledger says that it is there: a machine that loses power must not keep the one without the other.
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.replace(target)

    @asynccontextmanager
    async def open(self, copy: Copied, start: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        opened = await asyncio.to_thread(self._open, copy, start)
        try:
            yield _pieces(opened, length)
        finally:
            opened.close()

    def _open(self, copy: Copied, start: int) -> IO[bytes]:
        file = self._folder / copy.location
        opened = file.open("rb")
        if os.fstat(opened.fileno()).st_size != copy.size_bytes:
            opened.close()
            raise FileNotFoundError(copy.location)
        opened.seek(start)
        return opened

    async def remove(self, copy: Copied) -> None:
        try:
            await asyncio.to_thread((self._folder / copy.location).unlink, missing_ok=True)
        except OSError as error:
            raise _folder_error(self._folder, error) from error

    async def check(self) -> None:
        """A folder is looked at by whoever checks the others too."""

    async def close(self) -> None:
        """Nothing is open between two calls."""


async def _pieces(opened: IO[bytes], length: int) -> AsyncIterator[bytes]:
    while length > 0:
        piece = await asyncio.to_thread(opened.read, min(PIECE_BYTES, length))
        if not piece:
            return
        length -= len(piece)
        yield piece


def _folder_error(folder: Path, error: OSError) -> StoreError:
    reason = error.strerror or str(error)
    return StoreError(
        f"The folder {folder} cannot keep a file ({reason}).",
        "Give it room and the right to write, or set DATA_DIR, or configure a bucket.",
    )


def clear_spool(folder: Path, older_than: float) -> None:
    """Remove what a process that died left behind. `older_than`: unix seconds; what is newer may be another's."""
    for file in folder.glob("copy-*"):
        with suppress(OSError):
            if file.stat().st_mtime < older_than:
                file.unlink()
