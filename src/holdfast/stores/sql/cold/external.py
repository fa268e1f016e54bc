"""What others report: jobs that ran elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.stores.sql.lanes import lock_lanes
from holdfast.stores.sql.slice import Need, carry_out

if TYPE_CHECKING:
    from holdfast.job import commands as c
    from holdfast.stores.sql.script import Script, Step

#: How many entries of the audit log a database keeps, and how many more there may be before the oldest go.
AUDIT_KEPT: Final = 100_000
AUDIT_SLACK: Final = 1_000


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
    _, answer = yield from carry_out(step, command, need)
    rulings: tuple[c.Ruling, ...] = answer
    return rulings


def record_audit(step: Step, command: c.Audit) -> Script[None]:
    """Write an entry of the audit log."""
    yield from carry_out(step, command, Need())
    yield from trim_audit(step)


def trim_audit(step: Step) -> Script[None]:
    """Let the oldest entries go: the newest AUDIT_KEPT stay."""
    [[oldest, newest]] = yield step.db.q("SELECT min(seq), max(seq) FROM {audit}")
    if newest is not None and newest - oldest >= AUDIT_KEPT + AUDIT_SLACK:
        yield step.db.q("DELETE FROM {audit} WHERE seq <= ?", newest - AUDIT_KEPT)


def record_attempts(step: Step, command: c.RecordAttempts) -> Script[None]:
    """Add attempts, all or none."""
    ids = sorted({report.job for report in command.attempts})
    yield from carry_out(step, command, Need(ids=ids, attempts=True))
