"""What people and programs do with schedules: on any store, without ever setting back what a tick has moved on.

A change reads the schedule, edits it and saves it under the revision that was read; when a tick or another person was
first, it reads again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import Conflict, TaskInactive, UnknownSchedule, UnknownTask
from holdfast.job.model import Schedule, ScheduleStatus
from holdfast.schedule.drafts import TIMING, checked, read_options
from holdfast.schedule.jobs import job_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from holdfast.job.commands import Enqueued
    from holdfast.job.model import Definition
    from holdfast.store import Store

_TRIES: Final = 50
#: What code says of a schedule; the rest is the state of the stored one.
_DECLARED: Final = (
    "rule", "zone", "task", "payload", "queue", "priority", "description", "start_at", "end_at", "max_count", "catch_up",
    "overlap",
)  # fmt: skip


async def find(store: Store, name: str) -> Schedule:
    """Return a schedule. Raises UnknownSchedule that names those that exist."""
    known = await store.schedules()
    for one in known:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in known[:8]) or "none"
    raise UnknownSchedule(f"unknown schedule {name!r} (known: {names}). List them to see those that exist.")


async def definition_for(store: Store, alias: str) -> Definition:
    """Return the definition of a task whose jobs may be enqueued. Raises UnknownTask, TaskInactive."""
    found = await store.definition(alias)
    if not found.runs:
        raise TaskInactive(alias, "deleted" if found.deleted_at is not None else found.status)
    return found


async def create(store: Store, schedule: Schedule) -> Schedule:
    """Make a schedule. Raises Conflict when the name is taken, ConfigError when it can not be used."""
    made = checked(schedule, store.now())
    deleted = await _stored(store, schedule.name)
    if deleted is not None and deleted.deleted_at is None:
        raise Conflict(f"the schedule {schedule.name!r} exists: choose another name, or edit that one.")
    return await store.save_schedule(made, expect=0 if deleted is None else deleted.revision)


async def edit(store: Store, name: str, options: Mapping[str, Any], **fields: Any) -> Schedule:
    """Change what `options` name (ScheduleOptions), and fields of the record. Raises UnknownSchedule, ConfigError."""
    fields = {**read_options(options, new=False), **fields}
    return await _change(store, name, lambda known: _edited(known, fields, store.now()))


def _edited(known: Schedule, fields: Mapping[str, Any], now: float) -> Schedule:
    changed = msgspec.structs.replace(known, **fields)
    if all(getattr(changed, name) == getattr(known, name) for name in TIMING):
        return changed
    return checked(_awake(changed), now)


def _awake(schedule: Schedule) -> Schedule:
    """A schedule that had come to its end goes on when its times are changed."""
    ended = schedule.status is ScheduleStatus.COMPLETED
    room = not schedule.max_count or schedule.count < schedule.max_count
    return msgspec.structs.replace(schedule, status=ScheduleStatus.ACTIVE) if ended and room else schedule


async def pause(store: Store, name: str) -> Schedule:
    """Let a schedule fire no more until it is resumed. Ticks that pass meanwhile are gone."""

    def off(known: Schedule) -> Schedule:
        return msgspec.structs.replace(known, status=ScheduleStatus.INACTIVE, next_run_at=None)

    return await _change(store, name, off)


async def resume(store: Store, name: str) -> Schedule:
    """Let a draft or paused schedule fire from now on. Raises ConfigError when it has come to its end."""

    def on(known: Schedule) -> Schedule:
        if known.status is ScheduleStatus.ACTIVE:
            return known
        if known.max_count and known.count >= known.max_count:
            raise Conflict(f"schedule {name!r} has made all of its {known.max_count:,} jobs. Raise max_count first.")
        return checked(msgspec.structs.replace(known, status=ScheduleStatus.ACTIVE), store.now())

    return await _change(store, name, on)


async def delete(store: Store, name: str) -> Schedule:
    """Hide a schedule; it fires no more. Its name can be used again."""
    now = store.now()

    def gone(known: Schedule) -> Schedule:
        return msgspec.structs.replace(known, status=ScheduleStatus.INACTIVE, next_run_at=None, deleted_at=now)

    return await _change(store, name, gone)


async def run_now(store: Store, name: str, new_id: Callable[[], str]) -> Enqueued:
    """Enqueue a job of a schedule now, beside its ticks: neither its count nor its next time changes.

    Raises UnknownSchedule, and what an enqueue raises.
    """
    schedule = await find(store, name)
    try:
        definition = await store.definition(schedule.task)
    except UnknownTask:
        definition = None
    [answer] = await store.enqueue([job_of(schedule, definition, store.now(), new_id)])
    return answer


async def declare(store: Store, schedules: Iterable[Schedule]) -> list[Schedule]:
    """Make the schedules that code declares, or bring them up to date. What people paused or deleted stays so."""
    declared = {one.name: one for one in schedules}
    if not declared:
        return []
    stored = {one.name: one for one in await store.schedules(deleted=True)}
    return [await _declare(store, one, stored.get(one.name)) for one in declared.values()]


async def _declare(store: Store, declared: Schedule, known: Schedule | None) -> Schedule:
    for _ in range(_TRIES):
        wanted = _wanted(declared, known, store.now())
        if wanted == known:
            return known
        try:
            return await store.save_schedule(wanted, expect=known.revision if known is not None else 0)
        except Conflict:
            known = await _stored(store, declared.name)
    raise Conflict(f"schedule {declared.name!r} was changed by others {_TRIES} times in a row: try again.")


def _wanted(declared: Schedule, known: Schedule | None, now: float) -> Schedule:
    if known is None:
        return checked(declared, now)
    if known.deleted_at is not None:
        return known
    fields = {name: getattr(declared, name) for name in _DECLARED}
    if declared.start_at is None and declared.rule == known.rule:
        fields["start_at"] = known.start_at  # it began when it was made
    return _edited(known, fields, now)


async def _change(store: Store, name: str, change: Callable[[Schedule], Schedule]) -> Schedule:
    for _ in range(_TRIES):
        known = await find(store, name)
        changed = change(known)
        if changed == known:
            return known
        try:
            return await store.save_schedule(changed, expect=known.revision)
        except Conflict:
            continue
    raise Conflict(f"schedule {name!r} was changed by others {_TRIES} times in a row: try again.")


async def _stored(store: Store, name: str) -> Schedule | None:
    return next((one for one in await store.schedules(deleted=True) if one.name == name), None)
