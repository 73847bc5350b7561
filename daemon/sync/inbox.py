"""What events pointed at and nobody has looked at yet: each thing once, few enough to hold, none too often. No I/O."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from daemon.notion.events import Hint, Subject

MOST_WAITING = 2_000
"""So many things at most wait to be looked at; beyond them a poll finds what is new."""
MOST_REMEMBERED = 10_000
LOOK_AGAIN_SECONDS = 5.0
"""The same thing is not looked at more often, however many events point at it: the last of them is not lost."""

Key = tuple[Subject, str]


class Queue:
    """Things to look at, in the order in which they came up, each once. What finds no room sets `overflowed`."""

    def __init__(self) -> None:
        self._waiting: dict[Key, Hint] = {}
        self.overflowed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, hint: Hint) -> None:
        """Look at this. Pointed at again before anybody did, it is looked at once."""
        key = (hint.subject, hint.id)
        before = self._waiting.get(key)
        if before is not None:
            hint = replace(hint, in_place=hint.in_place and before.in_place)
        elif len(self._waiting) >= MOST_WAITING:
            self.overflowed = True
            return
        self._waiting[key] = hint

    def pop(self) -> Hint:
        """The next one."""
        return self._waiting.pop(next(iter(self._waiting)))

    def clear(self) -> None:
        """Nothing of it is looked at."""
        self._waiting.clear()


class Inbox(Queue):
    """Moments are monotonic seconds. A thing that was looked at rests a while; what comes up meanwhile waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._rests_until: OrderedDict[Key, float] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_repeated(self, event_id: str) -> bool:
        """Whether this event was delivered before; from now on it was."""
        repeated = event_id in self._seen
        self._seen[event_id] = None
        self._seen.move_to_end(event_id)
        while len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return repeated

    def take(self, now: float) -> list[Hint]:
        """Everything that may be looked at now, to be looked at now: it rests from here on."""
        ready = [key for key in self._waiting if not self.rests(key, now)]
        hints = [self._waiting.pop(key) for key in ready]
        for key in ready:
            self.rest(key, now + LOOK_AGAIN_SECONDS)
        return hints

    def rest(self, key: Key, until: float) -> None:
        """Do not look at a thing again before then."""
        self._rests_until[key] = until
        self._rests_until.move_to_end(key)
        while len(self._rests_until) > MOST_REMEMBERED:
            self._rests_until.popitem(last=False)

    def rests(self, key: Key, now: float) -> bool:
        """Whether a thing was looked at lately."""
        return self._rests_until.get(key, now) > now

    def put_back(self, hints: Iterable[Hint]) -> None:
        """These could not be looked at: once they have rested."""
        for hint in hints:
            self.add(hint)

    def ready_at(self, now: float) -> float | None:
        """When the next of what waits may be looked at; None: nothing waits."""
        return min((self._rests_until.get(key, now) for key in self._waiting), default=None)
