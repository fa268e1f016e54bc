"""Task tables beside the queues of a store: one list for status, metrics, lists of jobs and history.

A store and a repository are passed on as they are; what they tell of queues and jobs is added to. A table that can not be
read is left out and logged, because the queues must be seen all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from msgspec.structs import replace

from holdfast import history as h
from holdfast.errors import Conflict, HoldfastError
from holdfast.job.commands import Stats
from holdfast.job.model import Queue
from holdfast.table.merging import merged
from holdfast.table.past import TableJobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from holdfast.job.commands import ChangeQueue, JobCount
    from holdfast.job.model import Attempt, Job
    from holdfast.store import Store
    from holdfast.table.merging import Ask
    from holdfast.table.table import TaskTable

R = TypeVar("R")

logger: Final = logging.getLogger("holdfast.table")


def store_beside(store: Store, tables: Sequence[TaskTable[Any]]) -> Store:
    """Return `store` with the tables among its queues and their rows among its jobs: for status, metrics and the API."""
    return cast("Store", _StoreBeside(store, tables)) if tables else store


def history_beside(history: h.JobRepository, tables: Sequence[TaskTable[Any]]) -> h.JobRepository:
    """Return `history` with the tables' rows among its jobs."""
    return cast("h.JobRepository", _HistoryBeside(history, tables)) if tables else history


def tables_alone(*tables: TaskTable[Any]) -> Store:
    """Return tables as the store that `Metrics.scrape` reads: for a process that has no store beside them."""
    return cast("Store", _Alone(tables))


# --- rows among jobs -----------------------------------------------------------------------------------------------


class _Rows:
    """Rows of some tables, beside jobs of something else."""

    def __init__(self, tables: Sequence[TaskTable[Any]]) -> None:
        self.tables = [TableJobs(table) for table in tables]

    def owner(self, job_id: str) -> TableJobs | None:
        """Return whose row an id is."""
        return next((table for table in self.tables if table.owns(job_id)), None)

    def named(self, name: str | None) -> TableJobs | None:
        """Return the table of a queue's or task's name."""
        return next((table for table in self.tables if table.name == name), None)

    async def page(self, ask: Ask, which: h.JobFilter, limit: int, page: h.Page) -> h.JobPage:
        """Return a page of all; `ask` gives those that are no rows."""
        one = self.named(which.queue) or self.named(which.task)
        if one is not None:
            return await one.page(which, limit, page.cursor, newest_first=page.newest_first)
        asks = [ask, *(self._ask(table, which, page.newest_first) for table in self.tables)]
        items, cursor = await merged(
            asks, limit, page.cursor, at=lambda job: job.created_at, newest_first=page.newest_first
        )
        return h.JobPage(items=tuple(items), cursor=cursor)

    def _ask(self, table: TableJobs, which: h.JobFilter, newest_first: bool) -> Ask:
        async def ask(limit: int, cursor: str) -> tuple[Sequence[Job], str]:
            page = await _read(table, lambda: table.page(which, limit, cursor, newest_first=newest_first))
            return ((), cursor) if page is None else (page.items, page.cursor)

        return ask

    async def count(self, which: h.JobFilter) -> int:
        """How many rows match, exactly."""
        return sum([await _read(table, lambda table=table: table.count(which)) or 0 for table in self.tables])  # type: ignore[misc]

    async def stats(self) -> Sequence[h.QueueStats]:
        """Each table as a queue."""
        return [one for table in self.tables for one in await _read(table, table.queue_stats) or ()]


class _StoreBeside:
    def __init__(self, store: Store, tables: Sequence[TaskTable[Any]]) -> None:
        self._store, self._rows = store, _Rows(tables)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def stats(self) -> Stats:
        """Counts of queues and tables."""
        return _with_tables(await self._store.stats(), await self._rows.stats())

    async def queues(self) -> list[Queue]:
        """Queues and tables, by name."""
        tables = [Queue(name=table.name) for table in self._rows.tables]
        return sorted([*await self._store.queues(), *tables], key=lambda queue: queue.name)

    async def change_queue(self, change: ChangeQueue) -> Queue:
        """See Store. Raises Conflict for a table."""
        self._refuse(change.name, "change")
        return await self._store.change_queue(change)

    async def delete_queue(self, name: str, who: str = "") -> None:
        """See Store. Raises Conflict for a table."""
        self._refuse(name, "forget")
        await self._store.delete_queue(name, who)

    def _refuse(self, name: str, what: str) -> None:
        if self._rows.named(name) is not None:
            raise Conflict(
                f"{name!r} is a task table, and no queue to {what}. Stop its services to stop it; its rows are yours."
            )

    async def jobs(self, ids: Sequence[str]) -> list[Job | None]:
        """Jobs and rows of these ids."""
        found: dict[str, Job | None] = {}
        for table in self._rows.tables:
            mine = [one for one in ids if table.owns(one)]
            found.update(zip(mine, await table.jobs(mine) if mine else (), strict=True))
        rest = [one for one in ids if one not in found]
        found.update(zip(rest, await self._store.jobs(rest) if rest else (), strict=True))
        return [found[one] for one in ids]

    async def find(self, which: h.JobFilter, page: h.Page) -> h.JobPage:
        """Jobs and rows, in pages; by their end jobs alone, for rows have no index of that."""
        if page.by_end:
            return await self._store.find(which, page)

        async def ask(limit: int, cursor: str) -> tuple[Sequence[Job], str]:
            found = await self._store.find(which, replace(page, limit=limit, cursor=cursor))
            return found.items, found.cursor

        return await self._rows.page(ask, which, page.limit, page)

    async def count(self, which: h.JobFilter) -> JobCount:
        """How many jobs and rows match."""
        return await self._store.count(which) + await self._rows.count(which)


class _HistoryBeside:
    def __init__(self, history: h.JobRepository, tables: Sequence[TaskTable[Any]]) -> None:
        self._history, self._rows = history, _Rows(tables)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)

    async def get(self, job_id: str) -> Job:
        """One job or row."""
        return await (self._rows.owner(job_id) or self._history).get(job_id)

    async def list(self, which: h.JobFilter, page: h.Page) -> h.JobPage:
        """Jobs and rows, in pages."""

        async def ask(limit: int, cursor: str) -> tuple[Sequence[Job], str]:
            found = await self._history.list(which, replace(page, limit=limit, cursor=cursor))
            return found.items, found.cursor

        return await self._rows.page(ask, which, h.JOB_LIMIT.of(page.limit), page)

    async def count(self, which: h.JobFilter) -> JobCount:
        """How many jobs and rows match."""
        return await self._history.count(which) + await self._rows.count(which)

    async def list_attempts(self, job_id: str, limit: int = 0) -> Sequence[Attempt]:
        """Attempts of a job, or the newest of a row."""
        return await (self._rows.owner(job_id) or self._history).list_attempts(job_id, limit)

    async def find_attempts(self, which: h.AttemptFilter, page: h.Page) -> h.AttemptPage:
        """Attempts of jobs, and the newest ones of rows, the latest start first."""

        def ask_of(one: h.JobRepository | TableJobs) -> Ask:
            async def ask(limit: int, cursor: str) -> tuple[Sequence[h.AttemptRecord], str]:
                found = await one.find_attempts(which, h.Page(limit=limit, cursor=cursor))
                return found.items, found.cursor

            return ask

        sources: list[h.JobRepository | TableJobs] = [self._history, *self._rows.tables]
        asks = [ask_of(one) for one in sources]
        items, cursor = await merged(
            asks, h.ATTEMPT_LIMIT.of(page.limit), page.cursor, at=lambda record: record.attempt.started_at
        )
        return h.AttemptPage(items=tuple(items), cursor=cursor)

    async def worker_stats(self, worker: str = "") -> h.WorkerStats:
        """Jobs and rows of a worker; durations are those of jobs."""
        whole = await self._history.worker_stats(worker)
        for table in self._rows.tables:
            more = await _read(table, lambda table=table: table.worker_stats(worker))  # type: ignore[misc]
            whole = whole if more is None or not more.total else _sum(whole, more)
        return whole

    async def worker_time_series(self, worker: str = "", hours: int = 0) -> Sequence[h.SeriesBucket]:
        """Hours of attempts, those of rows added; durations are those of jobs."""
        whole = {one.at: one for one in await self._history.worker_time_series(worker, hours)}
        for table in self._rows.tables:
            for more in await _read(table, lambda table=table: table.worker_time_series(worker, hours)) or ():  # type: ignore[misc]
                if (one := whole.get(more.at)) is not None:
                    counts = {name: getattr(one, name) + getattr(more, name) for name in _BUCKET_COUNTS}
                    whole[more.at] = replace(one, **counts)
        return list(whole.values())

    async def list_failed(self, worker: str = "", limit: int = 0) -> Sequence[Job]:
        """Failed jobs and rows, the newest first."""
        found = list(await self._history.list_failed(worker, limit))
        for table in self._rows.tables:
            found += await _read(table, lambda table=table: table.list_failed(worker, limit)) or ()  # type: ignore[misc]
        return sorted(found, key=lambda job: job.created_at, reverse=True)[: h.FAILED_LIMIT.of(limit)]

    async def queue_stats(self) -> Sequence[h.QueueStats]:
        """All queues and tables, by name."""
        found = {one.name: one for one in [*await self._history.queue_stats(), *await self._rows.stats()]}
        return [found[name] for name in sorted(found)]


class _Alone:
    def __init__(self, tables: Sequence[TaskTable[Any]]) -> None:
        self._rows = _Rows(tables)

    async def stats(self) -> Stats:
        """Counts of the tables."""
        return _with_tables(Stats(queues={}), await self._rows.stats())

    async def instances(self) -> list[Any]:
        """None: the rows themselves say who runs them."""
        return []

    def now(self) -> float:
        """The time here."""
        return time.time()


# --- adding up -----------------------------------------------------------------------------------------------------

_BUCKET_COUNTS: Final = ("total", "succeeded", "failed")
_COUNTS: Final = ("total", "pending", "running", "succeeded", "failed", "canceled")


def _with_tables(stats: Stats, tables: Sequence[h.QueueStats]) -> Stats:
    oldest = {one.name: one.oldest_ready_at for one in tables if one.oldest_ready_at is not None}
    return replace(
        stats,
        queues={**stats.queues, **{one.name: one.states for one in tables}},
        estimated={**stats.estimated, **{one.name: one.estimated for one in tables if one.estimated}},
        oldest_ready_at={**stats.oldest_ready_at, **oldest},
    )


def _sum(one: h.WorkerStats, more: h.WorkerStats) -> h.WorkerStats:
    counts = {name: getattr(one, name) + getattr(more, name) for name in _COUNTS}
    ended = counts["succeeded"] + counts["failed"]
    return replace(
        one,
        **counts,
        success_rate=counts["succeeded"] / ended if ended else None,
        states={name: count + more.states[name] for name, count in one.states.items()},
        queues=dict(sorted({**one.queues, **more.queues}.items())),
    )


async def _read(table: TableJobs, ask: Callable[[], Awaitable[R]]) -> R | None:
    """Ask a table; None, and a line in the log, when it can not be read."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await ask()
    except (HoldfastError, TimeoutError) as error:
        logger.warning("task table %r is left out of what is shown: %s", table.name, str(error) or "it does not answer")
        return None


_PATIENCE: Final = 10.0
