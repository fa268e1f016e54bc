"""Rules for what others report: jobs that ran elsewhere, and workers that tell of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdfast.errors import UnknownJob
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.external import refuse_owned, upserted, with_attempt, with_status
from holdfast.job.model import Job, Queue

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger


def record_jobs(ledger: Ledger, command: c.RecordJobs, now: float, _draw: Draw) -> Generator[f.Fact, None, None]:
    """Upsert records, all or none. Raises Conflict if the engine owns one of the ids."""
    for given in command.jobs:
        known = ledger.job(given.id)
        if known is not None:
            refuse_owned(known)
    for given in command.jobs:
        if given.queue not in ledger.index.lines:
            yield f.QueueSaved(Queue(name=given.queue, created_at=now, updated_at=now))
        known = ledger.job(given.id)
        yield f.Recorded(upserted(known, given, known.seq if known else ledger.next_seq, now))


def record_statuses(
    ledger: Ledger, command: c.RecordStatuses, now: float, _draw: Draw
) -> Generator[f.Fact, None, list[bool]]:
    """Update states, all or none; tell per update whether there was such a job. Raises Conflict as above."""
    changed: dict[str, Job] = {}
    for update in command.updates:
        known = changed.get(update.id) or ledger.job(update.id)
        if known is not None:
            changed[update.id] = with_status(known, update, now)
    for job in changed.values():
        yield f.Recorded(job)
    return [update.id in changed for update in command.updates]


def record_attempts(
    ledger: Ledger, command: c.RecordAttempts, now: float, _draw: Draw
) -> Generator[f.Fact, None, None]:
    """Add attempts, all or none. Raises UnknownJob, and Conflict as `with_attempt` does."""
    changed: dict[str, Job] = {}
    for report in command.attempts:
        known = changed.get(report.job) or ledger.job(report.job)
        if known is None:
            raise UnknownJob(report.job)
        changed[report.job] = with_attempt(known, report.attempt, now)
    for job in changed.values():
        if job is not ledger.job(job.id):
            yield f.Recorded(job)


def export(_ledger: Ledger, command: c.Export, _now: float, _draw: Draw) -> Generator[f.Fact, None, None]:
    """Note how far an exporter has come."""
    yield f.Exported(command.on, command.upto, command.gone)


def worker_beat(ledger: Ledger, command: c.WorkerBeat, _now: float, _draw: Draw) -> Generator[f.Fact, None, bool]:
    """Note when a configured worker was last heard of; False if there is none of that name."""
    known = ledger.workers.get(command.name)
    if known is None:
        return False
    if known.last_heartbeat_at != command.at:
        yield f.WorkerSaved(replace(known, last_heartbeat_at=command.at))
    return True
