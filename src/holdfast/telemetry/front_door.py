"""The front door of a store: the one place where observers hear of it. It changes no answer and swallows no error.

A call that nobody listens to is passed on as it is; one that somebody listens to costs one call more for each batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from holdfast.clock import Clock, SystemClock
from holdfast.errors import HoldfastError
from holdfast.job.commands import Enqueued, JobFilter, OnDuplicate, Page, Verdict
from holdfast.job.state import End, State
from holdfast.telemetry.observer import Gone, listening
from holdfast.worker.hooks import tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from holdfast.job import commands as c
    from holdfast.job.model import Definition, Instance, Job, NewJob, Operation, Queue, Schedule, WorkerConfig
    from holdfast.store import Capabilities, Store
    from holdfast.telemetry.observer import StoreObserver

    #: Returns the jobs as they should be stored: with a traceparent, for one.
    Prepare = Callable[[Sequence[NewJob]], Sequence[NewJob]]

T = TypeVar("T")

#: How many jobs of a dead process are looked at together.
_PAGE: Final = 1_000

#: What only some stores have. Of calls within the caller's transaction, and of beats from another thread, nobody is told.
_BESIDE: Final = frozenset(
    {"enqueue_within", "settle_within", "transaction", "on_schedule", "hears_schedules", "beat_source", "folder"}
)


class FrontDoor:
    """A Store that passes every call on to `store` and tells `observers` what came of it."""

    def __init__(
        self,
        store: Store,
        observers: Sequence[StoreObserver] = (),
        *,
        prepare: Prepare | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`prepare` may change jobs on their way in; `clock` measures how long it takes to open."""
        self._store, self._prepare, self._clock = store, prepare, clock or SystemClock()
        self._opened = listening(observers, "opened")
        self._enqueued = listening(observers, "enqueued")
        self._claimed = listening(observers, "claimed")
        self._settled = listening(observers, "settled")
        self._progressed = listening(observers, "progressed")
        self._gone = listening(observers, "gone")
        self._rescued = listening(observers, "rescued")
        self._ordered = listening(observers, "ordered")
        self._changed = listening(observers, "changed")
        self._refused = listening(observers, "refused")

    @property
    def inner(self) -> Store:
        """The store behind the door."""
        return self._store

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do."""
        return self._store.capabilities

    def now(self) -> float:
        """The store's clock."""
        return self._store.now()

    async def _watched(self, call: str, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except HoldfastError as error:
            tell(self._refused, call, error)
            raise

    async def _told(self, call: str, name: str, who: str, answer: Awaitable[T]) -> T:
        done = await self._watched(call, answer)
        tell(self._changed, call, name, who)
        return done

    # --- life

    async def open(self) -> None:
        """Open the store."""
        started = self._clock.monotonic()
        await self._watched("open", self._store.open())
        tell(self._opened, self._clock.monotonic() - started)

    async def close(self) -> None:
        """Close the store."""
        await self._watched("close", self._store.close())

    async def migrate(self) -> list[str]:
        """Bring the schema up to date."""
        return await self._watched("migrate", self._store.migrate())

    # --- keys and their owners

    async def bind(self, links: Sequence[c.KeyLink]) -> list[c.BoundKey]:
        """Give keys to worker processes, or take them away."""
        return await self._watched("bind", self._store.bind(links))

    async def links(self, which: c.LinkFilter) -> list[c.KeyLink]:
        """The newest links."""
        return await self._store.links(which)

    # --- the hot path

    async def enqueue(
        self, jobs: Iterable[NewJob], *, on_duplicate: OnDuplicate = OnDuplicate.RAISE
    ) -> Sequence[c.Enqueued]:
        """Store all jobs or none."""
        if self._prepare is not None:
            jobs = self._prepare(tuple(jobs))
        answers = await self._watched("enqueue", self._store.enqueue(jobs, on_duplicate=on_duplicate))
        tell(self._enqueued, answers)
        return answers

    async def _tell_made(self, ids: Sequence[str]) -> None:
        """Tell of jobs that came into being without an enqueue: a schedule's, and replays."""
        if self._enqueued and ids:
            made = [job for job in await self._store.jobs(ids) if job is not None]
            tell(self._enqueued, [Enqueued(Verdict.NEW, job) for job in made])

    async def claim(self, want: c.Want) -> c.Claims[Job]:
        """Hand out ready jobs."""
        claims = await self._watched("claim", self._store.claim(want))
        tell(self._claimed, want, claims)
        return claims

    async def settle(self, settlements: Sequence[c.Settlement[Job]]) -> list[c.Settled]:
        """End attempts."""
        answers = await self._watched("settle", self._store.settle(settlements))
        tell(self._settled, settlements, answers)
        return answers

    async def progress(self, reports: Sequence[c.Progress[Job]]) -> list[c.Settled]:
        """Write what running attempts report."""
        answers = await self._watched("progress", self._store.progress(reports))
        tell(self._progressed, answers)
        return answers

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases."""
        return await self._watched("heartbeat", self._store.heartbeat(beat))

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        """End claims whose lease has passed, promote, prune."""
        rescued = await self._watched("rescue", self._store.rescue(limit))
        if self._gone and rescued.ended:
            found = await self._store.jobs([one.id for one in rescued.ended])
            pairs = zip(found, rescued.ended, strict=True)
            self._tell_gone([_gone(job, one.token, one.state) for job, one in pairs if job is not None])
        tell(self._rescued, rescued)
        return rescued

    async def instance_died(self, died: c.InstanceDied) -> int:
        """End the claims of a dead process."""
        held = await self._held_by(died.instance) if self._gone else []
        count = await self._watched("instance_died", self._store.instance_died(died))
        if held and count:
            pairs = zip(await self._store.jobs([job.id for job in held]), held, strict=True)
            self._tell_gone([_gone(job, before.token, None) for job, before in pairs if job is not None])
        return count

    async def _held_by(self, instance: str) -> list[Job]:
        """The jobs that run in a process. Asked only when one dies, and somebody listens."""
        which, cursor, found = JobFilter(instance=instance, states=(State.RUNNING,)), "", list["Job"]()
        while True:
            page = await self._store.find(which, Page(limit=_PAGE, cursor=cursor))
            found += page.items
            cursor = page.cursor
            if not cursor:
                return found

    def _tell_gone(self, attempts: list[Gone | None]) -> None:
        gone = [one for one in attempts if one is not None]
        if gone:
            tell(self._gone, gone)

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Wait until work may be ready."""
        return await self._store.wait(queues, cursor, timeout)

    def on_cancel(self, call: Callable[[], None]) -> Callable[[], None]:
        """Pass on what the store pushes; a store that pushes nothing leaves it to the beats."""
        push: Callable[[Callable[[], None]], Callable[[], None]] | None = getattr(self._store, "on_cancel", None)
        return (lambda: None) if push is None else push(call)

    def __getattr__(self, name: str) -> object:
        """Pass on what some stores offer beside the port: to join a transaction of the caller's, to tell of schedules."""
        if name not in _BESIDE:
            raise AttributeError(name)
        found: object = getattr(self._store, name)
        return found

    # --- control

    async def control(self, order: c.Order) -> c.Ordered:
        """Do an action on a selection."""
        answer = await self._watched("control", self._store.control(order))
        await self._tell_made([ruling.made for ruling in answer.rulings if ruling.made])
        tell(self._ordered, order, answer)
        return answer

    async def operations(self) -> list[Operation]:
        """Bulk operations."""
        return await self._watched("operations", self._store.operations())

    async def cancel_operation(self, operation_id: str, who: str = "") -> Operation:
        """Stop a bulk operation."""
        call = self._store.cancel_operation(operation_id, who)
        return await self._told("cancel_operation", operation_id, who, call)

    async def queues(self) -> list[Queue]:
        """All queues."""
        return await self._watched("queues", self._store.queues())

    async def change_queue(self, change: c.ChangeQueue) -> Queue:
        """Change a queue."""
        return await self._told("change_queue", change.name, change.who, self._store.change_queue(change))

    async def delete_queue(self, name: str, who: str = "") -> None:
        """Forget a queue."""
        await self._told("delete_queue", name, who, self._store.delete_queue(name, who))

    async def define(self, definitions: Sequence[c.Define]) -> list[Definition]:
        """Make or refresh definitions from code."""
        return await self._watched("define", self._store.define(definitions))

    async def definition(self, alias_or_id: str) -> Definition:
        """One definition."""
        return await self._watched("definition", self._store.definition(alias_or_id))

    async def definitions(self, which: c.DefinitionFilter) -> list[Definition]:
        """Definitions by alias."""
        return await self._watched("definitions", self._store.definitions(which))

    async def change_definition(self, change: c.ChangeDefinition) -> Definition:
        """Change a definition."""
        call = self._store.change_definition(change)
        return await self._told("change_definition", change.alias, change.who, call)

    async def delete_definition(self, alias_or_id: str, who: str = "") -> None:
        """Forget a definition."""
        await self._told("delete_definition", alias_or_id, who, self._store.delete_definition(alias_or_id, who))

    # --- schedules and workers

    async def save_schedule(self, schedule: Schedule, *, expect: int | None = None) -> Schedule:
        """Make or replace a schedule."""
        return await self._told("save_schedule", schedule.name, "", self._store.save_schedule(schedule, expect=expect))

    async def schedules(self, *, deleted: bool = False) -> list[Schedule]:
        """All schedules."""
        return await self._watched("schedules", self._store.schedules(deleted=deleted))

    async def fire_schedule(self, name: str, due: float, jobs: Sequence[NewJob], next_run_at: float | None) -> bool:
        """Enqueue a tick's jobs, if nobody else was first."""
        if self._prepare is not None:
            jobs = self._prepare(jobs)
        fired = await self._watched("fire_schedule", self._store.fire_schedule(name, due, jobs, next_run_at))
        if fired:
            await self._tell_made([job.id for job in jobs])
            tell(self._changed, "fire_schedule", name, "")
        return fired

    async def instances(self) -> list[Instance]:
        """Worker processes."""
        return await self._watched("instances", self._store.instances())

    async def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Make or replace a worker's configuration."""
        return await self._told("configure_worker", config.name, "", self._store.configure_worker(config))

    async def workers(self) -> list[WorkerConfig]:
        """Configured workers."""
        return await self._watched("workers", self._store.workers())

    async def delete_worker(self, name: str) -> None:
        """Forget a worker's configuration."""
        await self._told("delete_worker", name, "", self._store.delete_worker(name))

    # --- reads

    async def jobs(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids."""
        return await self._watched("jobs", self._store.jobs(ids))

    async def find(self, which: c.JobFilter, page: c.Page) -> c.JobPage:
        """Jobs in keyset pages."""
        return await self._watched("find", self._store.find(which, page))

    async def count(self, which: c.JobFilter) -> c.JobCount:
        """How many jobs match."""
        return await self._watched("count", self._store.count(which))

    async def stats(self) -> c.Stats:
        """Counts per queue and state."""
        return await self._watched("stats", self._store.stats())

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        """Wait for jobs to end."""
        return await self._watched("finished", self._store.finished(ids, timeout))


def _gone(job: Job, token: int, state: State | None) -> Gone | None:
    """What became of the attempt with `token`, if the store ended it. `state`: as the store said, when it did."""
    attempt = next((one for one in reversed(job.attempts) if one.token == token), None)
    if attempt is None or attempt.end not in (End.LOST, End.CRASHED, End.STALE):
        return None
    if state is None:
        state = job.state if job.token == token else State.QUEUED  # claimed again since: it was not given up
    end = End.CRASHED if attempt.end is End.CRASHED else End.LOST
    return Gone(job.id, job.task, job.queue, attempt.number, end, state, attempt.reason)
