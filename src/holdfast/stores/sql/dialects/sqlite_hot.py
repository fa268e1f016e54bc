"""The hot path as SQLite does it fastest: rows that are alike go in as one JSON text.

Binding costs more than inserting: a statement for each row takes twice the time of one statement over `json_each`. What
JSON can not carry as it is (bytes that are no text, NUL) goes the general way.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job import commands as c
from holdfast.job.figures import timing
from holdfast.job.model import Job
from holdfast.job.state import State
from holdfast.stores.sql.hot import ENDED, Hot
from holdfast.stores.sql.rows import SUCCEEDED
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.stats import SUCCEEDED as SUCCESS
from holdfast.stores.sql.stats import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

_PLACES: Final = {column: JOB_COLUMNS.index(column) for column in JOB_COLUMNS}
_ID, _PAYLOAD = _PLACES["id"], _PLACES["payload"]
#: What differs from row to row of a group; all else of a plain new job is bound once.
_OWN: Final = {
    "seq": "json_extract(given.value, '$[0]')",
    "id": "json_extract(given.value, '$[1]')",
    "payload": "CAST(json_extract(given.value, '$[2]') AS BLOB)",
}
_ALIKE: Final = tuple(column for column in JOB_COLUMNS if column not in _OWN)
_INSERT: Final = (
    f"INSERT INTO {{job}} ({', '.join(JOB_COLUMNS)}) SELECT "
    + ", ".join(_OWN.get(column) or f"?{_ALIKE.index(column) + 2}" for column in JOB_COLUMNS)
    + " FROM json_each(?1) AS given"
)
#: Of [seq, token, duration, result] those that are as their claims say are moved, and told.
_MOVE_HELD: Final = (
    f"INSERT INTO {{done}} ({', '.join(DONE_COLUMNS)}) SELECT "
    + ", ".join({**ENDED, "updated_at": "?1"}.get(column, f"its.{column}") for column in JOB_COLUMNS)
    + ", ?1, json_extract(given.value, '$[2]'), CAST(json_extract(given.value, '$[3]') AS BLOB), NULL, NULL"
    " FROM json_each(?2) AS given CROSS JOIN {job} AS its WHERE its.seq = json_extract(given.value, '$[0]')"
    " AND its.token = json_extract(given.value, '$[1]') AND its.state = 3 AND its.lane_key IS NULL RETURNING seq"
)
_APPLIED: Final = c.Accepted.APPLIED
_STATE: Final = State.SUCCEEDED
_encode: Final = msgspec.json.Encoder().encode


class SqliteHot(Hot):
    """The hot path on SQLite."""

    def add_plain(self, step: Step, rows: Sequence[Row]) -> Script[list[int]]:
        """Store new plain jobs: those that stand together and are alike by one statement."""
        numbers: list[int] = []
        for alike, group in groupby(rows, key=_alike):
            part = list(group)
            first = yield from step.db.next_seq()  # type: ignore[attr-defined]  # SQLite's dialect has it
            given = _as_json([(seq, row[_ID], row[_PAYLOAD]) for seq, row in enumerate(part, first)])
            if given is None:
                numbers += yield from step.db.insert_jobs(part)
            else:
                yield step.db.q(_INSERT, given, *alike)
                numbers += range(first, first + len(part))
        return numbers

    def succeed(
        self, step: Step, settlements: Sequence[c.Settlement[Job]], places: Sequence[int]
    ) -> Script[dict[int, c.Settled]]:
        """End the jobs that are as their claims say, by what the claims know of them."""
        held = [(place, settlements[place]) for place in places]
        given = None
        if all(type(one.claim.item) is Job and not one.trace_id and not one.span_id for _, one in held):
            given = _as_json([(*_claim(one), one.duration, one.ending.result) for _, one in held])  # type: ignore[union-attr]
        if given is None:
            return (yield from super().succeed(step, settlements, places))
        now = yield from step.now()
        moved = {seq for (seq,) in (yield step.db.q(_MOVE_HELD, now, given))}
        ended: list[Ended] = []
        answers: dict[int, c.Settled] = {}
        for place, one in held:
            claim = one.claim
            if claim.ref in moved:
                job = claim.item
                answers[place] = c.Settled(job.id, claim.token, _APPLIED, _STATE, job.run_at)
                ended.append(_success(job, one.duration, now))
        if moved:
            yield from step.db.delete("job", "seq", list(moved))
            yield from self.count_successes(step, ended, list(moved))
        return answers


def _alike(row: Row) -> Row:
    """What a row has in common with those that can go in with it."""
    return (*row[1:_ID], *row[_ID + 1 : _PAYLOAD], *row[_PAYLOAD + 1 :])


def _claim(one: c.Settlement[Any]) -> tuple[Any, int]:
    return one.claim.ref, one.claim.token


def _success(job: Job, duration: float | None, now: int) -> Ended:
    assert job.last is not None, "a claimed job has an attempt"
    started = int(job.last.started_at * 1e6)
    waited = 0 if job.queued_at is None else max(0, started - int(job.queued_at * 1e6))
    ran = max(0, now - started)
    return Ended(job.queue, job.task, SUCCESS, job.last.instance, job.last.worker, waited, ran, *timing(duration))


def _as_json(rows: Sequence[tuple[Any, ...]]) -> str | None:
    """Return rows as one text, whose last values are bytes or None; None where it would not give them back as they are."""
    try:
        text = _encode([(*row[:-1], None if row[-1] is None else row[-1].decode()) for row in rows]).decode()
    except UnicodeDecodeError:
        return None
    return None if "\\u0000" in text else text


assert SUCCEEDED == 6, "ENDED says so"
