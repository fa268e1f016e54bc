"""Figures by adding up: jobs and attempts go in one by one, statistics come out. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from holdfast.history import HOUR, QueueFigures, SeriesBucket, WorkerStats
from holdfast.job.figures import took_of
from holdfast.job.state import FAILURES, WAITING, End, State

if TYPE_CHECKING:
    from holdfast.job.model import Attempt, Job

#: A lost attempt whose late report was refused is still one that was lost.
SPENT = FAILURES | {End.STALE}


class Mean:
    """A mean of durations. They are added up in whole microseconds, so that it is the same in whichever order they come."""

    __slots__ = ("count", "took")

    def __init__(self) -> None:
        self.count = self.took = 0

    def add(self, seconds: float | None) -> None:
        """Add one, unless it was not measured."""
        if seconds is not None:
            self.count += 1
            self.took += took_of(seconds)

    def add_many(self, count: int, took: int) -> None:
        """Add so many, of which the sum is known, in microseconds."""
        self.count += count
        self.took += took

    @property
    def value(self) -> float | None:
        """The mean in seconds; None: there is nothing to mean."""
        return self.took / self.count / 1e6 if self.count else None


def success_rate(succeeded: int, failed: int) -> float | None:
    """Return the share of successes among jobs that ended in success or failure; None when there is none.

    >>> success_rate(3, 1), success_rate(0, 0)
    (0.75, None)
    """
    return succeeded / (succeeded + failed) if succeeded + failed else None


class WorkerTally:
    """Adds up the jobs whose newest attempt was with `worker`, and the durations of its successes (empty: of all)."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.states: dict[str, Counter[State]] = defaultdict(Counter)  # by queue
        self.estimated = False
        self.means: dict[str, Mean] = defaultdict(Mean)
        self.mean = Mean()

    def add(self, job: Job) -> None:
        """Count a job and its attempts, unless it is deleted."""
        if job.deleted_at is not None:
            return
        if self.worker in ("", job.last.worker if job.last is not None else None):
            self.states[job.queue][job.state] += 1
        for attempt in job.attempts:
            if attempt.end is End.SUCCEEDED and self.worker in ("", attempt.worker):
                self.mean.add(attempt.duration)
                self.means[job.queue].add(attempt.duration)

    def add_many(self, queue: str, state: State, count: int, timed: int, took: int) -> None:
        """Count jobs, and `timed` successes that took so many microseconds in all: somebody else has counted them."""
        if count:
            self.states[queue][state] += int(count)
        self.estimated |= getattr(count, "estimated", False)
        self.add_times(queue, timed, took)

    def add_times(self, queue: str, timed: int, took: int) -> None:
        """Add successful attempts of a queue that somebody else has counted; `timed` of them took so many microseconds."""
        if timed:
            self.mean.add_many(timed, took)
            self.means[queue].add_many(timed, took)

    def stats(self) -> WorkerStats:
        """What was counted."""
        states: Counter[State] = sum(self.states.values(), Counter())
        succeeded, failed = states[State.SUCCEEDED], states[State.FAILED]
        return WorkerStats(
            worker=self.worker,
            total=states.total(),
            pending=sum(states[state] for state in WAITING),
            running=states[State.RUNNING],
            succeeded=succeeded,
            failed=failed,
            canceled=states[State.CANCELED],
            success_rate=success_rate(succeeded, failed),
            avg_duration=self.mean.value,
            states={state.value: states[state] for state in State},
            queues={name: self._queue(name) for name in sorted({*self.states, *self.means})},
            estimated=self.estimated,
        )

    def _queue(self, name: str) -> QueueFigures:
        states = self.states[name]
        succeeded, failed = states[State.SUCCEEDED], states[State.FAILED]
        return QueueFigures(
            total=states.total(),
            succeeded=succeeded,
            failed=failed,
            success_rate=success_rate(succeeded, failed),
            avg_duration=self.means[name].value,
        )


class SeriesTally:
    """Adds up attempts by the UTC hour in which they ended: `hours` hours, the one of `now` last."""

    def __init__(self, worker: str, hours: int, now: float) -> None:
        self.worker = worker
        self.first = int(now // HOUR) - hours + 1  # since the epoch
        self._ends: list[Counter[str]] = [Counter() for _ in range(hours)]
        self._means = [Mean() for _ in range(hours)]

    def __len__(self) -> int:
        """How many hours."""
        return len(self._ends)

    def add(self, attempt: Attempt) -> None:
        """Count an attempt, if it ended within these hours and was the worker's."""
        if attempt.ended_at is None or (self.worker and attempt.worker != self.worker):
            return
        index = int(attempt.ended_at // HOUR) - self.first
        if not 0 <= index < len(self._ends):
            return
        self._ends[index]["total"] += 1
        if attempt.end is End.SUCCEEDED:
            self._ends[index]["succeeded"] += 1
            self._means[index].add(attempt.duration)
        elif attempt.end in SPENT:
            self._ends[index]["failed"] += 1

    @property
    def since(self) -> float:
        """When the first of the hours begins, in seconds since the epoch."""
        return self.first * HOUR

    def add_many(self, hour: int, end: End, count: int, timed: int, took: int) -> None:
        """Count attempts of an hour (since the epoch) that somebody else has counted; `timed` of them took so many
        microseconds in all."""
        index = hour - self.first
        if not 0 <= index < len(self._ends):
            return
        self._ends[index]["total"] += count
        if end is End.SUCCEEDED:
            self._ends[index]["succeeded"] += count
            self._means[index].add_many(timed, took)
        elif end in SPENT:
            self._ends[index]["failed"] += count

    def add_hour(self, at: float, total: int, succeeded: int, failed: int, timed: int, took: int) -> None:
        """Count attempts of the hour of `at` that somebody else has counted; `timed` successes took so many microseconds."""
        index = int(at // HOUR) - self.first
        if 0 <= index < len(self._ends):
            self._ends[index].update(total=total, succeeded=succeeded, failed=failed)
            self._means[index].add_many(timed, took)

    def buckets(self) -> list[SeriesBucket]:
        """One bucket per hour, the oldest first."""
        return [
            SeriesBucket(
                at=(self.first + index) * HOUR,
                total=ends["total"],
                succeeded=ends["succeeded"],
                failed=ends["failed"],
                avg_duration=mean.value,
            )
            for index, (ends, mean) in enumerate(zip(self._ends, self._means, strict=True))
        ]
