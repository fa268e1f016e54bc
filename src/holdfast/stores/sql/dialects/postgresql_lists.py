"""Pages of long lists on PostgreSQL: by state, queue, task and worker, by key and by id, however rare what they show is.

Jobs of one state, queue, task and worker are a group, and a group has a number: a hash of the four, so that the indexes of
lists hold numbers alone (see `kind`). Each begins with the group and ends with the order: of acceptance (`seq`) or, of ended
jobs, by end. Every group that may match gives its first rows, and the first of all these are the page. So a page costs
some steps for each group, and nothing for each job. What has ended has its groups in the tally. Those of waiting jobs are
found by one step into their index each. What runs has no index of its own for this, which each claim would have to write; it
is few.

Two groups of one number would be mixed: whoever reads a page looks at each row again, and asks for more when some do not
match. (Of waiting jobs the page would know one of the two groups. With a thousand groups the chance is one in 10^13.)

A range is asked for where one would write `kind = …`, and of its ends one in the words of the whole index: with an equal
sign the planner sees that the rows come in the order of `seq`, and likes to walk along the table's own index for them, past
any number of others; with two plain ends it expects few rows, and fetches and sorts all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.structs import replace

from holdfast.job.commands import JobFilter
from holdfast.job.state import FINAL, State
from holdfast.stores.sql import filters
from holdfast.stores.sql.dialects.dialect import OLD
from holdfast.stores.sql.dialects.postgresql_texts import kind
from holdfast.stores.sql.rows import CODES, ELSEWHERE, HIDDEN, micros
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.stores.sql.dialects.dialect import Dialect

_RUNNING: Final = CODES[State.RUNNING]
#: Behind every number that a job has, and before it.
_LAST: Final = (1 << 63) - 1
_FIRST: Final = -1 << 63
_KIND: Final = kind("queue", "task", "worker", "state")
_DONE: Final = ", ".join(DONE_COLUMNS)
#: Of a group, from the first that ended.
_FROM_FIRST: Final = f"kind <= ended.kind AND (kind, finished_at, seq) > (ended.kind, {_FIRST}, {_FIRST})"


class _Way(NamedTuple):
    """Which way a list runs: the sign of what comes behind a place, the one that keeps the group, the order, its start."""

    behind: str
    within: str
    order: str
    start: int


_DOWN: Final = _Way("<", ">=", "DESC", _LAST)
_UP: Final = _Way(">", "<=", "ASC", _FIRST)


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
    if not named or listed != which or not _storable(which):
        return None
    return _Page(which, after, limit, _DOWN if newest_first else _UP).statement(db)


def _storable(which: JobFilter) -> bool:
    names = (which.queue, which.task, which.worker)
    return which.worker != "" and all(filters.storable(name) for name in names if name is not None)


class _Page:
    """One statement in the making: its parts and its arguments, which are numbered as they come."""

    def __init__(self, which: JobFilter, after: int | None, limit: int, way: _Way) -> None:
        self.which, self.limit, self.way = which, limit, way
        self.args: list[Any] = []
        self.parts: list[str] = []
        self.after = self.arg(way.start if after is None else after, "bigint")
        self.same = "".join(
            f" AND {name} = {self.arg(value, 'text')}"
            for name, value in (("queue", which.queue), ("task", which.task), ("worker", which.worker))
            if value is not None
        )
        self.window = "".join(
            f" AND created_at {sign} {self.arg(micros(at), 'bigint')}"
            for sign, at in ((">=", which.created_after), ("<", which.created_before))
            if at is not None
        )

    def arg(self, value: Any, kind_of: str) -> str:
        """Return the mark of a further argument."""
        self.args.append(value)
        return f"${len(self.args)}::{kind_of}"

    def statement(self, db: Dialect) -> Statement:
        """Return the whole."""
        live, done = (
            _codes(state for state in self.which.states or State if (state in FINAL) is ended)
            for ended in (False, True)
        )
        found = [self.running()] if _RUNNING in live else []
        waiting = [code for code in live if code != _RUNNING]
        if waiting:
            self.parts.append(self.waiting())
            only = f" WHERE waiting.state = ANY ({_array(waiting)}){self.same}"
            found.append(self.of_groups("waiting", "job", _KIND, f"state <> {_RUNNING}", only))
        if done:
            self.parts.append(_ended(f"state = ANY ({_array(done)}){self.same}"))
            found.append(self.of_groups("ended", "done", "kind", "deleted_at IS NULL"))
        top = f"top AS MATERIALIZED (SELECT seq FROM ({' UNION ALL '.join(found)}) AS met {self.tail('seq')})"
        among = "seq = ANY (ARRAY(SELECT seq FROM top))"
        text = (
            f"WITH RECURSIVE {', '.join([*self.parts, top])} "
            f"SELECT {', '.join(JOB_COLUMNS)}, {db.no_end} FROM {{job}} WHERE {among}"
            f" UNION ALL SELECT {_DONE} FROM {{done}} WHERE {among} ORDER BY seq {self.way.order}"
        )
        return Statement(text.format(**db.tables), self.args)

    def tail(self, *columns: str) -> str:
        """Return the order and the limit of rows by these columns."""
        return f"ORDER BY {', '.join(f'{one} {self.way.order}' for one in columns)} LIMIT {int(self.limit)}"

    # --- where rows come from

    def running(self) -> str:
        """Return what gives the first rows of those that run: all of them are looked at."""
        where = f"state = {_RUNNING}{self.same} AND seq {self.way.behind} {self.after}{self.window}"
        # Plus nothing: so the order is none that an index has, and what runs is found by its own small one.
        return f"(SELECT seq FROM {{job}} WHERE {where} ORDER BY seq + 0 {self.way.order} LIMIT {int(self.limit)})"

    def waiting(self) -> str:
        """Return the part that finds which groups of waiting jobs there are: a step to the last row of each."""
        picked = f"SELECT {_KIND} AS kind, state, queue, task, worker FROM {{job}} WHERE state <> {_RUNNING}"
        order = f"ORDER BY {_KIND} DESC, seq DESC LIMIT 1"
        return (
            f"waiting AS (({picked} {order}) UNION ALL SELECT here.* FROM waiting CROSS JOIN LATERAL"
            f" ({picked} AND {_KIND} < waiting.kind {order}) AS here)"
        )

    def of_groups(self, groups: str, table: str, number: str, held: str, only: str = "") -> str:
        """Return what gives the first rows of each group. number: that of a row's group; only: of which groups."""
        way = self.way
        behind = f"{number} {way.within} {groups}.kind AND ({number}, seq) {way.behind} ({groups}.kind, {self.after})"
        return (
            f"(SELECT here.seq FROM {groups} CROSS JOIN LATERAL (SELECT seq FROM {{{table}}} WHERE {held} AND {behind}"
            f"{self.window} {self.tail(number, 'seq')}) AS here{only})"
        )


def _ended(where: str) -> str:
    """Return the part that names the groups of ended jobs of which there are any."""
    return (
        f"ended AS MATERIALIZED (SELECT {_KIND} AS kind FROM {{tally}} WHERE {where}"
        " GROUP BY queue, task, worker, state HAVING sum(n) > 0)"
    )


# --- how many they are ---------------------------------------------------------------------------------------------


def groups_live(db: Dialect, named: Sequence[tuple[str, str]]) -> Statement:
    """Return the statement of `Dialect.groups_live`. What runs is counted: it is few."""
    same = "".join(f" AND {column} = ?" for column, _ in named)
    names = [value for _, value in named]
    picked = f"SELECT {_KIND} AS kind, state, queue, task, worker FROM {{job}} WHERE state <> {_RUNNING}"
    step = f"ORDER BY {_KIND} DESC, seq DESC LIMIT 1"
    ends = "count(*) AS n, coalesce(min(seq), 0) AS low, coalesce(max(seq), 0) AS high"
    within = f"SELECT seq FROM {{job}} WHERE state <> {_RUNNING} AND {_KIND} <= waiting.kind AND ({_KIND}, seq) >"
    text = (
        f"WITH RECURSIVE waiting AS (({picked} {step}) UNION ALL SELECT here.* FROM waiting CROSS JOIN LATERAL"
        f" ({picked} AND {_KIND} < waiting.kind {step}) AS here)"
        " SELECT queue, state, first.n, first.low, first.high, last.n, last.low, last.high FROM waiting"
        f" CROSS JOIN LATERAL (SELECT {ends} FROM ({within} (waiting.kind, {_FIRST})"
        f" ORDER BY {_KIND}, seq LIMIT {db.count_exact + 1}) AS met) AS first"
        f" CROSS JOIN LATERAL (SELECT {ends} FROM ({within} (waiting.kind, first.high) AND first.n > {db.count_exact}"
        f" ORDER BY {_KIND} DESC, seq DESC LIMIT {filters.ends_of(db.count_exact)}) AS met) AS last"
        f" WHERE state < {ELSEWHERE}{same}"
        f" UNION ALL SELECT queue, state, count(*), 0, 0, 0, 0, 0 FROM {{job}} WHERE state = {_RUNNING}{same}"
        " GROUP BY queue, state"
    )
    return db.q(text, *names, *names)


# --- in the order of their ends ------------------------------------------------------------------------------------


def page_by_end(
    db: Dialect, which: JobFilter, after: tuple[int, int] | None, limit: int, *, newest_first: bool, columns: str
) -> Statement:
    """Return the statement of `limit` ended jobs behind `after` (an end and a seq; None: from the start)."""
    way = _DOWN if newest_first else _UP
    done = filters.where(db, replace(which, states=()), ended=True)
    place = (way.start, way.start) if after is None else after
    if which.id is not None or which.key is not None or which.unique is not None:
        return _by_name(db, which, done, place, limit, way, columns)
    # Without the group's names: a condition on them tells the planner of few rows, and it sorts all of a group.
    others = replace(which, states=(), queue=None, task=None, worker=which.worker and None)
    done = filters.where(db, others, ended=True)
    shown = done.sql.replace("deleted_at IS NULL", "coalesce(deleted_at, 0) < 1")  # nor does it take a smaller index
    codes = _codes(which.states)
    words, args = f"state = ANY ({_array([*codes, *(code + HIDDEN for code in codes if which.deleted)])})", list[Any]()
    for column, value in (("queue", which.queue), ("task", which.task), ("worker", which.worker)):
        if value and filters.storable(value):
            words, args = f"{words} AND {column} = ?", [*args, value]
    order = f"finished_at {way.order}, seq {way.order} LIMIT {int(limit)}"
    text = (
        f"WITH {_ended_shown(words)}, top AS MATERIALIZED (SELECT here.seq, here.finished_at FROM ended CROSS JOIN LATERAL ("
        f"SELECT seq, finished_at FROM {{done}} WHERE kind {way.within} ended.kind"
        f" AND (kind, finished_at, seq) {way.behind} (ended.kind, ?, ?) AND {shown} ORDER BY kind {way.order}, {order})"
        f" AS here ORDER BY {order}) SELECT {columns} FROM {{done}} WHERE seq = ANY (ARRAY(SELECT seq FROM top))"
        f" ORDER BY finished_at {way.order}, seq {way.order}"
    )
    return db.q(text, *args, *place, *done.args)


def _by_name(
    db: Dialect, which: JobFilter, done: filters.Where, place: tuple[int, int], limit: int, way: _Way, columns: str
) -> Statement:
    """Return the statement for few rows, or those of a key, which have an index of their own in this order."""
    behind, order = f"(finished_at, seq) {way.behind} (?, ?)", f"finished_at {way.order}, seq {way.order}"
    args: list[Any] = [*place]
    if which.key is not None and which.id is None and which.unique is None and filters.storable(which.key):
        behind = f"lane_key {way.within} ? AND (lane_key, finished_at, seq) {way.behind} (?, ?, ?)"
        order, args = f"lane_key {way.order}, {order}", [which.key, which.key, *place]
        done = filters.where(db, replace(which, states=(), key=None), ended=True)
    codes = _array(_codes(which.states))
    text = (
        f"SELECT {columns} FROM {{done}} WHERE {behind} AND {done.sql} AND state + 0 = ANY ({codes})"
        f" ORDER BY {order} LIMIT {int(limit)}"
    )
    return db.q(text, *args, *done.args)


# --- for retention -------------------------------------------------------------------------------------------------


def oldest(db: Dialect, queue: str, code: int, until: int, limit: int) -> Statement:
    """Return the statement of `Dialect.oldest`. Rows are kept from others when it is known which they are."""
    text = (
        f"WITH {_ended_shown(f'queue = ? AND state IN ({int(code)}, {int(code) + HIDDEN})')}, met AS MATERIALIZED ("
        "SELECT here.* FROM ended CROSS JOIN LATERAL (SELECT seq, finished_at FROM {done}"
        f" WHERE {_FROM_FIRST} AND finished_at <= ? ORDER BY kind, finished_at, seq LIMIT {int(limit)}) AS here"
        f" ORDER BY finished_at, seq LIMIT {int(limit)})"
        f" SELECT {OLD} FROM {{done}} WHERE seq = ANY (ARRAY(SELECT seq FROM met)) AND queue = ? AND state + 0 = {int(code)}"
        " ORDER BY finished_at, seq {skip}"
    )
    return db.q(text, queue, until, queue)


def ended_in(db: Dialect, queue: str, limit: int) -> Statement:
    """Return the statement of `Dialect.ended_in`."""
    text = (
        f"WITH {_ended_shown('queue = ?')} SELECT here.seq FROM ended CROSS JOIN LATERAL (SELECT seq FROM {{done}}"
        f" WHERE {_FROM_FIRST} ORDER BY kind, finished_at, seq LIMIT {int(limit)}) AS here LIMIT {int(limit)}"
    )
    return db.q(text, queue)


def _ended_shown(where: str) -> str:
    """Return the part that names the groups of ended jobs of which there are any, hidden ones with the others."""
    number = kind("queue", "task", "worker", f"(state % {HIDDEN})::smallint")
    return f"ended AS MATERIALIZED (SELECT DISTINCT {number} AS kind FROM {{tally}} WHERE {where} AND n > 0)"


def _codes(states: Iterable[State]) -> list[int]:
    return [code for state in states for code in (CODES[state], CODES[state] + ELSEWHERE)]


def _array(codes: list[int]) -> str:
    return f"ARRAY[{', '.join(map(str, codes))}]::smallint[]"
