"""Which address a bundle holds for a file that Notion hosts. Pure.

In order: the copy's own; while copying fails, that of the last file that was copied from the same place; the daemon's,
which serves the copy, or leads to Notion's address of the hour; none at all. Never a signed one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Mode = Literal["mirror", "proxy", "off"]

HOLD_SECONDS = 10.0
"""How long a page with new files waits for their copies before it is published with the daemon's addresses."""
HOLD_WITHOUT_ADDRESS_SECONDS = 60.0
"""The same where the daemon cannot be reached from outside: what is not copied by then is left out."""
_PICTURES = frozenset({"image", "cover", "icon", "emoji"})
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}$")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of one file at one place.

    `copied`: there is a copy; `copy_url`: where readers reach it without the daemon; `passive`: it may be served by
    anybody as what it is. `settled`: copying has ended,
    well or badly, at least once; `failing`: the last try went wrong and there will be another.
    """

    id: str
    holder: str
    kind: str
    path: str
    url: str
    expires_at: float | None
    first_seen_at: float
    copied: bool = False
    copy_url: str | None = None
    passive: bool = True
    width: int | None = None
    height: int | None = None
    settled: bool = False
    failing: bool = False

    @property
    def is_picture(self) -> bool:
        return self.kind in _PICTURES


@dataclass(frozen=True, slots=True)
class Shown:
    """What a bundle holds of a file: an address and the measures of a picture. `source_id`: whose copy it names."""

    url: str | None
    source_id: str
    width: int | None = None
    height: int | None = None

    @property
    def measures(self) -> dict[str, int] | None:
        """Width and height, where both are known."""
        if self.width is None or self.height is None:
            return None
        return {"width": self.width, "height": self.height}


@dataclass(frozen=True, slots=True)
class FileLinks:
    """The rules of one daemon. `public_url`: how it is reached from outside, if it is."""

    mode: Mode = "off"
    public_url: str | None = None

    def shown(self, file: FileFacts, previous: FileFacts | None = None) -> Shown:
        """What a bundle holds of `file`. `previous`: the last that was copied from the same place."""
        if self.mode == "mirror" and not file.copied and previous is not None and file.failing:
            return Shown(self._copy(previous), previous.id, previous.width, previous.height)
        if self.mode == "mirror" and file.copied:
            return Shown(self._copy(file), file.id, file.width, file.height)
        if self.public_url is not None:
            return Shown(self._own(file), file.id, file.width, file.height)
        if previous is not None:
            return Shown(self._copy(previous), previous.id, previous.width, previous.height)
        return Shown(None if is_signed(file) else file.url, file.id)

    def holds_until(self, files: Iterable[FileFacts]) -> float:
        """Until when (Notion's clock) a page waits for copies: of files that are new, and only for so long."""
        seconds = HOLD_WITHOUT_ADDRESS_SECONDS if self.public_url is None else HOLD_SECONDS
        waited_for = [file for file in files if not file.settled and self.concerns(file)]
        return max((file.first_seen_at + seconds for file in waited_for), default=float("-inf"))

    def holds_back(self, files: Iterable[FileFacts], notion_now: float) -> bool:
        """Whether a page waits for copies now."""
        return notion_now < self.holds_until(files)

    def concerns(self, file: FileFacts) -> bool:
        """Whether there is anything to fetch: to copy it whole, or to measure it."""
        return self.mode == "mirror" or (self.mode == "proxy" and file.kind == "image")

    def _copy(self, file: FileFacts) -> str | None:
        if self.public_url is not None and not (file.copy_url and file.passive):
            return self._own(file)
        return file.copy_url

    def _own(self, file: FileFacts) -> str:
        found = _EXTENSION.search(file.path)
        return f"{self.public_url}/assets/{file.id}{found[0].lower() if found else ''}"


def is_signed(file: FileFacts) -> bool:
    """Whether the address that Notion gave dies: only custom emoji have one that stays."""
    return file.expires_at is not None or "?" in file.url
