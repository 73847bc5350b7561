"""So many bytes may be on their way at once; whoever would exceed that waits."""

import asyncio
from collections import deque


class Room:
    """First come, first served; something larger than the whole room gets in when it is alone."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, wanted_bytes: int) -> int:
        """Wait for room. Out: how many bytes to give back."""
        size = min(wanted_bytes, self._total)
        if size <= self._free and not self._waiting:
            self._free -= size
            return size
        entry = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not entry[1].cancelled():
                self.give_back(size)
            self._let_in()
            raise
        return size

    def give_back(self, size: int) -> None:
        """The bytes are gone."""
        self._free += size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, entry = self._waiting.popleft()
            if not entry.done():
                self._free -= size
                entry.set_result(None)
