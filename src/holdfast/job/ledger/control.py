"""Rules of control: what a person may do to jobs, by ids or by a filter.

By ids: a ruling per id, all in one step. By a filter: an operation record, done in batches of 1,000 in order of
acceptance, each batch one step; the store calls `continue_operation` until it is done, and anybody may cancel it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from holdfast.errors import ContentError, UnknownOperation
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.ledger.clean import WAIT_MAX, clean, storable_time
from holdfast.job.ledger.enqueueing import accept, edit_event
from holdfast.job.ledger.query import count_of, matching
from holdfast.job.ledger.search import windowed
from holdfast.job.model import PRIORITY_MAX, PRIORITY_MIN, Job, NewJob, Operation, OperationState, Queue, Refusal
from holdfast.job.parameters import misfit
from holdfast.job.state import Event, State, allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger

    Steps = Generator[f.Fact, None, c.Ruling]

_ENCODER = msgspec.msgpack.Encoder()
_ACTIONS = msgspec.msgpack.Decoder(c.Action)
_FILTERS = msgspec.msgpack.Decoder(c.JobFilter)


def order(ledger: Ledger, command: c.Order, now: float, draw: Draw) -> Generator[f.Fact, None, c.Ordered]:
    """Do an action on a selection; for a filter, only begin its operation."""
    command, selection = checked_order(command), command.selection
    if selection.filter is not None:
        return (yield from _begin_operation(ledger, command, windowed(selection.filter, now), now, draw))
    rulings = []
    for job_id in dict.fromkeys(selection.ids):
        job = ledger.job(job_id)
        if job is None:
            rulings.append(c.Ruling(job_id, False, c.NO_SUCH_JOB))
        elif command.preview:
            rulings.append(_preview(ledger, job, command.action))
        else:
            rulings.append((yield from _act(ledger, job, command.action, command.who, now, draw)))
    done = sum(ruling.done for ruling in rulings)
    if not command.preview and command.who:
        yield f.Audited(
            command.who, _name(command.action), f"{len(rulings)} jobs", ", ".join(selection.ids[:10]), now, done
        )
    return c.Ordered(matched=len(rulings), done=done, refused=len(rulings) - done, rulings=tuple(rulings))


def checked_order(command: c.Order) -> c.Order:
    """Return an order that may be done. Raises ContentError otherwise."""
    _check(command.action)
    if bool(command.selection.ids) == (command.selection.filter is not None):
        raise ContentError("a selection needs ids or a filter: expected exactly one of the two.")
    return replace(command, who=clean(command.who))


def _check(action: c.Action) -> None:
    if isinstance(action, c.Replay) and not 0.0 <= action.delay <= WAIT_MAX:
        raise ContentError(f"delay: expected 0 to {WAIT_MAX:g} seconds, found {action.delay:g}.")
    if not isinstance(action, c.Edit):
        return
    if action.priority is not None and not PRIORITY_MIN <= action.priority <= PRIORITY_MAX:
        raise ContentError(f"expected a priority from {PRIORITY_MIN} to {PRIORITY_MAX}, found {action.priority}.")
    if action.run_at is not None and not storable_time(action.run_at):
        raise ContentError(f"expected run_at of at most 1e12 seconds since the epoch, found {action.run_at}.")


def _name(action: c.Action) -> str:
    return str(type(action).__struct_config__.tag)


def _preview(ledger: Ledger, job: Job, action: c.Action) -> c.Ruling:
    why = _refusal(job, action) or _misfit(ledger, job, action)
    return c.Ruling(job.id, not why, why)


# --- operations ----------------------------------------------------------------------------------------------------


def _begin_operation(
    ledger: Ledger, command: c.Order, which: c.JobFilter, now: float, draw: Draw
) -> Generator[f.Fact, None, c.Ordered]:
    matched = c.JobCount(count_of(ledger, which))
    return (yield from begin_operation(command, which, matched, ledger.next_seq - 1, now, draw))


def begin_operation(
    command: c.Order, which: c.JobFilter, count: c.JobCount, upto_seq: int, now: float, draw: Draw
) -> Generator[f.Fact, None, c.Ordered]:
    """Begin the operation of an order by filter, over `count` jobs up to `upto_seq`; a preview only counts."""
    matched, estimated = int(count), count.estimated
    if command.preview:
        return c.Ordered(matched=matched, done=0, refused=0, estimated=estimated)
    operation = Operation(
        id=draw.job_id(now),
        action=_ENCODER.encode(command.action),
        filter=_ENCODER.encode(which),
        who=command.who,
        matched=matched,
        upto_seq=upto_seq,
        created_at=now,
        estimated=estimated,
    )
    yield f.OperationSaved(operation)
    if command.who:
        yield f.Audited(
            command.who,
            _name(command.action),
            f"{'about ' * estimated}{matched} jobs by filter",
            operation.id,
            now,
            matched,
        )
    return c.Ordered(matched=matched, done=0, refused=0, operation=operation, estimated=estimated)


def continue_operation(
    ledger: Ledger, command: c.ContinueOperation, now: float, draw: Draw
) -> Generator[f.Fact, None, c.Ordered]:
    """Do the next batch of an operation. Its answer's operation tells whether there is more."""
    operation = _operation(ledger, command.id)
    if operation.state is not OperationState.RUNNING:
        return _ordered(operation)
    batch = _batch(ledger, operation, operation_filter(operation))
    upto = batch[-1].seq if batch else operation.upto_seq
    ended = len(batch) < c.OPERATION_BATCH
    return (yield from do_batch(ledger, operation, batch, upto, now, draw, ended=ended))


def operation_filter(operation: Operation) -> c.JobFilter:
    """Return the filter of an operation."""
    return _FILTERS.decode(operation.filter)


def operation_action(operation: Operation) -> c.Action:
    """Return the action of an operation."""
    action: c.Action = _ACTIONS.decode(operation.action)
    return action


def do_batch(
    ledger: Ledger, operation: Operation, batch: Sequence[Job], upto: int, now: float, draw: Draw, *, ended: bool
) -> Generator[f.Fact, None, c.Ordered]:
    """Do an operation's action on `batch`, after which all jobs up to seq `upto` are done; `ended`: that were all."""
    action = operation_action(operation)
    done, refusals = 0, list(operation.refusals)
    for job in batch:
        ruling = yield from _act(ledger, job, action, operation.who, now, draw)
        done += ruling.done
        if not ruling.done and len(refusals) < c.REFUSALS_KEPT:
            refusals.append(Refusal(ruling.id, ruling.why))
    operation = replace(
        operation,
        done=operation.done + done,
        refused=operation.refused + len(batch) - done,
        refusals=tuple(refusals),
        after_seq=upto,
        state=OperationState.DONE if ended else OperationState.RUNNING,
        finished_at=now if ended else None,
    )
    if ended and operation.estimated:
        operation = replace(operation, matched=operation.done + operation.refused, estimated=False)
    yield f.OperationSaved(operation)
    return _ordered(operation)


def cancel_operation(
    ledger: Ledger, command: c.CancelOperation, now: float, _draw: Draw
) -> Generator[f.Fact, None, Operation]:
    """Stop an operation where it is."""
    operation = _operation(ledger, command.id)
    if operation.state is OperationState.RUNNING:
        operation = replace(operation, state=OperationState.CANCELED, finished_at=now)
        yield f.OperationSaved(operation)
    return operation


def _operation(ledger: Ledger, operation_id: str) -> Operation:
    operation = ledger.operations.get(operation_id)
    if operation is None:
        raise UnknownOperation(f"unknown operation {operation_id!r}: list the operations to see those that exist.")
    return operation


def _batch(ledger: Ledger, operation: Operation, which: c.JobFilter) -> list[Job]:
    """The next jobs in order of acceptance."""
    batch: list[Job] = []
    for job in ledger.between(operation.after_seq, operation.upto_seq + 1):
        if matching(job, which):
            batch.append(job)
            if len(batch) == c.OPERATION_BATCH:
                break
    return batch


def _ordered(operation: Operation) -> c.Ordered:
    return c.Ordered(
        matched=operation.matched,
        done=operation.done,
        refused=operation.refused,
        refusals=operation.refusals,
        operation=operation,
        estimated=operation.estimated,
    )


# --- one job -------------------------------------------------------------------------------------------------------


def _act(ledger: Ledger, job: Job, action: c.Action, who: str, now: float, draw: Draw) -> Steps:
    why = _refusal(job, action) or _misfit(ledger, job, action)
    if why:
        return c.Ruling(job.id, False, why)
    return (yield from _DOINGS[type(action)](ledger, job, action, who, now, draw))


#: The event that stands for an action on a job that waits or has ended.
_EVENTS: Mapping[type, Event] = {
    c.Cancel: Event.CANCEL,
    c.Pause: Event.PAUSE,
    c.Resume: Event.RESUME_QUEUED,
    c.Retry: Event.RETRY,
    c.Replay: Event.REPLAY,
    c.RunNow: Event.RUN_NOW,
    c.Edit: Event.EDIT_DUE,
    c.Delete: Event.DELETE,
}


def _refusal(job: Job, action: c.Action) -> str:
    """Say why the state table forbids an action on a job, or nothing."""
    if job.origin == EXTERNAL and not (job.final and isinstance(action, c.Replay | c.Delete)):
        return "it runs elsewhere: here a finished one can be replayed or deleted, no more"
    if isinstance(action, c.Cancel) and job.state is State.RUNNING:
        return ""
    if allowed(job.state, _EVENTS[type(action)]):
        return ""
    if isinstance(action, c.Delete):
        return "it is running: cancel it first"
    return f"it is {job.state}: {_name(action)} does not apply"


def _misfit(ledger: Ledger, job: Job, action: c.Action) -> str:
    """Say why a job's task does not take the arguments that an action gives it, or nothing."""
    payload = action.payload if isinstance(action, c.Edit | c.Replay) else None
    definition = ledger.definitions.get(job.task)
    if payload is None or definition is None:
        return ""
    why = misfit(definition.parameters, payload)
    return f"task {job.task!r}: {why}" if why else ""


def _cancel(ledger: Ledger, job: Job, action: c.Cancel, who: str, now: float, _draw: Draw) -> Steps:
    if job.state is not State.RUNNING:
        yield f.Canceled(job.seq, who, clean(action.why), now)
    elif job.cancel is None:
        yield f.CancelAsked(job.seq, who, clean(action.why), now)
    return c.Ruling(job.id, True)


def _pause(_ledger: Ledger, job: Job, _action: c.Pause, who: str, now: float, _draw: Draw) -> Steps:
    yield f.Paused(job.seq, who or "somebody", now)
    return c.Ruling(job.id, True)


def _resume(_ledger: Ledger, job: Job, _action: c.Resume, _who: str, now: float, _draw: Draw) -> Steps:
    yield resumed(job, now)
    return c.Ruling(job.id, True)


def resumed(job: Job, now: float) -> f.Resumed:
    """Where a held job goes: by run_at, and by whether its last attempt failed."""
    if job.run_at <= now:
        return f.Resumed(job.seq, Event.RESUME_QUEUED, now)
    failed = job.last is not None and job.failures > 0 and job.last.failed
    return f.Resumed(job.seq, Event.RESUME_RETRYING if failed else Event.RESUME_SCHEDULED, now)


def _retry(ledger: Ledger, job: Job, _action: c.Retry, who: str, now: float, _draw: Draw) -> Steps:
    if job.unique is not None:
        holder = ledger.holder(job.unique, now)
        if holder is not None and holder.seq != job.seq:
            return c.Ruling(job.id, False, f"its unique key {job.unique!r} is held by job {holder.id}")
    yield f.Retried(job.seq, who, now)
    return c.Ruling(job.id, True)


def _replay(ledger: Ledger, job: Job, action: c.Replay, _who: str, now: float, draw: Draw) -> Steps:
    if job.replayed_by is not None and not action.force:
        return c.Ruling(job.id, False, f"it was replayed as job {job.replayed_by}: force it to replay it again")
    new = NewJob(
        id=draw.job_id(now),
        task=job.task,
        queue=action.queue or job.queue,
        payload=job.payload if action.payload is None else action.payload,
        priority=job.priority,
        retry=job.retry,
        timeout=job.timeout,
        key=job.key,
        on_wait=job.on_wait,
        sticky=job.sticky,
        tags=job.tags,
        headers=job.headers,
        replay_of=job.id,
        delay=action.delay or None,
    )
    if new.queue not in ledger.index.lines:
        yield f.QueueSaved(Queue(name=new.queue, created_at=now, updated_at=now))
    yield f.Added(accept(ledger.next_seq, new, now))
    yield f.Replayed(job.seq, new.id, now)
    return c.Ruling(job.id, True, made=new.id)


def _run_now(_ledger: Ledger, job: Job, _action: c.RunNow, _who: str, now: float, _draw: Draw) -> Steps:
    yield f.Readied(job.seq, Event.RUN_NOW, now)
    return c.Ruling(job.id, True)


def _edit(ledger: Ledger, job: Job, action: c.Edit, _who: str, now: float, _draw: Draw) -> Steps:
    if action.queue is not None and action.queue not in ledger.index.lines:
        yield f.QueueSaved(Queue(name=action.queue, created_at=now, updated_at=now))
    run_at = job.run_at if action.run_at is None else max(0.0, action.run_at)
    yield f.Edited(
        job.seq,
        edit_event(run_at, now),
        now,
        queue=action.queue,
        priority=action.priority,
        run_at=None if action.run_at is None else run_at,
        payload=action.payload,
    )
    return c.Ruling(job.id, True)


def _delete(_ledger: Ledger, job: Job, action: c.Delete, who: str, now: float, _draw: Draw) -> Steps:
    yield f.Deleted(job.seq, who, now)
    if action.hard:
        yield f.Purged(job.seq)
    return c.Ruling(job.id, True)


_DOINGS: Mapping[type, Callable[[Ledger, Job, Any, str, float, Draw], Steps]] = {
    c.Cancel: _cancel,
    c.Pause: _pause,
    c.Resume: _resume,
    c.Retry: _retry,
    c.Replay: _replay,
    c.RunNow: _run_now,
    c.Edit: _edit,
    c.Delete: _delete,
}
