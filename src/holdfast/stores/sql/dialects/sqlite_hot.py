"""The hot path as SQLite does it fastest: rows that are alike go in as one JSON text.

Binding costs more than inserting: a statement for each row takes twice the time of one statement over `json_each`. What
JSON can not carry as it is (bytes that are no text, NUL) goes the general way.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job import commands as c
from holdfast.job.model import Job
from holdfast.job.stack import stacked
from holdfast.job.state import State
from holdfast.stores.sql.apart import readable
from holdfast.stores.sql.attempts import attempts_of
from holdfast.stores.sql.claims import full_claim, plain_claim
from holdfast.stores.sql.hot import ENDED, Hot, Plan, due_at
from holdfast.stores.sql.rows import SUCCEEDED, micros, new_row
from holdfast.stores.sql.schema import CLAIMED, DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.script import Statement
from holdfast.stores.sql.stats import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import NewJob
    from holdfast.stores.sql.script import Row, Script, Step

_PLACES: Final = {column: JOB_COLUMNS.index(column) for column in JOB_COLUMNS}
#: What differs from row to row of a group; all else of a plain new job is bound once.
_OWN: Final = {
    "seq": "json_extract(given.value, '$[0]')",
    "id": "json_extract(given.value, '$[1]')",
    "payload": "CAST(json_extract(given.value, '$[2]') AS BLOB)",
}
_ALIKE: Final = tuple(column for column in JOB_COLUMNS if column not in _OWN)
_alike: Final = itemgetter(*(_PLACES[column] for column in _ALIKE))
_INSERT: Final = (
    f"INSERT INTO {{job}} ({', '.join(JOB_COLUMNS)}) SELECT "
    + ", ".join(_OWN.get(column) or f"?{_ALIKE.index(column) + 2}" for column in JOB_COLUMNS)
    + " FROM json_each(?1) AS given"
)
#: The greatest id that is stored: a step into each index of ids.
_NEWEST: Final = "SELECT max(coalesce((SELECT max(id) FROM {job}), ''), coalesce((SELECT max(id) FROM {done}), ''))"
#: The first of a queue in the order of its index, which has all that is looked for: who is ready = 1 has no owner. A claimed
#: row whose counts were no numbers is told by attempt 0: it is damaged, and its counts are numbers by now.
_CLAIM: Final = (
    "UPDATE {job} SET state = 3, ready = 0, lane = lane * 2, token = max(token + 1, ?1), attempt ="
    " CASE WHEN typeof(attempt) = 'integer' AND typeof(token) = 'integer' THEN attempt + 1 ELSE 0 END,"
    " instance = ?2, worker = ?3, version = ?4, started_at = ?5, updated_at = ?5, lease_until = ?6"
    " WHERE seq IN (SELECT seq FROM {job} WHERE queue = ?7 AND ready = 1 ORDER BY prio, run_at, seq LIMIT ?8)"
    f" RETURNING {', '.join(CLAIMED)}"
)
_SEQ, _PAYLOAD, _ATTEMPT = map(CLAIMED.index, ("seq", "payload", "attempt"))
_in_line: Final = itemgetter(*map(CLAIMED.index, ("prio", "run_at", "seq")))
_number: Final = itemgetter(_SEQ)
#: Of [seq, token, duration, result] those that are as their claims say are moved.
_MOVE_HELD: Final = (
    f"INSERT INTO {{done}} ({', '.join(DONE_COLUMNS)}) SELECT "
    + ", ".join({**ENDED, "updated_at": "?1"}.get(column, f"its.{column}") for column in JOB_COLUMNS)
    + ", ?1, json_extract(given.value, '$[2]'), CAST(json_extract(given.value, '$[3]') AS BLOB), NULL, NULL"
    " FROM json_each(?2) AS given CROSS JOIN {job} AS its WHERE its.seq = json_extract(given.value, '$[0]')"
    " AND its.token = json_extract(given.value, '$[1]') AND its.state = 3 AND its.lane_key IS NULL"
)
#: Which of these were moved, where some were not: RETURNING would cost each of all others a seventh of its move.
_MOVED: Final = "SELECT its.seq FROM {job} AS its JOIN {done} AS ended ON ended.seq = its.seq WHERE its.seq {ints}"
_APPLIED: Final = c.Accepted.APPLIED
_STATE: Final = State.SUCCEEDED
_encode: Final = msgspec.json.Encoder().encode


class SqliteHot(Hot):
    """The hot path on SQLite."""

    def look(self, step: Step, ids: set[str], tasks: set[str], queues: set[str]) -> Script[int | None]:
        """As on all databases. Ids that were made just now are greater than all that are stored, and are not looked for."""
        if ids:
            [[newest]] = yield step.db.q(_NEWEST)
            if min(ids) > newest:
                ids = set()
        return (yield from super().look(step, ids, tasks, queues))

    def add_plain(self, step: Step, jobs: Sequence[NewJob], now: int) -> Script[list[int]]:
        """Store new plain jobs: those that stand together and are alike by one statement."""
        numbers: list[int] = []
        for stack in stacked(jobs):
            first = yield from step.db.next_seq()  # type: ignore[attr-defined]  # SQLite's dialect has it
            its = range(first, first + len(stack.ids))
            given = _as_json(its, stack.ids, stack.payloads)
            if given is None:
                numbers += yield from super().add_plain(step, stack.jobs(), now)
            else:
                yield step.db.q(_INSERT, given, *_alike(new_row(stack.like, due_at(stack.like, now), now)))
                numbers += its
        return numbers

    def claim_planned(self, step: Step, want: c.Want, plan: Plan) -> Script[list[c.Claim[Job]] | None]:
        """Take ready jobs by a statement for each queue; where a task is stopped they are looked at first."""
        if plan.stopped:
            return (yield from super().claim_planned(step, want, plan))
        items: list[c.Claim[Job]] = []
        for one in want.queues:
            known = plan.queues.get(one.queue)
            count = min(one.limit, want.limit - len(items))
            if known is None or known[0] or count <= 0:
                continue
            if known[1] is not None:
                count = min(count, (yield from self.room(step, one.queue, known[1])))
            items += yield from self._claim(step, want, one.queue, count, known[2], plan.epoch)
        return items

    def _claim(
        self, step: Step, want: c.Want, queue: str, count: int, own_lease: int | None, epoch: int
    ) -> Script[list[c.Claim[Job]]]:
        now = yield from step.now()
        who = (want.instance, want.worker, want.version)
        lease = micros(want.lease) if own_lease is None else own_lease
        rows = (yield step.db.q(_CLAIM, epoch, *who, now, now + lease, queue, count)) if count > 0 else []
        tried = [row[_SEQ] for row in rows if row[_ATTEMPT] > 1]
        past = (yield from attempts_of(step, tried)) if tried else {}
        at, own = now / 1e6, 0.0 if lease == micros(want.lease) else lease / 1e6

        def claim(row: Row) -> c.Claim[Job]:
            if type(row[_PAYLOAD]) is not bytes or row[_ATTEMPT] < 1:
                raise TypeError("not as it was written")
            return plain_claim(row, who, at, own) or full_claim(row, who, now, own, past.get(row[_SEQ]))

        return readable(step, _in_order(rows), _number, claim)

    def succeed(
        self, step: Step, settlements: Sequence[c.Settlement[Job]], places: Sequence[int]
    ) -> Script[dict[int, c.Settled]]:
        """End the jobs that are as their claims say, by what the claims know of them."""
        told: list[Any] = [settlements[place] for place in places]
        given = None
        if all(_is_told(one) for one in told):
            given = _as_json(
                [one.claim.ref for one in told],
                [one.claim.token for one in told],
                [one.duration for one in told],
                [one.ending.result for one in told],
            )
        if given is None:
            return (yield from super().succeed(step, settlements, places))
        now = yield from step.now()
        yield step.db.q(_MOVE_HELD, now, given)
        [[count]] = yield Statement("SELECT changes()")
        moved = {one.claim.ref for one in told}
        if count < len(moved):
            moved = {seq for (seq,) in (yield step.db.q(_MOVED, list(moved)))}
        if len(moved) < len(told):
            told = [one for one in told if one.claim.ref in moved]
            places = [place for place in places if settlements[place].claim.ref in moved]
        if moved:
            yield from step.db.delete("job", "seq", list(moved))
            yield from self.count_successes(step, together(told, now), list(moved))
        answers = {}
        for place, one in zip(places, told, strict=True):
            claim = one.claim
            answers[place] = c.Settled(claim.item.id, claim.token, _APPLIED, _STATE, claim.item.run_at)
        return answers


def _is_told(one: c.Settlement[Any]) -> bool:
    """Whether a success says all that is counted of it, and brings nothing else. A worker elsewhere sends no job back."""
    job = one.claim.item
    return type(job) is Job and job.last is not None and not one.trace_id and not one.span_id


def _in_order(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows of a claim in the order of the line, where it can be told."""
    try:
        return sorted(rows, key=_in_line)
    except TypeError:  # a damaged one has no place in it
        return rows


def _as_json(*columns: Sequence[Any]) -> str | None:
    """Return rows as one text; of the last column, bytes or None. None where it would not give them back as they are."""
    *plain, last = columns
    try:
        text = _encode(list(zip(*plain, [None if one is None else one.decode() for one in last], strict=True))).decode()
    except UnicodeDecodeError:
        return None
    return None if "\\u0000" in text else text


assert SUCCEEDED == 6, "ENDED says so"
