"""Reads, as the port names them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.stores.sql import figures, past, reads, searching
from holdfast.stores.sql.cold import archive
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job import commands as c
    from holdfast.job.facts import Audited, Figured
    from holdfast.job.model import Definition, Instance, Job, Operation, Queue, Schedule, WorkerConfig
    from holdfast.job.state import State


class ReadCalls(SqlBase):
    """What is looked at."""

    async def jobs(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids, in their order."""
        return await self._read(partial(reads.jobs, ids=ids))

    async def find(self, which: c.JobFilter, page: c.Page) -> c.JobPage:
        """Jobs in keyset pages."""
        return await self._read(partial(searching.find, which=which, page=page))

    async def count(self, which: c.JobFilter) -> c.JobCount:
        """How many jobs match, or about how many."""
        return await self._read(partial(searching.count, which=which))

    async def stats(self) -> c.Stats:
        """Counts per queue and state."""
        return await self._read(reads.stats)

    async def operations(self) -> list[Operation]:
        """Bulk operations, newest first."""
        return await self._read(reads.operations)

    async def queues(self) -> list[Queue]:
        """All queues, by name."""
        return await self._read(reads.queues)

    async def definition(self, alias_or_id: str) -> Definition:
        """One definition, also a deleted one."""
        return await self._read(partial(reads.definition, alias_or_id=alias_or_id))

    async def definitions(self, which: c.DefinitionFilter) -> list[Definition]:
        """Definitions by alias."""
        return await self._read(partial(reads.definitions, which=which))

    async def schedules(self, *, deleted: bool = False) -> list[Schedule]:
        """All schedules, by name."""
        return await self._read(partial(reads.schedules, deleted=deleted))

    async def instances(self) -> list[Instance]:
        """Live and lately lost worker processes."""
        return await self._read(reads.instances)

    async def workers(self) -> list[WorkerConfig]:
        """All configured workers, by name."""
        return await self._read(reads.workers)

    async def kept_figures(self, span: int, first: int, last: int) -> list[Figured]:
        """What was counted in minutes or hours (span: 60 or 3,600), from the `first` to the `last` since the epoch."""
        return await self._read(partial(archive.figures, span=span, first=first, last=last))

    async def audited(self, before: int | None, limit: int) -> list[tuple[int, Audited]]:
        """The next `limit` entries of the audit log below the number `before`, the newest first, with their numbers."""
        return await self._read(partial(reads.audited, before=before, limit=limit))

    # --- for a history over this store: see stores/sql/past.py

    async def job_figures(self, worker: str) -> list[past.Counted]:
        """Jobs, counted by queue and state."""
        return await self._read(partial(past.job_figures, worker=worker))

    async def hour_figures(self, worker: str, first: int) -> list[past.Hour]:
        """Attempts, counted by hour and end, from the `first` hour on."""
        return await self._read(partial(past.hour_figures, worker=worker, first=first))

    async def counted(self, span: int, first: int, queue: str | None, task: str | None) -> list[figures.Counted]:
        """What ended in the minutes or hours (span: 60 or 3,600 seconds) from `first` on, counted from the epoch."""
        return await self._read(partial(figures.counted, span=span, first=first, queue=queue, task=task))

    async def tried(
        self, since: float, before: int | None, *, queue: str | None = None, task: str | None = None
    ) -> tuple[list[Job], int, int]:
        """The next jobs that were tried and have changed since then, newest first; up to which seq was looked, and at how
        many rows."""
        return await self._read(partial(past.tried, since=since, before=before, queue=queue, task=task))

    async def record_counts(self) -> dict[tuple[str, State], int]:
        """How many jobs that ran elsewhere there are, by queue and state."""
        return await self._read(reads.records)
