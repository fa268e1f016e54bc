"""Recurrence rules: frequency, interval, weekdays, days of the month, months; with a start, and perhaps an end.

Days, weeks, months and years are those of the calendar in the rule's zone, at the wall time of the start; skipped and
repeated wall times are as in `zones`. Seconds, minutes and hours are elapsed time from the start.

Filters narrow: a tick falls on one of the `days_of_week`, on one of the `days_of_month` and in one of the
`months_of_year`. What is left out comes from the start where the frequency needs it: weekly without weekdays runs on the
start's weekday, monthly without days on its day, yearly without months in its month. Months without such a day are left
out; -1 is the last day of every month. Periods are counted from the one that holds the start: interval 2 is every second
week (from Monday), month or year.
"""

from __future__ import annotations

import calendar
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.durations import instant
from holdfast.errors import BadTime, ConfigError
from holdfast.schedule.zones import first_instant, wall_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
INTERVAL_MAX: Final = 1_000_000
YEAR_MAX: Final = 9_998
#: How many days, weeks … are looked through for the next one that fits: more than the calendar needs to repeat itself with
#: each filter. When none fits, none ever will.
_LOOK: Final = {"daily": 20_000, "weekly": 4_000, "monthly": 4_800, "yearly": 800}
_ELAPSED: Final = {"secondly": 1, "minutely": 60, "hourly": 3_600}


class Frequency(StrEnum):
    """How often; `none` is once, at the start."""

    NONE = "none"
    SECONDLY = "secondly"
    MINUTELY = "minutely"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"


class RecurrenceRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A rule as JSON has it. Times are ISO 8601 with an offset, or seconds since the epoch; names may be cut to 3 letters."""

    frequency: Frequency
    interval: int = 1
    starts_at: datetime | float | None = None
    ends_at: datetime | float | None = None
    days_of_week: tuple[str, ...] = ()
    days_of_month: tuple[int, ...] = ()
    months_of_year: tuple[int | str, ...] = ()


class Recurrence:
    """A rule in a zone. `start`: for rules without starts_at. Raises ConfigError that lists what is wrong, BadTime."""

    def __init__(self, rule: RecurrenceRule, zone: tzinfo, start: float) -> None:
        self._frequency, self._interval, self._zone = str(rule.frequency), rule.interval, zone
        self.start = float(_moment(rule.starts_at, "starts_at", start) // 1)
        self.end = _moment(rule.ends_at, "ends_at", None)
        faults = _faults(rule)
        self._weekdays = _places(rule.days_of_week, WEEKDAYS, "days_of_week", faults)
        self._monthdays = frozenset(rule.days_of_month)
        self._months = {place + 1 for place in _places(rule.months_of_year, MONTHS, "months_of_year", faults)}
        if self.end is not None and self.end < self.start:
            faults.append("ends_at: expected an end at or after the start, found one before it")
        if faults:
            raise ConfigError("recurrence rule:", faults)
        self._begin = wall_of(self.start, zone)
        self._fill_in()

    def _fill_in(self) -> None:
        """Take from the start what the frequency needs and the rule leaves out."""
        begin, frequency = self._begin, self._frequency
        if frequency == "weekly" and not self._weekdays:
            self._weekdays = frozenset({begin.weekday()})
        if frequency in ("monthly", "yearly") and not (self._weekdays or self._monthdays):
            self._monthdays = frozenset({begin.day})
        if frequency == "yearly" and not self._months:
            self._months = {begin.month}

    def next_after(self, moment: float) -> float | None:
        """Return the first tick after `moment`, at or after the start and not after the end; None: there is none."""
        try:
            found = self._find(moment)
        except OverflowError:  # beyond the year 9999
            return None
        return None if found is not None and self.end is not None and found > self.end else found

    def _find(self, moment: float) -> float | None:
        if self._frequency == "none":
            return self.start if moment < self.start else None
        if self._frequency in _ELAPSED:
            return self._elapsed_after(moment)
        begin = wall_of(max(moment, self.start), self._zone).date()
        for day in self._days_from(begin):
            found = first_instant(datetime.combine(day, self._begin.time()), self._zone)
            if found > moment and found >= self.start:
                return found
        return None

    # --- elapsed time

    def _elapsed_after(self, moment: float) -> float | None:
        step = self._interval * _ELAPSED[self._frequency]
        found = self.start if moment < self.start else self.start + ((moment - self.start) // step + 1) * step
        for _ in range(_LOOK["daily"]):
            day = wall_of(found, self._zone).date()
            if self._fits(day):
                return found
            # Nothing fits on this day: go on with the first tick of the next one that does.
            fitting = self._next_fitting(day)
            if fitting is None:
                return None
            midnight = first_instant(datetime.combine(fitting, time()), self._zone)
            found = self.start - (self.start - midnight) // step * step
        return None

    def _next_fitting(self, day: date) -> date | None:
        for _ in range(_LOOK["daily"]):
            day += timedelta(days=1)
            if self._fits(day):
                return day
        return None

    # --- the calendar

    def _days_from(self, day: date) -> Iterator[date]:
        """Yield the days of the rule from `day` on, in order."""
        first = max(0, self._period_of(day))
        for period in range(first, first + _LOOK[self._frequency]):
            for found in self._days_of(period):
                if found >= day and self._fits(found):
                    yield found

    def _period_of(self, day: date) -> int:
        """Return which period of the rule holds `day`; period 0 holds the start."""
        begin = self._begin.date()
        match self._frequency:
            case "daily":
                return (day - begin).days // self._interval
            case "weekly":
                return ((_monday(day) - _monday(begin)).days // 7) // self._interval
            case "monthly":
                return ((day.year - begin.year) * 12 + day.month - begin.month) // self._interval
            case _:
                return (day.year - begin.year) // self._interval

    def _days_of(self, period: int) -> Iterable[date]:
        """Return the days of a period that may fit, in order."""
        begin, count = self._begin.date(), period * self._interval
        match self._frequency:
            case "daily":
                return (begin + timedelta(days=count),)
            case "weekly":
                monday = _monday(begin) + timedelta(weeks=count)
                return [monday + timedelta(days=day) for day in sorted(self._weekdays)]
            case "monthly":
                years, month = divmod(begin.month - 1 + count, 12)
                return _month(begin.year + years, month + 1)
            case _:
                return [day for month in sorted(self._months) for day in _month(begin.year + count, month)]

    def _fits(self, day: date) -> bool:
        return (
            (not self._months or day.month in self._months)
            and (not self._weekdays or day.weekday() in self._weekdays)
            and (not self._monthdays or not self._monthdays.isdisjoint((day.day, day.day - _length(day) - 1)))
        )


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _month(year: int, month: int) -> list[date]:
    if year > YEAR_MAX:
        raise OverflowError("beyond the calendar")
    return [date(year, month, day) for day in range(1, calendar.monthrange(year, month)[1] + 1)]


def _moment(value: Any, what: str, otherwise: Any) -> Any:
    return otherwise if value is None else instant(value, what)


def _faults(rule: RecurrenceRule) -> list[str]:
    faults = []
    if not 1 <= rule.interval <= INTERVAL_MAX:
        faults.append(f"interval: expected a whole number from 1 to {INTERVAL_MAX:,}, found {rule.interval}")
    wrong = [day for day in rule.days_of_month if not 1 <= abs(day) <= 31]
    if wrong:
        faults.append(f"days_of_month: expected 1 to 31, or -1 (the last) to -31, found {wrong[0]}")
    return faults


def _places(names: tuple[int | str, ...], known: tuple[str, ...], what: str, faults: list[str]) -> frozenset[int]:
    """Return the places of the names among the known ones, from 0; numbers count from 1."""
    places = []
    for name in names:
        if isinstance(name, str) and name.lower()[:3] in known and _is_name(name, what):
            places.append(known.index(name.lower()[:3]))
        elif isinstance(name, int) and 1 <= name <= len(known):
            places.append(name - 1)
        else:
            faults.append(f"{what}: expected some of {', '.join(known)}, found {name!r:.40}")
    return frozenset(places)


def _is_name(name: str, what: str) -> bool:
    full = calendar.day_name if what == "days_of_week" else calendar.month_name
    return len(name) == 3 or name.lower() in {one.lower() for one in full}


def read_recurrence(text: str) -> RecurrenceRule:
    """Return the rule of a JSON text. Raises ConfigError."""
    try:
        return msgspec.json.decode(text, type=RecurrenceRule)
    except (msgspec.DecodeError, RecursionError) as error:
        example = '{"frequency": "weekly", "interval": 2, "days_of_week": ["mon", "fri"]}'
        raise ConfigError(f"recurrence rule: {error}. Expected JSON like {example}, found {text!r:.80}.") from None


__all__ = ["BadTime", "Frequency", "Recurrence", "RecurrenceRule", "read_recurrence"]
