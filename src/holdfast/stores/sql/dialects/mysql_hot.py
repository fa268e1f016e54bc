"""The hot path of MySQL and MariaDB: where the neutral statements would take a round trip for each job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.stores.sql.hot import Hot
from holdfast.stores.sql.rows import SUCCEEDED
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

#: What a success changes of the row that it moves; `v` are the values that came with it.
_ENDED: Final = {
    "state": str(SUCCEEDED),
    "ready": "0",
    "lane": "0",
    "suspect": "0",
    "updated_at": "v.updated_at",
    "lease_until": "0",
}
_VALUES: Final = ("updated_at", "finished_at", "duration", "result", "tail", "seq")
_COPIED: Final = ", ".join(_ENDED.get(name, f"j.{name}") for name in JOB_COLUMNS)


class MysqlHot(Hot):
    """Enqueue, claim and settle."""

    def move(self, step: Step, moves: Sequence[Row]) -> Script[None]:
        """Copy live rows to the history in one statement: joined with their new values, found by their numbers."""
        tables: Any = step.db.tables
        # MariaDB takes the types of a column of values from all its rows, MySQL wants each row called one.
        row = "(%s,%s,%s,%s,%s,%s)" if getattr(step.db, "mariadb", True) else "ROW(%s,%s,%s,%s,%s,%s)"
        text = (
            f"INSERT INTO {tables['done']} ({', '.join(DONE_COLUMNS)}) "
            f"WITH v ({', '.join(_VALUES)}) AS (VALUES {','.join([row] * len(moves))}) "
            f"SELECT {_COPIED}, v.finished_at, v.duration, v.result, v.tail, NULL "
            f"FROM v JOIN {tables['job']} AS j ON j.seq = v.seq"
        )
        yield Statement(text, [value for one in moves for value in one])
