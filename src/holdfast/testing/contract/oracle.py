"""Rules written a second time, as plainly as can be, so that a fault of the ledger is not its own judge.

`expected_claims` walks over all jobs to say what a claim must hand out (I10, I11); `History` watches what is shown after
each step and knows what must never happen (I3, I4, I7, I9, I11, I22).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdfast.job.model import CRASHES_MAX, RELEASES_MAX, SNOOZES_MAX, OnWait
from holdfast.job.state import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.job.commands import Claim, Stats, Want
    from holdfast.job.model import Job, Queue

_DUE = (State.SCHEDULED, State.RETRYING)


def expected_claims(
    jobs: Iterable[Job],
    queues: Mapping[str, Queue],
    stopped: frozenset[str],
    want: Want,
    now: float,
    owned: frozenset[tuple[str, str]] = frozenset(),
) -> list[str]:
    """Return the ids that a claim must hand out, in order.

    `stopped`: tasks that are canceled or deleted. owned: service and key of the links that the process has.
    """
    if not want.sticky:
        owned = frozenset()
    table = {job.id: _promoted(job, now) for job in jobs}
    held = any(job.suspect for job in table.values() if _runs_at(job, want.instance))
    taken: list[str] = []
    for wanted in want.queues:
        count = 0
        while count < wanted.limit and len(taken) < want.limit:
            job = _first(table, queues.get(wanted.queue), stopped, owned, held)
            if job is None:
                break
            table[job.id] = replace(job, state=State.RUNNING)
            held = held or job.suspect
            taken.append(job.id)
            count += 1
    return taken


def _promoted(job: Job, now: float) -> Job:
    due = job.state in _DUE and job.run_at <= now
    return replace(job, state=State.QUEUED) if due else job


def _runs_at(job: Job, instance: str) -> bool:
    return job.state is State.RUNNING and job.last is not None and job.last.instance == instance


def _first(
    table: Mapping[str, Job],
    queue: Queue | None,
    stopped: frozenset[str],
    owned: frozenset[tuple[str, str]],
    held: bool,
) -> Job | None:
    if queue is None or queue.paused:
        return None
    running = sum(job.state is State.RUNNING and job.queue == queue.name for job in table.values())
    if queue.fleet_limit is not None and running >= queue.fleet_limit:
        return None
    ready = [
        job
        for job in table.values()
        if job.state is State.QUEUED
        and job.queue == queue.name
        and job.task not in stopped
        and not (job.suspect and held)
        and (job.sticky is None or (job.sticky, job.key) in owned)
        and _heads_its_key(job, table.values(), stopped)
    ]
    return min(ready, key=lambda job: (-job.priority, job.run_at, job.seq), default=None)


def _heads_its_key(job: Job, jobs: Iterable[Job], stopped: frozenset[str]) -> bool:
    if job.key is None:
        return True
    others = [other for other in jobs if other.key == job.key and other.id != job.id]
    return not any(_closes(other) or _before(other, job, stopped) for other in others)


def _closes(job: Job) -> bool:
    waits_again = job.state is State.RETRYING or (job.state is State.SCHEDULED and job.attempt > 0)
    return job.state is State.RUNNING or (waits_again and job.on_wait is OnWait.HOLD)


def _before(other: Job, job: Job, stopped: frozenset[str]) -> bool:
    return other.state is State.QUEUED and other.seq < job.seq and other.task not in stopped


class History:
    """What was seen so far of one store, and what follows from it."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.accepted: set[str] = set()
        self.purged: set[str] = set()
        self._ended: dict[tuple[str, int], State] = {}
        self._attempts: dict[str, int] = {}
        self._tokens: dict[str, int] = {}
        self._running: Counter[str] = Counter()
        self._budgets: dict[str, int] = {}

    def claimed(self, claims: Sequence[Claim[Job]]) -> None:
        """Tokens and attempt numbers only grow (I4)."""
        for claim in claims:
            assert claim.token > self._tokens.get(claim.id, 0), "a token was used twice"
            assert claim.attempt == self._attempts.get(claim.id, 0) + 1, "an attempt number was skipped or used twice"
            self._tokens[claim.id], self._attempts[claim.id] = claim.token, claim.attempt

    def newest(self, claim: Claim[Job]) -> bool:
        """Tell whether no later claim of this job was handed out."""
        return self._tokens.get(claim.id) == claim.token

    def look(self, jobs: Sequence[Job], queues: Mapping[str, Queue], stats: Stats) -> None:
        """Check all that can be seen at a quiet moment. Raises AssertionError."""
        self._conserved(jobs, stats)
        for job in jobs:
            self._one_terminal(job)
            self._bounded(job)
        self._unique_once(jobs)
        self._limits(jobs, queues)

    def _conserved(self, jobs: Sequence[Job], stats: Stats) -> None:
        """I1, I22: nothing is lost, nothing is doubled, and the counts are those of the records."""
        ids = [job.id for job in jobs]
        assert len(ids) == len(set(ids)), "a job is listed twice"
        self.purged |= self.accepted - set(ids)
        assert set(ids) | self.purged == self.accepted
        assert not set(ids) & self.purged, "a job that was gone is there again"
        counts = Counter((job.queue, job.state.value) for job in jobs if job.deleted_at is None)
        told = {(queue, state): n for queue, row in stats.queues.items() for state, n in row.items() if n}
        assert told == dict(counts), "statistics differ from the records"

    def forget(self, job_id: str) -> None:
        """An id was purged and is used again."""
        self.purged.discard(job_id)
        for key in [key for key in self._ended if key[0] == job_id]:
            del self._ended[key]
        self._attempts.pop(job_id, None)
        self._tokens.pop(job_id, None)

    def _one_terminal(self, job: Job) -> None:
        """I3: a generation ends once, and stays ended."""
        ended = self._ended.get((job.id, job.generation))
        if job.state in FINAL:
            assert ended in (None, job.state), f"{job.id} ended as {ended} and then as {job.state}"
            self._ended[job.id, job.generation] = job.state
        else:
            assert ended is None, f"{job.id} ended as {ended} and is {job.state} again in the same generation"

    def _bounded(self, job: Job) -> None:
        """I4, I7: budgets hold, numbers fit."""
        # A conflict action may have given it a smaller budget than it has spent.
        budget = self._budgets[job.id] = max(self._budgets.get(job.id, 0), job.retry.max_attempts)
        assert job.failures <= budget
        assert job.crashes <= CRASHES_MAX
        assert job.snoozes <= SNOOZES_MAX
        assert job.releases <= RELEASES_MAX
        assert (job.attempt, job.token) == (self._attempts.get(job.id, 0), self._tokens.get(job.id, 0))
        numbers = [attempt.number for attempt in job.attempts]
        assert numbers == list(range(1, job.attempt + 1))[-len(numbers) :] if numbers else not job.attempt
        assert (job.state is State.RUNNING) == (job.last is not None and job.last.end is None)

    def _unique_once(self, jobs: Sequence[Job]) -> None:
        """I9: an unfinished job holds its unique key alone."""
        holders = Counter(job.unique for job in jobs if job.unique is not None and job.state not in FINAL)
        assert all(count == 1 for count in holders.values()), f"unique keys held twice: {holders}"

    def _limits(self, jobs: Sequence[Job], queues: Mapping[str, Queue]) -> None:
        """I10, I11: no key runs twice; no queue runs more than its limit, unless it did before the limit was lowered."""
        keys = Counter(job.key for job in jobs if job.key is not None and job.state is State.RUNNING)
        assert all(count == 1 for count in keys.values()), f"keys that run twice: {keys}"
        running = Counter(job.queue for job in jobs if job.state is State.RUNNING)
        for name, count in running.items():
            limit = queues[name].fleet_limit
            assert limit is None or count <= max(limit, self._running[name]), f"queue {name} runs {count} of {limit}"
        self._running = running
