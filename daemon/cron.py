"""Five-field cron expressions with cron's own meaning, turned into APScheduler triggers in UTC.

APScheduler's own parser counts weekdays from Monday and demands that day of month and weekday both match,
while cron counts from Sunday (0 and 7) and, when both are restricted, fires when either matches. So each
field is expanded here into the numbers it stands for, and only those are handed over.
"""

from dataclasses import dataclass
from datetime import UTC

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MAX_LENGTH = 200


class CronError(ValueError):
    """Not a five-field cron expression. The text says which field and why, and repeats nothing of it."""


@dataclass(frozen=True)
class _Field:
    label: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, MONTH_NAMES, first_name=1)
_WEEKDAY = _Field("weekday", 0, 7, WEEKDAY_NAMES)


@dataclass(frozen=True)
class CronSchedule:
    """The moments an expression stands for. Weekdays: 0 is Sunday, 6 is Saturday."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """True: a day counts when its number or its weekday matches. False: both must match."""


def parse_cron(text: str) -> CronSchedule:
    """The schedule that `text` describes. Raises `CronError` when it is none, or never comes true."""
    if len(text) > MAX_LENGTH:
        raise CronError(f"it is longer than {MAX_LENGTH} characters")
    parts = text.split()
    if len(parts) != 5:
        raise CronError("it does not have five fields (minute, hour, day of month, month, weekday)")
    minute, hour, day, month, weekday = parts
    schedule = CronSchedule(
        minutes=_numbers(minute, _MINUTE),
        hours=_numbers(hour, _HOUR),
        days=_numbers(day, _DAY),
        months=_numbers(month, _MONTH),
        weekdays=frozenset(number % 7 for number in _numbers(weekday, _WEEKDAY)),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
    )
    shortest = min(schedule.days)
    if not schedule.either_day and all(shortest > LONGEST_MONTH_DAYS[m - 1] for m in schedule.months):
        raise CronError("no month it names has such a day")
    return schedule


def cron_trigger(text: str) -> BaseTrigger:
    """An APScheduler trigger, in UTC, that fires when `text` says. Raises `CronError`."""
    schedule = parse_cron(text)
    if not schedule.either_day:
        return _trigger(schedule, days=_listed(schedule.days), weekdays=_weekday_names(schedule.weekdays))
    by_day = _trigger(schedule, days=_listed(schedule.days), weekdays="*")
    by_weekday = _trigger(schedule, days="*", weekdays=_weekday_names(schedule.weekdays))
    return OrTrigger([by_day, by_weekday])


def _trigger(schedule: CronSchedule, *, days: str, weekdays: str) -> CronTrigger:
    return CronTrigger(
        month=_listed(schedule.months),
        day=days,
        day_of_week=weekdays,
        hour=_listed(schedule.hours),
        minute=_listed(schedule.minutes),
        second=0,
        timezone=UTC,
    )


def _listed(numbers: frozenset[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def _weekday_names(weekdays: frozenset[int]) -> str:
    return ",".join(WEEKDAY_NAMES[number] for number in sorted(weekdays))


def _numbers(text: str, field: _Field) -> frozenset[int]:
    """Every number that a field stands for: a list of `*`, numbers, names and ranges, some with a `/step`."""
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        first, last = _span(span, field)
        step = _number(step_text, field, names=False) if slash else 1
        if step < 1:
            raise CronError(f"the {field.label} field has a step of 0")
        if slash and span != "*" and "-" not in span:
            raise CronError(f"the {field.label} field has a step without a range (write */5 or 10-30/5)")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _span(text: str, field: _Field) -> tuple[int, int]:
    """The first and last number of `*`, of one value or of a range."""
    if text == "*":
        return field.low, 6 if field is _WEEKDAY else field.high
    first_text, dash, last_text = text.partition("-")
    first = _number(first_text, field)
    last = _number(last_text, field) if dash else first
    if field is _WEEKDAY and first > 0 and last == 0:
        last = 7  # fri-sun: as the end of a range Sunday is the seventh day
    for number in (first, last):
        if not field.low <= number <= field.high:
            raise CronError(f"the {field.label} field goes from {field.low} to {field.high}")
    if first > last:
        raise CronError(f"the {field.label} field has a range that ends before it begins")
    return first, last


def _number(text: str, field: _Field, *, names: bool = True) -> int:
    """A number or, where the field has them and `names` allows, a name of three letters."""
    if names and text.lower() in field.names:
        return field.names.index(text.lower()) + field.first_name
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise CronError(
            f"the {field.label} field is no *, number, range (with or without /step) or list of them"
        )
    return int(text)
