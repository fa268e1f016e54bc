"""Enqueue, claim and settle: the plain jobs by statements of their own, everything else by the ledger's rules on a slice.

These scripts take a few short statements each. They are right wherever a transaction is alone (SQLite), or takes its rows
with locks; a dialect that can do the same in one statement brings its own `Hot`.
"""

from __future__ import annotations

from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from holdfast.job import commands as c
from holdfast.job.figures import timing
from holdfast.job.ledger.claiming import PROMOTE_BATCH
from holdfast.job.ledger.enqueueing import accept, check_batch, starts_at
from holdfast.job.model import FreshJob, Queue
from holdfast.job.state import State
from holdfast.stores.sql.apart import readable
from holdfast.stores.sql.aside import sound_queue
from holdfast.stores.sql.attempts import attempts_of
from holdfast.stores.sql.claims import claim_by_rules, claim_of, claimed_row
from holdfast.stores.sql.feed import EXPORTER
from holdfast.stores.sql.lanes import lock_lanes
from holdfast.stores.sql.links import look
from holdfast.stores.sql.moment import refuse_old_view
from holdfast.stores.sql.rows import RUNNING, SUCCEEDED, first_token, micros, new_row, seconds, seconds_or_none, tail_of
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.slice import JOBS, Need, carry_out
from holdfast.stores.sql.stats import SUCCEEDED as SUCCESS
from holdfast.stores.sql.stats import Ended, roll_up
from holdfast.stores.sql.tally import Tally
from holdfast.stores.sql.things import queue_row
from holdfast.stores.sql.upkeep import next_due, promote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.job.model import Job, NewJob
    from holdfast.stores.sql.script import Row, Script, Step

_APPLIED: Final = c.Accepted.APPLIED
_NEW: Final = c.Verdict.NEW
_SUCCEEDED: Final = State.SUCCEEDED

_TAKE: Final = (
    "UPDATE {job} SET state = 3, ready = 0, lane = lane * 2, attempt = attempt + 1, token = {greatest}(token + 1, ?),"
    " instance = ?, worker = ?, version = ?, started_at = ?, lease_until = ?, updated_at = ? WHERE seq {ints}"
)
_FIRST: Final = f"{JOBS} WHERE queue = ? AND owner = '' AND ready = 1 ORDER BY prio, run_at, seq LIMIT ? {{skip}}"
_SUSPECTS: Final = "SELECT 1 FROM {job} WHERE ready = 2 AND owner = '' AND queue {texts} LIMIT 1"
#: What a success changes of the row that it moves.
ENDED: Final = {
    "state": str(SUCCEEDED),
    "ready": "0",
    "lane": "0",
    "suspect": "0",
    "updated_at": "?",
    "lease_until": "0",
}
# One statement, for whom each is a way to the server and back: -1 for what is in the way, and how many queues are there.
_LOOK_FRESH: Final = (
    "SELECT -1 AS n FROM {definition} WHERE stopped = 1 AND alias {texts}"
    " UNION ALL SELECT count(*) FROM {queue} WHERE name {texts}"
)
_LOOK: Final = (
    "SELECT -1 AS n FROM {job} WHERE id {texts} UNION ALL SELECT -1 FROM {done} WHERE id {texts} UNION ALL "
    + _LOOK_FRESH
)
_MOVE: Final = (
    f"INSERT INTO {{done}} ({', '.join(DONE_COLUMNS)}) SELECT "
    + ", ".join(ENDED.get(column, column) for column in JOB_COLUMNS)
    + ", ?, ?, ?, ?, NULL FROM {job} WHERE seq = ?"
)
_HELD: Final = (
    "SELECT seq, token, id, queue, task, run_at, queued_at, started_at, instance, worker FROM {job}{by_seq}"
    " WHERE seq {ints} AND state = 3 AND lane_key IS NULL ORDER BY seq {lock}"
)


class Plan:
    """What a claim has to know of the queues that it asks."""

    __slots__ = ("epoch", "queues", "stopped")

    def __init__(self, queues: Mapping[str, Row], stopped: frozenset[str], epoch: int) -> None:
        """queues: name -> (paused, fleet_limit, rescue_after); stopped: tasks; epoch: the first of its tokens."""
        self.queues, self.stopped, self.epoch = queues, stopped, epoch


class Hot:
    """The hot path in neutral words."""

    # --- enqueue

    def enqueue(self, step: Step, command: c.Enqueue) -> Script[list[c.Enqueued]]:
        """Store all jobs or none."""
        check_batch(command)
        if all(_plain(new) for new in command.jobs):
            answers = yield from self.enqueue_plain(step, command.jobs)
            if answers is not None:
                return answers
        return (yield from self.enqueue_by_rules(step, command))

    def enqueue_plain(self, step: Step, jobs: Sequence[NewJob]) -> Script[list[c.Enqueued] | None]:
        """Store jobs that have neither key nor unique key nor an id of the caller's; None when it is not as plain as that."""
        ids, queues = {new.id for new in jobs}, {new.queue for new in jobs}
        if len(ids) < len(jobs):
            return None
        old = {new.id for new in jobs if type(new) is not FreshJob}
        there = yield from self.look(step, old, {new.task for new in jobs}, queues)
        if there is None:
            return None
        now = yield from step.now()
        at = seconds(now)
        if there < len(queues):
            yield from self.make_queues(step, queues)
        seqs = yield from self.add_plain(step, jobs, now)
        step.ready |= {new.queue for new in jobs}
        return [c.Enqueued(_NEW, accept(seq, new, at)) for seq, new in zip(seqs, jobs, strict=True)]

    def add_plain(self, step: Step, jobs: Sequence[NewJob], now: int) -> Script[list[int]]:
        """Store new plain jobs; return their numbers. now: in microseconds."""
        return (yield from step.db.insert_jobs([new_row(new, due_at(new, now), now) for new in jobs]))

    def look(self, step: Step, ids: set[str], tasks: set[str], queues: set[str]) -> Script[int | None]:
        """How many of the queues are there; None when one of the ids was stored before, or a task is stopped."""
        args = [list(ids), list(ids), list(tasks), list(queues)]
        rows = yield step.db.q(_LOOK, *args) if ids else step.db.q(_LOOK_FRESH, *args[2:])
        there = [n for (n,) in rows]
        return None if -1 in there else int(there[0])

    def make_queues(self, step: Step, names: set[str]) -> Script[None]:
        """Let queues come into being."""
        rows = yield step.db.q("SELECT name FROM {queue} WHERE name {texts}", list(names))
        missing = sorted(names - {name for (name,) in rows})
        if missing:
            # Not the step's time, which is read when all locks are held: to make a queue one may have to wait for others.
            now = seconds((yield from step.db.now()))
            made = [queue_row(Queue(name=name, created_at=now, updated_at=now)) for name in missing]
            yield from step.db.insert_missing("queue", made)

    def enqueue_by_rules(self, step: Step, command: c.Enqueue) -> Script[list[c.Enqueued]]:
        """Store jobs whose ids or keys have to be looked at."""
        jobs = command.jobs
        if any(new.own_id or new.unique is not None for new in jobs):
            yield from refuse_old_view(step)
        yield from self.make_queues(step, {new.queue for new in jobs})
        yield from lock_lanes(step, {new.key for new in jobs if new.key is not None})
        yield from step.db.lock("id", {new.id for new in jobs})
        need = Need(
            ids=sorted({new.id for new in jobs}),
            uniques=sorted({new.unique for new in jobs if new.unique is not None}),
            queues=sorted({new.queue for new in jobs}),
            tasks=sorted({new.task for new in jobs}),
            attempts=True,
            asks=True,
        )
        _, answers = yield from carry_out(step, command, need)
        found: list[c.Enqueued] = answers
        return found

    # --- claim

    def claim(self, step: Step, want: c.Want) -> Script[c.Claims[Job]]:
        """Hand out ready jobs. What is due is promoted first."""
        now = yield from step.now()
        due = yield from next_due(step)
        if due is not None and due <= now:
            yield from promote(step, PROMOTE_BATCH)
            due = yield from next_due(step)
        names = [one.queue for one in want.queues]
        plan = yield from self.plan(step, names)
        mine, ownerless = yield from look(step, want)
        odd = mine or len(set(names)) < len(names)
        odd = odd or bool((yield step.db.q(_SUSPECTS, names)))
        items = None if odd else (yield from self.claim_planned(step, want, plan))
        if items is None:
            items = yield from claim_by_rules(step, want, plan.epoch)
        return c.Claims(tuple(items), next_due=seconds_or_none(due), ownerless=ownerless)

    def plan(self, step: Step, names: Sequence[str]) -> Script[Plan]:
        """What has to be known of these queues. Those with a limit over the fleet are kept from other claims."""
        db = step.db
        rows = yield db.q("SELECT name, paused, fleet_limit, rescue_after FROM {queue} WHERE name {texts}", list(names))
        # Of a queue whose columns make no sense nothing is claimed, and all others go on.
        rows = [row if sound_queue(*row[1:]) else (row[0], 1, None, None) for row in rows]
        limited = [name for name, _, limit, _ in rows if limit is not None]
        if limited and db.locks:
            yield from db.lock("queue", limited)
        stopped = yield db.q("SELECT alias FROM {definition} WHERE stopped = 1")
        [[epoch]] = yield db.q("SELECT value FROM {meta} WHERE name = 'epoch'")
        return Plan({row[0]: row[1:] for row in rows}, frozenset(alias for (alias,) in stopped), first_token(epoch))

    def claim_planned(self, step: Step, want: c.Want, plan: Plan) -> Script[list[c.Claim[Job]] | None]:
        """Take ready jobs queue by queue; None when a job of a stopped task stands in line: the rules must hold it back."""
        picked: list[tuple[list[Row], int]] = []
        left = want.limit
        for one in want.queues:
            known = plan.queues.get(one.queue)
            if known is None or known[0] or left <= 0:
                continue
            count = min(one.limit, left)
            if known[1] is not None:
                count = min(count, (yield from self.room(step, one.queue, known[1])))
            rows = (yield step.db.q(_FIRST, one.queue, count)) if count > 0 else []
            if plan.stopped and any(row[_TASK] in plan.stopped for row in rows):
                return None
            picked.append((rows, known[2] if known[2] is not None else micros(want.lease)))
            left -= len(rows)
        items: list[c.Claim[Job]] = []
        for rows, lease in picked:
            items += yield from self.take(step, want, rows, lease, plan.epoch)
        return items

    def room(self, step: Step, queue: str, limit: int) -> Script[int]:
        """How many more of a queue's jobs may run."""
        [[running]] = yield step.db.q("SELECT count(*) FROM {job} WHERE {is_running} AND {runs_in} = ?", queue)
        return max(0, limit - int(running))

    def take(self, step: Step, want: c.Want, rows: Sequence[Row], lease: int, epoch: int) -> Script[list[c.Claim[Job]]]:
        """Claim the jobs of these rows, which are this transaction's alone."""
        if not rows:
            return []
        # Not the step's time: that may have been read before another process claimed and settled what stood before these.
        now = yield from step.db.now()
        until = now + lease
        who = (want.instance, want.worker, want.version)
        yield step.db.q(_TAKE, epoch, *who, now, until, now, [row[0] for row in rows])
        tried = [row[0] for row in rows if row[_ATTEMPT]]
        past = (yield from attempts_of(step, tried)) if tried else {}
        own = 0.0 if lease == micros(want.lease) else lease / 1e6

        def claim(row: Row) -> c.Claim[Job]:
            return claim_of(claimed_row(row, epoch, who, now, until), until, past.get(row[0]), own)

        return readable(step, rows, _number, claim)

    # --- settle

    def settle(self, step: Step, settlements: Sequence[c.Settlement[Job]]) -> Script[list[c.Settled]]:
        """End attempts: plain successes by moving their rows, the others by the rules."""
        answers: dict[int, c.Settled] = {}
        places = Counter(one.claim.ref for one in settlements)
        plain = [place for place, one in enumerate(settlements) if _moves(one) and places[one.claim.ref] == 1]
        if plain:
            answers = yield from self.succeed(step, settlements, plain)
        others = [place for place in range(len(settlements)) if place not in answers]
        if others:
            left = tuple(settlements[place] for place in others)
            need = Need(seqs=sorted({seq for one in left if type(seq := one.claim.ref) is int}), attempts=True)
            _, settled = yield from carry_out(step, c.SettleAll(left), need)
            answers |= zip(others, settled, strict=True)
        return [answers[place] for place in range(len(settlements))]

    def succeed(
        self, step: Step, settlements: Sequence[c.Settlement[Job]], places: Sequence[int]
    ) -> Script[dict[int, c.Settled]]:
        """End the jobs that are as their claims say, and without a key; tell which of `places` these were."""
        db, now = step.db, (yield from step.now())
        seqs: list[Any] = [settlements[place].claim.ref for place in places]
        held = {row[0]: row for row in (yield db.q(_HELD, seqs))}
        answers: dict[int, c.Settled] = {}
        moves: list[Row] = []
        ended: list[Row] = []
        for place in places:
            one = settlements[place]
            row = held.get(one.claim.ref)
            if row is None or row[1] != one.claim.token:
                continue
            moves.append((now, now, one.duration, one.ending.result, tail_of(b"", one.trace_id, one.span_id), row[0]))  # type: ignore[union-attr]
            ended.append(row)
            answers[place] = c.Settled(row[2], row[1], _APPLIED, _SUCCEEDED, row[5] / 1e6)
        if moves:
            yield from self.move(step, moves)
            yield from db.delete("job", "seq", [row[0] for row in ended])
            durations = [move[_DURATION] for move in moves]
            successes = list(map(_success, ended, durations, repeat(now)))
            yield from self.count_successes(step, successes, [row[0] for row in ended])
        return answers

    def move(self, step: Step, moves: Sequence[Row]) -> Script[None]:
        """Copy live rows to the history as succeeded: (updated_at, finished_at, duration, result, tail, seq) of each."""
        yield step.db.many(_MOVE, moves)

    def count_successes(self, step: Step, ended: Sequence[Ended], seqs: Sequence[int]) -> Script[None]:
        """Count successes, tell of the room that they made, and an exporter, if there is one, of the jobs."""
        tally = Tally()
        for one in ended:
            tally.count((one.queue, one.task, one.worker, SUCCEEDED), one.n, one.timed, one.took)
        yield from tally.write(step, step.db.shard)
        text = "SELECT name FROM {queue} WHERE fleet_limit IS NOT NULL AND name {texts}" + step.db.feed.asked
        names = {name for (name,) in (yield step.db.q(text, sorted({one.queue for one in ended})))}
        if EXPORTER in names:
            yield from step.db.feed.ended(step, seqs)
        step.ready |= names - {EXPORTER}
        step.ended = True
        yield from roll_up(step, ended)

    # --- progress

    def progress(self, step: Step, reports: Sequence[c.Progress[Job]]) -> Script[list[c.Settled]]:
        """Write what running attempts report."""
        seqs = sorted({seq for one in reports if type(seq := one.claim.ref) is int})
        _, answers = yield from carry_out(step, c.ProgressAll(tuple(reports)), Need(seqs=seqs, attempts=True))
        settled: list[c.Settled] = answers
        return settled


def due_at(new: NewJob, now: int) -> int:
    """Return when a new job may run; both in microseconds since the epoch."""
    return micros(starts_at(new, seconds(now))) if new.run_at or new.delay else now


def _number(row: Row) -> int:
    number: int = row[0]
    return number


_DURATION: Final = 2  # in what `move` is told of a job
_TASK: Final = JOB_COLUMNS.index("task")
_ATTEMPT: Final = JOB_COLUMNS.index("attempt")
assert RUNNING == 3, "the statements above say so"


def _success(row: Row, duration: float | None, now: int) -> Ended:
    """Return what is counted of a success; `row` as _HELD reads it."""
    _, _, _, queue, task, _, queued_at, started_at, instance, worker = row
    waited = 0 if queued_at is None else max(0, started_at - queued_at)
    return Ended(queue, task, SUCCESS, instance, worker, waited, max(0, now - started_at), *timing(duration))


def _plain(new: NewJob) -> bool:
    return new.unique is None and new.key is None and not new.own_id and new.sticky is None


def _moves(one: c.Settlement[Job]) -> bool:
    ending = one.ending
    return type(ending) is c.Succeeded and ending.update is None and not one.log and type(one.claim.ref) is int
