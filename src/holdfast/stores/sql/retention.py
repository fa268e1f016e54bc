"""Retention: ended jobs go when they are too old, or too many, for their queue."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.job.model import Queue
from holdfast.job.state import State
from holdfast.stores.sql.aside import COLUMNS, thing_from
from holdfast.stores.sql.damage import UNREADABLE
from holdfast.stores.sql.feed import spare
from holdfast.stores.sql.reads import whole
from holdfast.stores.sql.rows import CODES, ELSEWHERE, HIDDEN, Policy, micros
from holdfast.stores.sql.slice import DONES
from holdfast.stores.sql.tally import Tally, duration_of, ended_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

_SUCCEEDED: Final = (CODES[State.SUCCEEDED],)
_ENDED: Final = (CODES[State.FAILED], CODES[State.CANCELED])
_policies: Final = msgspec.msgpack.Decoder(Policy)
#: How many more rows are looked at than may go: those whose unique key is still held stay.
_SLACK: Final = 100


def prune(step: Step, limit: int) -> Script[int]:
    """Purge up to `limit` ended jobs; return how many there were."""
    # One at a time: two would count the same rows as gone.
    yield from step.db.lock("retention", ("all",))
    counts: Counter[tuple[str, int]] = Counter()
    for name, code, n in (yield step.db.q("SELECT queue, state, sum(n) FROM {tally} GROUP BY queue, state")):
        counts[name, code % HIDDEN] += int(n)
    pruned = 0
    for row in (yield step.db.q(f"SELECT {COLUMNS[Queue]} FROM {{queue}} ORDER BY name")):
        queue = thing_from(Queue, row)
        for own, keep, most in (
            (_SUCCEEDED, queue.keep_succeeded, queue.keep_succeeded_count),
            (_ENDED, queue.keep_failed, queue.keep_failed_count),
        ):
            codes = (*own, *(code + ELSEWHERE for code in own))
            count = sum(counts[queue.name, code] for code in codes)
            if count and pruned < limit and (keep is not None or most is not None):
                pruned += yield from _prune(step, queue.name, codes, keep, most, count, limit - pruned)
    return pruned


def _prune(
    step: Step, queue: str, codes: Sequence[int], keep: float | None, most: int | None, count: int, limit: int
) -> Script[int]:
    """Purge from the old end of a queue's ended jobs."""
    now = yield from step.now()
    over = count - most if most is not None else 0
    until = now - micros(keep) if keep is not None else -1
    rows: list[Row] = []
    for code in codes:
        # One state at a time, so that each is read in the order of its index.
        rows += yield from step.db.oldest(step, queue, code, now if over > 0 else until, limit + _SLACK)
    gone: list[Row] = []
    for row in sorted(rows, key=lambda row: (row[0], row[1])):
        if len(gone) >= limit or (row[0] > until and over <= 0):
            break
        if row[3] is not None and _window_open(row, now):
            continue  # its window is still open: the record must answer for its unique key
        gone.append(row)
        over -= 1
    gone = yield from spare(step, gone)
    yield from _purge(step, queue, gone)
    return len(gone)


def _window_open(row: Row, now: int) -> bool:
    try:
        window = _policies.decode(row[4]).unique_window if row[4] is not None else None
    except UNREADABLE:
        window = None  # what it asked for can not be read any more; retention holds for it all the same
    return window is not None and now < row[5] + micros(window)


def _purge(step: Step, queue: str, rows: Sequence[Row]) -> Script[None]:
    if not rows:
        return
    seqs = [row[1] for row in rows]
    tally = Tally()
    records = yield from whole(step, (yield from _records(step, rows)))
    for job in records:
        tally.add_job(job, -1)
    for _, _, code, _, _, _, deleted_at, task, worker, duration in rows:
        if code < ELSEWHERE:
            group = ended_group(queue, task, worker, code, hidden=deleted_at is not None)
            tally.add(group, duration_of(code, duration), -1)
    yield from step.db.delete("done", "seq", seqs)
    yield from step.db.delete("attempt", "seq", seqs)
    yield from tally.write(step, 0)


def _records(step: Step, rows: Sequence[Row]) -> Script[list[Row]]:
    """The whole rows of those that ran elsewhere: each of their attempts is counted."""
    seqs = [row[1] for row in rows if row[2] > ELSEWHERE]
    found: list[Row] = (yield step.db.q(f"{DONES} WHERE seq {{ints}}", seqs)) if seqs else []
    return found
