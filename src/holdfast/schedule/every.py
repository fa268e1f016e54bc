"""A fixed interval, counted in elapsed time: clocks that are put forward and back do not move it."""

from __future__ import annotations

import math
from typing import Final

from holdfast.durations import Duration, seconds
from holdfast.errors import BadTime

#: The shortest interval, in seconds. What must be more often is a loop in a job, not a schedule.
LEAST: Final = 0.1
_US: Final = 1_000_000


class Every:
    """Ticks at `anchor` + n · `interval`, from `anchor` on. The anchor is 1970 unless a start is given.

    >>> Every("15m").next_after(1_000.0), Every(60, anchor=30.0).next_after(30.0)
    (1800.0, 90.0)
    """

    def __init__(self, interval: Duration, anchor: float = 0.0) -> None:
        self.interval = seconds(interval, "every", positive=True)
        if self.interval < LEAST:
            raise BadTime(f"every: expected at least {LEAST} s, found {self.interval:g} s. Loop in one job instead.")
        # Whole microseconds: sums of fractions would drift away from each other.
        self._step, self._anchor = round(self.interval * _US), round(anchor * _US)

    def next_after(self, moment: float) -> float:
        """Return the first tick after `moment`."""
        at = math.floor(moment * _US + 0.5)
        count = max(0, (at - self._anchor) // self._step + 1)
        return (self._anchor + count * self._step) / _US
