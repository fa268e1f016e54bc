"""Tasks: their definitions as the store knows them, and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType

from holdfast.errors import UnknownTask
from holdfast.hub.intake import check_arguments
from holdfast.hub.routes.people import record, record_nameless
from holdfast.hub.routing import BATCH_BODY_MAX, Route, Scope
from holdfast.job.commands import ChangeDefinition, DefinitionFilter
from holdfast.job.model import Definition, Schedule, ScheduleStatus, TaskStatus
from holdfast.schedule.drafts import checked
from holdfast.schedule.rule import read_rule
from holdfast.wire.definitions import DefinitionDoc, ScheduleDoc, definition_doc, schedule_doc, schedule_of
from holdfast.wire.newjobs import new_jobs_of
from holdfast.wire.requests import Count, Definitions, Fire, Ready, Who

if TYPE_CHECKING:
    from holdfast.hub.routing import Call


#: More definitions than there ever are.
ALL: Final = 1_000_000


class DefinitionQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which definitions; `deleted` shows deleted ones too."""

    alias: tuple[str, ...] = ()
    status: TaskStatus | None = None
    deleted: bool = False
    limit: int = 1_000
    offset: int = 0


class DefinitionCountQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which definitions; `deleted` counts deleted ones too."""

    alias: tuple[str, ...] = ()
    status: TaskStatus | None = None
    deleted: bool = False


class ScheduleQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which schedules; `deleted` shows deleted ones too."""

    deleted: bool = False


class ScheduleSave(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`expect`: the revision that the schedule must have; 0: there must be none. Left out: whatever is there."""

    expect: int | None = None


class DefinitionChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a definition; what is left out stays. Canceling or deleting pauses its waiting jobs."""

    who: str = ""
    new_alias: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    memo: str | UnsetType = UNSET
    status: TaskStatus | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET


async def list_tasks(call: Call) -> list[DefinitionDoc]:
    """List tasks by alias."""
    query: DefinitionQuery = call.query
    which = DefinitionFilter(
        aliases=query.alias, status=query.status, deleted=query.deleted, limit=query.limit, offset=query.offset
    )
    return list(map(definition_doc, await call.store.definitions(which)))


async def count_tasks(call: Call) -> Count:
    """Count tasks."""
    query: DefinitionCountQuery = call.query
    which = DefinitionFilter(aliases=query.alias, status=query.status, deleted=query.deleted, limit=ALL)
    return Count(count=len(await call.store.definitions(which)))


async def get_task(call: Call) -> DefinitionDoc:
    """Read one task by alias or id, also a deleted one."""
    return definition_doc(await call.store.definition(call.path))


async def define(call: Call) -> list[DefinitionDoc]:
    """Make or refresh definitions from code."""
    made: list[Definition] = await call.store.define(call.body.definitions)
    await call.intake.refresh()
    return list(map(definition_doc, made))


async def change_task(call: Call) -> DefinitionDoc:
    """Edit, cancel, activate or delete a task."""
    change: DefinitionChange = call.body
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    changed = await call.store.change_definition(ChangeDefinition(alias=call.path, **fields))
    await call.intake.refresh()
    await record_nameless(call, "change_definition", changed.alias)
    return definition_doc(changed)


async def delete_task(call: Call) -> Who:
    """Forget a task without unfinished jobs and schedules."""
    who = call.body or Who()
    await call.store.delete_definition(call.path, who.who)
    return Who(who=who.who)


async def list_schedules(call: Call) -> list[ScheduleDoc]:
    """List schedules by name."""
    found: list[Schedule] = await call.store.schedules(deleted=call.query.deleted)
    return list(map(schedule_doc, found))


async def save_schedule(call: Call) -> ScheduleDoc:
    """Make or replace a schedule. An active one without a next time gets it."""
    schedule = schedule_of(call.body)
    read_rule(schedule.rule, schedule.zone, schedule.start_at)
    if schedule.status is ScheduleStatus.ACTIVE and schedule.next_run_at is None and schedule.deleted_at is None:
        schedule = checked(schedule, call.store.now())
    if schedule.status is ScheduleStatus.ACTIVE and schedule.deleted_at is None:
        await _check_payload(call, schedule)
    saved = await call.store.save_schedule(schedule, expect=call.query.expect)
    await record(call, "save_schedule", saved.name, 1, saved.status)
    return schedule_doc(saved)


async def _check_payload(call: Call, schedule: Schedule) -> None:
    """Raise BadArguments for a schedule whose jobs could not run. A task that is unknown says nothing of its arguments."""
    try:
        definition = await call.store.definition(schedule.task)
    except UnknownTask:
        return
    check_arguments(definition, schedule.payload)


async def fire_schedule(call: Call) -> Ready:
    """Enqueue a tick's jobs, unless another was first."""
    fire: Fire = call.body
    fired = await call.store.fire_schedule(fire.name, fire.due, new_jobs_of(fire.jobs), fire.next_run_at)
    return Ready(ready=fired)


ROUTES: Final = (
    Route(
        method="GET",
        path="/definitions",
        handle=list_tasks,
        scope=Scope.READ,
        query=DefinitionQuery,
        answer=list[DefinitionDoc],
        summary="List tasks by alias",
    ),
    Route(
        method="POST",
        path="/definitions",
        handle=define,
        scope=Scope.ENQUEUE,
        body=Definitions,
        answer=list[DefinitionDoc],
        summary="Make or refresh definitions from code",
    ),
    Route(
        method="GET",
        path="/definitions/{name}",
        handle=get_task,
        scope=Scope.READ,
        answer=DefinitionDoc,
        summary="Read one task by alias or id, also a deleted one",
    ),
    Route(
        method="PATCH",
        path="/definitions/{name}",
        handle=change_task,
        scope=Scope.OPERATE,
        body=DefinitionChange,
        answer=DefinitionDoc,
        summary="Edit, cancel, activate or delete a task",
    ),
    Route(
        method="DELETE",
        path="/definitions/{name}",
        handle=delete_task,
        scope=Scope.ADMIN,
        body=Who | None,
        answer=Who,
        summary="Forget a task without unfinished jobs and schedules",
    ),
    Route(
        method="GET",
        path="/task-count",
        handle=count_tasks,
        scope=Scope.READ,
        query=DefinitionCountQuery,
        answer=Count,
        summary="Count tasks",
    ),
    Route(
        method="GET",
        path="/schedules",
        handle=list_schedules,
        scope=Scope.READ,
        query=ScheduleQuery,
        answer=list[ScheduleDoc],
        summary="List schedules by name",
    ),
    Route(
        method="PUT",
        path="/schedules",
        handle=save_schedule,
        scope=Scope.OPERATE,
        query=ScheduleSave,
        body=ScheduleDoc,
        answer=ScheduleDoc,
        summary="Make or replace a schedule",
    ),
    Route(
        method="POST",
        path="/schedules/fire",
        handle=fire_schedule,
        scope=Scope.WORK,
        body=Fire,
        body_max=BATCH_BODY_MAX,
        answer=Ready,
        summary="Enqueue a tick's jobs, unless another was first",
    ),
)
