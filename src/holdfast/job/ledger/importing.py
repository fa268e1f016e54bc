"""Rules for what comes from another store: jobs with all that they have been through, figures, the audit log.

A job keeps its id, state, budgets and attempts, and gets a new place in the order of acceptance. Its tokens go on above all
that the other store gave out. Whoever ran it there is not known here: a running job is ready again, unspent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.figures import Key
from holdfast.job.model import Job, Queue
from holdfast.job.state import End, State

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger


def import_jobs(
    ledger: Ledger, command: c.Import, now: float, _draw: Draw
) -> Generator[f.Fact, None, tuple[c.Ruling, ...]]:
    """Take jobs in; one whose id is here already is left as it is, and told so."""
    if ledger.epoch <= command.epoch:
        yield f.Opened(command.epoch + 1, now)
    rulings = []
    for job in command.jobs:
        why = _refusal(ledger, job, now)
        if not why:
            if job.queue not in ledger.index.lines:
                yield f.QueueSaved(Queue(name=job.queue, created_at=now, updated_at=now))
            yield f.Added(imported(job, ledger.next_seq, now))
        rulings.append(c.Ruling(job.id, not why, why))
    return tuple(rulings)


def import_records(ledger: Ledger, command: c.ImportRecords, _now: float, _draw: Draw) -> Generator[f.Fact, None, int]:
    """Take in figures and entries of the audit log that are not here; tell how many these are."""
    taken = 0
    for figure in command.figures:
        key = Key(figure.queue, figure.task, figure.outcome, figure.worker)
        if not ledger.rollup.knows(figure.span, figure.number, key):
            taken += 1
            yield figure
    known = set(ledger.audit)
    for entry in command.audit:
        if entry not in known:
            known.add(entry)
            taken += 1
            yield entry
    return taken


def _refusal(ledger: Ledger, job: Job, now: float) -> str:
    if ledger.job(job.id) is not None:
        return "its id is here already: it is left as it is"
    holder = ledger.holder(job.unique, now) if job.unique is not None and not job.final else None
    return f"its unique key {job.unique!r} is held by job {holder.id}" if holder is not None else ""


def imported(job: Job, seq: int, now: float) -> Job:
    """Return a job of another store as it is here."""
    job = replace(job, seq=seq, pod=None, pod_epoch=0)
    if job.state is not State.RUNNING:
        return job
    assert job.last is not None, "a running job has an attempt"
    ended = replace(job.last, end=End.RELEASED, ended_at=now, reason="it was running when it was exported")
    if job.cancel is not None:
        return replace(job, state=State.CANCELED, last=ended, finished_at=now, updated_at=now)
    return replace(job, state=State.QUEUED, last=ended, queued_at=now, updated_at=now)
