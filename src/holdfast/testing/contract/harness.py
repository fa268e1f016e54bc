"""What a contract suite holds in its hand: a source or a store on a steered clock, and short words for the port's calls.

An adapter supplies the fixture `store_factory` (or `source_factory`): a callable that returns a fresh, empty harness.
The suites ask `capabilities` and the harness, and never which store it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from holdfast.job.commands import (
    Action,
    Beat,
    Cancel,
    Canceled,
    Claim,
    Claims,
    Crashed,
    Ending,
    ErrorInfo,
    Failed,
    InstanceDied,
    JobFilter,
    OnDuplicate,
    Order,
    Page,
    Pause,
    QueueWant,
    Released,
    Rescued,
    Ruling,
    Selection,
    Settled,
    Settlement,
    Signals,
    Snoozed,
    Succeeded,
    TimedOut,
    Verdict,
    Want,
)
from holdfast.job.model import Instance, Job, NewJob, Schedule
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.clock import ManualClock
    from holdfast.store import Source, Store

T = TypeVar("T")

LEASE = 30.0
QUEUE = "default"
ERROR = ErrorInfo("builtins.ValueError", "no", "Traceback: no")
#: Longer than any backoff that the suites use.
LONG = 10_000.0
#: Waits fixed: the suites ask for exact times, so the default policy's jitter is left to tests that look at it.
FIXED = RetryPolicy(max_attempts=100, base=0.0, factor=1.0, cap=0.0)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the source contract looks at, whatever an item is."""

    state: State
    attempt: int = 0
    token: int = 0
    failures: int = 0
    crashes: int = 0
    snoozes: int = 0
    releases: int = 0
    run_at: float | None = None
    end: End | None = None  # why the last attempt ended; None while it runs
    error: str = ""
    cancel_asked: bool = False


class SourceHarness(ABC, Generic[T]):
    """A source on a steered clock. A table of user rows implements the four abstract methods; a store has `StoreHarness`."""

    #: The alias and the queue of the items that `make` makes.
    task = "t"
    queue = QUEUE

    def __init__(self, source: Source[T], clock: ManualClock) -> None:
        """Hold `source`, whose own clock is steered by `clock`."""
        self.source = source
        self.clock = clock

    @abstractmethod
    async def open(self) -> None:
        """Make the source ready and empty."""

    @abstractmethod
    async def close(self) -> None:
        """Let everything go."""

    @abstractmethod
    async def make(self, count: int = 1, *, delay: float = 0.0, max_attempts: int = 100) -> list[str]:
        """Make items that are ready after `delay` seconds; return their ids in order of acceptance.

        Their retry policy waits 0 seconds, so that a failed item is ready again at once.
        """

    @abstractmethod
    async def look(self, item_id: str) -> Look:
        """Return what the source knows of an item."""

    @abstractmethod
    async def ask_cancel(self, item_id: str) -> None:
        """Cancel a waiting item, or ask a running one to stop, as a person would."""

    async def snoozed(self, item_id: str, times: int) -> None:
        """Put an item off so many times. A source that can may count them only: they are told apart by nothing else."""
        for _ in range(times):
            answer = await self.settle(await self.claim_one(), Snoozed(0.0))
            assert answer.state is State.SCHEDULED, answer

    # What every source can do.

    async def wanted(self, limit: int = 100, instance: str = "i1", **more: Any) -> Claims[T]:
        """Claim up to `limit` items for the process `instance`; `queues` are names, all with that limit."""
        queues = more.pop("queues", (self.queue,))
        wants = tuple(QueueWant(name, limit) for name in queues)
        want = Want(queues=wants, limit=limit, instance=instance, worker=more.pop("worker", "w"), **more)
        return await self.source.claim(want)

    async def claim(self, limit: int = 100, instance: str = "i1", **more: Any) -> tuple[Claim[T], ...]:
        """Claim up to `limit` items."""
        return (await self.wanted(limit, instance, **more)).items

    async def claim_one(self, instance: str = "i1", **more: Any) -> Claim[T]:
        """Claim the one item that must be ready."""
        found = await self.claim(1, instance, **more)
        assert len(found) == 1, f"expected one ready item, found {len(found)}"
        return found[0]

    async def settle(self, claim: Claim[T], ending: Ending | None = None, **more: Any) -> Settled:
        """End one attempt, as succeeded unless said."""
        [settled] = await self.source.settle([Settlement(claim, ending or Succeeded(b"null"), **more)])
        return settled

    async def beat(self, instance: str = "i1", *, lease: float = LEASE, **more: Any) -> Signals:
        """Let a process say that it lives."""
        record = Instance(id=instance, worker=more.pop("worker", "w"), lease=lease, **more)
        return await self.source.heartbeat(Beat(instance=record, lease=lease))

    async def died(self, instance: str = "i1", detail: str = "signal 9") -> int:
        """A parent saw the process die."""
        return await self.source.instance_died(InstanceDied(instance=instance, detail=detail))

    async def lose(self, *, after: float = LEASE + 1.0) -> Rescued:
        """Let the leases of all claims pass, and rescue."""
        self.clock.advance(after)
        return await self.source.rescue()

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        self.clock.advance(seconds)


class StoreHarness(SourceHarness[Job]):
    """A store on a steered clock."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        """Hold `store`, whose own clock is steered by `clock`."""
        super().__init__(store, clock)
        self.store = store
        self._made = 0

    async def open(self) -> None:
        """Open the store and bring its schema up to date."""
        await self.store.open()
        await self.store.migrate()

    async def close(self) -> None:
        """Close the store."""
        await self.store.close()

    async def make(self, count: int = 1, *, delay: float = 0.0, max_attempts: int = 100) -> list[str]:
        """Enqueue jobs."""
        retry = msgspec.structs.replace(FIXED, max_attempts=max_attempts)
        return [job.id for job in await self.add_many(count, delay=delay or None, retry=retry)]

    async def look(self, item_id: str) -> Look:
        """Look at a job."""
        job = await self.job(item_id)
        names = ("state", "attempt", "token", "failures", "crashes", "snoozes", "releases", "run_at", "error")
        end = job.last.end if job.last else None
        return Look(**{name: getattr(job, name) for name in names}, end=end, cancel_asked=job.cancel is not None)

    async def ask_cancel(self, item_id: str) -> None:
        """Cancel a job as an operator."""
        ruling = await self.order(Cancel(why="because"), item_id)
        assert ruling.done, ruling.why

    async def leave_schedule(self, schedule: Schedule) -> None:
        """Leave a schedule in the store as a process of another version would; a door that checks rules is gone round."""
        await self.store.save_schedule(schedule)

    def count_exactly(self, jobs: int) -> None:
        """Let counts be exact up to so many jobs only, where the store has such a bound."""
        store: Any = getattr(self.store, "_store", self.store)  # a front door counts nothing itself
        store.count_exact = jobs

    def faults(self) -> list[str]:
        """Return what the store itself finds wrong with its state; a store that can look at itself overrides this."""
        return []

    # Jobs.

    def new(self, **fields: Any) -> NewJob:
        """Return a job to enqueue: a fresh id, task "t", no waiting between its attempts, unless said."""
        self._made += 1
        return NewJob(**{"id": f"made-{self._made:06d}", "task": self.task, "retry": FIXED, **fields})

    async def add(self, **fields: Any) -> Job:
        """Enqueue one job."""
        return (await self.add_many(1, **fields))[0]

    async def add_many(self, count: int, **fields: Any) -> list[Job]:
        """Enqueue `count` equal jobs in one batch."""
        answers = await self.store.enqueue([self.new(**fields) for _ in range(count)])
        assert all(answer.verdict is Verdict.NEW for answer in answers)
        return [answer.job for answer in answers]

    async def reported(self, *jobs: NewJob) -> list[tuple[Verdict, str]]:
        """Enqueue with duplicates reported; return verdict and id per job."""
        answers = await self.store.enqueue(jobs, on_duplicate=OnDuplicate.REPORT)
        return [(answer.verdict, answer.id) for answer in answers]

    async def job(self, job_id: str) -> Job:
        """Return the job, which must be there."""
        [job] = await self.store.jobs([job_id])
        assert job is not None, f"job {job_id} is gone"
        return job

    async def state(self, job_id: str) -> State:
        """Return the job's state."""
        return (await self.job(job_id)).state

    async def all_jobs(self, *, deleted: bool = True, **fields: Any) -> list[Job]:
        """Return all jobs that match, by order of acceptance, through pages."""
        found: list[Job] = []
        which, cursor = JobFilter(deleted=deleted, **fields), ""
        while True:
            page = await self.store.find(which, Page(limit=500, cursor=cursor, newest_first=False))
            found += page.items
            cursor = page.cursor
            if not cursor:
                return found

    async def claim_ids(self, limit: int = 100, instance: str = "i1", **more: Any) -> list[str]:
        """Claim, and return the ids in the order in which they were handed out."""
        return [claim.id for claim in await self.claim(limit, instance, **more)]

    async def claim_and_settle(self, ending: Ending | None = None, **more: Any) -> Settled:
        """Claim the next job and end its attempt."""
        return await self.settle(await self.claim_one(**more), ending)

    async def run_all(self, ending: Ending | None = None, **more: Any) -> list[str]:
        """Claim and settle until nothing is ready; return the ids in that order."""
        done: list[str] = []
        while claims := await self.claim(1, **more):
            done.append(claims[0].id)
            await self.settle(claims[0], ending)
        return done

    # Control.

    async def order(self, action: Action, job_id: str, who: str = "ann") -> Ruling:
        """Do an action on one job; return its ruling."""
        answer = await self.store.control(Order(action=action, selection=Selection(ids=(job_id,)), who=who))
        [ruling] = answer.rulings
        assert (answer.matched, answer.done + answer.refused) == (1, 1) or not ruling.done
        return ruling

    async def done(self, action: Action, job_id: str) -> Job | None:
        """Do an action that must be accepted; return the job after it, None when it is gone."""
        ruling = await self.order(action, job_id)
        assert ruling.done, ruling.why
        return (await self.store.jobs([job_id]))[0]

    async def in_state(self, state: State, **fields: Any) -> Job:
        """Return a fresh job that was brought to `state` through the port."""
        job = await self.add(**({"delay": LONG} if state is State.SCHEDULED else {}), **fields)
        ending = _ENDINGS.get(state)
        if ending is not None or state is State.RUNNING:
            claim = await self.claim_one(queues=(job.queue,))
            assert claim.id == job.id, "in_state needs a queue with no other ready job"
            if ending is not None:
                await self.settle(claim, ending())
        if state in _ORDERED:
            await self.done(_ORDERED[state], job.id)
        job = await self.job(job.id)
        assert job.state is state
        return job


#: How a claimed job gets to a state.
_ENDINGS: dict[State, Callable[[], Ending]] = {
    State.RETRYING: lambda: Failed(ERROR, retry_in=LONG),
    State.SUCCEEDED: lambda: Succeeded(b'"fine"'),
    State.FAILED: lambda: Failed(ERROR, retryable=False),
}
_ORDERED: dict[State, Action] = {State.CANCELED: Cancel(), State.PAUSED: Pause()}


def endings() -> Sequence[Ending]:
    """Return one ending of each kind that a worker can report."""
    return (
        Succeeded(b"1"),
        Snoozed(5.0, reason="later"),
        Failed(ERROR),
        TimedOut(ERROR),
        Crashed(ERROR),
        Canceled("enough"),
        Released("stopping"),
    )
