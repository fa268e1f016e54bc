"""The job of a tick."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from holdfast.job.model import NewJob
from holdfast.job.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.model import Definition, Schedule


def job_of(schedule: Schedule, definition: Definition | None, tick: float, new_id: Callable[[], str]) -> NewJob:
    """Return the job of a tick. Its headers name the schedule and the tick, for handlers that work on "the day before".

    definition: the task's as the store has it; without one the job has the usual retry policy.
    """
    headers = {"schedule": schedule.name, "tick": datetime.fromtimestamp(tick, UTC).isoformat()}
    return NewJob(
        id=new_id(),
        task=schedule.task,
        queue=schedule.queue,
        payload=schedule.payload,
        priority=schedule.priority,
        retry=definition.retry if definition is not None else RetryPolicy(),
        headers=msgspec.json.encode(headers),
        tags=(tag_of(schedule.name),),
    )


def tag_of(name: str) -> str:
    """Return the tag of a schedule's jobs."""
    return f"schedule:{name}"
