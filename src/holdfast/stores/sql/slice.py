"""Load, execute, write back: the ledger's own rules on a few rows.

A command that touches more than a plain job is done by the very code that memory and journal use. What it may touch is
loaded, locked and in order, into a ledger made for this step; the command is executed; what changed is written. So the
databases can not differ from the ledger in a rule.

New jobs are numbered from PROVISIONAL on until the database has numbered them. Who runs and who is next in line is not
known to such a ledger, as it holds a few jobs only: commands that need to know it do not come this way, or load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.ledger import Ledger, execute
from holdfast.job.model import Job
from holdfast.job.state import State
from holdfast.stores.sql.attempts import attempts_of, with_past
from holdfast.stores.sql.damage import read_row
from holdfast.stores.sql.lanes import lock_lanes, set_heads
from holdfast.stores.sql.rows import (
    attempt_row,
    done_row,
    is_final,
    job_row,
    seconds,
)
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.stats import ended_of, roll_up
from holdfast.stores.sql.tally import Tally, reported
from holdfast.stores.sql.things import THINGS, load_things

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.stores.sql.script import Row, Script, Step

PROVISIONAL: Final = 1 << 50
JOBS: Final = f"SELECT {', '.join(JOB_COLUMNS)} FROM {{job}}"
DONES: Final = f"SELECT {', '.join(DONE_COLUMNS)} FROM {{done}}"
_LEASE: Final = JOB_COLUMNS.index("lease_until")
#: How many ended jobs of one unique key are looked at. Their windows never overlap, so the newest ones are enough.
_NEWEST: Final = 3


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a command may touch. `holders`: also the jobs that hold the unique keys of the jobs that are loaded.

    `asks`: queues and tasks are looked at only, so that nobody waits for a transaction that uses the same ones.
    """

    ids: Sequence[str] = ()
    seqs: Sequence[int] = ()
    uniques: Sequence[str] = ()
    holders: bool = False
    attempts: bool = False  # with their earlier attempts
    asks: bool = False
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
        self.damaged: dict[int, str] = {}  # what could not be read of the rows

    def take(self, rows: Iterable[Row]) -> None:
        """Take jobs, live or ended."""
        for row in rows:
            job, why = read_row(row)
            if why:
                self.damaged[job.seq] = why
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
    yield from _load_attempts(step, part, every=need.attempts)
    part.settle_in()
    yield from load_things(step, part.ledger, need)
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
        column = where.split()[0]
        part.take((yield step.db.q(f"{JOBS}{{by_{column}}} WHERE {where} ORDER BY seq {{lock}}", values)))
        # What lives has not ended. (To look for a row that is not there can keep others from making its neighbours.)
        ended = [] if column == "uniq" else _not_in(part, values)
        if ended:
            index = "{by_done_id}" if column == "id" else "{by_seq}"
            part.take((yield step.db.q(f"{DONES}{index} WHERE {where} ORDER BY seq {{lock}}", ended)))
    for unique in need.uniques:
        part.take((yield step.db.q(f"{DONES} WHERE uniq = ? ORDER BY seq DESC LIMIT {_NEWEST}", unique)))


def _not_in(part: Slice, values: Sequence[Any]) -> list[Any]:
    known = {*part.loaded, *(job.id for job in part.loaded.values())}
    return [value for value in values if value not in known]


def _load_attempts(step: Step, part: Slice, *, every: bool) -> Script[None]:
    """Load earlier attempts: of each job, or of records alone, whose attempts are counted whenever they change."""
    tried = [seq for seq, job in part.loaded.items() if job.attempt > 0 and (every or job.origin == EXTERNAL)]
    if not tried:
        return
    past = yield from attempts_of(step, tried)
    for seq, attempts in past.items():
        part.loaded[seq] = with_past(part.loaded[seq], attempts)


# --- writing back --------------------------------------------------------------------------------------------------


def write_back(step: Step, part: Slice, facts: Sequence[f.Fact]) -> Script[dict[int, int]]:
    """Write what the facts changed; return the numbers that new jobs got for their provisional ones."""
    for fact in facts:
        write = THINGS.get(type(fact))
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
    """Keep the counts of ended jobs, of those that are hidden too, and of records."""
    tally = Tally()
    for old, new in pairs:
        for job, sign in ((old, -1), (new, 1)):
            if job is not None:
                tally.add_job(job, sign)
    yield from tally.write(step, step.db.shard)
    yield from reported(step, pairs)


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
