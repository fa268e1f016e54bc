"""What an app is to its tasks: ids, the way to the store with the hooks on it, the way in for code without a loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.app.loading import find_name
from holdfast.app.within import enqueue_here, enqueue_within, joining
from holdfast.errors import UsageError
from holdfast.job.model import FreshJob, NewJob
from holdfast.task.coming import Coming

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from holdfast.app.connection import Connection
    from holdfast.app.inline import Inline
    from holdfast.app.session import Session
    from holdfast.job.commands import Define, Enqueued, OnDuplicate, Order, Ordered
    from holdfast.job.model import Job
    from holdfast.store import Store
    from holdfast.task import Registry, Task

T = TypeVar("T")
OnEnqueue = Callable[[NewJob], Any]


class AppHost:
    """Implements task.Host. While `inline` is set, jobs run at once and nothing is stored."""

    def __init__(self, app: object, module: str, connection: Connection, registry: Registry) -> None:
        self._app, self._module, self._connection, self._registry = app, module, connection, registry
        self._names: dict[str, str] = {}
        self.on_enqueue: list[OnEnqueue] = []
        self.inline: Inline | None = None

    def new_id(self) -> str:
        """See Host."""
        return self._connection.new_id()

    def new_ids(self, count: int) -> list[str]:
        """See Host."""
        return self._connection.new_id.many(count)

    async def submit(self, job: NewJob, on_duplicate: OnDuplicate, tx: Any = None) -> Enqueued:
        """See Host."""
        if self.on_enqueue:
            job = await self._prepare(job)
        if self.inline is not None:
            return await self.inline.run(job)
        session = await self._connection.session()
        if tx is not None:
            told = await self._defining(session, [job.task])
            return (await enqueue_within(session.store, tx, [job], on_duplicate, told))[0]
        if not session.is_defined(job.task):
            await self._define(session, job.task)
        return await session.submit(job, on_duplicate)

    async def submit_many(
        self, jobs: Coming, on_duplicate: OnDuplicate, *, atomic: bool, tx: Any = None
    ) -> tuple[Sequence[Enqueued], int]:
        """See Host."""
        if self.on_enqueue:
            jobs = Coming.of([await self._prepare(job) for job in jobs.all()])
        if self.inline is not None:
            return [await self.inline.run(job) for job in jobs.all()], 1
        session = await self._connection.session()
        if tx is not None:
            told = await self._defining(session, jobs.tasks)
            return await enqueue_within(session.store, tx, jobs.all(), on_duplicate, told), 1
        for alias in jobs.tasks:
            await self._define(session, alias)
        return await session.submit_many(jobs, on_duplicate, atomic=atomic)

    def submit_within(self, jobs: Sequence[NewJob], on_duplicate: OnDuplicate, tx: Any) -> Sequence[Enqueued]:
        """See Host."""
        if self.inline is not None:
            return self.run_sync(self.submit_many(Coming.of(jobs), on_duplicate, atomic=True))[0]
        store, prepared, told = self.run_sync(self._prepare_within(jobs))
        return enqueue_here(store, tx, prepared, on_duplicate, told)

    async def _prepare_within(self, jobs: Sequence[NewJob]) -> tuple[Store, list[NewJob], list[Define]]:
        prepared = [await self._prepare(job) for job in jobs]
        session = await self._connection.session()
        return session.store, prepared, await self._defining(session, {job.task for job in prepared})

    async def _defining(self, session: Session, aliases: Iterable[str]) -> list[Define]:
        """Make tasks known before a transaction of the caller's enqueues jobs of them.

        Where one transaction at a time writes, the store can not be written to beside the caller's: what is new to it is
        returned, to be told within that transaction.
        """
        joining(session.store)
        if not session.store.capabilities.one_writer:
            for alias in aliases:
                await self._define(session, alias)
            return []
        found = [task for alias in aliases if (task := self._registry.get(alias)) is not None]
        return [task.definition() for task in found if not await session.is_there(task.alias)]

    async def _define(self, session: Session, alias: str) -> None:
        task = self._registry.get(alias)
        if task is not None and not session.is_defined(alias):
            await session.define([task])

    async def _prepare(self, job: NewJob) -> NewJob:
        if isinstance(job, FreshJob):
            job = job.told()
        for hook in self.on_enqueue:
            answer = hook(job)
            found = await answer if inspect.isawaitable(answer) else answer
            if not isinstance(found, NewJob):
                raise UsageError(
                    f"on_enqueue: expected {getattr(hook, '__qualname__', hook)} to return the job, found "
                    f"{type(found).__name__}. Return it, changed by msgspec.structs.replace or as it was."
                )
            job = found
        return job

    async def read(self, ids: Sequence[str]) -> list[Job | None]:
        """See Host."""
        if self.inline is not None:
            return [self.inline.find(job_id) for job_id in ids]
        return await (await self._connection.session()).store.jobs(ids)

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        """See Host."""
        if self.inline is not None:
            return [job for job in map(self.inline.find, ids) if job is not None and job.final]
        return await (await self._connection.session()).store.finished(ids, timeout)

    async def order(self, order: Order) -> Ordered:
        """See Host."""
        return await (await self._connection.session()).store.control(order)

    def import_name(self, task: Task[Any, Any]) -> str:
        """See Host."""
        name = self._names.get(task.alias)
        if name is None:
            module = getattr(inspect.unwrap(task.function), "__module__", "__main__")
            name = self._names[task.alias] = find_name(self._app, (module, self._module), f"task {task.alias!r}")
        return name

    def app_name(self, what: str) -> str:
        """Return `module:attribute` of the app, for `what`, which imports it elsewhere. Raises UsageError without one."""
        return find_name(self._app, (self._module,), what)

    def run_sync(self, work: Coroutine[Any, Any, T]) -> T:
        """See Host."""
        return self._connection.run_sync(work)
