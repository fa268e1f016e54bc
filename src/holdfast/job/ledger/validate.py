"""`validate(ledger)`: find any job in no place or in two; `canonical(ledger)`: one hash for one state."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.job.external import EXTERNAL
from holdfast.job.facts import encode_job
from holdfast.job.ledger.indexes import Indexes
from holdfast.job.ledger.lines import due_key, ready_key
from holdfast.job.state import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.job.ledger.ledger import Ledger
    from holdfast.job.model import Job


class Fault(NamedTuple):
    """Something that can not be."""

    job_id: str
    what: str


def validate(ledger: Ledger) -> list[Fault]:
    """Return every contradiction between the jobs, their own fields, and the indexes. An empty list is a sound ledger."""
    faults = [Fault(job.id, what) for job in ledger.table.values() for what in _job_faults(job)]
    faults += _placing_faults(ledger)
    faults += _index_faults(ledger)
    return faults


def _job_faults(job: Job) -> Iterator[str]:
    if (job.state in FINAL) != (job.finished_at is not None):
        yield f"it is {job.state} with finished_at {job.finished_at}"
    if job.origin == EXTERNAL:
        return  # its attempts are what others reported
    tokens = [attempt.token for attempt in job.attempts]
    if tokens != sorted(set(tokens)):
        yield "tokens of its attempts do not grow"
    if job.attempt and (job.last is None or job.last.number != job.attempt or job.last.token != job.token):
        yield "its last attempt does not bear its attempt number and token"
    running = job.state is State.RUNNING
    if running != (job.last is not None and job.last.end is None):
        yield f"it is {job.state} but its last attempt says otherwise"


def _placing_faults(ledger: Ledger) -> Iterator[Fault]:
    """Each job is in exactly the places that its state asks for."""
    index = ledger.index
    heads = {lane.head() for lane in index.lanes.values()}
    for job in ledger.table.values():
        line = index.lines.get(job.queue)
        ours = job.origin != EXTERNAL
        claimable = ours and job.state is State.QUEUED and (job.key is None or job.seq in heads)
        if (line is not None and job.seq in line.sticky.where) != (claimable and job.sticky is not None):
            yield Fault(
                job.id, f"it is {job.state}, claimable by its owner is {claimable}, and its sticky line differs"
            )
        claimable = claimable and job.sticky is None
        ready = line is not None and (line.ready.live.get(job.seq), line.suspects.live.get(job.seq))
        wanted = (None, ready_key(job)) if job.suspect else (ready_key(job), None)
        if ready != (wanted if claimable else (None, None)):
            yield Fault(job.id, f"it is {job.state}, claimable is {claimable}, and its ready entries are {ready}")
        due = due_key(job) if ours and job.state in (State.SCHEDULED, State.RETRYING) else None
        if index.due.live.get(job.seq) != due:
            yield Fault(job.id, f"it is {job.state} and its due entry is {index.due.live.get(job.seq)}")
        owner = job.last.instance if ours and job.state is State.RUNNING and job.last else None
        owners = [name for name, claims in index.running.items() if job.seq in claims]
        if owners != ([owner] if owner is not None else []) or (job.seq in index.leases) != (owner is not None):
            yield Fault(job.id, f"it is {job.state} and is listed as running at {owners}")
        if index.ids.get(job.id) != job.seq:
            yield Fault(job.id, "its id does not lead to it")


def _index_faults(ledger: Ledger) -> Iterator[Fault]:
    """The indexes name nothing else, and their counts are the true ones."""
    fresh = Indexes(ledger.table, ledger.index.links)
    for job in ledger.table.values():
        fresh.move(None, job)
    index = ledger.index
    for name in index.lines.keys() | fresh.lines.keys():
        have, want = index.line(name), fresh.line(name)
        if (have.counts, have.records) != (want.counts, want.records):
            yield Fault(f"queue {name}", f"counts are {have.counts}, found {want.counts}")
        if have.ready.live != want.ready.live or have.suspects.live != want.suspects.live:
            yield Fault(f"queue {name}", "its ready line holds other jobs than those that are ready")
        if have.sticky.where != want.sticky.where:
            yield Fault(f"queue {name}", "its sticky line gives jobs to others than the owners of their keys")
    for part in ("ids", "running"):
        if getattr(index, part) != getattr(fresh, part):
            yield Fault(part, "differs from what the jobs say")
    if (index.tally.ended, index.tally.tried.keys()) != (fresh.tally.ended, fresh.tally.tried.keys()):
        yield Fault("tally", "differs from what the jobs say")
    if _unfinished_holders(ledger, index) != _unfinished_holders(ledger, fresh):
        yield Fault("uniques", "differs from what the jobs say")
    if index.due.live != fresh.due.live or index.leases.keys() != fresh.leases.keys():
        yield Fault("due or leases", "differs from what the jobs say")
    lanes = {key: (set(lane.line.live), lane.busy) for key, lane in index.lanes.items()}
    if lanes != {key: (set(lane.line.live), lane.busy) for key, lane in fresh.lanes.items()}:
        yield Fault("lanes", "differ from what the jobs say")


def _unfinished_holders(ledger: Ledger, index: Indexes) -> dict[str, int]:
    """Who holds which unique key. A finished holder counts only while its window is open, which needs a clock to tell."""
    return {key: seq for key, seq in index.uniques.items() if not ledger.table[seq].final}


def canonical(ledger: Ledger) -> str:
    """Return a hash of all that is stored (jobs, queues, definitions …; not leases and beats, which are no facts)."""
    digest = blake2b(digest_size=32)
    for seq in sorted(ledger.table):
        digest.update(encode_job(ledger.table[seq]))
    rest = [
        sorted((name, line.queue) for name, line in ledger.index.lines.items()),
        sorted(ledger.definitions.items()),
        sorted(ledger.schedules.items()),
        sorted(ledger.workers.items()),
        sorted(ledger.instances.items()),
        sorted(ledger.operations.items()),
        sorted(ledger.links.items()),
        [ledger.epoch, ledger.next_seq, ledger.stale_refused],
        [ledger.exported, sorted(ledger.gone)],
        list(ledger.rollup.facts()),
        list(ledger.reports.facts()),
    ]
    digest.update(msgspec.msgpack.encode(rest))
    return digest.hexdigest()
