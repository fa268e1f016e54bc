"""Rules of upkeep: heartbeats, lost and dead workers, opening, retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger.claiming import promote
from holdfast.job.ledger.lines import end_key, seq_of
from holdfast.job.ledger.settling import gone_fact, unless_canceled
from holdfast.job.model import InstanceState, WorkerConfig
from holdfast.job.state import End, State

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Generator

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger
    from holdfast.job.ledger.lines import Line
    from holdfast.job.model import Instance, Job

#: Seconds for which a stopped or lost instance is still shown.
GONE_AFTER: Final = 86_400.0
#: How long retention spares a job that was not exported yet, in seconds.
SPARED: Final = 7 * 86_400.0
_LIVE: Final = (InstanceState.STARTING, InstanceState.READY, InstanceState.DRAINING)


# --- heartbeat -----------------------------------------------------------------------------------------------------


def beat(ledger: Ledger, command: c.Beat, now: float, _draw: Draw) -> Generator[f.Fact, None, c.Signals]:
    """Extend the leases of an instance and tell it what it holds. A fact only when its record really changed."""
    instance = replace(command.instance, heartbeat_at=now, lease=command.lease)
    known = ledger.instances.get(instance.id)
    if known is None or _changed(known, instance):
        started = instance.started_at or (known.started_at if known else now)
        yield f.InstanceSaved(replace(instance, started_at=started))
    ledger.beats[instance.id] = instance
    held = tuple(_extend(ledger, seq, now, command.lease) for seq in ledger.index.running.get(instance.id, ()))
    config = ledger.workers.get(instance.worker)
    if config is None and instance.worker:
        # A worker that nobody configured is known from its first beat on, so that its silence is noticed.
        config = WorkerConfig(name=instance.worker, created_at=now, updated_at=now)
        yield f.WorkerSaved(config)
    return signals_of(held, config)


def signals_of(held: tuple[c.Held, ...], config: WorkerConfig | None) -> c.Signals:
    """Return the answer to a beat of a worker with this configuration."""
    if config is None:
        return c.Signals(held)
    return c.Signals(held, drain=config.drain, enabled=config.enabled, config=config)


def _changed(known: Instance, new: Instance) -> bool:
    return (known.state, known.queues, known.tasks, known.slots, known.pod, known.version) != (
        new.state,
        new.queues,
        new.tasks,
        new.slots,
        new.pod,
        new.version,
    )


def _extend(ledger: Ledger, seq: int, now: float, lease: float) -> c.Held:
    leases = ledger.index.leases
    job = ledger.table[seq]
    line = ledger.line(job.queue)
    leases[seq] = max(leases[seq], now + ((line.queue.rescue_after if line else None) or lease))
    return c.Held(seq, job.id, job.token, job.cancel is not None)


# --- lost and dead -------------------------------------------------------------------------------------------------


def rescue(ledger: Ledger, command: c.Rescue, now: float, draw: Draw) -> Generator[f.Some, None, c.Rescued]:
    """End claims whose lease has passed, promote what is due, forget what retention lets go."""
    limit = command.limit
    expired = [seq for seq, until in ledger.index.leases.items() if until <= now][:limit]
    ended: list[c.Settled] = []
    for seq in expired:
        yield _lost(ledger, ledger.table[seq], now, draw, "its lease ended")
        job = ledger.table[seq]
        ended.append(c.Settled(job.id, job.token, c.Accepted.APPLIED, job.state, job.run_at))
    promoted = yield from promote(ledger, now, limit)
    pruned = yield from _prune(ledger, now, limit)
    lost = yield from _lose_instances(ledger, now)
    more = limit in (len(expired), promoted, pruned)
    return c.Rescued(len(expired), promoted, pruned, tuple(lost), more, tuple(ended))


def _lost(ledger: Ledger, job: Job, now: float, draw: Draw, reason: str) -> f.Ended:
    fact = gone_fact(job, End.LOST, now, draw, blamed=False, suspect=False, reason=reason)
    return _last_heard(ledger, job, unless_canceled(job, fact))


def _last_heard(ledger: Ledger, job: Job, fact: f.Ended) -> f.Ended:
    """Add when the worker of a lost attempt was last heard of: by a beat, or by the claim itself."""
    last = job.last
    assert last is not None, "a running job has an attempt"
    known = ledger.beats.get(last.instance) or ledger.instances.get(last.instance)
    heard_at = last.started_at if known is None else max(last.started_at, known.heartbeat_at)
    return replace(fact, heard_at=min(heard_at, fact.at))


def instance_died(ledger: Ledger, command: c.InstanceDied, now: float, draw: Draw) -> Generator[f.Fact, None, int]:
    """End all claims of a dead process as crashed.

    To blame is its suspect if it had one, or its only job; otherwise nobody yet, and all of them become suspects, to be
    run one to a process until the guilty one is found.
    """
    jobs = [ledger.table[seq] for seq in ledger.index.running.get(command.instance, ())]
    blamed = {job.seq for job in jobs if job.suspect} or ({jobs[0].seq} if len(jobs) == 1 else set())
    found = any(job.suspect for job in jobs)
    for job in jobs:
        guilty = job.seq in blamed
        fact = gone_fact(
            job,
            End.CRASHED,
            now,
            draw,
            blamed=guilty,
            suspect=guilty or not found,
            reason=f"its process died: {command.detail}",
        )
        yield _last_heard(ledger, job, unless_canceled(job, fact))
    known = ledger.instances.get(command.instance)
    if known is not None and known.state is not InstanceState.LOST:
        yield f.InstanceSaved(replace(known, state=InstanceState.LOST, busy=0))
    return len(jobs)


def _lose_instances(ledger: Ledger, now: float) -> Generator[f.Fact, None, list[str]]:
    """Mark silent instances as lost; forget those that ended long ago."""
    lost: list[str] = []
    for known in list(ledger.instances.values()):
        newest = ledger.beats.get(known.id, known)
        if known.state in _LIVE and newest.heartbeat_at + newest.lease <= now:
            yield f.InstanceSaved(replace(newest, state=InstanceState.LOST, busy=0, started_at=known.started_at))
            lost.append(known.id)
        elif known.state not in _LIVE and newest.heartbeat_at + GONE_AFTER <= now:
            yield f.InstanceGone(known.id)
    return lost


def opened(ledger: Ledger, command: c.Open, now: float, draw: Draw) -> Generator[f.Fact, None, int]:
    """Begin a new epoch. Claims of dead local workers end at once; those of remote workers get a new lease."""
    yield f.Opened(ledger.epoch + 1, now)
    lost = 0
    for seq in list(ledger.index.leases):
        job = ledger.table[seq]
        owner = ledger.instances.get(job.last.instance) if job.last else None
        if command.alone and (owner is None or owner.local):
            yield _lost(ledger, job, now, draw, "the engine stopped while it ran")
            lost += 1
        else:
            ledger.index.leases[seq] = now + command.lease
    for known in list(ledger.instances.values()):
        if command.alone and known.local and known.state in _LIVE:
            yield f.InstanceSaved(replace(known, state=InstanceState.LOST, busy=0))
    return lost


# --- retention -----------------------------------------------------------------------------------------------------


def _prune(ledger: Ledger, now: float, limit: int) -> Generator[f.Some, None, int]:
    pruned = 0
    for line in list(ledger.index.lines.values()):
        queue = line.queue
        pruned += yield from _prune_line(
            ledger, line, line.succeeded, queue.keep_succeeded, queue.keep_succeeded_count, now, limit - pruned
        )
        pruned += yield from _prune_line(
            ledger, line, line.ended, queue.keep_failed, queue.keep_failed_count, now, limit - pruned
        )
    return pruned


def _prune_line(
    ledger: Ledger, line: Line, ends: deque[int], keep: float | None, keep_count: int | None, now: float, limit: int
) -> Generator[f.Some, None, int]:
    """Purge from the old end of a queue's finished jobs. Entries of jobs that have moved on are dropped on the way."""
    states = (State.SUCCEEDED,) if ends is line.succeeded else (State.FAILED, State.CANCELED)
    name, get = line.queue.name, ledger.table.get
    purged: dict[int, f.Fact] = {}
    for _ in range(len(ends)):
        if len(purged) >= limit:
            break
        entry = ends[0]
        seq = seq_of(entry)
        job = get(seq)
        if job is None or job.state not in states or job.queue != name or end_key(job) != entry or seq in purged:
            ends.popleft()
            continue
        if not _lapsed(job, keep, keep_count, len(ends), now) or _spared(ledger, job, now):
            break
        ends.popleft()
        if job.unique is not None and _answers_for_unique(ledger, job, now):
            ends.append(entry)  # its window is still open: the record must answer for its unique key
            continue
        purged[seq] = f.Purged(seq, lapsed=True)
    if purged:
        yield list(purged.values())
    return len(purged)


def _spared(ledger: Ledger, job: Job, now: float) -> bool:
    """Whether an exporter has not had it yet; those that ended after it will have to wait as well."""
    return job.seq in ledger.spared and job.finished_at is not None and now < job.finished_at + SPARED


def _answers_for_unique(ledger: Ledger, job: Job, now: float) -> bool:
    holder = ledger.holder(job.unique, now) if job.unique else None
    return holder is not None and holder.seq == job.seq


def _lapsed(job: Job, keep: float | None, keep_count: int | None, count: int, now: float) -> bool:
    assert job.finished_at is not None, "a finished job has its time"
    return (keep is not None and job.finished_at + keep <= now) or (keep_count is not None and count > keep_count)
