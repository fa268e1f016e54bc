"""What cron should do, minute by minute and without any cleverness: look at the wall clock at every minute.

It shares nothing with the code under test but the zones of the standard library.
"""

import calendar
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

MINUTE: Final = timedelta(minutes=1)
DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS: Final = ("", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

#: Expressions of every kind: each minute, steps, lists, ranges, fixed times by day and night, days, weekdays, last days.
EXPRESSIONS: Final = (
    "* * * * *", "*/5 * * * *", "*/7 * * * *", "0 * * * *", "30 * * * *", "15,45 * * * *", "10-20 * * * *", "59 * * * *",
    "0 0 * * *", "1 0 * * *", "30 0 * * *", "59 23 * * *", "0 1 * * *", "30 1 * * *", "0 2 * * *", "30 2 * * *", "59 2 * * *",
    "0 3 * * *", "15 3 * * *", "0 4 * * *", "30 12 * * *", "*/15 2 * * *", "*/20 1-3 * * *", "* 2 * * *", "0 */2 * * *",
    "30 */3 * * *", "0 1,2,3 * * *", "0-5 0 * * *", "45 23,0 * * *", "0 9 * * mon-fri", "30 2 * * sun", "30 2 * * sat,sun",
    "0 2 1 * *", "30 2 15 * *", "0 0 l * *", "0 2 * 3 *", "30 1 * 10,11 *", "0 2 1 * sun", "0 3 */2 * *", "15 0-23 * * *",
)  # fmt: skip


def _field(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> set[int]:
    """Return the numbers that a field allows."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        bounds = [names.index(word) if word in names else int(word) for word in (first, last) if word not in ("", "*")]
        begin, end = (low, high) if span == "*" else (bounds[0], bounds[-1])
        found.update(range(begin, end + 1, int(step or 1)))
    return found


class Pattern:
    """A cron expression, read by hand."""

    def __init__(self, text: str) -> None:
        minute, hour, day, month, weekday = text.split()
        minutes, hours = _field(minute, 0, 59), _field(hour, 0, 23)
        self.every_hour = len(hours) == 24
        self._times = {60 * one + two for one in hours for two in minutes}
        self._months = _field(month, 1, 12, MONTHS)
        self._last = day == "l"
        self._days = set() if self._last else _field(day, 1, 31)
        self._weekdays = {one % 7 for one in _field(weekday, 0, 7, DAYS)}
        # As Debian's cron has it: both must hold when one begins with a star, else one is enough.
        self._both = day.startswith("*") or weekday.startswith("*")
        self._on = cache(self._is_on)

    def _is_on(self, day: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        by_day = day.day == last if self._last else day.day in self._days
        by_weekday = day.isoweekday() % 7 in self._weekdays
        return day.month in self._months and ((by_day and by_weekday) if self._both else (by_day or by_weekday))

    def matches(self, wall: datetime) -> bool:
        """Whether a clock that shows `wall` means a tick."""
        return wall.hour * 60 + wall.minute in self._times and self._on(wall.date())


class Minute(NamedTuple):
    """One minute: its instant, what the clock shows, whether for the second time, and what it skipped before."""

    instant: float
    wall: datetime
    again: bool
    skipped: tuple[datetime, ...]


def minutes(zone: ZoneInfo, begin: datetime, end: datetime) -> list[Minute]:
    """Return all minutes of a span (aware, to the minute), as the zone's clocks show them."""
    found, before = [], None
    at = begin
    while at < end:
        local = at.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        skipped: list[datetime] = []
        if before is not None:
            missing = before + MINUTE
            while missing < wall:
                skipped.append(missing)
                missing += MINUTE
        found.append(Minute(at.timestamp(), wall, bool(local.fold), tuple(skipped)))
        before, at = wall, at + MINUTE
    return found


def ticks(pattern: Pattern, span: list[Minute]) -> list[float]:
    """Return the ticks of a span: matching minutes, the second pass of a repeated hour only for expressions of every hour;
    and the first minute after a skipped one that matched."""
    matches, every_hour = pattern.matches, pattern.every_hour
    return [
        minute.instant
        for minute in span
        if (matches(minute.wall) and (not minute.again or every_hour)) or any(map(matches, minute.skipped))
    ]


def changes(zone: ZoneInfo, first_year: int, last_year: int) -> Iterator[datetime]:
    """Yield the instants (to the minute) at which clocks of the zone are put forward or back."""
    at, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    step = timedelta(hours=6)
    while at < end:
        offset = at.astimezone(zone).utcoffset()
        if (at + step).astimezone(zone).utcoffset() != offset:
            found = at
            while found.astimezone(zone).utcoffset() == offset:
                found += MINUTE
            yield found
        at += step


def window(around: datetime, hours: int = 36) -> tuple[datetime, datetime]:
    """Return the span of `hours` before and after."""
    return around - timedelta(hours=hours), around + timedelta(hours=hours)


def signature(zone: ZoneInfo, first_year: int, last_year: int) -> tuple[object, ...]:
    """Return what tells zones apart in these years: many names mean the same clocks."""
    begin = datetime(first_year, 1, 1, tzinfo=UTC)
    return (
        begin.astimezone(zone).utcoffset(),
        *((at, at.astimezone(zone).utcoffset()) for at in changes(zone, first_year, last_year)),
    )


Ticker = Callable[[float], float | None]


def chained(next_after: Ticker, begin: float, end: float) -> list[float]:
    """Return what asking again and again from `begin` on gives, up to `end`."""
    found: list[float] = []
    at = next_after(begin)
    while at is not None and at < end:
        found.append(at)
        at = next_after(at)
    return found
