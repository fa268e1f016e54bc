"""Rules of queues, definitions, schedules and worker configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from holdfast.errors import ConfigError, Conflict, UnknownQueue, UnknownSchedule, UnknownTask, UnknownWorker
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ids import check_name
from holdfast.job.ledger.clean import encodable
from holdfast.job.ledger.enqueueing import enqueue
from holdfast.job.model import Definition, Queue, QueueMode, Schedule, ScheduleStatus, TaskStatus, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger


# --- queues --------------------------------------------------------------------------------------------------------


def change_queue(ledger: Ledger, change: c.ChangeQueue, now: float, _draw: Draw) -> Generator[f.Fact, None, Queue]:
    """Change a queue's policy, or pause and resume it."""
    line = ledger.line(change.name)
    if line is None and not change.create:
        raise UnknownQueue(change.name)
    queue = line.queue if line else Queue(name=check_name(change.name, "queue"), created_at=now)
    changed = replace(queue, updated_at=now, **queue_changes(change))
    if change.paused is not msgspec.UNSET and change.paused != queue.paused:
        held = change.paused
        changed = replace(
            changed,
            paused=held,
            paused_by=change.who if held else "",
            paused_why=change.why if held else "",
            paused_at=now if held else None,
        )
    if line is None or changed != replace(queue, updated_at=now):
        yield f.QueueSaved(changed)
        if change.who:
            yield f.Audited(change.who, "change_queue", change.name, _queue_told(queue, changed, change.why), now, 1)
        return changed
    return queue


_QUEUE_FIELDS = (
    "limit", "poll_interval", "rescue_after", "keep_succeeded", "keep_succeeded_count", "keep_failed", "keep_failed_count",
)  # fmt: skip


def check_queue(change: c.ChangeQueue) -> None:
    """Raise ConfigError with all faults, or UnknownQueue, for a change that can be done to no queue."""
    try:
        check_name(change.name, "queue")
    except ConfigError:
        if change.create:
            raise
        raise UnknownQueue(change.name) from None
    queue_changes(change)


#: The most of each number: a hundred years in seconds, and what every database can hold.
_QUEUE_MAX: Final = 3_155_760_000


def _queue_told(old: Queue, new: Queue, why: str) -> str:
    """Return in words what became of a queue: paused, limit 5 (too many errors)."""
    told = ["paused" if new.paused else "resumed"] if new.paused != old.paused else []
    for name in ("mode", *_QUEUE_FIELDS):
        value = getattr(new, name)
        if value != getattr(old, name):
            told.append(f"{name} {'none' if value is None else value}")
    return ", ".join(told) + (f" ({why})" if why else "")


def _differing(old: Definition, new: Definition) -> str:
    """Return the names of the fields that differ."""
    names = (name for name in old.__struct_fields__ if name != "updated_at")
    return ", ".join(name for name in names if getattr(old, name) != getattr(new, name))


def queue_changes(change: c.ChangeQueue) -> dict[str, Any]:
    """Return the policy that a change sets. Raises ConfigError with all faults."""
    changes = {name: value for name in _QUEUE_FIELDS if (value := getattr(change, name)) is not msgspec.UNSET}
    faults = [fault for name, value in changes.items() if (fault := _queue_fault(name, value))]
    if change.mode is not msgspec.UNSET:
        if change.mode in tuple(QueueMode):
            changes["mode"] = QueueMode(change.mode)
        else:
            faults.append(f"mode: expected serial or concurrent, found {change.mode!r}")
    if faults:
        raise ConfigError(f"queue {change.name!r} was not changed:", faults)
    return changes


def _queue_fault(name: str, value: Any) -> str:
    whole = name == "limit" or name.endswith("count")
    least = 0 if name.startswith("keep") else 1 if whole else 0.001
    if value is None or (type(value) in ((int,) if whole else (int, float)) and least <= value <= _QUEUE_MAX):
        return ""
    what = "a whole number" if whole else "a number of seconds"
    return f"{name}: expected {what} from {least} to {_QUEUE_MAX:,}, or none, found {value!r:.80}"


def delete_queue(ledger: Ledger, command: c.DeleteQueue, now: float, _draw: Draw) -> Generator[f.Fact, None, None]:
    """Forget a queue that has no unfinished job. Its finished ones go with it."""
    line = ledger.line(command.name)
    if line is None:
        raise UnknownQueue(command.name)
    if line.unfinished:
        raise Conflict(
            f"queue {command.name!r} has {line.unfinished:,} unfinished jobs: expected none. Cancel or move them first."
        )
    for job in [job for job in ledger.table.values() if job.queue == command.name]:
        yield f.Purged(job.seq)
    yield f.QueueDeleted(command.name)
    yield f.Audited(command.who, "delete_queue", command.name, "", now, 1)


# --- definitions ---------------------------------------------------------------------------------------------------


def define_all(
    ledger: Ledger, command: c.DefineAll, now: float, draw: Draw
) -> Generator[f.Fact, None, list[Definition]]:
    """Make or refresh definitions from code. A person's status, title and memo outlive a deploy."""
    for define in command.definitions:
        check_texts(define)
        if define.alias not in ledger.definitions:
            check_name(define.alias, "alias")
        elif define.only_new:
            raise _taken(ledger.definitions[define.alias])
    answers = []
    for define in command.definitions:
        known = ledger.definitions.get(define.alias)
        definition = _defined(define, known, now, draw)
        if definition != known:
            yield f.DefinitionSaved(definition)
        answers.append(definition)
    return answers


def _taken(known: Definition) -> Conflict:
    if known.deleted_at is not None:
        return Conflict(f"the alias {known.alias!r} is taken by a deleted task: choose another, or restore that one.")
    return Conflict(f"the alias {known.alias!r} is taken: choose another, or change the existing definition.")


def _defined(define: c.Define, known: Definition | None, now: float, draw: Draw) -> Definition:
    policy: dict[str, Any] = {
        "queue": define.queue,
        "retry": define.retry,
        "timeout": define.timeout,
        "parameters": define.parameters,
    }
    if known is None:
        return Definition(
            id=define.id or draw.job_id(now),
            alias=define.alias,
            title=define.title,
            description=define.description,
            memo=define.memo,
            created_at=now,
            updated_at=now,
            **policy,
        )
    texts = {
        "title": define.title or known.title,
        "description": define.description or known.description,
        "memo": define.memo or known.memo,
    }
    refreshed = replace(known, **policy, **texts)
    return known if refreshed == known else replace(refreshed, updated_at=now)


def find_definition(ledger: Ledger, alias_or_id: str) -> Definition:
    """One definition by alias or id. Raises UnknownTask."""
    found = ledger.definitions.get(alias_or_id)
    if found is None:
        found = next((known for known in ledger.definitions.values() if known.id == alias_or_id), None)
    if found is None:
        raise UnknownTask(alias_or_id, tuple(ledger.definitions))
    return found


def change_definition(
    ledger: Ledger, change: c.ChangeDefinition, now: float, _draw: Draw
) -> Generator[f.Fact, None, Definition]:
    """Edit, cancel, activate or delete a definition. Its waiting jobs follow through an operation of the store."""
    known = find_definition(ledger, change.alias)
    check_texts(change)
    changed = replace(known, **_definition_changes(ledger, known, change))
    if change.deleted is not msgspec.UNSET and change.deleted != (known.deleted_at is not None):
        changed = replace(changed, deleted_at=now if change.deleted else None)
    if changed == known:
        return known
    changed = replace(changed, updated_at=now)
    yield f.DefinitionSaved(changed)
    if change.who:
        yield f.Audited(change.who, "change_definition", known.alias, _differing(known, changed), now, 1)
    return changed


#: The longest texts of a definition, in characters.
_TEXTS_MAX: Final = {"title": 255, "description": 16_384, "memo": 16_384}


def check_texts(source: c.Define | c.ChangeDefinition) -> None:
    """Raise ConfigError with all faults unless a definition's texts can be kept."""
    faults = []
    for name, most in _TEXTS_MAX.items():
        value = getattr(source, name)
        if value is msgspec.UNSET:
            continue
        if not isinstance(value, str) or "\x00" in value or not encodable(value):
            faults.append(f"{name}: expected text without NUL and lone surrogates, found {value!r:.80}")
        elif len(value) > most:
            faults.append(f"{name}: expected at most {most:,} characters, found {len(value):,}")
    if faults:
        raise ConfigError(f"task {source.alias!r} was not changed:", faults)


def _definition_changes(ledger: Ledger, known: Definition, change: c.ChangeDefinition) -> dict[str, Any]:
    changes: dict[str, Any] = {
        name: value
        for name in ("title", "description", "memo")
        if (value := getattr(change, name)) is not msgspec.UNSET
    }
    if change.status is not msgspec.UNSET:
        if change.status not in tuple(TaskStatus):
            raise ConfigError(f"status of a task: expected active or canceled, found {change.status!r}")
        if known.deleted_at is not None and change.deleted is not False:
            raise Conflict(f"task {known.alias!r} is deleted: expected one that is not. Restore it first.")
        changes["status"] = TaskStatus(change.status)
    if change.new_alias is not msgspec.UNSET and change.new_alias != known.alias:
        if change.new_alias in ledger.definitions:
            raise _taken(ledger.definitions[change.new_alias])
        changes["alias"] = check_name(change.new_alias, "new alias")
    return changes


def delete_definition(
    ledger: Ledger, command: c.DeleteDefinition, now: float, _draw: Draw
) -> Generator[f.Fact, None, None]:
    """Forget a definition without unfinished jobs and schedules. What its jobs left behind stays."""
    known = find_definition(ledger, command.alias)
    unfinished = sum(job.task == known.alias and not job.final for job in ledger.table.values())
    check_deletable(known.alias, unfinished, ledger.schedules.values())
    yield f.DefinitionDeleted(known.id, known.alias)
    yield f.Audited(command.who, "delete_definition", known.alias, "", now, 1)


def check_deletable(alias: str, unfinished: int, schedules: Iterable[Schedule]) -> None:
    """Raise Conflict if a definition is still in use."""
    if unfinished:
        raise Conflict(f"task {alias!r} has {unfinished:,} unfinished jobs: expected none. Cancel them first.")
    users = sorted(one.name for one in schedules if one.task == alias and one.deleted_at is None)
    if users:
        raise Conflict(
            f"task {alias!r} has {len(users):,} schedules ({', '.join(users[:5])}): expected none. Delete them first."
        )


def definitions_of(ledger: Ledger, which: c.DefinitionFilter) -> list[Definition]:
    """Definitions that match, by alias."""
    found = [
        known
        for _, known in sorted(ledger.definitions.items())
        if (which.deleted or known.deleted_at is None)
        and (which.status is None or known.status == which.status)
        and (not which.aliases or known.alias in which.aliases)
    ]
    return found[which.offset : which.offset + which.limit]


# --- schedules and workers -----------------------------------------------------------------------------------------


def save_schedule(
    ledger: Ledger, command: c.SaveSchedule, now: float, _draw: Draw
) -> Generator[f.Fact, None, Schedule]:
    """Make or replace a schedule by name. Raises Conflict when it is not the one that the caller saw."""
    known = ledger.schedules.get(command.schedule.name)
    revision = known.revision if known else 0
    if command.expect is not None and command.expect != revision:
        found = f"revision {revision}" if known else "none"
        raise Conflict(
            f"schedule {command.schedule.name!r}: expected {f'revision {command.expect}' if command.expect else 'none'}, "
            f"found {found}. It was changed or fired meanwhile: read it again."
        )
    created_at = known.created_at if known else now
    schedule = replace(command.schedule, created_at=created_at, updated_at=now, revision=revision + 1)
    yield f.ScheduleSaved(schedule)
    return schedule


def fire_schedule(ledger: Ledger, command: c.FireSchedule, now: float, draw: Draw) -> Generator[f.Some, None, bool]:
    """Enqueue a tick's jobs and move the schedule on, if it is active and no other scheduler was first.

    Without a next time the schedule is completed in the same step.
    """
    schedule = ledger.schedules.get(command.name)
    if schedule is None:
        raise UnknownSchedule(f"unknown schedule {command.name!r}: list the schedules to see those that exist.")
    runs = schedule.status is ScheduleStatus.ACTIVE and schedule.deleted_at is None
    if not runs or schedule.next_run_at != command.due:
        return False
    answers = yield from enqueue(ledger, c.Enqueue(jobs=command.jobs), now, draw)
    made = [answer.id for answer in answers if answer.verdict is c.Verdict.NEW]
    yield f.ScheduleSaved(
        replace(
            schedule,
            status=schedule.status if command.next_run_at is not None else ScheduleStatus.COMPLETED,
            next_run_at=command.next_run_at,
            last_run_at=now,
            last_job=made[-1] if made else schedule.last_job,
            count=schedule.count + len(made),
            revision=schedule.revision + 1,
            updated_at=now,
        )
    )
    return True


def configure_worker(
    ledger: Ledger, command: c.ConfigureWorker, now: float, _draw: Draw
) -> Generator[f.Fact, None, WorkerConfig]:
    """Make or replace a worker's configuration by name."""
    known = ledger.workers.get(command.config.name)
    created_at = known.created_at if known else now
    heard = command.config.last_heartbeat_at
    if heard is None and known is not None:
        heard = known.last_heartbeat_at  # a person who edits a configuration does not silence the worker
    config = replace(command.config, created_at=created_at, updated_at=now, last_heartbeat_at=heard)
    yield f.WorkerSaved(config)
    return config


def delete_worker(ledger: Ledger, command: c.DeleteWorker, _now: float, _draw: Draw) -> Generator[f.Fact, None, None]:
    """Forget a worker's configuration."""
    if command.name not in ledger.workers:
        raise UnknownWorker(f"unknown worker {command.name!r}: list the workers to see those that exist.")
    yield f.WorkerDeleted(command.name)
