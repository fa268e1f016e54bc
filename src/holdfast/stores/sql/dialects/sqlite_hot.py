"""The hot path as SQLite does it fastest: what is the same for all rows stands in the text and is not bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.stores.sql.hot import ENDED, Hot
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

#: What a plain new job has like all others. Binding these too would double the cost of an insert.
_SAME: Final = {
    "lane_key": "NULL", "lane": "0", "uniq": "NULL", "sticky": "NULL", "pod": "NULL", "pod_epoch": "0", "suspect": "0",
    "attempt": "0", "token": "0", "instance": "NULL", "worker": "''", "version": "''", "started_at": "NULL",
    "lease_until": "0", "cancel_asked": "0", "rest": "NULL",
}  # fmt: skip
_GIVEN: Final = tuple(column for column in JOB_COLUMNS if column not in _SAME)
_PLACES: Final = [JOB_COLUMNS.index(column) for column in _GIVEN[1:]]
_INSERT: Final = (
    f"INSERT INTO {{job}} ({', '.join(JOB_COLUMNS)}) VALUES "
    f"({', '.join(_SAME.get(column, '?') for column in JOB_COLUMNS)})"
)
#: One statement for all rows: a list of [seq, duration, result], as one JSON text.
_MOVE_ALL: Final = (
    f"INSERT INTO {{done}} ({', '.join(DONE_COLUMNS)}) SELECT "
    + ", ".join({**ENDED, "updated_at": "?1"}.get(column, f"its.{column}") for column in JOB_COLUMNS)
    + ", ?1, json_extract(given.value, '$[1]'), CAST(json_extract(given.value, '$[2]') AS BLOB), NULL, NULL"
    " FROM json_each(?2) AS given CROSS JOIN {job} AS its WHERE its.seq = json_extract(given.value, '$[0]')"
)
_encode: Final = msgspec.json.Encoder().encode


class SqliteHot(Hot):
    """The hot path on SQLite."""

    def add_plain(self, step: Step, rows: Sequence[Row]) -> Script[list[int]]:
        """Store new plain jobs."""
        first = yield from step.db.next_seq()  # type: ignore[attr-defined]  # SQLite's dialect has it
        numbers = list(range(first, first + len(rows)))
        given = [(seq, *[row[place] for place in _PLACES]) for seq, row in zip(numbers, rows, strict=True)]
        yield step.db.many(_INSERT, given)
        return numbers

    def move(self, step: Step, moves: Sequence[Row]) -> Script[None]:
        """Copy live rows to the history as succeeded, by one statement where all results are text."""
        given = _as_json(moves)
        if given is None:
            yield from super().move(step, moves)
        else:
            sql = step.db.q(_MOVE_ALL).sql
            yield Statement(sql, (moves[0][0], given))


def _as_json(moves: Sequence[Row]) -> str | None:
    """Return seq, duration and result of each row as one text; None where that would not give them back as they are."""
    if any(row[4] is not None for row in moves):
        return None
    try:
        given: list[Any] = [(row[5], row[2], None if row[3] is None else row[3].decode()) for row in moves]
    except UnicodeDecodeError:
        return None
    text = _encode(given).decode()
    return None if "\\u0000" in text else text
