"""What a history asks for beside the reads of the port: figures that the database adds up, and jobs that were tried.

What has ended is counted in the tally, attempts hour by hour in the roll-up, so that no figure costs more when the history is
longer. A search for attempts looks into the encoded ones, in slices of the jobs that have changed since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job import commands as c
from holdfast.job.figures import end_of
from holdfast.stores.sql import counting, filters
from holdfast.stores.sql.figures import HOURS
from holdfast.stores.sql.reads import SLICE, whole
from holdfast.stores.sql.rows import ELSEWHERE, HIDDEN, STATES, micros

if TYPE_CHECKING:
    from holdfast.job.model import Job
    from holdfast.job.state import End, State
    from holdfast.stores.sql.script import Script, Step

#: How many rows one statement looks at for jobs that were tried.
LOOKED: Final = 2_000
_TOLD: Final = f"SELECT queue, state, sum(n), sum(timed), sum(took) FROM {{tally}} WHERE state < {HIDDEN}"
_OF_WORKER: Final = " AND worker = ?"
#: Hours by outcome: of the engine's attempts, those of minutes that are not merged yet, and of those that ended elsewhere.
_HOURS: Final = (
    "SELECT number, outcome, sum(n), sum(timed), sum(took) FROM {stat_sum} WHERE span = ? AND number >= ?@WORKER@"
    " GROUP BY number, outcome UNION ALL"
    " SELECT {hour_of_minute}, outcome, sum(n), sum(timed), sum(took) FROM {stat} WHERE minute >= ?@WORKER@"
    " GROUP BY {hour_of_minute}, outcome UNION ALL"
    " SELECT hour, outcome, sum(n), sum(timed), sum(took) FROM {report} WHERE hour >= ?@WORKER@ GROUP BY hour, outcome"
)

#: Queue, state, how many jobs, how many successes were timed, and how long these took in microseconds.
Counted = tuple[str, "State", c.JobCount, int, int]
#: Hours since the epoch, how the attempts ended, how many, of how many the duration is known, and what these took in
#: microseconds.
Hour = tuple[int, "End", int, int, int]


def job_figures(step: Step, worker: str) -> Script[list[Counted]]:
    """Count jobs, and records of others, by the worker of their newest attempt (empty: all jobs)."""
    if not filters.storable(worker):
        return []
    named = counting.given(None, None, worker or None)
    waiting = yield from counting.live(step, named)
    found: list[Counted] = [(queue, STATES[code], number, 0, 0) for (queue, code), number in waiting.items()]
    where, args = (_OF_WORKER, (worker,)) if worker else ("", ())
    for queue, code, *counts in (yield step.db.q(f"{_TOLD}{where} GROUP BY queue, state", *args)):
        count, timed, took = map(int, counts)
        found.append((queue, STATES[code % ELSEWHERE], c.JobCount(count), timed, took))
    return found


def hour_figures(step: Step, worker: str, first: int) -> Script[list[Hour]]:
    """Count the attempts that ended, by hour, from the `first` on (hours since the epoch); an hour may come often."""
    if not filters.storable(worker):
        return []
    where, args = (_OF_WORKER, (worker,)) if worker else ("", ())
    text = _HOURS.replace("@WORKER@", where)
    rows = yield step.db.q(text, HOURS, first, *args, first * 60, *args, first, *args)
    return [(number, end_of(outcome), int(n), int(timed), int(took)) for number, outcome, n, timed, took in rows]


def tried(
    step: Step,
    since: float,
    before: int | None,
    *,
    queue: str | None = None,
    task: str | None = None,
) -> Script[tuple[list[Job], int, int]]:
    """The next jobs, newest first, that were tried and have changed since then; `before`: up to which seq was looked.

    Returns with them up to which seq was looked now (0: at all), and at how many rows: so many as one statement looks at,
    whatever it finds.
    """
    wanted, args = ["attempt > 0", "updated_at >= ?"], list[Any]([micros(since)])
    for column, value in (("queue", queue), ("task", task)):
        if value is not None and not filters.storable(value):
            return [], 0, 0
        if value is not None:
            wanted, args = [*wanted, f"{column} = ?"], [*args, value]
    behind, where = ([], "") if before is None else ([before], " WHERE seq < ?")
    parts = [
        f"SELECT * FROM (SELECT seq, CASE WHEN {' AND '.join(some)} THEN 1 ELSE 0 END AS met FROM {{{table}}}{where}"
        f" ORDER BY seq DESC LIMIT {LOOKED}) AS {table}s"
        for table, some in (("job", wanted), ("done", [*wanted, "coalesce(deleted_at, 0) < 1"]))
    ]
    text = f"{' UNION ALL '.join(parts)} ORDER BY seq DESC LIMIT {LOOKED}"
    rows = yield step.db.q(text, *args, *behind, *args, *behind)
    seqs, found = [seq for seq, met in rows if met], list[Any]()
    for start in range(0, len(seqs), SLICE):
        some_rows = yield filters.some(step.db, c.JobFilter(), seqs[start : start + SLICE])
        found += yield from whole(step, sorted(some_rows, key=lambda row: row[0], reverse=True))
    return found, rows[-1][0] if len(rows) == LOOKED else 0, len(rows)
