"""How many connections may stand at once, and who leaves when one more comes."""

import resource
from typing import Protocol

MOST_CONNECTIONS = 500
SHARE_OF_DESCRIPTORS = 4
"""Connections take a quarter of the descriptors that the process may have: ledger, store and Notion need theirs."""


class Guest(Protocol):
    """A connection that can be ended at once."""

    def leave(self) -> None: ...


class Room:
    """The open connections, at most `most`. Those that wait for a request are known in the order of their waiting.

    Whoever waits longest leaves when it is full, whether it is idle between requests or has sent half of one: so
    sockets that somebody opens and leaves alone keep nobody out. One that is being answered never leaves for another.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Guest] = set()
        self._waiting: dict[Guest, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, guest: Guest) -> bool:
        """One more, which waits for its first request. False: everybody here is being answered, it must leave."""
        if len(self._open) >= self.most:
            longest = next(iter(self._waiting), None)
            if longest is None:
                return False
            self.left(longest)
            longest.leave()
        self._open.add(guest)
        self.waits(guest)
        return True

    def waits(self, guest: Guest) -> None:
        """It waits for a request from now on."""
        if guest in self._open:
            self._waiting.pop(guest, None)
            self._waiting[guest] = None

    def works(self, guest: Guest) -> None:
        """Its request is here, whole, and is being answered."""
        self._waiting.pop(guest, None)

    def left(self, guest: Guest) -> None:
        """It is closed, or about to be."""
        self._open.discard(guest)
        self._waiting.pop(guest, None)

    def clear(self) -> None:
        """Everybody leaves."""
        for guest in list(self._open):
            self.left(guest)
            guest.leave()


def most_connections() -> int:
    """How many this process can afford, by its limit of descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(8, min(MOST_CONNECTIONS, soft // SHARE_OF_DESCRIPTORS))
