"""Rules of enqueue: all or nothing, ids and unique keys, conflict actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import ContentError, DuplicateJob, TaskInactive, TooLarge
from holdfast.job import facts as f
from holdfast.job.commands import (
    ENQUEUE_BYTES_MAX,
    ENQUEUE_JOBS_MAX,
    Enqueue,
    Enqueued,
    OnDuplicate,
    Verdict,
)
from holdfast.job.ledger.clean import encodable, storable_time
from holdfast.job.ledger.shapes import check_types
from holdfast.job.model import PRIORITY_MAX, PRIORITY_MIN, Job, NewJob, OnConflict, Queue
from holdfast.job.state import Event, State

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger

_NEW, _QUEUED, _SCHEDULED = Verdict.NEW, State.QUEUED, State.SCHEDULED


def enqueue(ledger: Ledger, command: Enqueue, now: float, _draw: Draw) -> Generator[f.Some, None, list[Enqueued]]:
    """Store all jobs of the batch, or raise and store none."""
    check_batch(command)
    _check_tasks(ledger, command)
    if _is_all_new(ledger, command.jobs):
        return (yield from _add_all(ledger, command.jobs, now))
    _check_taken(ledger, command, now)
    yield from _make_queues(ledger, command.jobs, now)
    ids = ledger.index.ids
    answers: list[Enqueued] = []
    for new in command.jobs:
        if new.id in ids:
            answers.append(Enqueued(Verdict.DUPLICATE, ledger.table[ids[new.id]]))
            continue
        if new.unique is not None and (holder := ledger.holder(new.unique, now)) is not None:
            answers.append((yield from _resolve(ledger, holder, new, now)))
            continue
        job = accept(ledger.next_seq, new, now)
        yield f.Added(job)
        answers.append(Enqueued(_NEW, job))
    return answers


def _is_all_new(ledger: Ledger, jobs: Sequence[NewJob]) -> bool:
    """Whether no id of the batch is taken, by another of its jobs neither, and nothing has to be unique."""
    ids = {new.id for new in jobs}
    return len(ids) == len(jobs) and ledger.index.ids.keys().isdisjoint(ids) and not any(new.unique for new in jobs)


def _add_all(ledger: Ledger, jobs: Sequence[NewJob], now: float) -> Generator[f.Some, None, list[Enqueued]]:
    yield from _make_queues(ledger, jobs, now)
    stored = [accept(seq, new, now) for seq, new in enumerate(jobs, ledger.next_seq)]
    if stored:
        yield [f.Added(job) for job in stored]
    return [Enqueued(_NEW, job) for job in stored]


def _make_queues(ledger: Ledger, jobs: Sequence[NewJob], now: float) -> Generator[f.Some, None, None]:
    """Let the queues that the batch names come into being, also of jobs that turn out to be there already."""
    for queue in dict.fromkeys([new.queue for new in jobs]):
        if queue not in ledger.index.lines:
            yield f.QueueSaved(Queue(name=queue, created_at=now, updated_at=now))


def check_batch(command: Enqueue) -> None:
    """Refuse what no store could keep, whatever it holds already. Raises TooLarge and ContentError."""
    check_types(command.jobs)
    check_size(len(command.jobs), sum([len(new.payload) for new in command.jobs]))
    names = {new.task for new in command.jobs} | {new.queue for new in command.jobs}
    are_plain = "".join([*names, *[new.id for new in command.jobs]]).isascii()
    for new in command.jobs:
        # What nearly all jobs are like is seen at once; the rest is looked at in full.
        if not (
            are_plain
            and new.key is None
            and new.unique is None
            and new.sticky is None
            and not new.tags
            and not new.priority
            and new.run_at is None
            and new.delay is None
        ):
            _check_content(new)


def check_size(count: int, size: int) -> None:
    """Raise TooLarge for more jobs, or bytes of payload, than one enqueue takes."""
    advice = "Nothing was stored. Send smaller batches, or use enqueue_many, which cuts them."
    if count > ENQUEUE_JOBS_MAX:
        raise TooLarge("one enqueue", count, ENQUEUE_JOBS_MAX, "jobs", advice)
    if size > ENQUEUE_BYTES_MAX:
        raise TooLarge("one enqueue", size, ENQUEUE_BYTES_MAX, "bytes of payload", advice)


def _check_tasks(ledger: Ledger, command: Enqueue) -> None:
    for alias in {new.task for new in command.jobs}:
        definition = ledger.definitions.get(alias)
        if definition is not None and not definition.runs:
            raise TaskInactive(alias, "deleted" if definition.deleted_at is not None else "canceled")


def _check_content(new: NewJob) -> None:
    """Refuse what no store could keep. The app says it better and earlier; a store must not rely on that."""
    plain = new.id.isascii() and new.task.isascii() and new.queue.isascii()
    if not plain or new.key is not None or new.unique is not None or new.tags:
        for text in (new.id, new.task, new.queue, new.key or "", new.unique or "", *new.tags):
            if not encodable(text):
                raise ContentError(f"job {new.id!r}: {text!r} holds a lone surrogate. Convert it to plain text.")
    if new.sticky is not None and new.key is None:
        raise ContentError(
            f"job {new.id}: expected a key, since it runs where its key lives (sticky {new.sticky!r}), found none. "
            "Enqueue it with using(key=…)."
        )
    if not PRIORITY_MIN <= new.priority <= PRIORITY_MAX:
        raise ContentError(
            f"job {new.id}: expected a priority from {PRIORITY_MIN} to {PRIORITY_MAX}, found {new.priority}."
        )
    if new.run_at is None and new.delay is None:
        return
    if new.run_at is not None and new.delay is not None:
        raise ContentError(f"job {new.id}: expected run_at or delay, found both. Give one of them.")
    if not storable_time(new.run_at or new.delay or 0.0):
        raise ContentError(
            f"job {new.id}: expected run_at or delay of at most 1e12 seconds, found {new.run_at or new.delay}."
        )


def _check_taken(ledger: Ledger, command: Enqueue, now: float) -> None:
    """Collect every id and unique key that is taken, also by an earlier job of the same batch.

    An id that the engine made is never a duplicate: the same enqueue came twice, and is answered with the first job.
    """
    known = ledger.index.ids
    seen: set[str] = set()
    uniques: dict[str, str] = {}
    taken: dict[str, str] = {}
    raises = command.on_duplicate is OnDuplicate.RAISE
    for new in command.jobs:
        if new.id in known or new.id in seen:
            if raises and new.own_id:
                taken[new.id] = new.id
            continue
        seen.add(new.id)
        if new.unique is not None:
            holder = ledger.holder(new.unique, now)
            holder_id = holder.id if holder is not None else uniques.setdefault(new.unique, new.id)
            if holder_id != new.id and new.on_conflict is OnConflict.ERROR:
                taken[new.unique] = holder_id
    if taken:
        raise DuplicateJob(taken)


def accept(seq: int, new: NewJob, now: float) -> Job:
    """Return the stored form of a new job, which gets the number `seq`."""
    run_at = now if new.run_at is None and new.delay is None else starts_at(new, now)
    ready = run_at <= now
    # By place, in the order of Job's first fields: two dozen names would cost as much as the rest of the enqueue.
    return Job(
        seq,
        new.id,
        new.task,
        new.queue,
        new.payload,
        new.priority,
        run_at,
        new.retry,
        new.timeout,
        new.key,
        new.on_wait,
        new.sticky,
        new.unique,
        new.unique_window,
        new.tags,
        new.headers,
        new.replay_of,
        "engine",  # origin
        now,  # created_at
        _QUEUED if ready else _SCHEDULED,
        now if ready else None,  # queued_at
        now,  # updated_at
    )


def starts_at(new: NewJob, now: float) -> float:
    """When a new job may run: never before now, so that a time in the past does not jump the queue."""
    if new.delay is not None:
        return now + max(0.0, new.delay)
    return now if new.run_at is None else max(now, new.run_at)


def _resolve(ledger: Ledger, holder: Job, new: NewJob, now: float) -> Generator[f.Fact, None, Enqueued]:
    """Do the conflict action on the job that holds the unique key. Only a waiting job is ever changed."""
    waiting = holder.state in (State.QUEUED, State.SCHEDULED, State.RETRYING, State.PAUSED)
    change = _conflict_change(holder, new, now) if waiting else None
    if change is None:
        return Enqueued(Verdict.KEPT, holder)
    yield change
    return Enqueued(_VERDICTS[new.on_conflict], ledger.table[holder.seq])


_VERDICTS = {
    OnConflict.REPLACE: Verdict.REPLACED,
    OnConflict.RESCHEDULE: Verdict.RESCHEDULED,
    OnConflict.RAISE_PRIORITY: Verdict.RAISED,
}


def _conflict_change(holder: Job, new: NewJob, now: float) -> f.Edited | None:
    if new.on_conflict is OnConflict.RAISE_PRIORITY:
        if new.priority <= holder.priority:
            return None
        return f.Edited(holder.seq, edit_event(holder.run_at, now), now, priority=new.priority)
    run_at = starts_at(new, now)
    if new.on_conflict is OnConflict.RESCHEDULE:
        return f.Edited(holder.seq, edit_event(run_at, now), now, run_at=run_at)
    if new.on_conflict is OnConflict.REPLACE:
        return f.Edited(
            holder.seq,
            edit_event(run_at, now),
            now,
            queue=new.queue,
            priority=new.priority,
            run_at=run_at,
            payload=new.payload,
            retry=new.retry,
            timeout=new.timeout,
            headers=new.headers,
            tags=new.tags,
            on_wait=new.on_wait,
        )
    return None


def edit_event(run_at: float, now: float) -> Event:
    """Which edit an edit is, by the new run_at."""
    return Event.EDIT_DUE if run_at <= now else Event.EDIT_LATER
