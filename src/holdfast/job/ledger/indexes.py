"""The upper layer of apply: what is ready, what is due, who runs, which key is busy, who holds which unique key.

All of it follows from the jobs alone (`move` brings it from one value of a job to the next), so that a ledger restored
from a snapshot has the very indexes of the ledger that was saved.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from holdfast.job.external import EXTERNAL
from holdfast.job.ledger.lines import (
    Heap,
    Lane,
    Line,
    due_key,
    end_key,
    end_keys,
    holds_lane,
    ready_key,
    ready_keys,
)
from holdfast.job.ledger.links import Links, StickyLine
from holdfast.job.ledger.tally import Tally
from holdfast.job.model import Job, Queue
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

_DUE_STATES = (State.SCHEDULED, State.RETRYING)
# Reading a member off its enum costs as much as the dict step beside it.
_QUEUED, _RUNNING, _SUCCEEDED = State.QUEUED, State.RUNNING, State.SUCCEEDED
_QUEUE, _INSTANCE = attrgetter("queue"), attrgetter("last.instance")


class Indexes:
    """Everything that finds jobs without looking at all of them."""

    def __init__(self, jobs: dict[int, Job], links: Links | None = None) -> None:
        """`jobs` is the ledger's own table; `move` is called after it was changed. links: given to make indexes anew."""
        self._jobs = jobs
        self.links = Links() if links is None else links
        self.lines: dict[str, Line] = {}
        self.lanes: dict[str, Lane] = {}
        self.due = Heap()
        self.ids: dict[str, int] = {}
        self.uniques: dict[str, int] = {}
        self.running: dict[str, dict[int, None]] = {}  # instance -> its claims
        self.leases: dict[int, float] = {}  # heartbeats move these, and are no facts
        self.tally = Tally()

    def line(self, name: str) -> Line:
        """The line of a queue; made when missing, so that a job's queue always has one."""
        line = self.lines.get(name)
        if line is None:
            line = self.lines[name] = Line(Queue(name=name), StickyLine())
        return line

    def move(self, old: Job | None, new: Job | None) -> None:
        """Bring all indexes from `old` to `new`; None means that there was, or is, no such job."""
        job = new or old
        self.tally.move(old, new)
        if job is not None and job.origin == EXTERNAL:
            self._move_record(old, new)
            return
        if old is not None:
            self._leave(old, new)
        if new is not None:
            self._enter(old, new)
        if job is not None and job.key is not None:
            self._move_lane(job.key, job.seq, new)

    # The moves of a job's plain life, without key and unique key, are written out for many jobs at once: they do what
    # `move` does, at a fraction of the cost. The property tests hold them against indexes that were made by `move` alone.

    def accepted(self, new: list[Job]) -> None:
        """Plain jobs were accepted, and are ready."""
        self.ids.update([(job.id, job.seq) for job in new])
        for queue, jobs in _grouped(new, _QUEUE):
            line = self.line(queue)
            line.counts[_QUEUED] += len(jobs)
            line.ready.add_all(ready_keys(jobs))

    def claimed(self, new: list[Job]) -> None:
        """Plain jobs went from ready to running."""
        for queue, jobs in _grouped(new, _QUEUE):
            line = self.lines[queue]
            line.counts[_QUEUED] -= len(jobs)
            line.counts[_RUNNING] += len(jobs)
            live = line.ready.live
            for job in jobs:
                live.pop(job.seq, None)  # it stands first, where the next look drops it
        self.tally.claimed(new)
        for instance, jobs in _grouped(new, _INSTANCE):
            self.running.setdefault(instance, {}).update(dict.fromkeys([job.seq for job in jobs]))

    def succeeded(self, new: list[Job]) -> None:
        """Plain jobs went from running to succeeded."""
        for queue, jobs in _grouped(new, _QUEUE):
            line = self.lines[queue]
            line.counts[_RUNNING] -= len(jobs)
            line.counts[_SUCCEEDED] += len(jobs)
            line.succeeded.extend(end_keys(jobs))
            self.tally.succeeded(queue, jobs)
        leases = self.leases
        for instance, jobs in _grouped(new, _INSTANCE):
            claims = self.running[instance]
            for job in jobs:
                del claims[job.seq], leases[job.seq]
            if not claims:
                del self.running[instance]

    def purged(self, old: list[Job]) -> None:
        """Plain jobs that had succeeded are forgotten."""
        for queue, jobs in _grouped(old, _QUEUE):
            self.lines[queue].counts[_SUCCEEDED] -= len(jobs)
            self.tally.succeeded(queue, jobs, -1)
        ids = self.ids
        for job in old:
            del ids[job.id]

    def _leave(self, old: Job, new: Job | None) -> None:
        line = self.line(old.queue)
        state = old.state
        if old.deleted_at is None:
            line.counts[state] -= 1
        if state is State.QUEUED:
            self._unready(line, old)
        elif state is State.RUNNING:
            if new is None or new.state is not State.RUNNING:
                self._stop_running(old)
        elif state in _DUE_STATES:
            self.due.drop(old.seq)
        if new is None:
            self._forget(old)

    def _enter(self, old: Job | None, new: Job) -> None:
        line = self.line(new.queue)
        state = new.state
        if new.deleted_at is None:
            line.counts[state] += 1
        if old is None:
            self.ids[new.id] = new.seq
        if new.unique is not None:
            self._hold(new)
        if state is State.QUEUED:
            if new.key is None:
                self._ready(line, new)
        elif state is State.RUNNING:
            if old is None or old.state is not State.RUNNING:
                self._start_running(new)
        elif state in _DUE_STATES:
            self.due.add(new.seq, due_key(new))
        elif new.final and (old is None or not old.final):
            (line.succeeded if state is State.SUCCEEDED else line.ended).append(end_key(new))

    def _ready(self, line: Line, job: Job) -> None:
        if job.sticky is None:
            (line.suspects if job.suspect else line.ready).add(job.seq, ready_key(job))
        else:
            owner = self.links.owner(job.sticky, job.key or "")
            line.sticky.add(job.seq, ready_key(job), owner, suspect=job.suspect)

    def _unready(self, line: Line, job: Job) -> None:
        if job.sticky is None:
            (line.suspects if job.suspect else line.ready).drop(job.seq)
        else:
            line.sticky.drop(job.seq)

    def owner_changed(self, key: str) -> None:
        """A link of this key, or its process, has changed: put the one job that may be claimed where it belongs now."""
        lane = self.lanes.get(key)
        head = None if lane is None else lane.head()
        if head is not None:
            job = self._jobs[head]
            line = self.line(job.queue)
            self._unready(line, job)
            self._ready(line, job)

    # --- records

    def _move_record(self, old: Job | None, new: Job | None) -> None:
        """A job that ran elsewhere is counted apart, found by its id, and pruned with its queue; nobody can claim it."""
        if old is not None and old.deleted_at is None:
            self.line(old.queue).records[old.state] -= 1
        if new is None:
            assert old is not None, "a move has a job on one side at least"
            del self.ids[old.id]
            return
        line = self.line(new.queue)
        self.ids[new.id] = new.seq
        if new.deleted_at is None:
            line.records[new.state] += 1
        if new.final and (old is None or _end_of(old) != _end_of(new)):
            (line.succeeded if new.state is State.SUCCEEDED else line.ended).append(end_key(new))

    # --- running

    def _start_running(self, job: Job) -> None:
        assert job.last is not None, "a running job has an attempt"
        self.running.setdefault(job.last.instance, {})[job.seq] = None
        self.leases.setdefault(job.seq, 0.0)

    def _stop_running(self, old: Job) -> None:
        assert old.last is not None, "a running job has an attempt"
        claims = self.running[old.last.instance]
        del claims[old.seq]
        if not claims:
            del self.running[old.last.instance]
        del self.leases[old.seq]

    # --- unique keys

    def _hold(self, job: Job) -> None:
        assert job.unique is not None
        holder = self.uniques.get(job.unique)
        if job.final and job.unique_window is None:
            if holder == job.seq:
                del self.uniques[job.unique]
        elif holder is None or not job.final or self._jobs[holder].final:
            # A finished job that holds its key for a time never takes it from an unfinished one.
            self.uniques[job.unique] = job.seq

    def _forget(self, old: Job) -> None:
        del self.ids[old.id]
        if old.unique is not None and self.uniques.get(old.unique) == old.seq:
            del self.uniques[old.unique]

    # --- keys

    def _move_lane(self, key: str, seq: int, new: Job | None) -> None:
        """Put a job into, or take it out of, the line of its key; make the line's new head ready, and only it."""
        lane = self.lanes.setdefault(key, Lane())
        before = lane.head()
        lane.line.drop(seq)
        lane.busy.discard(seq)
        if new is not None and new.state is State.QUEUED:
            lane.line.add(seq, seq)
        elif new is not None and holds_lane(new):
            lane.busy.add(seq)
        after = lane.head()
        if before is not None and before not in (after, seq):
            head = self._jobs[before]
            self._unready(self.line(head.queue), head)
        if after is not None and (after == seq or after != before):
            head = self._jobs[after]
            self._ready(self.line(head.queue), head)
        if not lane:
            del self.lanes[key]


def _grouped(jobs: list[Job], name_of: Callable[[Job], str]) -> list[tuple[str, list[Job]]]:
    """Return jobs by a name that mostly all of them share."""
    names = dict.fromkeys(map(name_of, jobs))
    if len(names) == 1:
        return [(name, jobs) for name in names]
    return [(name, [job for job in jobs if name_of(job) == name]) for name in names]


def _end_of(job: Job) -> tuple[State, float | None, str]:
    return job.state, job.finished_at, job.queue
