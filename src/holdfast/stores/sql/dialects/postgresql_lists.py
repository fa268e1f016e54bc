"""Pages of long lists on PostgreSQL: by state, queue, task and worker, in order of acceptance, however rare it is.

Each index of a list begins with what is filtered by and ends with `seq`. A filter that names only some of the columns in
front is answered group by group: the groups that there are (a state, a queue, a task) are found by one step into the index
each, every group gives its first rows, and the first of all these are the page. So a page costs some steps for each group,
and nothing for each job. What runs has no index of its own for this, which each claim would have to write; it is few.

Of a group's last column a range is asked for where one would write `task = …`: with equal signs alone the planner sees that
the rows come in the order of `seq`, and likes to walk along the table's own index for them, past any number of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.job.commands import JobFilter
from holdfast.job.state import FINAL, State
from holdfast.stores.sql.filters import storable
from holdfast.stores.sql.rows import CODES, ELSEWHERE, micros
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.stores.sql.dialects.dialect import Dialect

_RUNNING: Final = CODES[State.RUNNING]
#: Behind every number that a job has, and before it.
_LAST: Final = (1 << 63) - 1
_FIRST: Final = -1 << 63


class _Way(NamedTuple):
    """Which way a list runs: the sign of what comes behind a place, the one that keeps the group, and the order."""

    behind: str
    within: str
    order: str


class _Lines(NamedTuple):
    """The index of a table's lists: the condition under which it holds a row. name: of its groups."""

    table: str
    name: str
    held: str


_COLUMNS: Final = ("state", "queue", "task", "worker")
_WAITING: Final = _Lines("job", "waiting", f"state <> {_RUNNING}")
_ENDED: Final = _Lines("done", "ended", "deleted_at IS NULL")
_DOWN: Final = _Way("<", ">=", "DESC")
_UP: Final = _Way(">", "<=", "ASC")


def page(db: Dialect, which: JobFilter, after: int | None, limit: int, *, newest_first: bool) -> Statement | None:
    """Return the statement of `limit` rows behind `after` (a seq; None: from the start); None for other filters."""
    named = (which.states, which.queue, which.task, which.worker) != ((), None, None, None)
    listed = JobFilter(
        states=which.states,
        queue=which.queue,
        task=which.task,
        worker=which.worker,
        created_after=which.created_after,
        created_before=which.created_before,
    )
    names = (which.queue, which.task, which.worker)
    if (
        not named
        or listed != which
        or which.worker == ""
        or not all(storable(name) for name in names if name is not None)
    ):
        return None
    return _Text(which, after, limit, newest_first=newest_first).statement(db)


class _Text:
    """One statement in the making: its parts and its arguments, which are numbered as they come."""

    def __init__(self, which: JobFilter, after: int | None, limit: int, *, newest_first: bool) -> None:
        self.which, self.limit = which, limit
        self.way = _DOWN if newest_first else _UP
        self.args: list[Any] = []
        self.parts: list[str] = []
        self.after = self.arg(after if after is not None else _LAST if newest_first else _FIRST, "bigint")
        self.queue, self.task, self.worker = (
            None if value is None else self.arg(value, "text") for value in (which.queue, which.task, which.worker)
        )
        self.window = "".join(
            f" AND created_at {sign} {self.arg(micros(at), 'bigint')}"
            for sign, at in ((">=", which.created_after), ("<", which.created_before))
            if at is not None
        )

    def arg(self, value: Any, kind: str) -> str:
        """Return the mark of a further argument."""
        self.args.append(value)
        return f"${len(self.args)}::{kind}"

    def statement(self, db: Dialect) -> Statement:
        """Return the whole."""
        live = _codes(state for state in State if state not in FINAL and self.wants(state))
        done = _codes(state for state in State if state in FINAL and self.wants(state))
        found = [self.running()] if _RUNNING in live else []
        waiting = [code for code in live if code != _RUNNING]
        if waiting:
            found.append(self.of_groups(_WAITING, waiting))
        if done:
            found.append(self.of_groups(_ENDED, done))
        top = f"top AS MATERIALIZED (SELECT seq FROM ({' UNION ALL '.join(found)}) AS met {self.tail('seq')})"
        among = "seq = ANY (ARRAY(SELECT seq FROM top))"
        text = (
            f"WITH RECURSIVE {', '.join([*self.parts, top])} "
            f"SELECT {', '.join(JOB_COLUMNS)}, {db.no_end} FROM {{job}} WHERE {among}"
            f" UNION ALL SELECT {', '.join(DONE_COLUMNS)} FROM {{done}} WHERE {among} ORDER BY seq {self.way.order}"
        )
        return Statement(text.format(**db.tables), self.args)

    def wants(self, state: State) -> bool:
        """Whether jobs of a state are asked for."""
        return not self.which.states or state in self.which.states

    def tail(self, *columns: str) -> str:
        """Return the order and the limit of rows by these columns."""
        return f"ORDER BY {', '.join(f'{one} {self.way.order}' for one in columns)} LIMIT {int(self.limit)}"

    # --- where rows come from

    def running(self) -> str:
        """Return what gives the first rows of those that run: all of them are looked at."""
        same = "".join(f" AND {name} = {value}" for name, value in self.named() if value is not None)
        where = f"state = {_RUNNING}{same} AND seq {self.way.behind} {self.after}{self.window}"
        # Plus nothing: so the order is none that an index has, and what runs is found by its own small one.
        return f"(SELECT seq FROM {{job}} WHERE {where} ORDER BY seq + 0 {self.way.order} LIMIT {int(self.limit)})"

    def named(self) -> list[tuple[str, str | None]]:
        """Return the columns that must be the same, and the marks of their values."""
        return [("queue", self.queue), ("task", self.task), ("worker", self.worker)]

    def first(self, group: dict[str, str]) -> str:
        """Return the condition that leaves the rows of a group behind the place, and their order."""
        *front, last = group
        same = "".join(f" AND {column} = {group[column]}" for column in front)
        behind = (
            f"{last} {self.way.within} {group[last]} AND ({last}, seq) {self.way.behind} ({group[last]}, {self.after})"
        )
        return f"{same} AND {behind}{self.window} {self.tail(last, 'seq')}"

    def of_groups(self, of: _Lines, codes: list[int]) -> str:
        """Return what gives the first rows of each group; the groups become a part of the statement."""
        known = _COLUMNS[:3] if self.worker is not None else _COLUMNS
        self.parts.append(self.groups(of, codes, known))
        group = {column: f"{of.name}.{column}" if column in known else str(self.worker) for column in _COLUMNS}
        tried = "" if self.worker is None else " AND instance IS NOT NULL"
        only = "" if self.task is None else f" WHERE {of.name}.task = {self.task}"
        return (
            f"(SELECT here.seq FROM {of.name} CROSS JOIN LATERAL (SELECT seq FROM {{{of.table}}} WHERE {of.held}{tried}"
            f"{self.first(group)}) AS here{only})"
        )

    def groups(self, of: _Lines, codes: list[int], known: tuple[str, ...]) -> str:
        """Return the part that finds which groups there are, from the last one of each state to its first."""
        names = ", ".join(known)
        open_ = known[1:] if self.queue is None else known[2:]
        same = "" if self.queue is None else f" AND queue = {self.queue}"
        order = "ORDER BY " + ", ".join(f"{name} DESC" for name in known) + " LIMIT 1"
        before = f"({', '.join(open_)}) < ({', '.join(f'{of.name}.{name}' for name in open_)})"
        picked = f"SELECT {names} FROM {{{of.table}}} WHERE {of.held}{same} AND "
        return (
            f"{of.name}({names}) AS (SELECT here.* FROM unnest({_array(codes)}) AS its(state) CROSS JOIN LATERAL"
            f" ({picked}state = its.state {order}) AS here UNION ALL SELECT here.* FROM {of.name} CROSS JOIN LATERAL"
            f" ({picked}state = {of.name}.state AND {before} {order}) AS here)"
        )


def _codes(states: Iterable[State]) -> list[int]:
    return [code for state in states for code in (CODES[state], CODES[state] + ELSEWHERE)]


def _array(codes: list[int]) -> str:
    return f"ARRAY[{', '.join(map(str, codes))}]::smallint[]"
