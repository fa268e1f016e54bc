"""Cron expressions in a time zone. cronsim reads them and finds the matching wall times; which instants those mean, with
clocks put forward and back, is decided here.

A tick is the first instant of each matching wall time (`zones`): what is skipped fires once at the next valid instant, what
is repeated fires once. An expression for every hour (hour field `*`) counts elapsed time instead, as people expect of
"every five minutes": it fires in both passes of a repeated hour, or it would be silent for an hour.
"""

from __future__ import annotations

import copy
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from cronsim import CronSim, CronSimError

from holdfast.errors import ConfigError
from holdfast.schedule.zones import first_instant, repeat_of, second_instant, wall_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_START: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time
_SECOND: Final = timedelta(seconds=1)


class Cron:
    """A cron expression of five fields, of six (seconds first), or one of NAMES. Raises ConfigError for anything else."""

    def __init__(self, text: str, zone: tzinfo) -> None:
        self.text, self._zone = text, zone
        try:
            self._sim = CronSim(NAMES.get(text.strip().lower(), text), _START)
        except (CronSimError, AssertionError, TypeError, ValueError) as error:
            raise ConfigError(_explained(text, error)) from None
        self._elapsed = self._sim.hours == set(range(24))

    def next_after(self, moment: float) -> float | None:
        """Return the first tick after `moment`; None when there is none within 50 years."""
        try:
            found = self._first_after(moment)
            return self._sooner_in_repeat(moment, found) if self._elapsed else found
        except OverflowError:  # beyond the year 9999
            return None

    def _first_after(self, moment: float) -> float | None:
        for wall in self._matches(wall_of(moment, self._zone)):
            first = first_instant(wall, self._zone)
            if first > moment:
                return first
            # We are in the second pass of a repeated hour.
            if self._elapsed and (second := second_instant(wall, self._zone)) is not None and second > moment:
                return second
        return None

    def _sooner_in_repeat(self, moment: float, found: float | None) -> float | None:
        """Return a tick of the second pass when clocks are put back before `found`."""
        repeat = repeat_of(moment, self._zone)
        if repeat is None or (found is not None and found <= repeat[0]):
            return found
        wall = next(self._matches(repeat[1] - _SECOND), None)
        second = second_instant(wall, self._zone) if wall is not None else None
        return found if second is None else second if found is None else min(second, found)

    def _matches(self, after: datetime) -> Iterator[datetime]:
        """Yield the matching wall times after `after`, in order; it ends when there is none for 50 years."""
        sim = copy.copy(self._sim)
        sim.dt = after
        return iter(sim)


def _explained(text: str, error: Exception) -> str:
    found = f"{text!r:.80} ({error})" if isinstance(error, CronSimError) else f"{text!r:.80}"
    hint = "Use five fields (minute hour day month weekday), six with seconds first, or @hourly, @daily, @weekly …"
    if text.strip().lower() == "@reboot":
        hint = "A start is no time: enqueue the job in a lifespan instead."
    elif "Bad day-of-month" in str(error):
        hint = "Does the day exist in one of the months? The last one is L."
    return f"cron: expected a cron expression, found {found}. {hint}"
