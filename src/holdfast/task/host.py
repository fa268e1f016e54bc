"""What a task needs of the app that it belongs to. The app stands above; it is given to its tasks as this protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from holdfast.job.commands import Enqueued, OnDuplicate, Order, Ordered
    from holdfast.job.model import Job, NewJob
    from holdfast.task.coming import Coming
    from holdfast.task.task import Task

T = TypeVar("T")


class Host(Protocol):
    """Ids, the way to the store, and the way in for code without a loop."""

    def new_id(self) -> str:
        """Return an id for a new job."""
        ...

    def new_ids(self, count: int) -> list[str]:
        """Return ids for `count` new jobs."""
        ...

    async def submit(self, job: NewJob, on_duplicate: OnDuplicate, tx: Any = None) -> Enqueued:
        """Store one job, together with those that others submit at the same time; with `tx`, in the caller's transaction."""
        ...

    async def submit_many(
        self, jobs: Coming, on_duplicate: OnDuplicate, *, atomic: bool, tx: Any = None
    ) -> tuple[Sequence[Enqueued], int]:
        """Store many jobs; return the answers in order, and into how many batches they were cut."""
        ...

    def submit_within(self, jobs: Sequence[NewJob], on_duplicate: OnDuplicate, tx: Any) -> Sequence[Enqueued]:
        """Store jobs in the transaction of a connection that is not async, in the calling thread, without a loop."""
        ...

    async def read(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids."""
        ...

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        """Wait up to `timeout` seconds until these have ended; return those that have."""
        ...

    async def order(self, order: Order) -> Ordered:
        """Do an action on jobs."""
        ...

    def import_name(self, task: Task[Any, Any]) -> str:
        """Return the `module:attribute` that a child process imports to find `task`. Raises UsageError if it can not."""
        ...

    def run_sync(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` from code without a loop. Raises UsageError where a loop runs; `work` is closed then."""
        ...
