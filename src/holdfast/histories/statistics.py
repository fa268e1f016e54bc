"""Statistics from figures: cells go in one by one, the values of the port come out. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from holdfast.errors import ContentError
from holdfast.histories.figures import success_rate
from holdfast.history import HOUR, SERIES_HOURS, GroupBy, Span, Spread, Statistics, StatisticsPoint
from holdfast.job.figures import GAVE_UP, Cell, Packed, end_of, quantile
from holdfast.job.state import FAILURES, End
from holdfast.statistics import DAY, DAYS_KEPT, POINTS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.history import StatisticsFilter
    from holdfast.job.figures import Key

_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Window:
    """The minutes or hours that are read for a filter: `first` to `last`, counted from the epoch, the running one last.

    unit: how long each is, in seconds. A point of a series is one of them, or for days many.
    """

    def __init__(
        self, which: StatisticsFilter, now: float, span: Span = Span.HOUR, *, days_most: int = DAYS_KEPT
    ) -> None:
        """now: by the store's clock. days_most: how far back the history goes. Raises ContentError."""
        self.span = span.seconds
        self.unit = min(self.span, HOUR)
        self.last = int(now // self.unit)
        if which.days:
            _check_days(which.days, days_most)
            self.first = int((int(now // DAY) - which.days + 1) * DAY // self.unit)
        else:
            self.first = self.last - SERIES_HOURS.of(which.hours) * int(HOUR // self.unit) + 1
        if self.point(self.last) - self.point(self.first) >= POINTS_MAX:
            raise ContentError(
                f"span: expected at most {POINTS_MAX:,} points, found {which.days} days. Take a longer span."
            )

    @property
    def since(self) -> float:
        """When it begins, in seconds since the epoch."""
        return self.first * self.unit

    def point(self, number: int) -> int:
        """Return the point, counted from the epoch, that a minute or hour lies in."""
        return int(number * self.unit // self.span)


def _check_days(days: int, most: int) -> None:
    if not 1 <= days <= most:
        more = "" if most > DAYS_KEPT else " A history in ClickHouse keeps more: start the hub with --history."
        raise ContentError(f"days: expected 1 to {most:,}, found {days}.{more}")


def wanted(which: StatisticsFilter, key: Key) -> bool:
    """Whether a filter wants what was counted under this key."""
    return (
        which.queue in (None, key.queue)
        and which.task in (None, key.task)
        and which.worker in (None, key.worker)
        and (not which.ends or end_of(key.outcome) in which.ends)
    )


class _Sum:
    """What was counted of one group."""

    def __init__(self) -> None:
        self.cell = Cell()
        self.outcomes: Counter[End] = Counter()
        self.gave_up = self.waits_n = 0

    def add(self, key: Key, cell: Cell | Packed) -> None:
        self.add_many(end_of(key.outcome), cell, cell.n if key.outcome >= GAVE_UP else 0, cell.n)

    def add_many(self, end: End, cell: Cell | Packed, gave_up: int, waits_n: int) -> None:
        self.outcomes[end] += cell.n
        self.gave_up += gave_up
        self.waits_n += waits_n
        if isinstance(cell, Cell):
            self.cell.merge(cell)
        else:
            cell.add_to(self.cell)

    def figures(self) -> dict[str, object]:
        cell, succeeded = self.cell, self.outcomes[End.SUCCEEDED]
        return {
            "total": cell.n,
            "succeeded": succeeded,
            "failed": sum(self.outcomes[end] for end in FAILURES),
            "gave_up": self.gave_up,
            "success_rate": success_rate(succeeded, self.gave_up),
            "waiting": _spread(self.waits_n, cell.waited, cell.waits),
            "running": _spread(cell.n, cell.ran, cell.runs),
        }


def _spread(n: int, micros: int, histogram: Mapping[int, int]) -> Spread:
    if not n:
        return Spread()
    return Spread(mean=micros / n / 1e6, **{name: quantile(histogram, share) for name, share in _SHARES.items()})


_NAMES: Mapping[GroupBy, Callable[[Key], str]] = {
    GroupBy.ALL: lambda key: "",
    GroupBy.QUEUE: lambda key: key.queue,
    GroupBy.TASK: lambda key: key.task,
    GroupBy.WORKER: lambda key: key.worker,
    GroupBy.OUTCOME: lambda key: end_of(key.outcome).value,
}


class Groups:
    """Statistics by group."""

    def __init__(self, by: GroupBy) -> None:
        """by: what the groups are."""
        self._name = _NAMES[by]
        self._sums: defaultdict[str, _Sum] = defaultdict(_Sum)
        if by is GroupBy.ALL:
            self._sums[""] = _Sum()

    def add(self, key: Key, cell: Cell | Packed) -> None:
        """Add what was counted under a key."""
        self._sums[self._name(key)].add(key, cell)

    def add_many(self, name: str, end: End, cell: Cell, gave_up: int, waits_n: int) -> None:
        """Add attempts of a group that somebody else has counted; of `waits_n` of them the waiting time is known."""
        self._sums[name].add_many(end, cell, gave_up, waits_n)

    def statistics(self) -> list[Statistics]:
        """What was added, by name."""
        return [
            Statistics(name=name, outcomes={end.value: found.outcomes[end] for end in End}, **found.figures())  # type: ignore[arg-type]
            for name, found in sorted(self._sums.items())
        ]


class Points:
    """Statistics by minute, hour or day."""

    def __init__(self, window: Window) -> None:
        """window: which, of what length."""
        self._window = window
        self._sums: defaultdict[int, _Sum] = defaultdict(_Sum)

    def add(self, number: int, key: Key, cell: Cell | Packed) -> None:
        """Add what was counted under a key in the minute or hour of this number."""
        if self._window.first <= number <= self._window.last:
            self._sums[self._window.point(number)].add(key, cell)

    def add_many(self, at: float, end: End, cell: Cell, gave_up: int, waits_n: int) -> None:
        """Add attempts of the point that begins at `at`, which somebody else has counted; see Groups.add_many."""
        self._sums[int(at // self._window.span)].add_many(end, cell, gave_up, waits_n)

    def series(self) -> list[StatisticsPoint]:
        """One point for each minute, hour or day, the oldest first."""
        window, sums = self._window, self._sums
        return [
            StatisticsPoint(at=number * window.span, **sums[number].figures())  # type: ignore[arg-type]
            if number in sums
            else StatisticsPoint(at=number * window.span)
            for number in range(window.point(window.first), window.point(window.last) + 1)
        ]
