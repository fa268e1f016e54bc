"""The hot ports: `Source` is all that a worker knows, `Store` adds all that jobs need.

Each call takes one value and is one atomic, durable step when it returns. Every call is a batch; results are per item.
`enqueue` alone is all or nothing. Promises are shown by the contract suites in `holdfast.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from holdfast.job.model import Job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from holdfast.job.commands import (
        Beat,
        BoundKey,
        ChangeDefinition,
        ChangeQueue,
        Claims,
        Define,
        DefinitionFilter,
        Enqueued,
        InstanceDied,
        JobCount,
        JobFilter,
        JobPage,
        KeyLink,
        LinkFilter,
        OnDuplicate,
        Order,
        Ordered,
        Page,
        Progress,
        Rescued,
        Settled,
        Settlement,
        Signals,
        Stats,
        Want,
    )
    from holdfast.job.model import Definition, Instance, NewJob, Operation, Queue, Schedule, WorkerConfig

T = TypeVar("T")


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do. Tests ask this, and never compare a store's name."""

    durable: bool  # what was acknowledged survives the process
    push: bool  # `wait` returns as soon as work is ready, without polling
    many_processes: bool  # other processes may open it as well
    transactional: bool  # enqueue and settle can join the caller's own transaction
    one_writer: bool = False  # a transaction that writes keeps all others from writing
    holds_claims: bool = False  # a claim with `wait` returns when there is something, or that long later
    sticky: bool = False  # `bind` and `links`: jobs that run where their key lives
    time_precision: float = 1e-6  # seconds


class Source(Protocol[T]):
    """Where a worker's items come from: jobs, or rows of a user's table."""

    @property
    def capabilities(self) -> Capabilities:
        """What this source can do."""
        ...

    async def claim(self, want: Want) -> Claims[T]:
        """Hand out ready items, each with the next attempt number and token. What is due is promoted first."""
        ...

    async def settle(self, settlements: Sequence[Settlement[T]]) -> list[Settled]:
        """End attempts. Per item: applied, repeated (fine) or stale (refused and recorded)."""
        ...

    async def progress(self, reports: Sequence[Progress[T]]) -> list[Settled]:
        """Write progress, data and log lines of running attempts. A stale token is refused."""
        ...

    async def heartbeat(self, beat: Beat) -> Signals:
        """Extend the leases of an instance's claims; tell it what it holds and what to cancel."""
        ...

    async def rescue(self, limit: int = 1_000) -> Rescued:
        """End claims whose lease has passed, promote what is due, prune. Any process may call it at any time."""
        ...

    async def instance_died(self, died: InstanceDied) -> int:
        """End the claims of a process that was seen to die, as crashed, at once; return how many there were."""
        ...

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Return True as soon as work may be ready that `cursor` (of a claim's answer) did not see; False at `timeout` s."""
        ...


class PushesCancel(Protocol):
    """What a source may offer beside `Source`: to tell at once that a running item was asked to stop.

    A worker then beats now instead of at the next third of its lease; the beat's answer says which one. Without it the
    regular beat is what tells.
    """

    def on_cancel(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call`, from any thread, whenever a cancel was asked; return what ends this."""
        ...


class PushesSchedules(Protocol):
    """What a store may offer beside `Store`: to tell at once that a schedule or a task was changed.

    A scheduler then looks now instead of after its poll.
    """

    @property
    def hears_schedules(self) -> bool:
        """Whether changes that other processes make are told as well, as things are now."""
        ...

    def on_schedule(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call`, from any thread, whenever a schedule or a task was changed; return what ends this."""
        ...


class JoinsTransactions(Protocol):
    """What a store on a database offers beside `Store`: to do a step in a transaction of the caller's.

    `tx` is a connection or session to the same database. One that is not async is used here and now, in the calling thread,
    and the answer is there when the call returns; it may be awaited all the same. Nothing is committed. Raises UsageError
    for a handle of another database, closed, or without a transaction.
    """

    def enqueue_within(
        self, tx: object, jobs: Sequence[NewJob], *, on_duplicate: OnDuplicate = ..., define: Sequence[Define] = ()
    ) -> Awaitable[list[Enqueued]]:
        """See Store.enqueue. define: tasks to be made known in the same transaction."""
        ...

    def settle_within(self, tx: object, settlements: Sequence[Settlement[Job]]) -> Awaitable[list[Settled]]:
        """See Source.settle."""
        ...


class EnqueuesOne(Protocol):
    """What a store offers beside `Store` when one job alone costs it less than a batch of one."""

    async def enqueue_one(self, job: NewJob, *, on_duplicate: OnDuplicate = ...) -> Enqueued:
        """Store one job. Raises what `Store.enqueue` raises. When it is cancelled the job may be stored or not."""
        ...


class Store(Source[Job], Protocol):
    """Where jobs live."""

    async def open(self) -> None:
        """Make it ready. Called once, in the loop that will use it."""
        ...

    async def close(self) -> None:
        """Write what is pending and let everything go. Calling it twice is fine."""
        ...

    async def migrate(self) -> list[str]:
        """Bring the schema up to date; return the names of the steps that were taken (none for stores without schema)."""
        ...

    async def enqueue(self, jobs: Iterable[NewJob], *, on_duplicate: OnDuplicate = ...) -> Sequence[Enqueued]:
        """Store all jobs or none; answers in the order of `jobs`. A store may draw some while it stores others.

        Raises DuplicateJob (ids and unique keys taken), TaskInactive, TooLarge.
        """
        ...

    # control
    async def control(self, order: Order) -> Ordered:
        """Do an action on a selection: a ruling per id, or an operation record for a filter, run to its end."""
        ...

    async def operations(self) -> list[Operation]:
        """Bulk operations, newest first."""
        ...

    async def cancel_operation(self, operation_id: str, who: str = "") -> Operation:
        """Stop a bulk operation after the batch it is in. Raises UnknownOperation."""
        ...

    # queues
    async def queues(self) -> list[Queue]:
        """All queues, by name."""
        ...

    async def change_queue(self, change: ChangeQueue) -> Queue:
        """Change a queue's policy, or pause and resume it. Raises UnknownQueue unless `create`."""
        ...

    async def delete_queue(self, name: str, who: str = "") -> None:
        """Forget a queue. Raises UnknownQueue; Conflict while it has unfinished jobs."""
        ...

    # definitions
    async def define(self, definitions: Sequence[Define]) -> list[Definition]:
        """Make or refresh definitions from code."""
        ...

    async def definition(self, alias_or_id: str) -> Definition:
        """One definition, also a deleted one. Raises UnknownTask."""
        ...

    async def definitions(self, which: DefinitionFilter) -> list[Definition]:
        """Definitions by alias."""
        ...

    async def change_definition(self, change: ChangeDefinition) -> Definition:
        """Edit, cancel, activate or soft-delete. Raises UnknownTask, and Conflict when a new alias is taken."""
        ...

    async def delete_definition(self, alias_or_id: str, who: str = "") -> None:
        """Forget a definition. Raises UnknownTask; Conflict while it has unfinished jobs, or schedules."""
        ...

    # schedules
    async def save_schedule(self, schedule: Schedule, *, expect: int | None = None) -> Schedule:
        """Make or replace a schedule by name. `expect`: the revision that it must have; 0: there must be none.

        Raises Conflict when another was first.
        """
        ...

    async def schedules(self, *, deleted: bool = False) -> list[Schedule]:
        """All schedules, by name."""
        ...

    async def fire_schedule(self, name: str, due: float, jobs: Sequence[NewJob], next_run_at: float | None) -> bool:
        """Enqueue a tick's jobs and move the schedule on, if it is active and its next_run_at still is `due`.

        False when another was first. Without a next time the schedule is completed in the same step.
        """
        ...

    # workers
    async def instances(self) -> list[Instance]:
        """Live and lately lost worker processes, by worker and start."""
        ...

    async def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Make or replace a worker's configuration."""
        ...

    async def workers(self) -> list[WorkerConfig]:
        """All configured workers, by name."""
        ...

    async def delete_worker(self, name: str) -> None:
        """Forget a worker's configuration. Raises UnknownWorker."""
        ...

    # keys and their owners (a store without the capability `sticky` raises UsageError)
    async def bind(self, links: Sequence[KeyLink]) -> list[BoundKey]:
        """Give keys to worker processes, or take them away; per key, in order.

        Accepted: a higher epoch than the key ever had, for a process that lives and does not drain; the same link again; and
        pod None by the process that has the key, under the epoch that it has. Whoever waits for work is woken. A key whose
        process drains, stops or is lost has no owner from then on, and keeps its epoch.
        """
        ...

    async def links(self, which: LinkFilter) -> list[KeyLink]:
        """The newest links, by service and key."""
        ...

    # reads
    async def jobs(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids, in their order; None for unknown ones."""
        ...

    async def find(self, which: JobFilter, page: Page) -> JobPage:
        """Jobs by order of acceptance, in keyset pages: none is shown twice or left out while others come and go.

        A text and a tag are looked for in jobs enqueued within a day, unless `created_after` says since when; who paused
        them, in all that are paused; each in `page.scan` of them at most: a page of such a search may have few rows or none,
        and a cursor that goes on.
        """
        ...

    async def count(self, which: JobFilter) -> JobCount:
        """How many jobs match. Exact up to 100,000 jobs; of more, a store for which that is dear tells about how many, and
        marks it (`estimated`). A search looks at 100,000 jobs; in how many of more it would find something, is estimated too.
        """
        ...

    async def stats(self) -> Stats:
        """Counts per queue and state, exact as those of `count`: `estimated` tells which are not."""
        ...

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        """Wait until all of these have ended, or `timeout` seconds; return those that have. Raises UnknownJob."""
        ...

    def now(self) -> float:
        """The store's clock as this process knows it, in seconds since the epoch."""
        ...
