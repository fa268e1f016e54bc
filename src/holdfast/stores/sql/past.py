"""What a history asks for beside the reads of the port: figures that the database adds up, and jobs that were tried.

Plain successes, which are nearly all of a history, are counted by the database. What else a job may have been through
stands in its encoded attempts; such jobs are read in slices, and added up by whoever asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.stores.sql import filters
from holdfast.stores.sql.reads import SLICE, whole
from holdfast.stores.sql.rows import ELSEWHERE, STATES, SUCCEEDED, micros

if TYPE_CHECKING:
    from holdfast.job.model import Job
    from holdfast.job.state import State
    from holdfast.stores.sql.script import Script, Step

_HOUR: Final = 3_600.0
_LIVE: Final = f"SELECT queue, state, count(*), 0, NULL FROM {{job}} WHERE state < {ELSEWHERE}"
_ENDED: Final = (
    f"SELECT queue, state, count(*), count(CASE WHEN state = {SUCCEEDED} THEN duration END),"
    f" sum(CASE WHEN state = {SUCCEEDED} THEN duration END)"
    f" FROM {{done}} WHERE state < {ELSEWHERE} AND deleted_at IS NULL"
)
_HOURS: Final = (
    f"SELECT {{hour_ended}}, count(*), count(duration), sum(duration) FROM {{done}}"
    f" WHERE state = {SUCCEEDED} AND deleted_at IS NULL AND finished_at >= ?"
)
_OF_WORKER: Final = " AND worker = ? AND instance IS NOT NULL"

#: Queue, state, how many jobs, how many of them are successes that were timed, and how long these took in seconds.
Counted = tuple[str, "State", int, int, float]
#: When the hour began, how many jobs succeeded in it, how many of them were timed, and how long these took in seconds.
Hour = tuple[float, int, int, float]


def job_figures(step: Step, worker: str) -> Script[list[Counted]]:
    """Count the engine's jobs by the worker of their newest attempt (empty: all jobs)."""
    found: list[Counted] = []
    if not filters.storable(worker):
        return found
    for text in (_LIVE, _ENDED):
        where, args = (_OF_WORKER, (worker,)) if worker else ("", ())
        for queue, code, count, timed, took in (yield step.db.q(f"{text}{where} GROUP BY queue, state", *args)):
            found.append((queue, STATES[code], int(count), int(timed), float(took or 0.0)))
    return found


def hour_figures(step: Step, worker: str, since: float) -> Script[list[Hour]]:
    """Count the engine's jobs that succeeded since then, by hour."""
    if not filters.storable(worker):
        return []
    where, args = (_OF_WORKER, (worker,)) if worker else ("", ())
    rows = yield step.db.q(f"{_HOURS}{where} GROUP BY {{hour_ended}}", micros(since), *args)
    return [(int(hour) * _HOUR, int(count), int(timed), float(took or 0.0)) for hour, count, timed, took in rows]


def tried(
    step: Step,
    since: float,
    before: int | None,
    *,
    queue: str | None = None,
    task: str | None = None,
    odd: bool = False,
) -> Script[list[Job]]:
    """The next jobs, newest first, that were tried and have changed since then; `before`: the seq of the last one seen.

    odd: only those that are more than a success at the first try.
    """
    if not all(filters.storable(value) for value in (queue, task) if value is not None):
        return []
    condition: list[str] = ["attempt > 0", "updated_at >= ?"]
    args: list[Any] = [micros(since)]
    if odd:
        condition.append(f"(state <> {SUCCEEDED} OR attempt > 1)")
    for column, value in (("queue", queue), ("task", task), ("seq", before)):
        if value is not None:
            condition.append(f"{column} {'<' if column == 'seq' else '='} ?")
            args.append(value)
    live = filters.Where(" AND ".join(condition), tuple(args), True)
    return (yield from _slice(step, live))


def elsewhere(step: Step, before: int | None) -> Script[list[Job]]:
    """The next records of jobs that ran elsewhere, newest first."""
    condition = filters.Where(f"state > {ELSEWHERE}", (), True)
    return (yield from _slice(step, condition if before is None else condition.among("seq", "<", before)))


def _slice(step: Step, live: filters.Where) -> Script[list[Job]]:
    ended = live._replace(sql=f"{live.sql} AND deleted_at IS NULL")
    rows = yield filters.merged(step.db, live, ended, "DESC", SLICE)
    return (yield from whole(step, rows))
