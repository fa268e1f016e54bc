"""Queues, definitions, schedules, workers."""

from __future__ import annotations

import msgspec

from holdfast.job.model import NewJob, Schedule, WorkerConfig
from holdfast.job.retry import RetryPolicy


class ChangeQueue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Change a queue's policy; UNSET leaves a field. `create` makes an unknown queue instead of refusing it."""

    name: str
    who: str = ""
    create: bool = False
    mode: str | msgspec.UnsetType = msgspec.UNSET
    limit: int | msgspec.UnsetType | None = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    why: str = ""
    poll_interval: float | msgspec.UnsetType | None = msgspec.UNSET
    rescue_after: float | msgspec.UnsetType | None = msgspec.UNSET
    keep_succeeded: float | msgspec.UnsetType | None = msgspec.UNSET
    keep_succeeded_count: int | msgspec.UnsetType | None = msgspec.UNSET
    keep_failed: float | msgspec.UnsetType | None = msgspec.UNSET
    keep_failed_count: int | msgspec.UnsetType | None = msgspec.UNSET


class DeleteQueue(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a queue; refused while it has unfinished jobs."""

    name: str
    who: str = ""


class Define(msgspec.Struct, frozen=True, kw_only=True):
    """Make a definition, or bring an existing one up to date with the code (title, queue, policy; never its status)."""

    alias: str
    id: str = ""
    title: str = ""
    description: str = ""
    memo: str = ""
    queue: str = "default"
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    parameters: bytes = b""
    only_new: bool = False  # refuse with Conflict when the alias is taken


class ChangeDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Change a definition by alias or id. Canceling or deleting pauses its waiting jobs; activating resumes them."""

    alias: str
    who: str = ""
    new_alias: str | msgspec.UnsetType = msgspec.UNSET
    title: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    memo: str | msgspec.UnsetType = msgspec.UNSET
    status: str | msgspec.UnsetType = msgspec.UNSET
    deleted: bool | msgspec.UnsetType = msgspec.UNSET


class DeleteDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a definition, by alias or id; refused while it has unfinished jobs or schedules."""

    alias: str
    who: str = ""


class DefinitionFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which definitions."""

    aliases: tuple[str, ...] = ()
    status: str | None = None
    deleted: bool = False
    limit: int = 1_000
    offset: int = 0


class DefineAll(msgspec.Struct, frozen=True):
    """A batch of definitions from code."""

    definitions: tuple[Define, ...]


class SaveSchedule(msgspec.Struct, frozen=True):
    """Make or replace a schedule, if its revision is the `expect`ed one: 0, there is none; None, whatever is there."""

    schedule: Schedule
    expect: int | None = None


class FireSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A tick: enqueue `jobs` and move on to `next_run_at`, if the schedule's next_run_at still is `due`."""

    name: str
    due: float
    jobs: tuple[NewJob, ...]
    next_run_at: float | None


class ConfigureWorker(msgspec.Struct, frozen=True):
    """Make or replace a worker's configuration."""

    config: WorkerConfig


class DeleteWorker(msgspec.Struct, frozen=True):
    """Forget a worker's configuration."""

    name: str
