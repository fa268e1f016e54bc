"""Schedules: saved, and fired by whoever is first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.job import commands as c
from holdfast.stores.sql.lanes import lock_lanes
from holdfast.stores.sql.slice import Need, carry_out

if TYPE_CHECKING:
    from holdfast.job.model import Schedule
    from holdfast.stores.sql.script import Script, Step


def save_schedule(step: Step, command: c.SaveSchedule) -> Script[Schedule]:
    """Make or replace a schedule, if it is the one that the caller saw."""
    yield from step.db.lock("schedule", [command.schedule.name])
    _, answer = yield from carry_out(step, command, Need(schedules=[command.schedule.name]))
    schedule: Schedule = answer
    step.schedules = True
    return schedule


def fire_schedule(step: Step, command: c.FireSchedule) -> Script[bool]:
    """Enqueue a tick's jobs and move the schedule on, if nobody else was first."""
    yield from step.db.lock("schedule", [command.name])
    jobs = command.jobs
    ids = sorted({new.id for new in jobs})
    yield from step.db.lock("id", ids)
    yield from lock_lanes(step, {new.key for new in jobs if new.key is not None})
    need = Need(
        schedules=[command.name],
        ids=ids,
        uniques=sorted({new.unique for new in jobs if new.unique is not None}),
        queues=sorted({new.queue for new in jobs}),
        tasks=sorted({new.task for new in jobs}),
    )
    _, answer = yield from carry_out(step, command, need)
    fired: bool = answer
    return fired
