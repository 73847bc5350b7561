"""The planner: what a sighting means, when a read may be believed, what an absence proves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.sync import plan
from daemon.sync.plan import Decision, Evidence, Known, Priority, Sighting, Trust, Verdict, Via

TRUST = Trust(granularity_seconds=60.0, slack_seconds=10.0, lag_seconds=300.0)
NINE = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
AT_NINE = NINE.timestamp()
SURELY_LATER = TRUST.lag_seconds + TRUST.granularity_seconds
"""A listing made so long after something was known certainly shows what came after it."""
LISTINGS = [Via.QUERY, Via.MEMBERSHIP, Via.SEARCH]
HINTS = [*LISTINGS, Via.POINTER]


def stamp(minute: int) -> str:
    """The stamp of an edit so many minutes after nine, as pages carry it."""
    return (NINE + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:00.000Z")


def at(minute: float) -> float:
    """So many minutes after nine, on Notion's clock."""
    return AT_NINE + 60.0 * minute


def read_at_nine(**differences: Any) -> Known:
    """A page edited at nine, read and trusted ten minutes later."""
    settled = Known(
        seen_stamp=stamp(0),
        seen_date=at(10),
        stamp=stamp(0),
        trusted=True,
        listed_hash="listed",
        read_hash="read",
    )
    return replace(settled, **differences)


def told(minute: int, via: Via, date: float | None = None, listed_hash: str | None = None) -> Sighting:
    """Somebody tells of an edit so many minutes after nine; by default an hour after nine."""
    return Sighting("page", stamp(minute), at(60) if date is None else date, via, listed_hash=listed_hash)


def judged(known: Known | None, sighting: Sighting) -> Verdict:
    """The verdict under Notion's own numbers."""
    return plan.judge(known, sighting, TRUST)


EDITED = Verdict(True, Priority.FRESH, "edited")
IGNORED = Verdict(False)
NOTED = Verdict(True)
"""Believed, and nothing to do."""

# Stamps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-02T09:00:00.000Z",
        "2026-11-02T09:00:00.000+00:00",
        "2026-11-02T09:00:00Z",
        "2026-11-02T10:30:00+01:30",
    ],
)
def test_every_way_to_write_a_moment_is_one_moment(text: str) -> None:
    """Pages carry `Z`, databases `+00:00` and milliseconds: the moment counts, not the letters."""
    assert plan.instant(text) == AT_NINE


def test_milliseconds_count() -> None:
    """A database's stamp is not floored."""
    assert plan.instant("2026-11-02T09:00:57.778+00:00") - AT_NINE == pytest.approx(57.778)


def test_the_newest_stamp_of_a_read() -> None:
    """The page's own, unless a block tells of a later edit."""
    assert plan.newest_stamp(stamp(3), []) == at(3)
    assert plan.newest_stamp(stamp(3), [stamp(1), stamp(2)]) == at(3)
    assert plan.newest_stamp(stamp(3), iter([stamp(1), stamp(5), stamp(4)])) == at(5)


def test_a_stamp_lies_ahead_only_beyond_the_slack() -> None:
    """Clocks may differ by a little: what is a few seconds ahead of its answer is of now."""
    assert not plan.is_from_the_future(stamp(1), at(1), TRUST)
    assert not plan.is_from_the_future(stamp(1), at(1) - 10, TRUST)
    assert plan.is_from_the_future(stamp(1), at(1) - 11, TRUST)


# Trust ------------------------------------------------------------------------------------------------------------


def test_a_get_is_believed_when_the_stamp_is_over_and_the_slack_too() -> None:
    """G1: `Date` at least stamp + granularity + slack."""
    assert TRUST.settles_at(AT_NINE) == AT_NINE + 70
    assert TRUST.by_get(AT_NINE, AT_NINE + 70)
    assert not TRUST.by_get(AT_NINE, AT_NINE + 69.999)


def test_a_listing_is_believed_when_it_cannot_be_older_than_that() -> None:
    """G1: a listed body may be as old as the feeds lag."""
    assert TRUST.by_listing(AT_NINE, AT_NINE + 370)
    assert not TRUST.by_listing(AT_NINE, AT_NINE + 369.999)


@given(
    edit=st.integers(0, 10_000),
    trust=st.builds(Trust, st.integers(1, 120), st.integers(0, 60), st.integers(0, 600)),
    wait=st.integers(0, 1000),
    lag=st.integers(0, 600),
)
def test_a_trusted_answer_shows_the_last_edit_of_its_stamp(
    edit: int, trust: Trust, wait: int, lag: int
) -> None:
    """Whenever somebody edits within a stamp, an answer that is trusted for it was made from a state after that."""
    floored = edit - edit % trust.granularity_seconds
    date = floored + wait
    if trust.by_get(floored, date):
        assert date >= floored + trust.granularity_seconds > edit
    shown = date - min(lag, trust.lag_seconds)
    if trust.by_listing(floored, date):
        assert shown >= floored + trust.granularity_seconds > edit


@pytest.mark.parametrize(
    ("listed", "now", "will_do"),
    [
        (370.0, 5000.0, True),
        (369.0, 5000.0, False),
        (20.0, 69.999, True),
        (20.0, 70.0, False),
        (369.0, 370.0, False),
    ],
)
def test_a_listed_body_saves_the_get_when_it_makes_no_difference(
    listed: float, now: float, will_do: bool
) -> None:
    """It will do when it is trusted, or while no GET could be: in between, a GET saves the second read."""
    assert plan.listed_body_will_do(stamp(0), AT_NINE + listed, AT_NINE + now, TRUST) is will_do


def test_what_the_ledger_keeps_of_the_plan() -> None:
    """Evidence and priorities are stored: the words stay, and a smaller number is read sooner."""
    assert [str(evidence) for evidence in Evidence] == ["ask", "kept", "trashed", "moved", "disappeared"]
    assert [int(p) for p in (Priority.FRESH, Priority.SETTLE, Priority.BACKLOG)] == [0, 1, 2]


# What a sighting means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", Via)
@pytest.mark.parametrize("known", [None, read_at_nine(seen_stamp=None, seen_date=None, stamp=None)])
def test_a_new_page_is_read(via: Via, known: Known | None) -> None:
    """At once, unless a full listing brought it: that may bring thousands."""
    priority = Priority.BACKLOG if via is Via.MEMBERSHIP else Priority.FRESH
    assert judged(known, told(0, via)) == Verdict(True, priority, "new")


@pytest.mark.parametrize("via", Via)
@pytest.mark.parametrize("date", [at(-60), at(1), at(60)])
def test_a_later_stamp_is_an_edit_whoever_tells(via: Via, date: float) -> None:
    """However late or early the answer was made: nobody invents edits."""
    assert judged(read_at_nine(), told(1, via, date)) == EDITED


@pytest.mark.parametrize("via", Via)
def test_a_later_stamp_that_was_read_already(via: Via) -> None:
    """The stored read shows that stamp: a listing only confirms it, a GET tells of the page as it is now."""
    known = read_at_nine(stamp=stamp(5))
    assert judged(known, told(5, via)) == (EDITED if via is Via.GET else NOTED)


@pytest.mark.parametrize("via", Via)
def test_a_page_that_was_never_read_is_read(via: Via) -> None:
    """Seen, but not read yet: a later stamp makes it due like any edit."""
    assert judged(read_at_nine(stamp=None), told(5, via)) == EDITED


def test_an_older_stamp_is_believed_from_a_get() -> None:
    """A direct answer shows the page as it is, whatever was listed."""
    assert judged(read_at_nine(), told(-5, Via.GET, at(0))) == EDITED


def test_an_older_stamp_is_never_believed_from_a_pointer() -> None:
    """Only a handful of recordings show that a `child_page` block carries its page's stamp: it is a hint."""
    assert judged(read_at_nine(), told(-5, Via.POINTER, at(10_000))) == IGNORED
    from_the_future = read_at_nine(seen_stamp=stamp(20_000), stamp=None)
    assert judged(from_the_future, told(60, Via.POINTER, at(60))) == IGNORED


@pytest.mark.parametrize("via", LISTINGS)
def test_an_older_stamp_in_a_listing_has_to_be_surely_later(via: Via) -> None:
    """As late as the feeds lag and a stamp is wide, a listing may still show the page as it was before."""
    known = read_at_nine(seen_date=at(10))
    assert judged(known, told(-5, via, at(10) + SURELY_LATER)) == IGNORED
    assert judged(known, told(-5, via, at(10) + SURELY_LATER + 1)) == EDITED


@pytest.mark.parametrize("via", LISTINGS)
def test_a_listing_that_corrects_a_stamp_back_to_the_stored_read(via: Via) -> None:
    """A stamp that never came true is taken back: nothing has to be read for that."""
    known = read_at_nine(seen_stamp=stamp(5), seen_date=at(10))
    assert judged(known, told(0, via, at(10) + SURELY_LATER + 1)) == NOTED


@pytest.mark.parametrize("via", LISTINGS)
def test_a_stamp_from_the_future_hides_no_edit(via: Via) -> None:
    """What was stamped since it was seen is an edit, at once; what is older may be an old listing."""
    known = read_at_nine(seen_stamp=stamp(500), seen_date=at(10), stamp=stamp(500))
    assert judged(known, told(9, via, at(11))) == EDITED
    assert judged(known, told(8, via, at(11))) == IGNORED
    assert judged(known, told(8, via, at(10) + SURELY_LATER + 1)) == IGNORED


@pytest.mark.parametrize("via", LISTINGS)
def test_a_stamp_is_from_the_future_only_while_it_lies_ahead(via: Via) -> None:
    """From its own moment on it is a stamp like any other."""
    known = read_at_nine(seen_stamp=stamp(11), seen_date=at(10))
    assert judged(known, told(10, via, at(11) - 1)) == EDITED
    assert judged(known, told(10, via, at(11))) == IGNORED


def test_a_stamp_of_unknown_date_counts_as_seen_long_ago() -> None:
    """Nothing says that an answer could be older: it is believed as from the beginning of unix time."""
    epoch = datetime.fromtimestamp(0, UTC)
    minute_before = (epoch - timedelta(minutes=1)).isoformat()
    known = read_at_nine(seen_stamp=epoch.isoformat(), seen_date=None, stamp=None)

    def heard(date: float, seen: Known = known) -> Verdict:
        return judged(seen, Sighting("page", minute_before, date, Via.QUERY))

    assert heard(SURELY_LATER) == IGNORED
    assert heard(SURELY_LATER + 0.5) == EDITED
    from_the_future = replace(known, seen_stamp=stamp(0))
    assert heard(0.0, from_the_future) == EDITED


# The same stamp again


@pytest.mark.parametrize("via", [via for via in Via if via is not Via.MEMBERSHIP])
def test_the_same_stamp_is_no_news(via: Via) -> None:
    """Whoever tells, and whatever computed values it shows: only a full listing is compared by them."""
    assert judged(read_at_nine(), told(0, via, listed_hash="other")) == IGNORED


def test_the_same_stamp_in_other_letters_is_no_news() -> None:
    """Stamps are compared as moments."""
    known = read_at_nine(seen_stamp="2026-11-02T09:00:00.000+00:00")
    assert judged(known, told(0, Via.QUERY)) == IGNORED


@pytest.mark.parametrize(
    ("differences", "listed_hash"),
    [
        ({}, None),
        ({"trusted": False}, "other"),
        ({}, "read"),
        ({"listed_hash": "read"}, "read"),
        ({"read_hash": None, "trusted": False}, "other"),
    ],
)
def test_a_full_listing_without_news(differences: dict[str, Any], listed_hash: str | None) -> None:
    """Nothing to compare, a read that is to be repeated anyway, or the values that were read."""
    assert judged(read_at_nine(**differences), told(0, Via.MEMBERSHIP, listed_hash=listed_hash)) == IGNORED


def test_computed_values_that_moved_are_read() -> None:
    """Formulas and rollups move no stamp. A listing that may be older than the read is checked with a GET."""
    known = read_at_nine(seen_date=at(10))
    later, maybe_later = at(10) + SURELY_LATER + 1, at(10) + SURELY_LATER
    assert judged(known, told(0, Via.MEMBERSHIP, later, "other")) == Verdict(
        True, Priority.BACKLOG, "computed", ask=False
    )
    assert judged(known, told(0, Via.MEMBERSHIP, maybe_later, "other")) == Verdict(
        True, Priority.BACKLOG, "computed", ask=True
    )


def test_a_listing_repeated_is_checked_once() -> None:
    """What the listing before said already is news again only when it is surely later than the read."""
    known = read_at_nine(seen_date=at(10), listed_hash="other")
    later = at(10) + SURELY_LATER
    assert judged(known, told(0, Via.MEMBERSHIP, later, "other")) == IGNORED
    assert judged(known, told(0, Via.MEMBERSHIP, later + 1, "other")).reason == "computed"


# Of any sighting

HASHES = st.sampled_from(["one", "two", None])
MINUTES = st.integers(-20, 20)
KNOWN = st.builds(
    Known,
    seen_stamp=MINUTES.map(stamp),
    seen_date=MINUTES.map(at),
    stamp=st.none() | MINUTES.map(stamp),
    trusted=st.booleans(),
    listed_hash=HASHES,
    read_hash=HASHES,
)
SIGHTING = st.builds(
    Sighting,
    page_id=st.just("page"),
    stamp=MINUTES.map(stamp),
    date=MINUTES.map(at),
    via=st.sampled_from(Via),
    listed_hash=HASHES,
)


def accepted(known: Known, sighting: Sighting) -> Known:
    """What the ledger knows after a sighting was accepted and before anything was read."""
    values = {"seen_stamp": sighting.stamp, "seen_date": sighting.date}
    if sighting.listed_hash is not None:
        values["listed_hash"] = sighting.listed_hash
    return replace(known, **values)  # type: ignore[arg-type]


@given(known=KNOWN, sighting=SIGHTING)
def test_the_same_answer_twice_is_work_once(known: Known, sighting: Sighting) -> None:
    """An overlapping query tells everything again and again: accepted once, it is no news the second time."""
    if judged(known, sighting).accept:
        assert judged(accepted(known, sighting), sighting) == IGNORED


@given(known=KNOWN, sighting=SIGHTING)
def test_a_verdict_holds_together(known: Known, sighting: Sighting) -> None:
    """Work has a reason and is accepted, the same stamp is never an edit, another stamp in a GET always is."""
    verdict = judged(known, sighting)
    assert verdict.accept or verdict == IGNORED
    assert (verdict.due is None) == (verdict.reason == "")
    assert not verdict.ask or verdict.reason == "computed"
    same = known.seen_stamp == sighting.stamp
    assert (verdict.reason == "edited") <= (not same)
    assert (verdict.reason == "computed") <= same
    if sighting.via is Via.GET and not same:
        assert verdict == EDITED


@given(known=KNOWN, sighting=SIGHTING)
def test_no_answer_made_before_what_is_known_takes_it_back(known: Known, sighting: Sighting) -> None:
    """G1: an edit that was seen is not forgotten because a listing still shows the page as it was before."""
    assert known.seen_stamp is not None and known.seen_date is not None
    is_older = plan.instant(sighting.stamp) < plan.instant(known.seen_stamp)
    is_true = plan.instant(known.seen_stamp) <= known.seen_date
    before = sighting.date <= known.seen_date + SURELY_LATER
    not_ahead = plan.instant(known.seen_stamp) <= sighting.date
    if is_older and is_true and before and not_ahead and sighting.via is not Via.GET:
        assert judged(known, sighting) == IGNORED


# Coming back ------------------------------------------------------------------------------------------------------


def test_a_listing_brings_back_what_was_gone() -> None:
    """When it is surely later than the GET that told, or shows an edit made since."""
    gone = at(10)
    assert not plan.not_from_before(stamp(0), gone + SURELY_LATER, gone, TRUST)
    assert plan.not_from_before(stamp(0), gone + SURELY_LATER + 1, gone, TRUST)
    assert not plan.not_from_before(stamp(10), gone + 1, gone, TRUST)
    assert plan.not_from_before(stamp(11), gone + 1, gone, TRUST)


# Waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(0, 30), (1, 30), (2, 60), (3, 120), (4, 240), (7, 1920), (8, 3600), (9, 3600)],
)
def test_failures_are_retried_ever_later_up_to_an_hour(attempts: int, seconds: int) -> None:
    """Half a minute after the first failure, then doubled."""
    delay = plan.retry_delay_seconds(attempts)
    assert (delay, type(delay)) == (seconds, float)


def test_other_delays_are_doubled_alike() -> None:
    """The store is tried again sooner."""
    assert [plan.retry_delay_seconds(n, 5, 60) for n in (1, 2, 4, 5, 2000)] == [5, 10, 40, 60, 60]


@pytest.mark.parametrize("attempts", [1024, 1026, 20_000])
def test_two_years_of_failures_are_retried_like_two_days_of_them(attempts: int) -> None:
    """Doubling a float overflowed at the 1,025th failure, six weeks in: the delay stays an hour."""
    assert plan.retry_delay_seconds(attempts) == 3600


@pytest.mark.parametrize(
    ("cost", "budget", "rests"),
    [(60, 180, False), (61, 180, True), (33, 100, False), (34, 100, True), (200, 600, False)],
)
def test_a_costly_page_rests_for_five_minutes(cost: int, budget: int, rests: bool) -> None:
    """One that takes more than a third of a window to read."""
    assert plan.rests_until(at(0), cost, budget) == (at(5) if rests else None)


# What an absence proves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["data_source_id", "page_id", "block_id", "database_id"])
def test_every_kind_of_parent_is_named(kind: str) -> None:
    """Rows, child pages, pages in a toggle, databases."""
    assert plan.parent_id({"parent": {"type": kind, kind: "home"}}) == "home"


def test_a_row_is_at_home_in_its_data_source() -> None:
    """Its parent carries the database's id too."""
    parent = {"type": "data_source_id", "database_id": "database", "data_source_id": "source"}
    assert plan.parent_id({"parent": parent}) == "source"


@pytest.mark.parametrize(
    "thing",
    [
        {},
        {"parent": None},
        {"parent": {"type": "workspace", "workspace": True}},
        {"parent": {"page_id": None}},
    ],
)
def test_no_parent_is_no_parent(thing: dict[str, Any]) -> None:
    """Partial objects, the workspace's own pages, kinds to come."""
    assert plan.parent_id(thing) is None


def test_weighing_what_a_get_says() -> None:
    """404, the three words for trash, the same place, another place, no place at all."""
    here = {"parent": {"page_id": "home"}}
    assert plan.weigh(None, ["home"]) is Evidence.DISAPPEARED
    assert plan.weigh(here, ["home"]) is Evidence.KEPT
    assert plan.weigh(here, iter(["other", "home"])) is Evidence.KEPT
    assert plan.weigh(here, ["other"]) is Evidence.MOVED
    assert plan.weigh(here, []) is Evidence.KEPT
    assert plan.weigh({"parent": {"workspace": True}}, ["home"]) is Evidence.MOVED
    assert plan.weigh({"parent": {"agent_id": "somebody"}}, ["home"]) is Evidence.MOVED
    assert plan.weigh({"parent": {"workspace": True}}, []) is Evidence.KEPT
    assert plan.weigh({"parent": {}}, ["home"]) is plan.weigh({}, ["home"]) is Evidence.KEPT


@pytest.mark.parametrize("word", ["in_trash", "archived", "is_archived"])
def test_every_word_for_the_trash_is_evidence(word: str) -> None:
    """Whatever its parent; and only when it is true."""
    assert plan.weigh({word: True, "parent": {"page_id": "home"}}, ["home"]) is Evidence.TRASHED
    assert plan.weigh({word: False, "parent": {"page_id": "home"}}, ["home"]) is Evidence.KEPT


def members(**evidence: int) -> dict[str, Evidence]:
    """So many missing members of each evidence: `lost-0`, `lost-1`, ..."""
    meanings = {
        "lost": Evidence.DISAPPEARED,
        "trashed": Evidence.TRASHED,
        "moved": Evidence.MOVED,
        "asked": Evidence.ASK,
        "kept": Evidence.KEPT,
    }
    return {f"{name}-{n}": meanings[name] for name, count in evidence.items() for n in range(count)}


def named(gone: dict[str, Evidence], *names: str) -> frozenset[str]:
    """Those of the members whose evidence has one of these names."""
    return frozenset(member for member in gone if member.split("-")[0] in names)


@pytest.mark.parametrize("is_database", [True, False])
def test_single_losses_are_believed(is_database: bool) -> None:
    """Trashed, moved, or answering 404 in small numbers: removed."""
    gone = members(lost=2, trashed=2, moved=1)
    assert plan.decide(gone, 50, is_database=is_database) == Decision(remove=frozenset(gone))


def test_nothing_gone_is_nothing_to_decide() -> None:
    """Also in a source that never had anything."""
    assert plan.decide({}, 0, is_database=True) == plan.decide({}, 0, is_database=False) == Decision()


@pytest.mark.parametrize("is_database", [True, False])
@pytest.mark.parametrize(
    ("lost", "listed_before", "held"),
    [(5, 7, False), (6, 29, True), (6, 30, False), (7, 30, True), (20, 100, False), (21, 100, True)],
)
def test_many_disappearances_are_held(is_database: bool, lost: int, listed_before: int, held: bool) -> None:
    """G8: when they pass both five and a fifth; what is in the trash goes all the same."""
    gone = members(lost=lost, trashed=1)
    trashed, missing = named(gone, "trashed"), named(gone, "lost")
    decision = plan.decide(gone, listed_before, is_database=is_database)
    assert decision == (Decision(trashed, missing) if held else Decision(trashed | missing))


def test_the_trash_is_no_disappearance() -> None:
    """However many: somebody put it there. Only a database that would be empty is held."""
    gone = members(trashed=40, moved=40)
    assert plan.decide(gone, 81, is_database=True) == Decision(remove=frozenset(gone))
    assert plan.decide(gone, 80, is_database=False) == Decision(remove=frozenset(gone))


@pytest.mark.parametrize("evidence", ["trashed", "moved", "lost"])
@pytest.mark.parametrize(
    ("gone_count", "listed_before", "held"),
    [(3, 3, True), (2, 2, False), (1, 1, False), (3, 4, False), (3, 2, True), (5, 5, True)],
)
def test_all_rows_at_once_are_held_whatever_the_reason(
    evidence: str, gone_count: int, listed_before: int, held: bool
) -> None:
    """G8: from three rows on."""
    gone = members(**{evidence: gone_count})
    decision = plan.decide(gone, listed_before, is_database=True)
    assert decision == (Decision(hold=frozenset(gone)) if held else Decision(remove=frozenset(gone)))


def test_all_child_pages_of_a_source_may_go() -> None:
    """Only rows are held for being all there were: a site may well lose its last child pages."""
    gone = members(trashed=3)
    assert plan.decide(gone, 3, is_database=False) == Decision(remove=frozenset(gone))


def test_nothing_is_decided_about_all_rows_until_each_is_explained() -> None:
    """One that has not been asked for may still turn out to be there."""
    assert plan.decide(members(trashed=3, asked=1), 4, is_database=True) == Decision()
    gone = members(trashed=3, asked=1)
    assert plan.decide(gone, 5, is_database=True) == Decision(remove=named(gone, "trashed"))


@pytest.mark.parametrize("is_counted", [True, False])
def test_disappearances_wait_until_all_have_been_counted(is_counted: bool) -> None:
    """One at a time they never look like many; what is in the trash does not wait for them."""
    gone = members(lost=1, trashed=1, moved=1)
    trashed = named(gone, "trashed", "moved")
    decision = plan.decide(gone, 50, is_database=False, is_counted=is_counted)
    assert decision == Decision(remove=frozenset(gone) if is_counted else trashed)
    unexplained = members(lost=1, trashed=1, moved=1, asked=1)
    assert plan.decide(unexplained, 50, is_database=False, is_counted=is_counted) == Decision(remove=trashed)


def test_counting_is_for_disappearances_only() -> None:
    """Trash found before everything has been looked at is removed."""
    gone = members(trashed=2)
    assert plan.decide(gone, 50, is_database=False, is_counted=False) == Decision(remove=frozenset(gone))


@given(
    gone=st.dictionaries(st.integers(0, 60).map(str), st.sampled_from(Evidence)),
    more=st.integers(0, 100),
    is_database=st.booleans(),
    is_counted=st.booleans(),
)
def test_no_decision_removes_what_is_not_proven_gone(
    gone: dict[str, Evidence], more: int, is_database: bool, is_counted: bool
) -> None:
    """G8: what still lives or has not been asked for stays, nothing is removed and held at once, no mass goes."""
    decision = plan.decide(gone, len(gone) + more, is_database=is_database, is_counted=is_counted)
    evidence = {gone[member] for member in decision.remove}
    assert evidence <= {Evidence.TRASHED, Evidence.MOVED, Evidence.DISAPPEARED}
    assert not decision.remove & decision.hold and decision.hold <= set(gone)
    if is_database and len(gone) >= 3 and more == 0:
        assert not decision.remove
    lost = [member for member in decision.remove if gone[member] is Evidence.DISAPPEARED]
    assert len(lost) <= max(5, 0.2 * (len(gone) + more))
    if lost or decision.hold:
        assert Evidence.ASK not in gone.values()
