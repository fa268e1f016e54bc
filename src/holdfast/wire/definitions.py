"""Definitions and schedules as documents, with JSON in place of encoded bytes."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from holdfast.job.model import CatchUp, Definition, Overlap, Schedule, ScheduleStatus, TaskStatus
from holdfast.wire.documents import RetryDoc, from_raw, retry_doc, to_raw


class DefinitionDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the store knows it. `parameters` is the JSON Schema of its arguments, left out when it is not known."""

    id: str
    alias: str
    title: str
    description: str
    memo: str
    status: TaskStatus
    queue: str
    retry: RetryDoc
    timeout: float | None
    created_at: float
    updated_at: float
    deleted_at: float | None
    parameters: Raw | UnsetType = UNSET


class ScheduleDoc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule that enqueues jobs."""

    name: str
    rule: str
    task: str
    zone: str = "UTC"
    payload: Raw | UnsetType = UNSET
    queue: str = "default"
    priority: int = 0
    description: str = ""
    status: ScheduleStatus = ScheduleStatus.DRAFT
    start_at: float | None = None
    end_at: float | None = None
    max_count: int = 0
    count: int = 0
    catch_up: CatchUp = CatchUp.ONCE
    overlap: Overlap = Overlap.ALLOW
    last_run_at: float | None = None
    last_job: str = ""
    next_run_at: float | None = None
    revision: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    deleted_at: float | None = None
    hidden: tuple[str, ...] | UnsetType = UNSET


_DEFINITION_PLAIN: Final = tuple(n for n in DefinitionDoc.__struct_fields__ if n not in ("retry", "parameters"))
_SCHEDULE_PLAIN: Final = tuple(n for n in ScheduleDoc.__struct_fields__ if n not in ("payload", "hidden"))


def definition_doc(definition: Definition) -> DefinitionDoc:
    """Return a definition as a document."""
    plain: dict[str, Any] = {name: getattr(definition, name) for name in _DEFINITION_PLAIN}
    return DefinitionDoc(**plain, retry=retry_doc(definition.retry), parameters=to_raw(definition.parameters))


def definition_of(doc: DefinitionDoc) -> Definition:
    """Return the definition of a document."""
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _DEFINITION_PLAIN}
    return Definition(**plain, retry=doc.retry.policy(), parameters=from_raw(doc.parameters))


def schedule_doc(schedule: Schedule) -> ScheduleDoc:
    """Return a schedule as a document."""
    plain: dict[str, Any] = {name: getattr(schedule, name) for name in _SCHEDULE_PLAIN}
    return ScheduleDoc(**plain, payload=to_raw(schedule.payload))


def schedule_of(doc: ScheduleDoc) -> Schedule:
    """Return the schedule of a document."""
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _SCHEDULE_PLAIN}
    return Schedule(**plain, payload=from_raw(doc.payload))
