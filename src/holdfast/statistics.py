"""Statistics of attempts as values: which are asked for, and what they tell. The port that gives them is `history`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from holdfast.job.state import End

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
#: How many days back every history can tell.
DAYS_KEPT: Final = 7
#: How many points a series has at most: a week of minutes, more than a year of hours.
POINTS_MAX: Final = 10_080


class GroupBy(StrEnum):
    """What statistics are told apart by. OUTCOME: how attempts ended, see `holdfast.job.state.End`."""

    ALL = "all"
    QUEUE = "queue"
    TASK = "task"
    WORKER = "worker"
    OUTCOME = "outcome"


class Span(StrEnum):
    """How long one point of a series is. Points begin with the minute, hour or day of UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> float:
        """Its length."""
        return {Span.MINUTE: 60.0, Span.HOUR: HOUR, Span.DAY: DAY}[self]


class StatisticsFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which attempts of the engine; all given fields must match. Those that ended in the last `hours` hours (SERIES_HOURS),
    the running one included, by the hours or minutes of UTC. ends: how they ended; none: however.

    days: in the last so many days of UTC instead, the running one included: DAYS_KEPT at most, unless the history keeps more.
    """

    queue: str | None = None
    task: str | None = None
    worker: str | None = None
    ends: tuple[End, ...] = ()
    hours: int = 0
    days: int = 0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took, in seconds; all None when there was nothing. p50, p95, p99: from a histogram, at most a fifth
    off; that share of all took no longer."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts that ended. name: of the queue, task, worker or outcome; empty for all of them together.

    outcomes: every End, zeros included. failed: attempts that spent a failure. gave_up: those by which their job has failed
    for good. success_rate: over jobs that ended by one of these attempts: succeeded / (succeeded + gave_up), from 0.0 to
    1.0; None: there is none. waiting: from ready to claimed. running: from claimed to ended, by the store's clock.
    """

    name: str = ""
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    gave_up: int = 0
    success_rate: float | None = None
    outcomes: dict[str, int] = {}
    waiting: Spread = Spread()
    running: Spread = Spread()


class StatisticsPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One minute, hour or day of attempts that ended in it. at: when it begins, in seconds since
    the epoch, UTC; see Statistics."""

    at: float
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    gave_up: int = 0
    success_rate: float | None = None
    waiting: Spread = Spread()
    running: Spread = Spread()
