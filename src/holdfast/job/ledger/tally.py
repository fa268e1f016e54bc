"""The tally of a ledger: how many jobs each worker ended, and what records of other systems came to by the hour.

So figures of workers cost the same however many jobs have ended. Jobs are counted by the worker of their newest attempt,
while they are on record; this follows from the jobs alone, as every index does. What runs is found by its own index, and
what waits for another attempt stands in a list of its own.

Attempts that ended elsewhere are counted as they are told, by hour; a later word about one takes the first one back. As with
the roll-up of the engine's own attempts, retention does not take them away, so a snapshot holds them as facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.figures import OUTCOMES, took_in_all, took_of
from holdfast.job.state import FINAL, End, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.job.model import Attempt, Job

_SUCCEEDED: Final = State.SUCCEEDED
_RUNNING: Final = State.RUNNING
HOUR: Final = 3_600
#: The longest series, in hours, and the one that runs; and how many rows there are at most.
HOURS_KEPT: Final = 169
ROWS_MAX: Final = 50_000


class Ended:
    """Jobs of one queue and worker: how many in each state, and how many successes took how many microseconds in all."""

    __slots__ = ("states", "timed", "took")

    def __init__(self) -> None:
        self.states: dict[State, int] = {}
        self.timed = self.took = 0

    def add(self, state: State, count: int) -> None:
        """Count jobs, or with a negative number take them back."""
        left = self.states.get(state, 0) + count
        if left:
            self.states[state] = left
        else:
            self.states.pop(state, None)

    def __bool__(self) -> bool:
        """Whether it counts anything."""
        return bool(self.states or self.timed)

    def __eq__(self, other: object) -> bool:
        """Whether two count the same."""
        return isinstance(other, Ended) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def values(self) -> tuple[dict[State, int], int, int]:
        """All that it counts."""
        return self.states, self.timed, self.took


class Tally:
    """Jobs by queue and worker. tried: seqs of those that wait after an attempt."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self.ended: dict[tuple[str, str], Ended] = {}
        self.tried: dict[int, None] = {}

    def cell(self, queue: str, worker: str) -> Ended:
        """Return what is counted of a queue and a worker, to be changed."""
        place = queue, worker
        found = self.ended.get(place)
        if found is None:
            found = self.ended[place] = Ended()
        return found

    def succeeded(self, queue: str, jobs: Sequence[Job], sign: int = 1) -> None:
        """Count plain jobs of a queue that have succeeded, or take them back."""
        lasts = [job.last for job in jobs]
        workers = {last.worker for last in lasts}  # type: ignore[union-attr]  # a job that ran has an attempt
        if len(workers) > 1:
            for worker in workers:
                self.succeeded(queue, [job for job in jobs if job.last.worker == worker], sign)  # type: ignore[union-attr]
            return
        [worker] = workers
        cell = self.cell(queue, worker)
        cell.add(_SUCCEEDED, sign * len(lasts))
        told = [took for last in lasts if (took := last.duration) is not None]  # type: ignore[union-attr]
        cell.timed += sign * len(told)
        cell.took += sign * took_in_all(told)
        if sign < 0 and not cell:
            del self.ended[queue, worker]

    def claimed(self, jobs: Sequence[Job]) -> None:
        """Plain jobs run; those that had been tried before do not wait any more."""
        if self.tried:
            for job in jobs:
                self.tried.pop(job.seq, None)

    def move(self, old: Job | None, new: Job | None) -> None:
        """Bring it from one value of a job to the next; None: there was, or is, no such job."""
        if old is not None:
            self._count(old, -1)
        if new is not None:
            self._count(new, 1)

    def _count(self, job: Job, sign: int) -> None:
        last, state = job.last, job.state
        if job.origin == EXTERNAL:
            self._count_record(job, sign)
        elif state in FINAL:
            if job.deleted_at is None:
                timed = last.duration if last is not None and state is _SUCCEEDED else None
                self._add(job.queue, "" if last is None else last.worker, state, sign)
                self._time(job.queue, last, timed, sign)
        elif last is not None and state is not _RUNNING:
            if sign > 0:
                self.tried[job.seq] = None
            else:
                self.tried.pop(job.seq, None)

    def _count_record(self, job: Job, sign: int) -> None:
        if job.deleted_at is not None:
            return
        self._add(job.queue, "" if job.last is None else job.last.worker, job.state, sign)
        for attempt in job.attempts:
            if attempt.end is End.SUCCEEDED:
                self._time(job.queue, attempt, attempt.duration, sign)

    def _add(self, queue: str, worker: str, state: State, sign: int) -> None:
        cell = self.cell(queue, worker)
        cell.add(state, sign)
        if not cell:
            del self.ended[queue, worker]

    def _time(self, queue: str, attempt: Attempt | None, duration: float | None, sign: int) -> None:
        if attempt is None or duration is None:
            return
        cell = self.cell(queue, attempt.worker)
        cell.timed += sign
        cell.took += sign * took_of(duration)
        if not cell:
            del self.ended[queue, attempt.worker]


class Reports:
    """Attempts that ended elsewhere: how many, and how many of them took how many microseconds in all."""

    def __init__(self) -> None:
        """None is known yet."""
        self._hours: dict[int, dict[tuple[str, int], list[int]]] = {}  # by hour since the epoch; by worker and outcome
        self._now = 0  # the hour of the newest word

    def note(self, old: Job | None, new: Job) -> None:
        """Count what is told of a record; of an attempt that is told otherwise now, the new word counts."""
        if new.origin != EXTERNAL:
            return
        known = {} if old is None else {one.number: one for one in old.attempts}
        for attempt in new.attempts:
            before = known.get(attempt.number)
            if before != attempt:
                self._add(before, -1)
                self._add(attempt, 1)
        self._now = max(self._now, int(new.updated_at // HOUR))
        self._forget()

    def _add(self, attempt: Attempt | None, sign: int) -> None:
        if attempt is None or attempt.end is None or attempt.ended_at is None:
            return
        timed = attempt.duration is not None
        took = took_of(attempt.duration) if attempt.duration is not None else 0
        place = attempt.worker, OUTCOMES[attempt.end]
        self._put(int(attempt.ended_at // HOUR), place, (sign, sign * timed, sign * took))

    def _put(self, hour: int, place: tuple[str, int], more: tuple[int, int, int]) -> None:
        cells = self._hours.setdefault(hour, {})
        sums = cells.setdefault(place, [0, 0, 0])
        for index, value in enumerate(more):
            sums[index] += value
        if not any(sums):
            del cells[place]
        if not cells:
            del self._hours[hour]

    def _forget(self) -> None:
        now = self._now
        oldest = min(self._hours, default=now)
        while self._hours and (oldest <= now - HOURS_KEPT or sum(map(len, self._hours.values())) > ROWS_MAX):
            del self._hours[oldest]
            oldest = min(self._hours, default=now)

    def hour(self, number: int) -> list[tuple[str, int, int, int, int]]:
        """Worker, outcome, how many, how many of them timed, and what these took, of an hour since the epoch."""
        return [(*place, sums[0], sums[1], sums[2]) for place, sums in self._hours.get(number, {}).items()]

    # --- snapshots

    def facts(self) -> Iterator[list[f.Fact]]:
        """All of it as facts, in lists that a snapshot takes."""
        self._forget()
        found: list[f.Fact] = [
            f.Reported(number, *row) for number in sorted(self._hours) for row in sorted(self.hour(number))
        ]
        for start in range(0, len(found), 10_000):
            yield found[start : start + 10_000]

    def restore(self, fact: f.Reported) -> None:
        """Take what `facts` gave."""
        self._put(fact.hour, (fact.worker, fact.outcome), (fact.n, fact.timed, fact.took))
