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

from bisect import insort
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from holdfast.job import facts as f
from holdfast.job.ledger import folding
from holdfast.job.ledger.indexes import Indexes
from holdfast.job.ledger.lines import Line, seq_of, time_of
from holdfast.job.ledger.rollup import RollUp
from holdfast.job.ledger.runs import RUNS
from holdfast.job.ledger.tally import Reports
from holdfast.job.model import EPOCH_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from holdfast.job.ledger.links import Address
    from holdfast.job.model import Definition, Instance, Job, Operation, Schedule, WorkerConfig

#: The audit trail that a ledger keeps in memory.
AUDIT_KEPT: Final = 10_000


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
        self.reports = Reports()
        self.epoch = 0
        self.first_token = 0  # where a database says so: its epoch has a fraction
        self.salt = 0  # where the tokens of each epoch begin; a restored journal has its own
        self.next_seq = 1
        self.stale_refused = 0
        self.exported: int | None = None  # how far the exporter has come; None: there is none
        self.gone: set[int] = set()  # seqs of jobs that a person purged, and that the exporter was not told of yet
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
        return max(job.token + 1, self.epoch_token)

    @property
    def epoch_token(self) -> int:
        """The first token that may be given now."""
        return max((self.epoch << EPOCH_BITS) + self.salt, self.first_token)

    def between(self, after: int, before: int, *, newest_first: bool = False) -> Iterator[Job]:
        """The jobs whose seq is above `after` and below `before`, in order of acceptance or against it.

        Seq only grows, so the table is in that order and its first key bounds the walk.
        """
        low = max(after + 1, next(iter(self.table), before))
        get = self.table.get
        numbers = range(low, min(before, self.next_seq))
        for seq in reversed(numbers) if newest_first else numbers:
            job = get(seq)
            if job is not None:
                yield job

    # --- changing

    def apply(self, fact: f.Fact) -> None:
        """Make `fact` true. Raises IllegalTransition or ValueError for a fact that can not be: the log is damaged."""
        kind = type(fact)
        if kind in RUNS:
            RUNS[kind](self, (fact,))
        elif kind in APPLIES:
            APPLIES[kind](self, fact)
        else:
            self.apply_to_job(fact)  # type: ignore[arg-type]  # all that are not in the tables are job facts

    def apply_run(self, facts: Sequence[f.Fact]) -> None:
        """Make facts of one kind true, at once where the kind allows it. Raises as `apply`."""
        run = RUNS.get(type(facts[0]))
        if run is not None:
            run(self, facts)
        else:
            for fact in facts:
                self.apply(fact)

    def replay(self, facts: Iterable[f.Fact]) -> None:
        """Apply facts of a log, in order."""
        for _, run in groupby(facts, type):
            self.apply_run(list(run))

    def restore_job(self, job: Job) -> None:
        """Put a job of a snapshot in place."""
        self.table[job.seq] = job
        self.index.move(None, job)
        self.next_seq = max(self.next_seq, job.seq + 1)

    def apply_to_job(self, fact: f.JobFact) -> None:
        """Make a fact about one job true, whatever the job is like."""
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


def _recorded(ledger: Ledger, fact: f.Recorded) -> None:
    old = ledger.table.get(fact.seq)
    ledger.apply_to_job(fact)
    ledger.reports.note(old, ledger.table[fact.seq])
    ledger.next_seq = max(ledger.next_seq, fact.seq + 1)


def _ended(ledger: Ledger, fact: f.Ended) -> None:
    old = ledger.table.get(fact.seq)
    ledger.apply_to_job(fact)
    assert old is not None, "else it could not be folded"
    ledger.rollup.ended(old, fact)


def _figured(ledger: Ledger, fact: f.Figured) -> None:
    ledger.rollup.restore(fact)


def _reported(ledger: Ledger, fact: f.Reported) -> None:
    ledger.reports.restore(fact)


def _refused(ledger: Ledger, fact: f.Refused) -> None:
    ledger.stale_refused += 1
    if fact.seq in ledger.table:
        ledger.apply_to_job(fact)


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
    if fact.on:
        ledger.gone.difference_update(fact.gone)
    else:
        ledger.gone.clear()


def _forgotten(ledger: Ledger, fact: f.Forgotten) -> None:
    if ledger.exported is not None:
        ledger.gone.update(fact.gone)


def _audited(ledger: Ledger, fact: f.Audited) -> None:
    if not ledger.audit or ledger.audit[-1].at <= fact.at:
        ledger.audit.append(fact)
        return
    entries = list(ledger.audit)  # one of another store has the place of its time
    insort(entries, fact, key=lambda entry: entry.at)
    ledger.audit = deque(entries, maxlen=AUDIT_KEPT)


#: What is more than a change of one job by `fold`, and is no run.
APPLIES: Final[Mapping[type, Callable[[Ledger, Any], None]]] = {
    f.Ended: _ended,
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
    f.Forgotten: _forgotten,
    f.Figured: _figured,
    f.Reported: _reported,
}
