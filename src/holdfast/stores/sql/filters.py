"""A JobFilter as a condition, and the pages and counts that it asks for.

The live table and the history are read in one statement, so that a job that moves between them is seen once. What the
columns tell is decided by the database. Tags, texts and who paused a job stand in encoded columns: there the database
looks for the bytes, which finds all that match and perhaps a few more, and the ledger's own `matching` has the last word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.job.commands import JobFilter
from holdfast.job.ledger.clean import encodable
from holdfast.job.ledger.spellings import encoded_spellings
from holdfast.job.state import FINAL, State
from holdfast.stores.sql.rows import CODES, ELSEWHERE, micros
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.dialects.dialect import Dialect
    from holdfast.stores.sql.script import Statement

_LIVE_COLUMNS: Final = ", ".join(JOB_COLUMNS)
_DONE_COLUMNS: Final = ", ".join(DONE_COLUMNS)
#: Filter fields that are columns, and the columns.
_SAME: Final = {
    "id": "id",
    "queue": "queue",
    "task": "task",
    "key": "lane_key",
    "unique": "uniq",
    "worker": "worker",
    "instance": "instance",
}


class Where(NamedTuple):
    """A condition with its arguments. exact: the database decides it whole; else each row is looked at again."""

    sql: str
    args: tuple[Any, ...]
    exact: bool

    def among(self, column: str, sign: str, value: int) -> Where:
        """Return this condition and another one about a number."""
        return self._replace(sql=f"{self.sql} AND {column} {sign} ?", args=(*self.args, value))


def where(db: Dialect, which: JobFilter, *, ended: bool) -> Where:
    """Return the condition of a filter on the live table, or on the history (`ended`)."""
    terms: list[str] = []
    args: list[Any] = []

    def both(term: str, *values: Any) -> None:
        terms.append(term)
        args.extend(values)

    if ended and not which.deleted:
        both("deleted_at IS NULL")
    if which.states:
        # The live table holds no ended job and the history no other, so neither is walked for what it can not have.
        states = tuple(state for state in which.states if (state in FINAL) is ended)
        both(*(("state {ints}", _codes(states)) if states else ("1 = 0",)))
    for field, column in _SAME.items():
        value = getattr(which, field)
        if value is not None and not storable(value):
            both("1 = 0")
        elif value is not None:
            both(f"{column} = ?", value)
    if which.worker is not None:
        both("instance IS NOT NULL")  # else a job that was never claimed would be that of the worker without a name
    if which.created_after is not None:
        both("created_at >= ?", micros(which.created_after))
    if which.created_before is not None:
        both("created_at < ?", micros(which.created_before))
    exact = _within_bytes(db, which, both)
    return Where(" AND ".join(terms) or "1 = 1", tuple(args), exact)


def _within_bytes(db: Dialect, which: JobFilter, both: Any) -> bool:
    """Add what is looked for within encoded columns; tell whether that says it all."""
    if which.tag:
        both(db.contains("policy"), which.tag.encode("utf-8", "surrogatepass"))
    if which.paused_by:
        both(db.contains("rest"), which.paused_by.encode("utf-8", "surrogatepass"))
    if which.text:
        sought = which.text.encode("utf-8", "surrogatepass")
        spelled = encoded_spellings(which.text)
        places: list[str] = [db.contains("rest"), *(db.contains("payload") for _ in spelled)]
        values: list[Any] = [sought, *spelled]
        if storable(which.text):
            places, values = [*places, db.contains_text("id")], [*values, which.text]
        both(f"({' OR '.join(places)})", *values)
    return which.tag is None and which.paused_by is None and which.text is None


def storable(text: str) -> bool:
    """Tell whether a text column can hold it: PostgreSQL's hold no NUL, and nobody's a lone surrogate."""
    return "\x00" not in text and encodable(text)


def _codes(states: tuple[State, ...]) -> list[int]:
    return [code for state in states for code in (CODES[state], CODES[state] + ELSEWHERE)]


def behind(db: Dialect, which: JobFilter, after: int | None, *, newest_first: bool) -> tuple[Where, Where]:
    """Return the conditions of a filter on both tables, for what stands behind a seq (None: for all)."""
    live, done = where(db, which, ended=False), where(db, which, ended=True)
    if after is None:
        return live, done
    sign = "<" if newest_first else ">"
    return live.among("seq", sign, after), done.among("seq", sign, after)


def some(db: Dialect, which: JobFilter, seqs: Sequence[int]) -> Statement:
    """Return the statement of the rows that match among these, in no order."""
    live, done = where(db, which, ended=False), where(db, which, ended=True)
    text = (
        f"SELECT {_LIVE_COLUMNS}, {db.no_end} FROM {{job}} WHERE seq {{ints}} AND {live.sql} "
        f"UNION ALL SELECT {_DONE_COLUMNS} FROM {{done}} WHERE seq {{ints}} AND {done.sql}"
    )
    return db.q(text, list(seqs), *live.args, list(seqs), *done.args)


def span(db: Dialect, which: JobFilter, after: int, upto: int, limit: int) -> Statement:
    """Return the statement of `limit` rows with seq above `after` and at most `upto`, in order of acceptance."""
    live, done = (
        where(db, which, ended=ended).among("seq", ">", after).among("seq", "<=", upto) for ended in (False, True)
    )
    return merged(db, live, done, "ASC", limit)


def merged(db: Dialect, live: Where, done: Where, order: str, limit: int) -> Statement:
    """Return the statement of `limit` rows of both tables by seq, `order` ASC or DESC."""
    # Each side is ordered and cut on its own, so that both walk their index and stop.
    tail = f"ORDER BY seq {order} LIMIT {int(limit)}"
    text = (
        f"SELECT * FROM (SELECT {_LIVE_COLUMNS}, {db.no_end} FROM {{job}} WHERE {live.sql} {tail}) AS l "
        f"UNION ALL SELECT * FROM (SELECT {_DONE_COLUMNS} FROM {{done}} WHERE {done.sql} {tail}) AS d {tail}"
    )
    return db.q(text, *live.args, *done.args)


def ends_of(exact: int) -> int:
    """Return how many jobs at each end of a list tell how dense it is, where a count is exact up to so many."""
    return max(8, exact // 10)
