"""The tally: how many jobs have ended, by all that lists and figures group by, written in the transactions that end them.

So counts, figures of workers and the groups of a list are read from a few rows, however long the history is, and are never
behind it. Records of jobs that ran elsewhere are counted too, also those that have not ended; what waits or runs here is not,
since each enqueue and claim would pay for it.

Beside it, "report" counts attempts that ended elsewhere, by hour. What the engine's own attempts came to is in the roll-up.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from holdfast.job.external import EXTERNAL
from holdfast.job.figures import OUTCOMES, took_of
from holdfast.job.state import End, State
from holdfast.stores.sql.rows import HIDDEN, SUCCEEDED, code_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.job.model import Attempt, Job
    from holdfast.stores.sql.script import Row, Script, Step

#: Queue, task, worker of the newest attempt (of a duration: of its attempt), and the state as it is stored.
Group = tuple[str, str, str, int]
HOUR: Final = 3_600
#: How many groups that have become empty are removed at once.
_EMPTY_MAX: Final = 100
_EMPTY: Final = (
    "SELECT queue, task, worker, state FROM {tally} GROUP BY queue, task, worker, state"
    f" HAVING sum(n) = 0 AND sum(timed) = 0 ORDER BY queue, task, worker, state LIMIT {_EMPTY_MAX}"
)
_OF_GROUP: Final = (
    "SELECT n, timed FROM {tally} WHERE queue = ? AND task = ? AND worker = ? AND state = ? ORDER BY shard {lock}"
)
_FORGET: Final = "DELETE FROM {tally} WHERE queue = ? AND task = ? AND worker = ? AND state = ?"


class Tally:
    """What is to be added to the counts."""

    def __init__(self) -> None:
        self._sums: defaultdict[Group, list[float]] = defaultdict(lambda: [0, 0, 0])

    def add(self, group: Group, duration: float | None, sign: int = 1) -> None:
        """Count a job of the engine, or take it back. duration: of its success, in seconds, if it was timed."""
        sums = self._sums[group]
        sums[0] += sign
        if duration is not None:
            self._time(sums, duration, sign)

    def count(self, group: Group, n: int, timed: int, took: int) -> None:
        """Count `n` jobs of the engine. timed, took: how many of their successes were timed, and these times in all."""
        for place, more in enumerate((n, timed, took)):
            self._sums[group][place] += more

    def add_job(self, job: Job, sign: int) -> None:
        """Count a job, if it is one that is counted."""
        if not (job.final or job.origin == EXTERNAL):
            return
        code = code_of(job) + (HIDDEN if job.deleted_at is not None else 0)
        last = job.last
        group = (job.queue, job.task, "" if last is None else last.worker, code)
        if job.origin != EXTERNAL:
            # What its row tells: only the newest attempt of a job that has succeeded was a success.
            told = last.duration if last is not None and job.state is State.SUCCEEDED else None
            self.add(group, told, sign)
            return
        self._sums[group][0] += sign
        for attempt in job.attempts:
            if attempt.end is End.SUCCEEDED and attempt.duration is not None:
                self._time(self._sums[job.queue, job.task, attempt.worker, code], attempt.duration, sign)

    def _time(self, sums: list[float], duration: float, sign: int) -> None:
        sums[1] += sign
        sums[2] += sign * took_of(duration)

    def write(self, step: Step, shard: int) -> Script[None]:
        """Add it to the table."""
        rows: list[Row] = [
            (*group, shard, n, timed, float(took))
            for group, (n, timed, took) in sorted(self._sums.items())
            if n or timed or took
        ]
        yield from step.db.add("tally", rows)


def ended_group(queue: str, task: str, worker: str, code: int, *, hidden: bool) -> Group:
    """Return the group of a row of ended jobs.

    >>> ended_group("q", "t", "w", 6, hidden=True)
    ('q', 't', 'w', 106)
    """
    return queue, task, worker, code + (HIDDEN if hidden else 0)


def duration_of(code: int, duration: float | None) -> float | None:
    """Return what counts of the duration in a row of the engine's ended jobs: that of a success."""
    return duration if code == SUCCEEDED else None


def reported(step: Step, pairs: Iterable[tuple[Job | None, Job | None]]) -> Script[None]:
    """Count attempts that ended elsewhere; of one that is told otherwise now, the new word counts."""
    sums: defaultdict[tuple[int, str, int], list[float]] = defaultdict(lambda: [0, 0, 0])
    for old, new in pairs:
        if new is None or new.origin != EXTERNAL:
            continue
        known = {} if old is None else {one.number: one for one in old.attempts}
        for attempt in new.attempts:
            before = known.get(attempt.number)
            if before != attempt:
                _note(sums, before, -1)
                _note(sums, attempt, 1)
    yield from step.db.add(
        "report",
        [(*key, n, count, float(took)) for key, (n, count, took) in sorted(sums.items()) if n or count or took],
    )


def _note(sums: dict[tuple[int, str, int], list[float]], attempt: Attempt | None, sign: int) -> None:
    if attempt is None or attempt.end is None or attempt.ended_at is None:
        return
    here = sums[int(attempt.ended_at // HOUR), attempt.worker, OUTCOMES[attempt.end]]
    here[0] += sign
    if attempt.duration is not None:
        here[1] += sign
        here[2] += sign * took_of(attempt.duration)


def tidy(step: Step, oldest_hour: int) -> Script[None]:
    """Remove the rows of groups that are empty by now, and hours that nobody asks for any more.

    A group's rows are locked before they are added up again: whoever counts meanwhile waits, and makes them anew.
    """
    db = step.db
    for group in (yield db.q(_EMPTY)):
        rows: Sequence[Row] = yield db.q(_OF_GROUP, *group)
        if sum(n for n, _ in rows) == 0 == sum(timed for _, timed in rows):
            yield db.q(_FORGET, *group)
    yield db.q("DELETE FROM {report} WHERE hour < ?", oldest_hour)
