"""`app.schedules`, and the scheduler of an app's worker."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from holdfast.app.byname import job_of
from holdfast.errors import ConfigError, UnknownTask
from holdfast.job.ids import check_name
from holdfast.job.model import Schedule, ScheduleStatus
from holdfast.schedule import steering
from holdfast.schedule.drafts import ScheduleOptions, read_options
from holdfast.schedule.plan import following
from holdfast.schedule.scheduler import firing
from holdfast.task.handle import JobHandle, decode_any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from holdfast.app.holdfast import Holdfast
    from holdfast.store import Store
    from holdfast.task import Task


class Schedules:
    """`app.schedules`: make schedules and steer them. Unknown names are refused with UnknownSchedule."""

    def __init__(self, app: Holdfast) -> None:
        self._app = app

    async def create(
        self,
        name: str,
        task: Task[Any, Any] | str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        active: bool = True,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Make a schedule; with active=False a draft, which fires once it is resumed.

        Raises Conflict when the name is taken, ConfigError for bad options and for a schedule that would never fire,
        UnknownTask, TaskInactive, BadArguments.
        """
        alias = task if isinstance(task, str) else task.alias
        status = ScheduleStatus.ACTIVE if active else ScheduleStatus.DRAFT
        fields = read_options(options, new=True)
        place = await self._place(alias, arguments or {})
        made = Schedule(**{**place, **fields}, name=check_name(name, "schedule"), task=alias, status=status)
        return self._changed(await steering.create(await self._app.open(), made))

    async def _place(self, alias: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return payload, queue and priority of the task's jobs."""
        if self._app.tasks.get(alias) is not None:
            place = _place(self._app, alias, arguments)
            await (await self._app.session()).define([task for task in self._app.tasks if task.alias == alias])
        session = await self._app.session()
        try:
            definition = await steering.definition_for(session.store, alias)
        except UnknownTask:
            definition = await session.definition(alias, self._app.tasks.aliases())  # it raises, and names near ones
        if self._app.tasks.get(alias) is None:
            job, _ = job_of(definition, arguments, {}, self._app.host.new_id)
            place = {"payload": job.payload, "queue": job.queue}
        return place

    async def list(self) -> Sequence[Schedule]:
        """Return all schedules, by name."""
        return await (await self._app.open()).schedules()

    async def get(self, name: str) -> Schedule:
        """Return a schedule."""
        return await steering.find(await self._app.open(), name)

    async def next(self, name: str, count: int = 5) -> Sequence[datetime]:
        """Return the next times (UTC) of a schedule, whether or not it is active; fewer when it comes to its end."""
        return upcoming(await self.get(name), (await self._app.open()).now(), count)

    async def run(self, name: str) -> JobHandle[Any]:
        """Enqueue a job of a schedule now, beside its ticks."""
        answer = await steering.run_now(await self._app.open(), name, self._app.host.new_id)
        task = self._app.tasks.get(answer.job.task)
        return JobHandle(self._app.host, answer, decode_any if task is None else task.decode_result)

    async def pause(self, name: str) -> Schedule:
        """Let a schedule fire no more until it is resumed. Ticks that pass meanwhile are gone."""
        return await steering.pause(await self._app.open(), name)

    async def resume(self, name: str) -> Schedule:
        """Let a draft or a paused schedule fire from now on."""
        return self._changed(await steering.resume(await self._app.open(), name))

    async def edit(
        self, name: str, arguments: Mapping[str, Any] | None = None, /, **options: Unpack[ScheduleOptions]
    ) -> Schedule:
        """Change what `options` name, and the arguments of its jobs; its next time follows when they change its times."""
        store = await self._app.open()
        fields: dict[str, Any] = {}
        if arguments is not None:
            known = await steering.find(store, name)
            fields["payload"] = (await self._place(known.task, arguments))["payload"]
        return self._changed(await steering.edit(store, name, options, **fields))

    async def delete(self, name: str) -> Schedule:
        """Hide a schedule; it fires no more. Its jobs stay."""
        return await steering.delete(await self._app.open(), name)

    def _changed(self, schedule: Schedule) -> Schedule:
        for scheduler in self._app.schedulers:
            scheduler.wake()
        return schedule


def upcoming(schedule: Schedule, now: float, count: int) -> list[datetime]:
    """Return the next `count` times (UTC) of a schedule. Raises ConfigError unless `count` is from 1 to 1,000."""
    if not 1 <= count <= 1_000:
        raise ConfigError(f"count: expected 1 to 1,000 times, found {count}.")
    found: list[datetime] = []
    left = schedule.max_count - schedule.count if schedule.max_count else count
    moment = following(schedule, now)
    while moment is not None and len(found) < min(count, left):
        found.append(datetime.fromtimestamp(moment, UTC))
        moment = following(schedule, moment)
    return found


def _place(app: Holdfast, alias: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    task = app.tasks.get(alias)
    if task is None:
        raise UnknownTask(alias, app.tasks.aliases())
    payload = task.arguments.encode_mapping(arguments)
    return {"payload": payload, "queue": task.policy.queue, "priority": task.policy.priority}


def declared(app: Holdfast) -> list[Schedule]:
    """Return the schedules that the app's code declares. Raises UnknownTask, and BadArguments when they do not fit."""
    return [
        Schedule(
            **{**_place(app, one.task, one.arguments), **read_options(one.options, new=True)},
            name=one.name,
            task=one.task,
            status=ScheduleStatus.ACTIVE,
        )
        for one in app.declarations.values()
    ]


@asynccontextmanager
async def scheduling(app: Holdfast, store: Store, *, once: bool = False) -> AsyncIterator[None]:
    """Fire the store's schedules while the body runs; `once`: what is due now, before it runs."""
    async with firing(store, app.clock, app.host.new_id, app.hooks().on_error, once=once) as scheduler:
        app.schedulers.add(scheduler)
        try:
            yield
        finally:
            app.schedulers.discard(scheduler)
