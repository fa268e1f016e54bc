"""Counts: exact up to a number of jobs (100,000), above it an estimate, so that none costs more than to count so many.

What has ended is counted when it ends, by queue, state, task and worker (the tally); these counts are exact however high.
All else is counted row by row, up to the bound. Behind it, a list is taken to be as dense between its ends as it is at
both of them, in numbers of acceptance: some rows at each end are read. That needs no statistics of the database, which are
stale where they matter, and says of what was enqueued in bulk how much it is to the job.

PostgreSQL counts what waits group by group, by the index that its lists use. Elsewhere lists have no such index: up to
WALK times the bound the rows are counted in one walk, and of more what the first and the last of them say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.job.commands import JobCount, JobFilter
from holdfast.job.state import State
from holdfast.stores.sql import filters
from holdfast.stores.sql.rows import ELSEWHERE, HIDDEN, STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Script, Step

#: How many times the bound of a count a walk over what waits and runs may be.
WALK: Final = 10

#: Jobs that are not hidden, by queue and stored state. Records that have not ended stand in the tally.
Counts = dict[tuple[str, int], JobCount]
_TOLD: Final = f"SELECT queue, state, sum(n) FROM {{tally}} WHERE state < {HIDDEN}"
_LIVE: Final = f"SELECT queue, state, seq FROM {{job}} WHERE state < {ELSEWHERE}"
_PLAIN: Final = "SELECT queue, state, count(*)"


class End(NamedTuple):
    """Some rows at one end of a list: how many, and the first and the last of their numbers."""

    n: int
    low: int
    high: int

    def among(self, n: int) -> float:
        """Return how many of a kind stand there for each number, when so many of these rows are of that kind."""
        return n / (self.high - self.low + 1)


def between(first: End, last: End, n_first: int, n_last: int) -> int:
    """Return about how many jobs of a kind there are, of which so many stand at the two ends of a list.

    >>> between(End(100, 1, 100), End(10, 991, 1000), 100, 10), between(End(100, 1, 100), End(10, 991, 1000), 50, 5)
    (1000, 500)
    """
    gap = max(0, last.low - first.high - 1)
    return n_first + n_last + min(gap, round(gap * (first.among(n_first) + last.among(n_last)) / 2))


def count(step: Step, which: JobFilter) -> Script[JobCount]:
    """How many jobs match."""
    named = JobFilter(states=which.states, queue=which.queue, task=which.task, worker=which.worker)
    if named == which and which.worker != "":
        counts = yield from by_queue(step, which.queue, which.task, which.worker)
        states = which.states or tuple(State)
        return sum((number for (_, code), number in counts.items() if STATES[code % ELSEWHERE] in states), JobCount(0))
    total = JobCount(0)
    for table, ended in (("job", False), ("done", True)):
        total += yield from _rows(step, table, filters.where(step.db, which, ended=ended))
    return total


# --- by what the tally knows ---------------------------------------------------------------------------------------


def by_queue(
    step: Step, queue: str | None = None, task: str | None = None, worker: str | None = None
) -> Script[Counts]:
    """Jobs that are not hidden: those that wait or run here counted, others from the tally."""
    named = given(queue, task, worker)
    if not all(filters.storable(value) for _, value in named):
        return {}
    counts = yield from live(step, named)
    where = "".join(f" AND {column} = ?" for column, _ in named)
    for name, code, number in (yield step.db.q(f"{_TOLD}{where} GROUP BY queue, state", *_values(named))):
        counts[name, code] = counts.get((name, code), JobCount(0)) + int(number)
    return counts


def given(queue: str | None, task: str | None, worker: str | None) -> list[tuple[str, str]]:
    """Return the columns that are asked for by name, and the names."""
    named = {"queue": queue, "task": task, "worker": worker}
    return [(column, value) for column, value in named.items() if value is not None]


def _values(named: Sequence[tuple[str, str]]) -> list[str]:
    return [value for _, value in named]


def live(step: Step, named: Sequence[tuple[str, str]] = ()) -> Script[Counts]:
    """Jobs that wait or run here, by queue and stored state."""
    own = step.db.groups_live(named)
    if own is None:
        return (yield from _walked(step, named))
    counts: Counts = {}
    for queue, code, *ends in (yield own):
        first, last = End(*ends[:3]), End(*ends[3:])
        number = JobCount(first.n + last.n)
        if last.n == filters.ends_of(step.db.count_exact):
            number = JobCount(between(first, last, first.n, last.n), estimated=True)
        counts[queue, code] = counts.get((queue, code), JobCount(0)) + number
    return counts


def _walked(step: Step, named: Sequence[tuple[str, str]]) -> Script[Counts]:
    """The same by a walk, and of more rows than that may meet by those at both ends."""
    exact, args = step.db.count_exact, _values(named)
    picked = _LIVE + "".join(f" AND {column} = ?" for column, _ in named)
    [[low, high]] = yield step.db.q("SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM {job}")
    if high - low < WALK * exact:  # there can not be more; and in most databases a plain walk is the shortest
        rows = yield step.db.q(picked.replace("SELECT queue, state, seq", _PLAIN) + " GROUP BY queue, state", *args)
        return {(queue, code): JobCount(n) for queue, code, n in rows}
    by = "SELECT queue, state, count(*), min(seq), max(seq) FROM ({picked}) AS met GROUP BY queue, state"
    rows = yield step.db.q(by.format(picked=f"{picked} LIMIT {WALK * exact + 1}"), *args)
    if sum(row[2] for row in rows) <= WALK * exact:
        return {(queue, code): JobCount(n) for queue, code, n, _, _ in rows}
    head = yield step.db.q(by.format(picked=f"{picked} ORDER BY seq LIMIT {exact}"), *args)
    first = _end_of([row[2:] for row in head])
    tail = yield step.db.q(by.format(picked=f"{picked} AND seq > ? ORDER BY seq DESC LIMIT {exact}"), *args, first.high)
    last = _end_of([row[2:] for row in tail])
    firsts, lasts = ({(row[0], row[1]): int(row[2]) for row in some} for some in (head, tail))
    return {
        place: JobCount(between(first, last, firsts.get(place, 0), lasts.get(place, 0)), estimated=True)
        for place in {*firsts, *lasts}
    }


def _end_of(parts: Sequence[Sequence[int]]) -> End:
    counts, lows, highs = zip(*parts, strict=True)
    return End(int(sum(counts)), min(lows), max(highs))


# --- row by row ----------------------------------------------------------------------------------------------------


def _rows(step: Step, table: str, where: filters.Where) -> Script[JobCount]:
    """How many rows of a table match: so many, or about."""
    exact = step.db.count_exact
    ends = filters.ends_of(exact)
    # Said so, a planner does not see the smaller index of what is not hidden, of which it would read all.
    where = where._replace(sql=where.sql.replace("deleted_at IS NULL", "coalesce(deleted_at, 0) < 1"))
    first = yield from _some(step, table, where, f"ORDER BY seq LIMIT {exact + 1}")
    if first.n <= exact:
        return JobCount(first.n)
    last = yield from _some(step, table, where.among("seq", ">", first.high), f"ORDER BY seq DESC LIMIT {ends}")
    if last.n < ends:
        return JobCount(first.n + last.n)
    return JobCount(between(first, last, first.n, last.n), estimated=True)


def _some(step: Step, table: str, where: filters.Where, order: str) -> Script[End]:
    picked = f"SELECT seq FROM {{{table}}} WHERE {where.sql} {order}"
    text = f"SELECT count(*), coalesce(min(seq), 0), coalesce(max(seq), 0) FROM ({picked}) AS met"
    [row] = yield step.db.q(text, *where.args)
    return End(*map(int, row))
