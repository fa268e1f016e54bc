"""Control, queues, definitions, schedules and workers, as the port names them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from holdfast.job import commands as c
from holdfast.job.ledger import Ledger
from holdfast.job.ledger.claiming import PAUSED_BY_TASK
from holdfast.job.model import OperationState
from holdfast.job.state import State
from holdfast.stores.sql import links as links_
from holdfast.stores.sql.cold import archive, control, definitions, external, queues, schedules, workers
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Definition, Job, NewJob, Operation, Queue, Schedule, WorkerConfig

_WAITING: Final = (State.QUEUED, State.SCHEDULED, State.RETRYING)


class ControlCalls(SqlBase):
    """What people and the fleet steer."""

    # --- jobs

    async def control(self, order: c.Order) -> c.Ordered:
        """Do an action on a selection; an operation by filter is run to its end, batch by batch."""
        answer = await self._write(partial(control.order, command=order))
        while answer.operation is not None and answer.operation.state is OperationState.RUNNING:
            await asyncio.sleep(0)  # each batch is a step of its own; others come in between
            answer = await self._write(partial(control.continue_operation, operation_id=answer.operation.id))
        return answer

    async def cancel_operation(self, operation_id: str, who: str = "") -> Operation:
        """Stop a bulk operation after the batch it is in."""
        command = c.CancelOperation(id=operation_id, who=who)
        return await self._write(partial(control.cancel_operation, command=command))

    # --- queues

    async def change_queue(self, change: c.ChangeQueue) -> Queue:
        """Change a queue's policy, or pause and resume it."""
        return await self._write(partial(queues.change_queue, change=change))

    async def delete_queue(self, name: str, who: str = "") -> None:
        """Forget a queue without unfinished jobs, and its history with it, batch by batch."""
        command = c.DeleteQueue(name=name, who=who)
        gone = False
        while not gone:
            gone = await self._write(partial(queues.delete_queue, command=command))

    # --- definitions

    async def define(self, definitions_: Sequence[c.Define]) -> list[Definition]:
        """Make or refresh definitions from code."""
        return await self._write(partial(definitions.define, definitions=definitions_))

    async def change_definition(self, change: c.ChangeDefinition) -> Definition:
        """Edit a definition; its waiting jobs are paused when it stops, and resumed when it runs again."""
        before, after = await self._write(partial(definitions.change_definition, change=change))
        if before.runs and not after.runs:
            which = c.JobFilter(task=after.alias, states=_WAITING)
            await self._by_task(c.Pause(), which)
        elif after.runs and not before.runs:
            which = c.JobFilter(task=after.alias, states=(State.PAUSED,), paused_by=PAUSED_BY_TASK)
            await self._by_task(c.Resume(), which)
        return after

    async def delete_definition(self, alias_or_id: str, who: str = "") -> None:
        """Forget a definition that nothing uses."""
        command = c.DeleteDefinition(alias=alias_or_id, who=who)
        await self._write(partial(definitions.delete_definition, command=command))

    async def _by_task(self, action: c.Action, which: c.JobFilter) -> None:
        await self.control(c.Order(action=action, selection=c.Selection(filter=which), who=PAUSED_BY_TASK))

    # --- schedules and workers

    async def save_schedule(self, schedule: Schedule, *, expect: int | None = None) -> Schedule:
        """Make or replace a schedule."""
        return await self._write(partial(schedules.save_schedule, command=c.SaveSchedule(schedule, expect)))

    async def fire_schedule(self, name: str, due: float, jobs: Sequence[NewJob], next_run_at: float | None) -> bool:
        """Enqueue a tick's jobs if nobody else was first."""
        command = c.FireSchedule(name=name, due=due, jobs=tuple(jobs), next_run_at=next_run_at)
        return await self._write(partial(schedules.fire_schedule, command=command))

    async def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Make or replace a worker's configuration."""
        return await self._write(partial(workers.configure_worker, command=c.ConfigureWorker(config)))

    async def delete_worker(self, name: str) -> None:
        """Forget a worker's configuration."""
        await self._write(partial(workers.delete_worker, command=c.DeleteWorker(name)))

    # --- keys and their owners

    async def bind(self, links: Sequence[c.KeyLink]) -> list[c.BoundKey]:
        """Give keys to processes, or take them away; each link stands alone."""
        command = c.Bind(tuple(links))
        return await self._write(lambda step: links_.bind(step, Ledger(), command)) if links else []

    async def links(self, which: c.LinkFilter) -> list[c.KeyLink]:
        """Links, in order of service and key."""
        return await self._read(lambda step: links_.links(step, which))

    # --- what others report, for a history over this store

    async def worker_beat(self, name: str, at: float) -> bool:
        """Note when a configured worker was last heard of; False if there is none of that name."""
        return await self._write(partial(workers.worker_beat, command=c.WorkerBeat(name, at)))

    async def record_jobs(self, records: Sequence[Job]) -> None:
        """Upsert records of jobs that ran elsewhere, all or none."""
        await self._write(partial(external.record_jobs, command=c.RecordJobs(tuple(records))))

    async def record_statuses(self, updates: Sequence[c.StatusUpdate]) -> list[bool]:
        """Update states of records, all or none; tell per update whether there was such a job."""
        return await self._write(partial(external.record_statuses, command=c.RecordStatuses(tuple(updates))))

    async def import_jobs(self, jobs: Sequence[Job], epoch: int) -> Sequence[c.Ruling]:
        """Take in jobs of another store; `epoch`: the highest that it gave out tokens under."""
        return await self._write(partial(external.import_jobs, command=c.Import(jobs=tuple(jobs), epoch=epoch)))

    async def import_records(self, records: c.ImportRecords) -> int:
        """Take in figures and audit entries of another store; tell how many were not here."""
        return await self._write(partial(archive.import_records, command=records))

    async def record_audit(self, entry: c.Audit) -> None:
        """Write an entry of the audit log."""
        await self._write(partial(external.record_audit, command=entry))

    async def record_attempts(self, attempts: Sequence[c.AttemptRecord]) -> None:
        """Add attempts to records, all or none."""
        await self._write(partial(external.record_attempts, command=c.RecordAttempts(tuple(attempts))))
