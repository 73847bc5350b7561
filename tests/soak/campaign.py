"""One seed: a workspace that is edited while daemons follow it and die; in the end every key is compared."""

import asyncio
import contextlib
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.demo.habits import Habits
from daemon.demo.sandbox import Sandbox
from tests.soak.store import EmbeddedStore, RedisStore, Store
from tests.soak.victim import POINTS, Victim, victim
from tests.support.editor import Editor
from tests.support.oracle import Oracle
from tests.support.process import command

STAMP_SECONDS = 1
SETTLED_SECONDS = 2.5
"""After this long without an edit every read can be trusted: granularity, slack and lag, and a second for rounding."""
LONGEST_LIFE_SECONDS = 20.0
"""Of a daemon that is to die and does not get to its point; it ends sooner, when it has worked for a few cycles."""
REST_SECONDS = 90.0
WHOLE_CYCLES = 2
"""What was read is worked out and written at the end of its cycle: the one that may be under way, and a whole one."""
KINDS: list[int | str] = [429, 500, 502, 504, "cut", "reset"]
TIMES = {"before batch": 4, "mid-batch": 4, "batch": 4, "sweep": 60}
"""The largest count at which a process ends at a point, where that is not 12: a short life writes few batches."""
SETTINGS = {
    "NOTION_TOKEN": "ntn_sandbox",
    "NOTION_REQUESTS_PER_MINUTE": "600000",
    "EDIT_GRANULARITY_SECONDS": str(STAMP_SECONDS),
    "SETTLE_SLACK_SECONDS": "0.2",
    "FEED_LAG_SECONDS": "0.5",
    "POLL_INTERVAL_SECONDS": "0.3",
    "SWEEP_INTERVAL_SECONDS": "1",
    "HEARTBEAT_SECONDS": "0.5",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
}


class WrongError(Exception):
    """The campaign found something: a line each."""


@dataclass
class Result:
    """What came of a seed. `folder` is kept when something is wrong."""

    seed: int
    seconds: float = 0.0
    story: list[str] = field(default_factory=list)
    keys: int = 0
    wrong: list[str] = field(default_factory=list)
    folder: Path | None = None


async def campaign(seed: int, redis: str | None) -> Result:
    """Play one seed. In: the path of a redis-server, None: embedded stores only."""
    result, began = Result(seed), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{seed}-"))
    try:
        await _Life(seed, redis, folder, result).live()
    except (WrongError, AssertionError, TimeoutError) as error:
        result.wrong += str(error).splitlines() or [type(error).__name__]
    result.seconds = time.monotonic() - began
    if result.wrong:
        result.folder = folder
        (folder / "story.txt").write_text("\n".join([*result.story, "", *result.wrong]) + "\n")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return result


class _Life:
    def __init__(self, seed: int, redis: str | None, folder: Path, result: Result) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.result = result
        self.redis = redis if self.rng.random() < 0.7 else None
        lag = self.rng.choice([0.0, 0.3])
        self.sandbox = Sandbox(
            seed=seed,
            habits=Habits(
                stamp_granularity_seconds=STAMP_SECONDS,
                query_lag_seconds=lag,
                search_lag_seconds=lag,
                search_forgets=self.rng.choice([0.0, 0.3]),
                short_pages=self.rng.random() < 0.3,
                cursor_dies=self.rng.choice([0.0, 0.05]),
            ),
        )
        self.editor = Editor(self.sandbox.workspace, self.rng, folder / "data" / "ledger.db")
        self.has_drafts = self.rng.random() < 0.5
        self.oracle = Oracle(
            self.sandbox.workspace,
            self.editor.configured,
            stamp_ms=STAMP_SECONDS * 1000,
            passes=self.editor.passes if self.has_drafts else lambda _: True,
        )

    def say(self, what: str) -> None:
        if what:
            self.result.story.append(f"{time.strftime('%H:%M:%S')} {what}")

    async def live(self) -> None:
        """Several daemons one after the other, the last of which is left alone."""
        async with self.sandbox.serve() as url, contextlib.AsyncExitStack() as stack:
            self.store: Store = EmbeddedStore(self.folder)
            if self.redis is not None:
                self.store = store = RedisStore(self.redis, self.folder)
                await store.start()
                stack.push_async_callback(store.close)
            names = dict(self.editor.configured)
            places = {"NOTION_PAGES_DB": names["pages"], "NOTION_POSTS_DB": names["posts"]}
            self.settings = {
                **SETTINGS,
                **places,
                **self.store.settings,
                "NOTION_SOURCES": f"hubs={names['hubs']}",
                "NOTION_BASE_URL": url,
                **({"PUBLISH_FILTER": "posts:Live=true"} if self.has_drafts else {}),
            }
            deaths = self.rng.choices(POINTS, k=self.rng.choice([1, 2, 2, 3]))
            for point in sorted(deaths, key=lambda point: point != "migration"):
                await self._short_life(point)
            await self._last_life()

    async def _short_life(self, point: str) -> None:
        """A daemon that ends at a point, or is killed or stopped when it did not get there."""
        times = self.rng.randint(1, TIMES.get(point, 12))
        self.say(f"a daemon starts, to die at {point} {times}")
        with self._daemon(point, times) as daemon:
            await self._until_it_works(daemon)
            cycles, until = self.rng.choice([2, 4, 8]), time.monotonic() + LONGEST_LIFE_SECONDS
            while daemon.returncode is None and _cycles(daemon.log) < cycles and time.monotonic() < until:
                await self._something_happens()
            await self._end(daemon)

    async def _until_it_works(self, daemon: Victim) -> None:
        """Until it has said something, or is dead: starting takes long on a busy machine."""
        async with asyncio.timeout(REST_SECONDS):
            while daemon.returncode is None and not daemon.log.stat().st_size:
                await asyncio.sleep(0.02)

    async def _end(self, daemon: Victim) -> None:
        if daemon.returncode is None and self.rng.random() < 0.3 and daemon.log.stat().st_size:
            code = await daemon.end()
            self.say(f"stopped, exit code {code}")
            # It may reach its point while it stops, or be stopped before it can take care of signals.
            if code not in (0, -signal.SIGTERM, -signal.SIGKILL):
                raise WrongError(f"a clean stop ended with {code}")
        elif daemon.returncode is None:
            daemon.kill()
            self.say("killed")
        elif daemon.returncode != -signal.SIGKILL:
            raise WrongError(f"ended by itself with {daemon.returncode}: {_last_lines(daemon.log)}")
        else:
            self.say("died")

    async def _something_happens(self) -> None:
        """An edit or a few, and now and then an accident; then a moment passes."""
        rng = self.rng
        before = len(self.editor.journal)
        self.editor.step()
        for said in self.editor.journal[before:]:
            self.say(said)
        if rng.random() < 0.15:
            rate = rng.choice([0.0, 0.05, 0.3])
            self.sandbox.faults.random(rate, KINDS, seed=rng.randrange(1000))
            self.say(f"Notion fails at {rate}")
        if rng.random() < 0.1:
            self.say(await self.store.accident(rng))
        await asyncio.sleep(rng.choice([0.02, 0.1, 0.2, 0.4]))

    async def _last_life(self) -> None:
        self.sandbox.faults.clear()
        self.say("the last daemon starts; nothing fails any more")
        with self._daemon("never", 0) as daemon:
            for _ in range(3):
                await self._edit_only()
            await self._rest(daemon)
            held = self._held()
        if held:
            await self._confirm(held)
            with self._daemon("never", 0) as daemon:
                await self._rest(daemon)
        self._compare()

    async def _edit_only(self) -> None:
        self.editor.step()
        await asyncio.sleep(0.1)

    def _daemon(self, point: str, times: int) -> contextlib.AbstractContextManager[Victim]:
        return victim(point, times, self.folder, self.settings)

    # Coming to rest

    async def _rest(self, daemon: Victim) -> None:
        """Wait until a sweep that began when the last edit had settled has ended, and nothing is owed after it."""
        settled_at, until = time.time() + SETTLED_SECONDS, time.monotonic() + REST_SECONDS
        cycles = _cycles(daemon.log)
        while (owed := self._owed(settled_at)) or _cycles(daemon.log) < cycles + WHOLE_CYCLES:
            cycles = _cycles(daemon.log) if owed else cycles
            if daemon.returncode is not None:
                raise WrongError(f"ended by itself: {_last_lines(daemon.log)}")
            if time.monotonic() > until:
                self._look_for_crashes(daemon.log)
                raise WrongError(f"does not come to rest: {owed}")
            await asyncio.sleep(0.1)
        self._look_for_crashes(daemon.log)

    def _owed(self, since: float) -> list[str]:
        """What the ledger says is still to be done; empty: nothing."""
        try:
            with self._ledger() as db:
                facts = dict(db.execute("SELECT name, value FROM meta").fetchall())
                owed = {name: db.execute(question).fetchone()[0] for name, question in _OWED.items()}
        except sqlite3.Error as error:
            return [str(error)]
        unswept = (
            ["a sweep"] if float(facts.get("swept_at") or 0) < since else []
        )  # when the last whole one began
        return [*unswept, *(f"{count} {name}" for name, count in owed.items() if count)]

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[sqlite3.Connection]:
        file = self.folder / "data" / "ledger.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5.0)) as db:
            yield db

    def _held(self) -> list[tuple[str, str]]:
        with self._ledger() as db:
            return db.execute("SELECT parent_id, child_id FROM links WHERE held").fetchall()

    async def _confirm(self, held: list[tuple[str, str]]) -> None:
        """What is held must be gone indeed; then the operator says so."""
        still_there = [link for link in held if self.oracle.lists(*link)]
        if still_there:
            raise WrongError(f"held although Notion shows it: {still_there}")
        done = await command(self.folder, self.settings, "confirm-removals", "--yes")
        self.say(f"confirm-removals of {len(held)}: exit code {done.code}")
        if done.code:
            raise WrongError(f"confirm-removals ended with {done.code}: {done.err}")

    def _look_for_crashes(self, log: Path) -> None:
        crashes = [line for line in log.read_text().splitlines() if '_crashed"' in line]
        if crashes:
            raise WrongError("\n".join(crashes[:3]))

    def _compare(self) -> None:
        entries: dict[str, Any] = self.store.entries()
        self.result.keys = len(entries)
        wrong = self.oracle.differences(entries)
        if wrong:
            raise WrongError("\n".join(wrong))


_OWED = {
    # What lies below something that is held answers 404 until a person has said what becomes of it.
    "pages to read": "SELECT count(*) FROM pages WHERE due_at IS NOT NULL"
    " AND NOT (reason = 'lost' AND attempts > 2 AND EXISTS (SELECT 1 FROM links WHERE held))",
    "keys to write": "SELECT count(*) FROM records WHERE wanted IS NOT written OR"
    " (wanted IS NOT NULL AND owner_id IS NOT written_owner_id)",
    "absences to explain": "SELECT count(*) FROM links WHERE missing IS NOT NULL AND NOT held"
    " AND NOT (missing <> 'ask' AND EXISTS (SELECT 1 FROM links WHERE held))",
    "sources never resolved": "SELECT count(*) FROM sources WHERE kind IS NULL",
    "databases never resolved": "SELECT count(*) FROM databases WHERE data_source_ids IS NULL AND NOT skipped",
    "data sources never listed": "SELECT count(*) FROM data_sources WHERE listed_date IS NULL AND attempts = 0",
}


def _cycles(log: Path) -> int:
    """How many cycles a daemon has finished."""
    return log.read_text().count('"action": "cycle"')


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-5:])
