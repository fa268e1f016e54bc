"""Queues: change, and forget step by step, as a queue may have a long history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.errors import Conflict, UnknownQueue
from holdfast.job import commands as c
from holdfast.job.facts import Audited, QueueDeleted
from holdfast.stores.sql.filters import storable
from holdfast.stores.sql.rows import seconds
from holdfast.stores.sql.slice import Need, Slice, carry_out, write_back

if TYPE_CHECKING:
    from holdfast.job.facts import Fact
    from holdfast.job.model import Queue
    from holdfast.stores.sql.script import Script, Step

#: How many ended jobs one step forgets.
PURGE_BATCH: Final = 1_000


def change_queue(step: Step, change: c.ChangeQueue) -> Script[Queue]:
    """Change a queue's policy, or pause and resume it."""
    names = [change.name] if storable(change.name) else []  # one that no queue can have is for the ledger to refuse
    yield from step.db.lock("queue", names)
    _, answer = yield from carry_out(step, change, Need(queues=names))
    queue: Queue = answer
    return queue


def check_deletable(step: Step, name: str) -> Script[None]:
    """Raise UnknownQueue if there is no such queue, and Conflict if it has unfinished jobs."""
    if not (yield step.db.q("SELECT 1 FROM {queue} WHERE name = ? {lock}", name)):
        raise UnknownQueue(name)
    [[unfinished]] = yield step.db.q("SELECT count(*) FROM {job} WHERE queue = ?", name)
    if unfinished:
        raise Conflict(f"queue {name!r} has {unfinished:,} unfinished jobs: expected none. Cancel or move them first.")


def delete_queue(step: Step, command: c.DeleteQueue) -> Script[bool]:
    """Forget the next ended jobs of a queue, and with the last ones the queue; False: there is more to do."""
    yield from step.db.lock("queue", [command.name])
    yield from check_deletable(step, command.name)
    found = yield step.db.ended_in(command.name, PURGE_BATCH)
    seqs = [seq for (seq,) in found]
    yield from step.db.delete("attempt", "seq", seqs)
    yield from step.db.delete("done", "seq", seqs)
    yield from step.db.feed.gone(step, seqs)
    if len(seqs) == PURGE_BATCH:
        return False
    yield from step.db.delete("tally", "queue", [command.name])
    now = seconds((yield from step.now()))
    gone: list[Fact] = [QueueDeleted(command.name), Audited(command.who, "delete_queue", command.name, "", now, 1)]
    yield from write_back(step, Slice(), gone)
    return True
