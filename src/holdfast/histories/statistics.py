"""Statistics from figures: cells go in one by one, the values of the port come out. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from holdfast.histories.figures import success_rate
from holdfast.history import HOUR, SERIES_HOURS, GroupBy, Span, Spread, Statistics, StatisticsPoint
from holdfast.job.figures import GAVE_UP, Cell, Packed, end_of, quantile
from holdfast.job.state import FAILURES, End

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.history import StatisticsFilter
    from holdfast.job.figures import Key

_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Window:
    """The minutes or hours of a filter: `first` to `last`, counted from the epoch, the running one last."""

    def __init__(self, which: StatisticsFilter, now: float, span: Span = Span.HOUR) -> None:
        """now: by the store's clock."""
        self.span = span.seconds
        self.last = int(now // self.span)
        self.first = self.last - SERIES_HOURS.of(which.hours) * int(HOUR // self.span) + 1

    @property
    def since(self) -> float:
        """When it begins, in seconds since the epoch."""
        return self.first * self.span


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
        self.gave_up = 0

    def add(self, key: Key, cell: Cell | Packed) -> None:
        self.outcomes[end_of(key.outcome)] += cell.n
        self.gave_up += cell.n if key.outcome >= GAVE_UP else 0
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
            "waiting": _spread(cell.n, cell.waited, cell.waits),
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

    def statistics(self) -> list[Statistics]:
        """What was added, by name."""
        return [
            Statistics(name=name, outcomes={end.value: found.outcomes[end] for end in End}, **found.figures())  # type: ignore[arg-type]
            for name, found in sorted(self._sums.items())
        ]


class Points:
    """Statistics by minute or hour."""

    def __init__(self, window: Window) -> None:
        """window: which, of what length."""
        self._window = window
        self._sums: defaultdict[int, _Sum] = defaultdict(_Sum)

    def add(self, number: int, key: Key, cell: Cell | Packed) -> None:
        """Add what was counted under a key in the minute or hour of this number."""
        if self._window.first <= number <= self._window.last:
            self._sums[number].add(key, cell)

    def series(self) -> list[StatisticsPoint]:
        """One point for each minute or hour, the oldest first."""
        window, sums = self._window, self._sums
        return [
            StatisticsPoint(at=number * window.span, **sums[number].figures())  # type: ignore[arg-type]
            if number in sums
            else StatisticsPoint(at=number * window.span)
            for number in range(window.first, window.last + 1)
        ]
