"""Retention: ended jobs go when they are too old, or too many, for their queue."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.job.model import Queue
from holdfast.job.state import State
from holdfast.stores.sql.feed import spare
from holdfast.stores.sql.rows import CODES, ELSEWHERE, HIDDEN, Policy, body_from, micros

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
    for (body,) in (yield step.db.q("SELECT body FROM {queue} ORDER BY name")):
        queue = body_from(bytes(body), Queue)
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
        text = (
            "SELECT finished_at, seq, state, uniq, policy, created_at, deleted_at FROM {done}"
            " WHERE queue = ? AND state = ? AND finished_at <= ? ORDER BY finished_at, seq LIMIT ? {skip}"
        )
        rows += yield step.db.q(text, queue, code, now if over > 0 else until, limit + _SLACK)
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
    window = _policies.decode(row[4]).unique_window if row[4] is not None else None
    return window is not None and now < row[5] + micros(window)


def _purge(step: Step, queue: str, rows: Sequence[Row]) -> Script[None]:
    if not rows:
        return
    seqs = [row[1] for row in rows]
    yield from step.db.delete("done", "seq", seqs)
    yield from step.db.delete("attempt", "seq", seqs)
    counts = Counter(row[2] + (HIDDEN if row[6] is not None else 0) for row in rows)
    yield from step.db.add("tally", [(queue, code, 0, -n) for code, n in sorted(counts.items())])
