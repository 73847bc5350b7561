"""Cron expressions fire when cron would, in UTC: moments computed by hand, odd forms, forms that are none."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.cron import CronError, cron_trigger, parse_cron

# 2026-01-05 is a Monday.
START = datetime(2026, 1, 5, 9, 0, 30, tzinfo=UTC)


def fires(expression: str, count: int, start: datetime = START) -> list[str]:
    """The next `count` moments at which `expression` fires after `start`, with their weekdays."""
    trigger = cron_trigger(expression)
    found: list[str] = []
    previous, now = None, start
    while len(found) < count:
        moment = trigger.get_next_fire_time(previous, now)
        assert moment is not None and moment.utcoffset() == timedelta(0)
        found.append(f"{moment:%a %m-%d %H:%M:%S}")
        previous, now = moment, moment + timedelta(microseconds=1)
    return found


@pytest.mark.parametrize(
    ("expression", "moments"),
    [
        ("* * * * *", ["Mon 01-05 09:01:00", "Mon 01-05 09:02:00"]),
        ("*/20 9 * * *", ["Mon 01-05 09:20:00", "Mon 01-05 09:40:00", "Tue 01-06 09:00:00"]),
        ("10-30/10,59 9 * * *", ["Mon 01-05 09:10:00", "Mon 01-05 09:20:00", "Mon 01-05 09:30:00"]),
        ("30 3 * * *", ["Tue 01-06 03:30:00", "Wed 01-07 03:30:00"]),
        ("0 0 1 * *", ["Sun 02-01 00:00:00", "Sun 03-01 00:00:00"]),
        ("0 0 31 * *", ["Sat 01-31 00:00:00", "Tue 03-31 00:00:00"]),
        ("0 12 * jun,DEC *", ["Mon 06-01 12:00:00", "Tue 06-02 12:00:00"]),
        ("0 12 1 6-12/3 *", ["Mon 06-01 12:00:00", "Tue 09-01 12:00:00", "Tue 12-01 12:00:00"]),
    ],
)
def test_plain_fields(expression: str, moments: list[str]) -> None:
    """Stars, numbers, names, ranges, steps and lists mean what cron means by them."""
    assert fires(expression, len(moments)) == moments


@pytest.mark.parametrize(
    ("weekdays", "names"),
    [
        ("0", ["Sun"]),
        ("7", ["Sun"]),
        ("1", ["Mon"]),
        ("6", ["Sat"]),
        ("sun", ["Sun"]),
        ("Mon", ["Mon"]),
        ("1-5", ["Tue", "Wed", "Thu", "Fri", "Mon"]),
        ("mon-fri", ["Tue", "Wed", "Thu", "Fri", "Mon"]),
        ("5-7", ["Fri", "Sat", "Sun"]),
        ("fri-sun", ["Fri", "Sat", "Sun"]),
        ("0-2", ["Tue", "Sun", "Mon"]),
        ("0,3", ["Wed", "Sun"]),
        ("*/2", ["Tue", "Thu", "Sat", "Sun"]),
        ("1-7/3", ["Thu", "Sun", "Mon"]),
        ("0-7", ["Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"]),
        ("0-0", ["Sun"]),
        ("*", ["Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"]),
    ],
)
def test_weekdays_are_cron_s_own(weekdays: str, names: list[str]) -> None:
    """0 and 7 are Sunday, in numbers, names, ranges, steps and lists."""
    week_long = [moment[:3] for moment in fires(f"0 9 * * {weekdays}", len(names) + 1)]
    assert week_long == [*names, names[0]]


def test_day_and_weekday_together_mean_either() -> None:
    """With both restricted, cron fires on the 13th and on every Friday."""
    assert fires("0 0 13 * 5", 4) == [
        "Fri 01-09 00:00:00",
        "Tue 01-13 00:00:00",
        "Fri 01-16 00:00:00",
        "Fri 01-23 00:00:00",
    ]


def test_either_fires_once_where_both_match() -> None:
    """A Friday the 13th is one firing, not two."""
    start = datetime(2026, 2, 12, tzinfo=UTC)
    assert fires("0 0 13 * 5", 2, start) == ["Fri 02-13 00:00:00", "Fri 02-20 00:00:00"]


def test_a_starred_step_is_no_restriction() -> None:
    """As in cron, a day field that begins with a star must match together with the other one."""
    assert fires("0 0 */10 * 0", 2) == ["Sun 01-11 00:00:00", "Sun 02-01 00:00:00"]


def test_leap_day_comes_in_leap_years_only() -> None:
    """The 29th of February is a day, every four years."""
    trigger = cron_trigger("0 0 29 2 *")
    assert trigger.get_next_fire_time(None, START) == datetime(2028, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "minute field goes from 0 to 59"),
        ("* 24 * * *", "hour field goes from 0 to 23"),
        ("* * 0 * *", "day of month field goes from 1 to 31"),
        ("* * * 13 *", "month field goes from 1 to 12"),
        ("* * * * 8", "weekday field goes from 0 to 7"),
        ("*/0 * * * *", "step of 0"),
        ("5/10 * * * *", "step without a range"),
        ("30-10 * * * *", "ends before it begins"),
        ("* * * * sat-mon", "ends before it begins"),
        ("1, * * * *", "minute field"),
        ("-5 * * * *", "minute field"),
        ("*/x * * * *", "minute field"),
        ("٣ * * * *", "minute field"),
        ("* * L * *", "day of month field"),
        ("* * * foo *", "month field"),
        ("mon * * * *", "minute field"),
        ("*/mon * * * *", "minute field"),
        ("0 0 31 2,4 *", "no month"),
        ("0 0 30 2 *", "no month"),
        (",".join(["1"] * 200) + " * * * *", "longer than 200"),
    ],
)
def test_what_is_no_cron_expression_is_refused(expression: str, words: str) -> None:
    """Every refusal says which field and why."""
    with pytest.raises(CronError, match=words):
        parse_cron(expression)


def test_an_impossible_day_is_fine_beside_a_weekday() -> None:
    """February 30 never comes, but the Mondays of February do."""
    assert fires("0 0 30 2 1", 1) == ["Mon 02-02 00:00:00"]
