"""Reads, as the port names them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.stores.sql import reads
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job import commands as c
    from holdfast.job.model import Definition, Instance, Job, Operation, Queue, Schedule, WorkerConfig


class ReadCalls(SqlBase):
    """What is looked at."""

    async def jobs(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids, in their order."""
        return await self._read(partial(reads.jobs, ids=ids))

    async def find(self, which: c.JobFilter, page: c.Page) -> c.JobPage:
        """Jobs in keyset pages."""
        return await self._read(partial(reads.find, which=which, page=page))

    async def count(self, which: c.JobFilter) -> int:
        """How many jobs match."""
        return await self._read(partial(reads.count, which=which))

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
