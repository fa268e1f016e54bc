"""What others report: jobs that ran elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.stores.sql.cold.archive import note_order
from holdfast.stores.sql.cold.audit import trim_audit
from holdfast.stores.sql.lanes import lock_lanes
from holdfast.stores.sql.slice import Need, carry_out

if TYPE_CHECKING:
    from holdfast.job import commands as c
    from holdfast.stores.sql.script import Script, Step


def record_jobs(step: Step, command: c.RecordJobs) -> Script[None]:
    """Upsert records, all or none."""
    ids = sorted({job.id for job in command.jobs})
    yield from step.db.lock("id", ids)
    queues = sorted({job.queue for job in command.jobs})
    yield from carry_out(step, command, Need(ids=ids, attempts=True, queues=queues))


def record_statuses(step: Step, command: c.RecordStatuses) -> Script[list[bool]]:
    """Update states, all or none; tell per update whether there was such a job."""
    ids = sorted({update.id for update in command.updates})
    _, answer = yield from carry_out(step, command, Need(ids=ids, attempts=True))
    known: list[bool] = answer
    return known


def import_jobs(step: Step, command: c.Import) -> Script[tuple[c.Ruling, ...]]:
    """Take in jobs of another store; tell per job whether it came in."""
    ids = sorted({job.id for job in command.jobs})
    yield from step.db.lock("id", ids)
    yield from lock_lanes(step, {job.key for job in command.jobs if job.key is not None})
    need = Need(
        ids=ids,
        uniques=sorted({job.unique for job in command.jobs if job.unique is not None}),
        queues=sorted({job.queue for job in command.jobs}),
    )
    yield from note_order(step, command.jobs)
    _, answer = yield from carry_out(step, command, need)
    rulings: tuple[c.Ruling, ...] = answer
    return rulings


def record_audit(step: Step, command: c.Audit) -> Script[None]:
    """Write an entry of the audit log."""
    yield from carry_out(step, command, Need())
    yield from trim_audit(step)


def record_attempts(step: Step, command: c.RecordAttempts) -> Script[None]:
    """Add attempts, all or none."""
    ids = sorted({report.job for report in command.attempts})
    yield from carry_out(step, command, Need(ids=ids, attempts=True))
