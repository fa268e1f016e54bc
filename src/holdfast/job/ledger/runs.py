"""Runs: facts of one kind that were decided together, and are applied together. They are the hot part of a job's life.

What one fact of a run says does not depend on the others. Each job is folded by itself, and is in the table before the next
one is looked at; the indexes of those without a key and a unique key move all at once. What is not as plain goes as any fact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.ledger import folding
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.job.ledger.ledger import Ledger
    from holdfast.job.model import Job

_QUEUED: Final = State.QUEUED
_SUCCEEDED: Final = State.SUCCEEDED


def _added(ledger: Ledger, facts: Sequence[f.Added]) -> None:
    table, index = ledger.table, ledger.index
    plain: list[Job] = []
    for fact in facts:
        job = fact.job
        seq = job.seq
        if seq < ledger.next_seq:
            raise ValueError(f"job {job.id} was added as seq {seq}, but the next is {ledger.next_seq}")
        ledger.next_seq = seq + 1
        table[seq] = job
        if (
            job.state is _QUEUED
            and job.key is None
            and job.unique is None
            and job.sticky is None
            and job.last is None
            and not job.suspect
            and job.origin != EXTERNAL
        ):  # else it came from another store
            plain.append(job)
        else:
            index.move(None, job)
            ledger.reports.note(None, job)
    index.accepted(plain)


def _claimed(ledger: Ledger, facts: Sequence[f.Claimed]) -> None:
    table, index = ledger.table, ledger.index
    plain: list[Job] = []
    fold = folding.claimed
    for fact in facts:
        seq = fact.seq
        old = table.get(seq) or folding.missing(fact)
        new = table[seq] = fold(old, fact)
        if old.key is None and old.unique is None and not old.suspect:
            plain.append(new)
        else:
            index.move(old, new)
    index.claimed(plain)
    index.leases.update([(fact.seq, fact.lease_until) for fact in facts])


def _succeeded(ledger: Ledger, facts: Sequence[f.Succeeded]) -> None:
    table, index = ledger.table, ledger.index
    plain: list[Job] = []
    ran: list[Job] = []
    fold = folding.succeeded
    for fact in facts:
        seq = fact.seq
        old = table.get(seq) or folding.missing(fact)
        new = table[seq] = fold(old, fact)
        ran.append(old)
        if old.key is None and old.unique is None:
            plain.append(new)
        else:
            index.succeeded(plain)  # what retention purges stands in the order in which it ended
            plain = []
            index.move(old, new)
    index.succeeded(plain)
    ledger.rollup.succeeded(ran, facts)


def _purged(ledger: Ledger, facts: Sequence[f.Purged]) -> None:
    table, has_exporter = ledger.table, ledger.exported is not None
    plain: list[Job] = []
    for fact in facts:
        seq = fact.seq
        old = table.get(seq) or folding.missing(fact)
        if has_exporter and not fact.lapsed:
            ledger.gone.add(seq)
        is_plain = old.state is _SUCCEEDED and old.key is None and old.unique is None and old.deleted_at is None
        if is_plain and old.origin != EXTERNAL:
            del table[seq]
            plain.append(old)
        else:
            ledger.apply_to_job(fact)
    ledger.index.purged(plain)


#: How facts of a kind are applied together.
RUNS: Final[Mapping[type, Callable[[Ledger, Sequence[Any]], None]]] = {
    f.Added: _added,
    f.Claimed: _claimed,
    f.Succeeded: _succeeded,
    f.Purged: _purged,
}
