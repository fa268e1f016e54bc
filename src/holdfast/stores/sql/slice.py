"""Load, execute, write back: the ledger's own rules on a few rows.

A command that touches more than a plain job is done by the very code that memory and journal use. What it may touch is
loaded, locked and in order, into a ledger made for this step; the command is executed; what changed is written. So the
databases can not differ from the ledger in a rule.

New jobs are numbered from PROVISIONAL on until the database has numbered them. Who runs and who is next in line is not
known to such a ledger, as it holds a few jobs only: commands that need to know it do not come this way, or load it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.ledger import Ledger, execute
from holdfast.job.ledger.links import may_own
from holdfast.job.model import ATTEMPTS_KEPT, Definition, Instance, Job, Operation, Queue, Schedule, WorkerConfig
from holdfast.job.state import State
from holdfast.stores.sql.lanes import lock_lanes, set_heads
from holdfast.stores.sql.links import forget
from holdfast.stores.sql.rows import (
    HIDDEN,
    attempt_from,
    attempt_row,
    body_from,
    body_of,
    code_of,
    done_row,
    is_final,
    job_from,
    job_row,
    micros,
    micros_or_none,
    seconds,
)
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.stats import ended_of, roll_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.stores.sql.script import Row, Script, Step

PROVISIONAL: Final = 1 << 50
JOBS: Final = f"SELECT {', '.join(JOB_COLUMNS)} FROM {{job}}"
DONES: Final = f"SELECT {', '.join(DONE_COLUMNS)} FROM {{done}}"
_LEASE: Final = JOB_COLUMNS.index("lease_until")
#: How many ended jobs of one unique key are looked at. Their windows never overlap, so the newest ones are enough.
_NEWEST: Final = 3


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a command may touch. `holders`: also the jobs that hold the unique keys of the jobs that are loaded."""

    ids: Sequence[str] = ()
    seqs: Sequence[int] = ()
    uniques: Sequence[str] = ()
    holders: bool = False
    attempts: bool = False  # with their earlier attempts
    queues: Sequence[str] = ()
    tasks: Sequence[str] = ()  # definitions by alias
    definitions: bool = False  # all of them
    schedules: Sequence[str] = ()
    workers: Sequence[str] = ()
    instances: Sequence[str] = ()
    operations: Sequence[str] = ()


class Slice:
    """A ledger that holds what was loaded, and what that was."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ledger.next_seq = PROVISIONAL
        self.ledger.rollup.enabled = False  # what ends is counted in the table, see stats.py
        self.loaded: dict[int, Job] = {}
        self.leases: dict[int, float] = {}

    def take(self, rows: Iterable[Row]) -> None:
        """Take jobs, live or ended."""
        for row in rows:
            job = job_from(row)
            self.loaded[job.seq] = job
            if job.state is State.RUNNING:
                self.leases[job.seq] = seconds(row[_LEASE])

    def settle_in(self) -> None:
        """Put the jobs that were taken into the ledger."""
        ledger = self.ledger
        for seq in sorted(self.loaded):
            ledger.table[seq] = self.loaded[seq]
        # Of those that held a unique key, the one that ended last counts, and one that has not ended more than all.
        for job in sorted(self.loaded.values(), key=_by_end):
            ledger.index.move(None, job)
        for seq, until in self.leases.items():
            if seq in ledger.index.leases:
                ledger.index.leases[seq] = until


def _by_end(job: Job) -> tuple[bool, float, int]:
    return (not job.final, job.finished_at or 0.0, job.seq)


def carry_out(step: Step, command: object, need: Need) -> Script[tuple[list[f.Fact], Any]]:
    """Do a command by the ledger's rules on what it needs; return its facts and its answer."""
    part = yield from load(step, need)
    return (yield from do(step, part, command))


def do(step: Step, part: Slice, command: object) -> Script[tuple[list[f.Fact], Any]]:
    """Do a command on what was loaded, and write what it changed."""
    now = seconds((yield from step.now()))
    facts, answer = execute(part.ledger, command, now, step.draw)
    numbers = yield from write_back(step, part, facts)
    if numbers and isinstance(command, c.Enqueue):
        answer = [_numbered(one, numbers) for one in answer]
    return facts, answer


def _numbered(one: c.Enqueued, numbers: dict[int, int]) -> c.Enqueued:
    seq = numbers.get(one.job.seq)
    return one if seq is None else c.Enqueued(one.verdict, replace(one.job, seq=seq))


# --- loading -------------------------------------------------------------------------------------------------------


def load(step: Step, need: Need) -> Script[Slice]:
    """Lock and load what is needed."""
    part = Slice()
    if step.db.locks:
        yield from _lock(step, need)
    yield from _load_jobs(step, part, need)
    if need.holders:
        held = sorted({job.unique for job in part.loaded.values() if job.unique is not None})
        yield from _load_jobs(step, part, Need(uniques=held))
    if need.attempts:
        yield from _load_attempts(step, part)
    part.settle_in()
    yield from _load_things(step, part.ledger, need)
    return part


def _lock(step: Step, need: Need) -> Script[None]:
    """Lock names before rows, each kind in order, so that no two wait for each other. Keys and ids never change."""
    keys: set[str] = set()
    uniques: set[str] = set(need.uniques)
    for table in ("job", "done"):
        for where, values in _wheres(need):
            rows = yield step.db.q(f"SELECT lane_key, uniq FROM {{{table}}} WHERE {where}", values)
            keys |= {key for key, _ in rows if key is not None}
            uniques |= {unique for _, unique in rows if unique is not None}
    yield from lock_lanes(step, keys)
    yield from step.db.lock("unique", uniques)


def _wheres(need: Need) -> list[tuple[str, list[Any]]]:
    wheres: list[tuple[str, list[Any]]] = []
    if need.seqs:
        wheres.append(("seq {ints}", list(need.seqs)))
    if need.ids:
        wheres.append(("id {texts}", list(need.ids)))
    if need.uniques:
        wheres.append(("uniq {texts}", list(need.uniques)))
    return wheres


def _load_jobs(step: Step, part: Slice, need: Need) -> Script[None]:
    for where, values in _wheres(need):
        part.take((yield step.db.q(f"{JOBS} WHERE {where} ORDER BY seq {{lock}}", values)))
        if not where.startswith("uniq"):
            part.take((yield step.db.q(f"{DONES} WHERE {where} ORDER BY seq {{lock}}", values)))
    for unique in need.uniques:
        part.take((yield step.db.q(f"{DONES} WHERE uniq = ? ORDER BY seq DESC LIMIT {_NEWEST}", unique)))


def _load_attempts(step: Step, part: Slice) -> Script[None]:
    tried = [seq for seq, job in part.loaded.items() if job.attempt > 0]
    if not tried:
        return
    past = yield from attempts_of(step, tried)
    for seq, attempts in past.items():
        part.loaded[seq] = with_past(part.loaded[seq], attempts)


def attempts_of(step: Step, seqs: Sequence[int]) -> Script[dict[int, list[Any]]]:
    """The stored attempts of these jobs, oldest first."""
    rows = yield step.db.q("SELECT seq, body FROM {attempt} WHERE seq {ints} ORDER BY seq, number", list(seqs))
    found: dict[int, list[Any]] = {}
    for seq, body in rows:
        found.setdefault(seq, []).append(attempt_from(bytes(body)))
    return found


def with_past(job: Job, attempts: Sequence[Any]) -> Job:
    """Return a job with its earlier attempts: those that are stored, but not the one that the job itself tells."""
    last = job.last.number if job.last is not None else 0
    past = tuple(one for one in attempts if one.number != last)
    return replace(job, past=past[-ATTEMPTS_KEPT:]) if past else job


def _load_things(step: Step, ledger: Ledger, need: Need) -> Script[None]:
    db = step.db
    for name, body in (yield from _bodies(step, "queue", "name", need.queues)):
        ledger.index.line(name).queue = body_from(body, Queue)
    if need.definitions:
        rows = yield db.q("SELECT alias, body FROM {definition}")
    else:
        rows = yield from _bodies(step, "definition", "alias", need.tasks)
    for alias, body in rows:
        definition = ledger.definitions[alias] = body_from(bytes(body), Definition)
        if not definition.runs:
            ledger.stopped.add(alias)
    for name, body in (yield from _bodies(step, "schedule", "name", need.schedules)):
        ledger.schedules[name] = body_from(body, Schedule)
    for name, body in (yield from _bodies(step, "worker", "name", need.workers)):
        ledger.workers[name] = body_from(body, WorkerConfig)
    for name, body in (yield from _bodies(step, "operation", "id", need.operations)):
        ledger.operations[name] = body_from(body, Operation)
    if need.instances:
        rows = yield db.q("SELECT id, body, beat FROM {instance} WHERE id {texts}", list(need.instances))
        for name, body, beat in rows:
            ledger.instances[name] = body_from(bytes(body), Instance)
            if beat is not None:
                ledger.beats[name] = body_from(bytes(beat), Instance)


def _bodies(step: Step, table: str, column: str, names: Sequence[str]) -> Script[list[Row]]:
    if not names:
        return []
    rows = yield step.db.q(f"SELECT {column}, body FROM {{{table}}} WHERE {column} {{texts}} {{lock}}", list(names))
    return [(name, bytes(body)) for name, body in rows]


# --- writing back --------------------------------------------------------------------------------------------------


def write_back(step: Step, part: Slice, facts: Sequence[f.Fact]) -> Script[dict[int, int]]:
    """Write what the facts changed; return the numbers that new jobs got for their provisional ones."""
    for fact in facts:
        write = _THINGS.get(type(fact))
        if write is not None:
            yield from write(step, fact)
    refused = sum(type(fact) is f.Refused for fact in facts)
    if refused:
        yield from step.db.add("counter", [("stale_refused", 0, refused)])
    yield from roll_up(step, ended_of(facts, part.loaded))
    touched = dict.fromkeys(seq for fact in facts if (seq := getattr(fact, "seq", None)) is not None)
    return (yield from _write_jobs(step, part, list(touched)))


def _write_jobs(step: Step, part: Slice, touched: Sequence[int]) -> Script[dict[int, int]]:
    db, table, leases = step.db, part.ledger.table, part.ledger.index.leases
    pairs = [(part.loaded.get(seq), table.get(seq)) for seq in touched]
    pairs = [(old, new) for old, new in pairs if old is not new]
    new_ones = [new for old, new in pairs if old is None and new is not None]
    numbers = yield from _write_new(step, new_ones)
    changed = [(old, new) for old, new in pairs if old is not None]
    live, dead = _moves(changed)
    yield from db.delete(
        "job", "seq", [old.seq for old, new in changed if not old.final and (new is None or new.final)]
    )
    yield from db.delete("done", "seq", [old.seq for old, new in changed if old.final and not is_final(new)])
    yield from db.update("job", [job_row(new, leases.get(new.seq, 0.0)) for old, new in live if not old.final])
    yield from db.put("job", [job_row(new, leases.get(new.seq, 0.0)) for old, new in live if old.final])
    yield from db.update("done", [done_row(new) for old, new in dead if old.final])
    yield from db.put("done", [done_row(new) for old, new in dead if not old.final])
    yield from _write_attempts(step, pairs, numbers)
    yield from _count(step, pairs)
    yield from db.feed.changed(step, pairs, numbers)
    keys = {job.key for pair in pairs for job in pair if job is not None and job.key is not None}
    yield from set_heads(step, keys)
    _tell(step, pairs)
    return numbers


def _moves(changed: Sequence[tuple[Job, Job | None]]) -> tuple[list[tuple[Job, Job]], list[tuple[Job, Job]]]:
    live = [(old, new) for old, new in changed if new is not None and not new.final]
    dead = [(old, new) for old, new in changed if new is not None and new.final]
    return live, dead


def _write_new(step: Step, jobs: Sequence[Job]) -> Script[dict[int, int]]:
    """Store jobs that are new. A record may be new and ended: it is numbered with the live ones and then moves on."""
    if not jobs:
        return {}
    # Under a state that a live row may have: a table may refuse others.
    live = [replace(job, state=State.PAUSED) if job.final else job for job in jobs]
    seqs = yield from step.db.insert_jobs([job_row(job) for job in live])
    numbers = {job.seq: seq for job, seq in zip(jobs, seqs, strict=True)}
    ended = [replace(job, seq=numbers[job.seq]) for job in jobs if job.final]
    yield from step.db.delete("job", "seq", [job.seq for job in ended])
    yield from step.db.put("done", [done_row(job) for job in ended])
    return numbers


def _write_attempts(
    step: Step, pairs: Sequence[tuple[Job | None, Job | None]], numbers: dict[int, int]
) -> Script[None]:
    rows: list[Row] = []
    gone: list[int] = []
    for old, new in pairs:
        if new is None:
            assert old is not None, "a pair has a job on one side at least"
            gone.append(old.seq)
            continue
        known = {} if old is None else _stored(old)
        seq = numbers.get(new.seq, new.seq)
        rows += [attempt_row(seq, one) for number, one in _stored(new).items() if known.get(number) != one]
    yield from step.db.upsert("attempt", rows)
    yield from step.db.delete("attempt", "seq", gone)


def _stored(job: Job) -> dict[int, Any]:
    """The attempts of a job that are rows of their own: all but one that runs, or that the ended job itself tells."""
    attempts = {one.number: one for one in job.past}
    last = job.last
    if last is not None and last.end is not None and not job.final and job.origin != EXTERNAL:
        attempts[last.number] = last
    return attempts


def _count(step: Step, pairs: Sequence[tuple[Job | None, Job | None]]) -> Script[None]:
    """Keep the counts of ended jobs, of those that are hidden too."""
    counts: Counter[tuple[str, int]] = Counter()
    for old, new in pairs:
        for job, sign in ((old, -1), (new, 1)):
            if job is not None and job.final:
                counts[job.queue, code_of(job) + (HIDDEN if job.deleted_at is not None else 0)] += sign
    yield from step.db.add(
        "tally", [(queue, code, step.db.shard, n) for (queue, code), n in sorted(counts.items()) if n]
    )


def _tell(step: Step, pairs: Sequence[tuple[Job | None, Job | None]]) -> None:
    for old, new in pairs:
        if new is None or new.origin == EXTERNAL:
            continue
        if new.state is State.QUEUED or (old is not None and old.state is State.RUNNING is not new.state):
            step.ready.add(new.queue)  # a job that ended may have made room under a limit
        elif new.state in (State.SCHEDULED, State.RETRYING):
            step.ready.add(new.queue)  # those who wait must learn of a new due time
        if new.final:
            step.ended = True
        if new.state is State.RUNNING and new.cancel is not None and (old is None or old.cancel is None):
            step.cancel_asked = True


# --- what is no job ------------------------------------------------------------------------------------------------


def queue_row(queue: Queue) -> Row:
    """Return a queue as a row."""
    return (queue.name, int(queue.paused), queue.fleet_limit, micros_or_none(queue.rescue_after), body_of(queue))


def instance_row(instance: Instance, beat: Instance | None = None) -> Row:
    """Return a worker process as a row. `beat`: what it said last, when that is more than its record."""
    newest = beat or instance
    live = int(instance.state in ("starting", "ready", "draining"))
    return (
        instance.id,
        instance.worker,
        live,
        int(may_own(instance)),
        micros(newest.heartbeat_at),
        micros(newest.lease),
        body_of(instance),
        None if beat is None else body_of(beat),
    )


def _queue_saved(step: Step, fact: f.QueueSaved) -> Script[None]:
    yield from step.db.upsert("queue", [queue_row(fact.queue)])
    step.ready.add(fact.queue.name)


def _queue_deleted(step: Step, fact: f.QueueDeleted) -> Script[None]:
    yield from step.db.delete("queue", "name", [fact.name])


def _definition_saved(step: Step, fact: f.DefinitionSaved) -> Script[None]:
    one = fact.definition
    yield from step.db.upsert("definition", [(one.id, one.alias, int(not one.runs), body_of(one))])


def _definition_deleted(step: Step, fact: f.DefinitionDeleted) -> Script[None]:
    yield from step.db.delete("definition", "id", [fact.id])


def _schedule_saved(step: Step, fact: f.ScheduleSaved) -> Script[None]:
    one = fact.schedule
    yield from step.db.upsert("schedule", [(one.name, micros_or_none(one.next_run_at), body_of(one))])


def _worker_saved(step: Step, fact: f.WorkerSaved) -> Script[None]:
    yield from step.db.upsert("worker", [(fact.config.name, body_of(fact.config))])


def _worker_deleted(step: Step, fact: f.WorkerDeleted) -> Script[None]:
    yield from step.db.delete("worker", "name", [fact.name])


def _instance_saved(step: Step, fact: f.InstanceSaved) -> Script[None]:
    yield from step.db.upsert("instance", [instance_row(fact.instance)])
    if not may_own(fact.instance):
        step.ready |= set(fact.instance.queues)  # the jobs of its keys wait for another owner


def _instance_gone(step: Step, fact: f.InstanceGone) -> Script[None]:
    yield from step.db.delete("instance", "id", [fact.id])
    yield from forget(step, fact.id)


def _operation_saved(step: Step, fact: f.OperationSaved) -> Script[None]:
    one = fact.operation
    yield from step.db.upsert("operation", [(one.id, micros(one.created_at), str(one.state), body_of(one))])


def _opened(step: Step, fact: f.Opened) -> Script[None]:
    [[epoch]] = yield step.db.q("SELECT value FROM {meta} WHERE name = 'epoch' {lock}")
    if int(epoch.partition(".")[0]) < fact.epoch:  # it may have a fraction
        yield step.db.q("UPDATE {meta} SET value = ? WHERE name = 'epoch'", str(fact.epoch))


def _audited(step: Step, fact: f.Audited) -> Script[None]:
    yield step.db.q("INSERT INTO {audit} (at, body) VALUES (?, ?)", micros(fact.at), body_of(fact))


_THINGS: Final[dict[type, Callable[[Step, Any], Script[None]]]] = {
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
    f.Audited: _audited,
    f.Opened: _opened,
}
