"""Pages of long lists: by state, queue, task and worker, as jobs were accepted or as they ended, however rare it is.

Jobs alike in queue, task, worker and state are a group. The indexes of lists begin with the group and end with the order, so
each group that may match gives its first rows, and the first of all these are the page: some steps for each group, and
nothing for each job. Which groups have ended jobs stands in the tally. Those of jobs that wait are found by one step into
their index each. What runs is found by its own index; it is few. (PostgreSQL does all that in one statement: see
dialects/postgresql_lists.py.)

The indexes hold names. SQLite has no hash to make a number of them, and MariaDB's costs a settle more than names do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.structs import replace

from holdfast.job.commands import JobFilter
from holdfast.job.state import FINAL, State
from holdfast.stores.sql import filters
from holdfast.stores.sql.filters import storable
from holdfast.stores.sql.rows import CODES, ELSEWHERE, HIDDEN, STATES
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.stores.sql.dialects.dialect import Dialect
    from holdfast.stores.sql.script import Row, Script, Statement, Step

#: Of how many groups one statement takes the first rows.
GROUPS: Final = 40
_DONE: Final = ", ".join(DONE_COLUMNS)
_ANY: Final = JobFilter(deleted=True)
#: A filter's fields that its groups answer.
_NO_GROUP: Final[dict[str, Any]] = {"states": (), "queue": None, "task": None, "worker": None}
_GROUP: Final = "queue = ? AND task = ? AND worker = ? AND state = ?"


class Line(NamedTuple):
    """Rows that stand together in an index. by: its name in a statement's words; order: what the rows are ordered by."""

    sql: str
    args: tuple[Any, ...]
    by: str = ""
    order: str = "seq"


def page(step: Step, which: JobFilter, after: int | None, limit: int, *, newest_first: bool) -> Script[list[Row]]:
    """`limit` rows behind `after` (a seq; None: from the start) that may match, in order of acceptance."""
    db, order = step.db, "DESC" if newest_first else "ASC"
    own = db.listed(which, after, limit, newest_first=newest_first)
    if own is not None:
        return (yield own)
    if not _named(which):
        live, done = filters.behind(db, which, after, newest_first=newest_first)
        return (yield filters.merged(db, live, done, order, limit))
    while True:
        seqs = yield from _first(step, which, after, limit, newest_first=newest_first)
        rows = yield filters.some(db, _ANY, seqs)
        if len(rows) == len(seqs):
            return sorted(rows, key=_number, reverse=newest_first)
        # Some were purged meanwhile: whoever asked takes a short page for the last one.


def places(step: Step, which: JobFilter, after: int | None, limit: int, *, newest_first: bool) -> Script[list[Row]]:
    """The seq and created_at of the rows of such a page."""
    db, order = step.db, "DESC" if newest_first else "ASC"
    own = db.listed(which, after, limit, newest_first=newest_first)
    if own is not None:
        return (yield own._replace(sql=f"SELECT seq, created_at FROM ({own.sql}) AS listed ORDER BY seq {order}"))
    if not _named(which):
        return (yield _places(db, which, after, limit, newest_first=newest_first))
    seqs = yield from _first(step, which, after, limit, newest_first=newest_first)
    text = "SELECT seq, created_at FROM {job} WHERE seq {ints} UNION ALL SELECT seq, created_at FROM {done} WHERE seq {ints}"
    rows = yield db.q(text, seqs, seqs)
    return sorted(rows, key=_number, reverse=newest_first)


def _places(db: Dialect, which: JobFilter, after: int | None, limit: int, *, newest_first: bool) -> Statement:
    order = "DESC" if newest_first else "ASC"
    live, done = filters.behind(db, which, after, newest_first=newest_first)
    tail = f"ORDER BY seq {order} LIMIT {int(limit)}"
    text = (
        f"SELECT * FROM (SELECT seq, created_at FROM {{job}} WHERE {live.sql} {tail}) AS l "
        f"UNION ALL SELECT * FROM (SELECT seq, created_at FROM {{done}} WHERE {done.sql} {tail}) AS d {tail}"
    )
    return db.q(text, *live.args, *done.args)


def _number(row: Row) -> int:
    number: int = row[0]
    return number


def _named(which: JobFilter) -> bool:
    """Tell whether groups are what a filter asks for, and nothing that has an index of its own."""
    names = (which.queue, which.task, which.worker)
    others = replace(which, created_after=None, created_before=None, deleted=True, **_NO_GROUP)
    if (which.states, *names) == ((), None, None, None) or others != _ANY:
        return False
    return which.worker != "" and all(storable(name) for name in names if name is not None)


# --- in the order of acceptance --------------------------------------------------------------------------------------


def _first(step: Step, which: JobFilter, after: int | None, limit: int, *, newest_first: bool) -> Script[list[int]]:
    """The numbers of the first jobs of all groups."""
    db, found = step.db, set[int]()
    states = which.states or tuple(State)
    live = (yield from db.lines(which, _codes(states, ended=False))) if not FINAL.issuperset(states) else []
    waits, _ = filters.behind(db, which, after, newest_first=newest_first)
    _, ended = filters.behind(db, replace(which, **_NO_GROUP), after, newest_first=newest_first)
    tail = f"{'DESC' if newest_first else 'ASC'} LIMIT {int(limit)}"
    known: set[Row] = set()
    while True:
        groups = (yield from ended_groups(step, which)) if not FINAL.isdisjoint(states) else []
        # What runs may have ended since these were asked for, as the first of a group: whoever was not there is asked for.
        more = [group for group in groups if group not in known]
        parts = [("job", line, waits) for line in live]
        parts += [("done", Line(_GROUP, group, db.words["by_list"]), ended) for group in more]
        for start in range(0, len(parts), GROUPS):
            found |= {seq for (seq,) in (yield _seqs(db, parts[start : start + GROUPS], tail))}
        if not parts or not db.locks:
            return sorted(found, reverse=newest_first)[:limit]
        known, live = known | set(more), []


def _seqs(db: Dialect, parts: Sequence[tuple[str, Line, filters.Where]], tail: str) -> Statement:
    texts = [
        f"SELECT * FROM (SELECT seq FROM {{{table}}}{line.by} WHERE {line.sql} AND {where.sql}"
        f" ORDER BY {line.order} {tail}) AS p{place}"
        for place, (table, line, where) in enumerate(parts)
    ]
    return db.q(" UNION ALL ".join(texts), *(arg for _, line, where in parts for arg in (*line.args, *where.args)))


def _codes(states: Iterable[State], *, ended: bool) -> list[int]:
    return [code for state in states if (state in FINAL) is ended for code in (CODES[state], CODES[state] + ELSEWHERE)]


# --- in the order of their ends --------------------------------------------------------------------------------------


def ended_rows(
    step: Step,
    which: JobFilter,
    after: tuple[int, int] | None,
    size: int,
    *,
    newest_first: bool,
    columns: str = _DONE,
) -> Script[list[Row]]:
    """The next rows of ended jobs that may match, in any order: `size` of each group that was asked for, or of all."""
    db = step.db
    own = db.listed_by_end(which, after, size, newest_first=newest_first, columns=columns)
    if own is not None:
        return (yield own)
    if (which.id, which.key, which.unique) == (None, None, None):
        index = db.words["by_ended"]
        lines = [Line(_GROUP, group, index) for group in (yield from ended_groups(step, which))]
    else:  # few rows, by an index of their own
        lines = [Line("state {ints}", (_codes(which.states, ended=True),))]
    rows = list[Any]()
    for start in range(0, len(lines), GROUPS):
        rows += yield _by_end(db, which, lines[start : start + GROUPS], after, size, newest_first, columns)
    return rows


def _by_end(
    db: Dialect,
    which: JobFilter,
    lines: Sequence[Line],
    after: tuple[int, int] | None,
    limit: int,
    newest_first: bool,
    columns: str,
) -> Statement:
    sign, order = ("<", "DESC") if newest_first else (">", "ASC")
    done = filters.where(db, replace(which, states=()), ended=True)
    behind = "" if after is None else f" AND finished_at {sign}= ? AND (finished_at <> ? OR seq {sign} ?)"
    place = () if after is None else (after[0], after[0], after[1])
    parts = [
        f"SELECT * FROM (SELECT {columns} FROM {{done}}{line.by} WHERE {line.sql}{behind}"
        f" AND {done.sql} ORDER BY finished_at {order}, seq {order} LIMIT {int(limit)}) AS l{number}"
        for number, line in enumerate(lines)
    ]
    return db.q(" UNION ALL ".join(parts), *(arg for line in lines for arg in (*line.args, *place, *done.args)))


def ended_groups(step: Step, which: JobFilter) -> Script[list[tuple[str, str, str, int]]]:
    """The groups of ended jobs that may match: queue, task, worker, and the state as it is stored."""
    given = [(name, value) for name in ("queue", "task", "worker") if (value := getattr(which, name)) is not None]
    if not all(storable(value) for _, value in given):
        return []
    text = "SELECT DISTINCT queue, task, worker, state FROM {tally} WHERE n <> 0"
    text += "".join(f" AND {name} = ?" for name, _ in given)
    rows = yield step.db.q(text, *(value for _, value in given))
    states = set(which.states or FINAL)
    groups = {(*names, code % HIDDEN) for *names, code in rows if which.deleted or code < HIDDEN}
    return sorted(group for group in groups if (state := STATES[group[3] % ELSEWHERE]) in states and state in FINAL)


def oldest(step: Step, queue: str, code: int, until: int, limit: int, columns: str) -> Script[list[Row]]:
    """`columns` of the first that ended, up to `until`, of a queue's jobs in one stored state.

    Their rows are kept from others, when it is known which they are; those that others keep are passed over.
    """
    db = step.db
    which = JobFilter(queue=queue, states=(STATES[code % ELSEWHERE],), deleted=True)
    groups = [group for group in (yield from ended_groups(step, which)) if group[3] == code]
    met: list[tuple[int, int]] = []
    for start in range(0, len(groups), GROUPS):
        some = groups[start : start + GROUPS]
        text = " UNION ALL ".join(
            f"SELECT * FROM (SELECT finished_at, seq FROM {{done}}{{by_ended}} WHERE {_GROUP} AND finished_at <= ?"
            f" ORDER BY finished_at, seq LIMIT {int(limit)}) AS l{number}"
            for number in range(len(some))
        )
        met += yield db.q(text, *(arg for group in some for arg in (*group, until)))
    if not met:
        return []
    seqs = [seq for _, seq in sorted(met)[:limit]]
    text = f"SELECT {columns} FROM {{done}}{{by_seq}} WHERE seq {{ints}} ORDER BY finished_at, seq {{skip}}"
    return (yield db.q(text, seqs))


# --- groups of jobs that wait ----------------------------------------------------------------------------------------


def steps(db: Dialect, columns: Sequence[str], held: str) -> Script[list[Row]]:
    """The different values of columns that an index begins with, by a step to the next after each. held: rows looked at."""
    order, found = ", ".join(columns), list[Any]()
    first = f"SELECT {order} FROM {{job}}{{by_waiting}} WHERE {held}@BEHIND@ ORDER BY {order} LIMIT 1"
    text, args = first.replace("@BEHIND@", ""), list[Any]()
    # The next one shares all but the last value, or all but the last two, and so on.
    behind = [
        " AND ".join([*(f"{name} = ?" for name in columns[:place]), f"{columns[place]} > ?"])
        for place in reversed(range(len(columns)))
    ]
    while rows := (yield db.q(text, *args)):
        found.append(rows[0])
        text = db.first_behind(first, behind)
        args = [value for size in reversed(range(len(columns))) for value in found[-1][: size + 1]]
    return found


assert JOB_COLUMNS[0] == DONE_COLUMNS[0] == "seq", "rows are ordered by it"
