"""The ledger: all rules of Holdfast on state in memory.

    facts, answer = execute(ledger, command, now, draw)

`decide(ledger, command, now, draw)` (see `decide.py`) reads the state and yields facts; each is applied before the next
is decided, so that a batch sees its own effects. Everything that is all or nothing is checked before the first fact is
yielded. `apply(fact)` has two layers: `fold` makes the new value of one job, `Indexes.move` keeps what finds jobs. A
replay calls `apply` alone: it needs no clock and no chance, and ends in the same state.

The clock is the caller's: `now` never steps back between calls. Heartbeats change only `leases` and `beats`, which are
no facts: after a restart the store sets them anew.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NoReturn

from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.ledger import folding
from holdfast.job.ledger.indexes import Indexes
from holdfast.job.ledger.lines import Line, seq_of, time_of
from holdfast.job.ledger.rollup import RollUp
from holdfast.job.model import EPOCH_BITS
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from holdfast.job.ledger.links import Address
    from holdfast.job.model import Definition, Instance, Job, Operation, Schedule, WorkerConfig

#: The audit trail that a ledger keeps in memory.
AUDIT_KEPT: Final = 10_000
_QUEUED: Final = State.QUEUED
_SUCCEEDED: Final = State.SUCCEEDED


class Ledger:
    """Jobs, queues, definitions, schedules, workers, operations, and the indexes over them."""

    def __init__(self) -> None:
        """Make an empty ledger."""
        self.table: dict[int, Job] = {}
        self.index = Indexes(self.table)
        self.definitions: dict[str, Definition] = {}
        self.stopped: set[str] = set()  # tasks whose definition is canceled or deleted
        self.schedules: dict[str, Schedule] = {}
        self.workers: dict[str, WorkerConfig] = {}
        self.instances: dict[str, Instance] = {}
        self.operations: dict[str, Operation] = {}
        self.audit: deque[f.Audited] = deque(maxlen=AUDIT_KEPT)
        self.rollup = RollUp()
        self.epoch = 0
        self.first_token = 0  # where a database says so: its epoch has a fraction
        self.next_seq = 1
        self.stale_refused = 0
        self.exported: int | None = None  # how far the exporter has come; None: there is none
        self.spared: Mapping[
            int, int
        ] = {}  # seqs that retention must spare; kept by the store, and no part of the state
        self.beats: dict[str, Instance] = {}  # the newest beat of each live instance; no facts

    # --- reading

    @property
    def links(self) -> dict[Address, f.KeyLinked]:
        """The newest link of each key that had one."""
        return self.index.links.by_key

    def job(self, job_id: str) -> Job | None:
        """The job of an id, or None."""
        seq = self.index.ids.get(job_id)
        return None if seq is None else self.table[seq]

    def line(self, queue: str) -> Line | None:
        """The line of a queue, or None if no job ever was in it."""
        return self.index.lines.get(queue)

    def next_due(self) -> float | None:
        """When the next scheduled or retrying job becomes ready, in seconds since the epoch."""
        entry = self.index.due.first()
        return None if entry is None else time_of(entry)

    def first_due(self, now: float) -> Job | None:
        """The first waiting job whose time has come."""
        entry = self.index.due.first()
        return self.table[seq_of(entry)] if entry is not None and time_of(entry) <= now else None

    def holder(self, unique: str, now: float) -> Job | None:
        """The job that holds a unique key now: an unfinished one, or one whose window is open."""
        seq = self.index.uniques.get(unique)
        if seq is None:
            return None
        job = self.table[seq]
        if not job.final or (job.unique_window is not None and now < job.created_at + job.unique_window):
            return job
        return None

    def next_token(self, job: Job) -> int:
        """The token of the job's next claim: above its last one, and above all of earlier store epochs."""
        return max(job.token + 1, self.epoch << EPOCH_BITS, self.first_token)

    def between(self, after: int, before: int, *, newest_first: bool = False) -> Iterator[Job]:
        """The jobs whose seq is above `after` and below `before`, in order of acceptance or against it.

        Seq only grows, so the table is in that order and its first key bounds the walk.
        """
        low = max(after + 1, next(iter(self.table), before))
        get = self.table.get
        numbers = range(low, before)
        for seq in reversed(numbers) if newest_first else numbers:
            job = get(seq)
            if job is not None:
                yield job

    # --- changing

    def apply(self, fact: f.Fact) -> None:
        """Make `fact` true. Raises IllegalTransition or ValueError for a fact that can not be: the log is damaged."""
        special = APPLIES.get(type(fact))
        if special is not None:
            special(self, fact)
        else:
            self._apply_to_job(fact)  # type: ignore[arg-type]  # all that are not in the table are job facts

    def replay(self, facts: Iterable[f.Fact]) -> None:
        """Apply facts of a log, in order."""
        for fact in facts:
            self.apply(fact)

    def restore_job(self, job: Job) -> None:
        """Put a job of a snapshot in place."""
        self.table[job.seq] = job
        self.index.move(None, job)
        self.next_seq = max(self.next_seq, job.seq + 1)

    def _apply_to_job(self, fact: f.JobFact) -> None:
        table = self.table
        seq = fact.seq
        old = table.get(seq)
        new = folding.fold(old, fact)
        if new is None:
            self.index.move(old, None)
            del table[seq]
        else:
            table[seq] = new
            self.index.move(old, new)


# --- what is not a plain change of one job -------------------------------------------------------------------------


def _added(ledger: Ledger, fact: f.Added) -> None:
    job = fact.job
    seq = job.seq
    if seq in ledger.table or seq < ledger.next_seq:
        raise ValueError(f"job {job.id} was added as seq {seq}, but the next is {ledger.next_seq}")
    ledger.next_seq = seq + 1
    ledger.table[seq] = job
    if job.state is _QUEUED and job.key is None and job.unique is None and job.sticky is None and not job.suspect:
        ledger.index.accepted(job)
    else:
        ledger.index.move(None, job)


def _recorded(ledger: Ledger, fact: f.Recorded) -> None:
    ledger._apply_to_job(fact)
    ledger.next_seq = max(ledger.next_seq, fact.seq + 1)


def _claimed(ledger: Ledger, fact: f.Claimed) -> None:
    table, seq = ledger.table, fact.seq
    old = table.get(seq) or _missing(fact)
    new = table[seq] = folding.claimed(old, fact)
    if old.key is None and old.unique is None and not old.suspect:
        ledger.index.claimed(new, fact.instance, fact.lease_until)
    else:
        ledger.index.move(old, new)
        ledger.index.leases[seq] = fact.lease_until


def _succeeded(ledger: Ledger, fact: f.Succeeded) -> None:
    table, seq = ledger.table, fact.seq
    old = table.get(seq) or _missing(fact)
    new = table[seq] = folding.succeeded(old, fact)
    ledger.rollup.succeeded(old, fact)
    if old.key is None and old.unique is None and old.last is not None:
        ledger.index.succeeded(new, old.last.instance)
    else:
        ledger.index.move(old, new)


def _purged(ledger: Ledger, fact: f.Purged) -> None:
    table, seq = ledger.table, fact.seq
    old = table.get(seq) or _missing(fact)
    plain = old.state is _SUCCEEDED and old.key is None and old.unique is None and old.deleted_at is None
    if plain and old.origin != EXTERNAL:
        del table[seq]
        ledger.index.purged(old)
    else:
        ledger._apply_to_job(fact)


def _ended(ledger: Ledger, fact: f.Ended) -> None:
    old = ledger.table.get(fact.seq) or _missing(fact)
    ledger._apply_to_job(fact)
    ledger.rollup.ended(old, fact)


def _figured(ledger: Ledger, fact: f.Figured) -> None:
    ledger.rollup.restore(fact)


def _missing(fact: f.JobFact) -> NoReturn:
    raise ValueError(f"{type(fact).__name__} about job seq {fact.seq}, which is not there")


def _refused(ledger: Ledger, fact: f.Refused) -> None:
    ledger.stale_refused += 1
    if fact.seq in ledger.table:
        ledger._apply_to_job(fact)


def _queue_saved(ledger: Ledger, fact: f.QueueSaved) -> None:
    ledger.index.line(fact.queue.name).queue = fact.queue


def _queue_deleted(ledger: Ledger, fact: f.QueueDeleted) -> None:
    del ledger.index.lines[fact.name]


def _definition_saved(ledger: Ledger, fact: f.DefinitionSaved) -> None:
    definition = fact.definition
    for alias in [known.alias for known in ledger.definitions.values() if known.id == definition.id]:
        del ledger.definitions[alias]
        ledger.stopped.discard(alias)
    ledger.definitions[definition.alias] = definition
    if not definition.runs:
        ledger.stopped.add(definition.alias)


def _definition_deleted(ledger: Ledger, fact: f.DefinitionDeleted) -> None:
    del ledger.definitions[fact.alias]
    ledger.stopped.discard(fact.alias)


def _schedule_saved(ledger: Ledger, fact: f.ScheduleSaved) -> None:
    ledger.schedules[fact.schedule.name] = fact.schedule


def _worker_saved(ledger: Ledger, fact: f.WorkerSaved) -> None:
    ledger.workers[fact.config.name] = fact.config


def _worker_deleted(ledger: Ledger, fact: f.WorkerDeleted) -> None:
    del ledger.workers[fact.name]


def _instance_saved(ledger: Ledger, fact: f.InstanceSaved) -> None:
    ledger.instances[fact.instance.id] = fact.instance
    for _, key in ledger.index.links.seen(fact.instance):
        ledger.index.owner_changed(key)


def _instance_gone(ledger: Ledger, fact: f.InstanceGone) -> None:
    del ledger.instances[fact.id]
    ledger.beats.pop(fact.id, None)
    ledger.index.links.forget(fact.id)


def _operation_saved(ledger: Ledger, fact: f.OperationSaved) -> None:
    ledger.operations[fact.operation.id] = fact.operation


def _opened(ledger: Ledger, fact: f.Opened) -> None:
    ledger.epoch = max(ledger.epoch, fact.epoch)


def _key_linked(ledger: Ledger, fact: f.KeyLinked) -> None:
    ledger.index.links.put(fact)
    ledger.index.owner_changed(fact.key)


def _exported(ledger: Ledger, fact: f.Exported) -> None:
    ledger.exported = max(fact.upto, ledger.exported or 0) if fact.on else None


def _audited(ledger: Ledger, fact: f.Audited) -> None:
    ledger.audit.append(fact)


#: What is more than a change of one job by `fold`.
APPLIES: Final[Mapping[type, Callable[[Ledger, Any], None]]] = {
    f.Added: _added,
    f.Claimed: _claimed,
    f.Succeeded: _succeeded,
    f.Ended: _ended,
    f.Purged: _purged,
    f.Refused: _refused,
    f.QueueSaved: _queue_saved,
    f.QueueDeleted: _queue_deleted,
    f.DefinitionSaved: _definition_saved,
    f.DefinitionDeleted: _definition_deleted,
    f.ScheduleSaved: _schedule_saved,
    f.WorkerSaved: _worker_saved,
    f.WorkerDeleted: _worker_deleted,
    f.InstanceSaved: _instance_saved,
    f.InstanceGone: _instance_gone,
    f.OperationSaved: _operation_saved,
    f.Opened: _opened,
    f.KeyLinked: _key_linked,
    f.Audited: _audited,
    f.Recorded: _recorded,
    f.Exported: _exported,
    f.Figured: _figured,
}
