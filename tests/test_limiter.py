"""The request budget: how it is shared, what refusals do to it, that nobody waits too little or for ever."""

import asyncio
import random
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.clock import DrivenClock
from daemon.notion.limiter import Lane, Limiter, Window

BUDGET = 12
RESERVE = 3
FIFTH = 2


@dataclass
class _Sent:
    lane: Lane
    granted: float
    done: float | None = None

    def may_arrive_within(self, start: float, end: float) -> bool:
        """Whether the request may reach the server in that stretch of time, both ends included."""
        return self.granted <= end and (self.done is None or self.done >= start)

    def counts_at(self, now: float) -> bool:
        return self.done is None or now < self.done + 60.0


class WindowMachine(RuleBasedStateMachine):
    """Requests of any length in any order against an observer who knows nothing of slots."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(BUDGET, RESERVE)
        self.now = 0.0
        self.sent: list[_Sent] = []
        self.pause_ends = 0.0

    def _under_way(self) -> list[_Sent]:
        return [request for request in self.sent if request.done is None]

    @rule(lane=st.sampled_from(Lane), wanted=st.integers(1, BUDGET))
    def ask(self, lane: Lane, wanted: int) -> None:
        for _ in range(wanted):
            promised = self.window.available(lane, self.now)
            granted = self.window.try_slot(lane, self.now)
            assert granted is (promised > 0)
            if not granted:
                break
            assert self.now >= self.pause_ends
            self.sent.append(_Sent(lane, self.now))
            self._check_shares(lane)

    def _check_shares(self, lane: Lane) -> None:
        counted = [request.lane for request in self.sent if request.counts_at(self.now)]
        budget = self.window.effective_budget(self.now)
        assert len(counted) <= budget
        if lane is not Lane.FEED:
            assert len(counted) - counted.count(Lane.FEED) <= budget - min(RESERVE, budget - 1)
        if lane is Lane.UPKEEP:
            assert counted.count(Lane.UPKEEP) <= max(1, budget // 5) <= FIFTH

    @precondition(lambda self: self._under_way())
    @rule(data=st.data())
    def end_one(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self._under_way()))
        request.done = self.now
        self.window.done(request.lane, self.now)

    @rule(seconds=st.sampled_from([0.0, 0.004, 0.3, 1.0, 14.9, 30.0, 59.99, 60.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_as_told(self) -> None:
        moment = self.window.next_moment(self.now)
        if moment is not None:
            assert moment > self.now
            self.now = moment

    @rule(seconds=st.sampled_from([0.5, 20.0, 90.0]))
    def refused(self, seconds: float) -> None:
        self.window.refused(self.now)
        self.window.pause(self.now, seconds)
        self.pause_ends = max(self.pause_ends, self.now + seconds)

    @invariant()
    def no_minute_holds_more_than_the_budget(self) -> None:
        for start in {request.done for request in self.sent if request.done is not None}:
            within = [request for request in self.sent if request.may_arrive_within(start, start + 60.0)]
            assert len(within) <= BUDGET

    @invariant()
    def budget_stays_within_its_limits(self) -> None:
        assert BUDGET // 5 <= self.window.effective_budget(self.now) <= BUDGET
        assert 0 <= self.window.left(self.now) <= BUDGET

    def teardown(self) -> None:
        """Once what is under way has ended, every lane gets its turn by waiting as told."""
        for request in self._under_way():
            self.window.done(request.lane, self.now)
        for lane in Lane:
            for _ in range(4 * BUDGET):
                if self.window.try_slot(lane, self.now):
                    self.window.done(lane, self.now)
                    break
                moment = self.window.next_moment(self.now)
                assert moment is not None
                self.now = moment
            else:
                pytest.fail(f"{lane} never got a slot")


TestWindowMachine = WindowMachine.TestCase
TestWindowMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def _spend(window: Window, lane: Lane, now: float) -> int:
    """Take every slot that the lane can have, each request ending at once."""
    count = 0
    while window.try_slot(lane, now):
        window.done(lane, now)
        count += 1
    return count


def test_reads_leave_exactly_the_reserve_and_polls_get_it() -> None:
    """With everything spent on reading, polling finds its reserve, and reading gets all the rest."""
    window = Window(180, reserve=12)
    assert _spend(window, Lane.READ, 0.0) == 168
    assert _spend(window, Lane.FEED, 0.0) == 12
    assert window.left(0.0) == 0


def test_polls_that_came_first_do_not_cost_reading_its_share() -> None:
    """What polling has spent of its reserve is not held back a second time."""
    window = Window(180, reserve=12)
    for _ in range(12):
        assert window.try_slot(Lane.FEED, 0.0)
    assert _spend(window, Lane.READ, 0.0) == 168


def test_feeds_alone_may_use_everything() -> None:
    """A backlog of feeds is not held to the reserve."""
    assert _spend(Window(180, reserve=12), Lane.FEED, 0.0) == 180


def test_upkeep_gets_a_fifth_and_not_the_reserve() -> None:
    """Upkeep stops at a fifth of the budget; when reading has taken the rest, it gets nothing."""
    window = Window(180, reserve=12)
    assert _spend(window, Lane.UPKEEP, 0.0) == 36
    window = Window(180, reserve=12)
    _spend(window, Lane.READ, 0.0)
    assert window.available(Lane.UPKEEP, 0.0) == 0


@pytest.mark.parametrize("budget", [1, 2, 4])
def test_tiny_budgets_and_a_huge_reserve_starve_nobody(budget: int) -> None:
    """However small the budget and large the reserve, every lane can get at least one slot."""
    for lane in Lane:
        assert Window(budget, reserve=100).available(lane, 0.0) >= 1


def test_a_slot_counts_until_a_minute_after_its_request_has_ended() -> None:
    """A slow request may have reached Notion at its very end, so that is what frees its slot."""
    window = Window(1)
    assert window.try_slot(Lane.READ, 0.0)
    assert window.next_moment(50.0) is None
    window.done(Lane.READ, 50.0)
    assert not window.try_slot(Lane.READ, 110.0)
    moment = window.next_moment(110.0)
    assert moment == pytest.approx(110.001)
    assert moment is not None and window.try_slot(Lane.READ, moment)


def test_one_refusal_only_pauses() -> None:
    """A single refusal and those of requests already under way leave the budget as it is."""
    window = Window(180)
    for now in (10.0, 10.1, 10.2):
        window.refused(now)
        window.pause(now, 30.0)
    assert window.available(Lane.FEED, 39.0) == 0
    assert window.effective_budget(41.0) == 180


def test_repeated_refusals_lower_the_budget_to_a_floor_and_quiet_restores_it_step_by_step() -> None:
    """Each refusal within a window of the last takes a quarter; five quiet minutes begin to give it back."""
    window = Window(180)
    now, budgets = 0.0, []
    for _ in range(8):
        window.refused(now)
        window.pause(now, 30.0)
        now += 45.0
        budgets.append(window.effective_budget(now))
    assert budgets == [180, 135, 101, 75, 56, 42, 42, 42]
    quiet_since = now - 15.0
    assert window.effective_budget(quiet_since + 299.0) == 42
    assert [window.effective_budget(quiet_since + 301.0 + 60.0 * n) for n in range(6)] == [
        56, 75, 101, 135, 180, 180,
    ]  # fmt: skip


def test_a_refusal_after_recovery_starts_from_what_was_recovered() -> None:
    """A late single refusal neither lowers the budget nor brings back an old, lower one."""
    window = Window(180)
    for now in (0.0, 10.0, 20.0):
        window.refused(now)
    assert window.effective_budget(20.0) == 101
    window.refused(20.0 + 301.0)
    assert window.effective_budget(20.0 + 302.0) == 135


async def _use(
    limiter: Limiter, lane: Lane, log: list[tuple[str, float]], name: str, clock: DrivenClock
) -> None:
    async with limiter.slot(lane):
        log.append((name, clock.monotonic()))


async def test_a_burst_is_spent_at_once_and_the_rest_a_window_later() -> None:
    """25 requests with a budget of 10: ten now, ten after a minute, five after two, not a second later."""
    clock = DrivenClock()
    limiter = Limiter(clock, 10)
    log: list[tuple[str, float]] = []
    await asyncio.gather(*(_use(limiter, Lane.READ, log, str(n), clock) for n in range(25)))
    assert [name for name, _ in log] == [str(n) for n in range(25)]
    assert [round(at) for _, at in log] == [0] * 10 + [60] * 10 + [120] * 5
    assert clock.monotonic() < 120.01


async def test_urgent_lanes_go_first_and_each_lane_in_order() -> None:
    """Whoever waits is served by urgency, then by arrival."""
    clock = DrivenClock()
    limiter = Limiter(clock, 5)
    log: list[tuple[str, float]] = []
    await asyncio.gather(*(_use(limiter, Lane.FEED, [], "", clock) for _ in range(5)))
    waiting = [(Lane.UPKEEP, "u"), (Lane.READ, "r1"), (Lane.FEED, "f1"), (Lane.READ, "r2"), (Lane.FEED, "f2")]
    await asyncio.gather(*(_use(limiter, lane, log, name, clock) for lane, name in waiting))
    assert [name for name, _ in log] == ["f1", "f2", "r1", "r2", "u"]


async def test_the_clock_waits_for_requests_under_way() -> None:
    """Waiting for a slot does not push a driven clock ahead of requests that are still being answered."""
    clock = DrivenClock()
    limiter = Limiter(clock, 2)
    answered = asyncio.Event()
    log: list[tuple[str, float]] = []

    async def slow() -> None:
        async with limiter.slot(Lane.READ):
            await answered.wait()
            log.append(("slow", clock.monotonic()))

    await _use(limiter, Lane.READ, log, "first", clock)
    tasks = [asyncio.create_task(slow()), asyncio.create_task(_use(limiter, Lane.READ, log, "next", clock))]
    for _ in range(20):
        await asyncio.sleep(0)
    assert clock.monotonic() == 0.0
    answered.set()
    await asyncio.gather(*tasks)
    assert [(name, round(at)) for name, at in log] == [("first", 0), ("slow", 0), ("next", 60)]


async def test_a_window_full_of_requests_under_way_waits_for_one_to_end() -> None:
    """Nothing to sleep for: the end of a request is what moves things on."""
    clock = DrivenClock()
    limiter = Limiter(clock, 1)
    log: list[tuple[str, float]] = []
    async with limiter.slot(Lane.READ):
        task = asyncio.create_task(_use(limiter, Lane.FEED, log, "next", clock))
        for _ in range(5):
            await asyncio.sleep(0)
        assert limiter.waiting == 1 and clock.monotonic() == 0.0
    await task
    assert [(name, round(at)) for name, at in log] == [("next", 60)]


async def test_no_more_than_so_many_at_once() -> None:
    """The cap on requests under way holds; the next starts when one ends, without waiting for the clock."""
    clock = DrivenClock()
    limiter = Limiter(clock, 100, max_in_flight=3)
    most = 0

    async def one() -> None:
        nonlocal most
        async with limiter.slot(Lane.READ):
            most = max(most, limiter.in_flight)
            await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(20)))
    assert most == 3
    assert limiter.in_flight == 0 and clock.monotonic() == 0.0
    assert limiter.available(Lane.READ) == 3


async def test_a_pause_holds_back_those_who_sleep_already() -> None:
    """A pause that is declared while others wait for the window moves them behind its end."""
    clock = DrivenClock()
    limiter = Limiter(clock, 2)
    log: list[tuple[str, float]] = []
    await _use(limiter, Lane.READ, log, "first", clock)
    async with limiter.slot(Lane.READ):
        task = asyncio.create_task(_use(limiter, Lane.FEED, log, "next", clock))
        await asyncio.sleep(0)
        limiter.refused(90.0)
        assert limiter.paused_for_seconds == 90.0
        assert limiter.available(Lane.FEED) == 0
    await task
    assert log == [("first", 0.0), ("next", 90.0)]
    assert limiter.paused_for_seconds == 0.0


async def test_a_cancelled_waiter_costs_nothing() -> None:
    """Waiters that give up, even in the moment they are granted a slot, leave it to the next."""
    clock = DrivenClock()
    limiter = Limiter(clock, 2, max_in_flight=1)
    log: list[tuple[str, float]] = []
    async with limiter.slot(Lane.READ):
        unlucky, impatient, patient = (
            asyncio.create_task(_use(limiter, Lane.READ, log, name, clock))
            for name in ("unlucky", "impatient", "patient")
        )
        await asyncio.sleep(0)
        impatient.cancel()
    unlucky.cancel()  # it has just been granted the slot, but has not run since
    await patient
    assert log == [("patient", 0.0)]
    assert limiter.budget_left == 0 and limiter.waiting == 0
    outcomes = await asyncio.gather(unlucky, impatient, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert limiter.in_flight == 0


async def test_nobody_sleeps_when_nobody_waits() -> None:
    """When the last waiter gives up, time is not moved for it."""
    clock = DrivenClock()
    limiter = Limiter(clock, 2)
    await _use(limiter, Lane.READ, [], "", clock)
    async with limiter.slot(Lane.READ):
        task = asyncio.create_task(_use(limiter, Lane.READ, [], "", clock))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert clock.monotonic() == 0.0


async def test_giving_up_the_reserve_lets_readers_go_on() -> None:
    """A smaller reserve takes effect at once for those who wait."""
    clock = DrivenClock()
    limiter = Limiter(clock, 4)
    limiter.reserve = 3
    log: list[tuple[str, float]] = []
    async with limiter.slot(Lane.READ):
        task = asyncio.create_task(_use(limiter, Lane.READ, log, "next", clock))
        await asyncio.sleep(0)
        assert not log
        limiter.reserve = 2
        await task
    assert log == [("next", 0.0)] and limiter.reserve == 2


async def test_what_is_reported_matches_what_is_spent() -> None:
    """Budget, what is left of it, and what is under way."""
    limiter = Limiter(DrivenClock(), 10)
    limiter.reserve = 4
    async with limiter.slot(Lane.FEED):
        assert (limiter.budget, limiter.effective_budget, limiter.budget_left) == (10, 10, 9)
        assert limiter.in_flight == 1
        assert limiter.available(Lane.READ) == 6
    assert limiter.budget_left == 9


class _Crowd:
    """Many tasks of random lanes, lengths and patience on one limiter, observed from outside."""

    def __init__(self, seed: int, budget: int) -> None:
        self.rng = random.Random(seed)
        self.clock = DrivenClock()
        self.limiter = Limiter(self.clock, budget, max_in_flight=self.rng.choice([None, 1, 3]))
        self.limiter.reserve = self.rng.randrange(budget)
        self.sent: list[_Sent] = []

    async def member(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)
        async with self.limiter.slot(lane := self.rng.choice(list(Lane))):
            request = _Sent(lane, self.clock.monotonic())
            self.sent.append(request)
            try:
                await self._be_answered()
            finally:
                request.done = self.clock.monotonic()

    async def _be_answered(self) -> None:
        for _ in range(self.rng.randrange(3)):
            await asyncio.sleep(0)
        self.clock.advance(self.rng.choice([0.0, 0.0, 0.2, 5.0]))
        if self.rng.random() < 0.1:
            self.limiter.refused(self.rng.choice([0.5, 30.0, 70.0]))

    async def run(self, size: int) -> None:
        tasks = [asyncio.create_task(self.member()) for _ in range(size)]
        for task in self.rng.sample(tasks, size // 4):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), budget=st.integers(1, 9), size=st.integers(1, 40))
def test_a_crowd_always_gets_through_and_never_too_fast(seed: int, budget: int, size: int) -> None:
    """Whoever is patient gets a slot in the end, and no minute sees more requests than the budget."""
    crowd = _Crowd(seed, budget)

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await crowd.run(size)

    asyncio.run(bounded())
    assert len(crowd.sent) >= size - size // 4
    assert crowd.limiter.in_flight == 0 and crowd.limiter.waiting == 0
    for start in {request.done for request in crowd.sent if request.done is not None}:
        within = [request for request in crowd.sent if request.may_arrive_within(start, start + 60.0)]
        assert len(within) <= budget
