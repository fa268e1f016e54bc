"""What is no job: queues, definitions, schedules, workers, processes, operations. Loaded and written as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.job import facts as f
from holdfast.job.ledger.links import may_own
from holdfast.job.model import Definition, Instance, Operation, Queue, Schedule, WorkerConfig
from holdfast.stores.sql import aside
from holdfast.stores.sql.links import forget
from holdfast.stores.sql.rows import body_from, body_of, micros, micros_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.job.ledger import Ledger
    from holdfast.stores.sql.script import Row, Script, Step
    from holdfast.stores.sql.slice import Need


S = TypeVar("S")


def load_things(step: Step, ledger: Ledger, need: Need) -> Script[None]:
    """Put what a command needs beside jobs into a ledger."""
    db, lock = step.db, "" if need.asks else "{lock}"
    for queue in (yield from _things(step, Queue, "queue", "name", need.queues, lock)):
        ledger.index.line(queue.name).queue = queue
    every = need.definitions
    for definition in (yield from _things(step, Definition, "definition", "alias", need.tasks, lock, every=every)):
        ledger.definitions[definition.alias] = definition
        if not definition.runs:
            ledger.stopped.add(definition.alias)
    for schedule in (yield from _things(step, Schedule, "schedule", "name", need.schedules, "{lock}")):
        ledger.schedules[schedule.name] = schedule
    for name, body in (yield from _bodies(step, "worker", "name", need.workers)):
        ledger.workers[name] = body_from(body, WorkerConfig)
    for name, body in (yield from _bodies(step, "operation", "id", need.operations)):
        ledger.operations[name] = body_from(body, Operation)
    if need.instances:
        rows = yield db.q("SELECT id, body, beat FROM {instance} WHERE id {texts}", list(need.instances))
        for name, body, beat in rows:
            ledger.instances[name] = body_from(bytes(body), Instance)
            if beat is not None:
                ledger.beats[name] = body_from(bytes(beat), Instance)


def _things(
    step: Step, kind: type[S], table: str, column: str, names: Sequence[str], lock: str, *, every: bool = False
) -> Script[list[S]]:
    text, rows = f"SELECT {aside.COLUMNS[kind]} FROM {{{table}}}", list[Any]()
    if every:
        rows = yield step.db.q(text)
    elif names:
        rows = yield step.db.q(f"{text} WHERE {column} {{texts}} {lock}", list(names))
    return [aside.thing_from(kind, row) for row in rows]


def _bodies(step: Step, table: str, column: str, names: Sequence[str], lock: str = "{lock}") -> Script[list[Row]]:
    if not names:
        return []
    rows = yield step.db.q(f"SELECT {column}, body FROM {{{table}}} WHERE {column} {{texts}} {lock}", list(names))
    return [(name, bytes(body)) for name, body in rows]


# --- writing ---------------------------------------------------------------------------------------------------------


def queue_row(queue: Queue) -> Row:
    """Return a queue as a row."""
    return (queue.name, int(queue.paused), queue.fleet_limit, micros_or_none(queue.rescue_after), body_of(queue))


def instance_row(instance: Instance, beat: Instance | None = None) -> Row:
    """Return a worker process as a row. `beat`: what it said last, when that is more than its record."""
    newest = beat or instance
    live = int(instance.state in ("starting", "ready", "draining"))
    return (
        instance.id,
        instance.worker,
        live,
        int(may_own(instance)),
        micros(newest.heartbeat_at),
        micros(newest.lease),
        body_of(instance),
        None if beat is None else body_of(beat),
    )


def _queue_saved(step: Step, fact: f.QueueSaved) -> Script[None]:
    yield from step.db.upsert("queue", [queue_row(fact.queue)])
    step.ready.add(fact.queue.name)


def _queue_deleted(step: Step, fact: f.QueueDeleted) -> Script[None]:
    yield from step.db.delete("queue", "name", [fact.name])


def _definition_saved(step: Step, fact: f.DefinitionSaved) -> Script[None]:
    one = fact.definition
    yield from step.db.upsert("definition", [(one.id, one.alias, int(not one.runs), body_of(one))])


def _definition_deleted(step: Step, fact: f.DefinitionDeleted) -> Script[None]:
    yield from step.db.delete("definition", "id", [fact.id])


def _schedule_saved(step: Step, fact: f.ScheduleSaved) -> Script[None]:
    one = fact.schedule
    yield from step.db.upsert("schedule", [(one.name, micros_or_none(one.next_run_at), body_of(one))])


def _worker_saved(step: Step, fact: f.WorkerSaved) -> Script[None]:
    yield from step.db.upsert("worker", [(fact.config.name, body_of(fact.config))])


def _worker_deleted(step: Step, fact: f.WorkerDeleted) -> Script[None]:
    yield from step.db.delete("worker", "name", [fact.name])


def _instance_saved(step: Step, fact: f.InstanceSaved) -> Script[None]:
    yield from step.db.upsert("instance", [instance_row(fact.instance)])
    if not may_own(fact.instance):
        step.ready |= set(fact.instance.queues)  # the jobs of its keys wait for another owner


def _instance_gone(step: Step, fact: f.InstanceGone) -> Script[None]:
    yield from step.db.delete("instance", "id", [fact.id])
    yield from forget(step, fact.id)


def _operation_saved(step: Step, fact: f.OperationSaved) -> Script[None]:
    one = fact.operation
    yield from step.db.upsert("operation", [(one.id, micros(one.created_at), str(one.state), body_of(one))])


def _opened(step: Step, fact: f.Opened) -> Script[None]:
    [[epoch]] = yield step.db.q("SELECT value FROM {meta} WHERE name = 'epoch' {lock}")
    if int(epoch.partition(".")[0]) < fact.epoch:  # it may have a fraction
        yield step.db.q("UPDATE {meta} SET value = ? WHERE name = 'epoch'", str(fact.epoch))


def _audited(step: Step, fact: f.Audited) -> Script[None]:
    yield step.db.q("INSERT INTO {audit} (at, body) VALUES (?, ?)", micros(fact.at), body_of(fact))


#: How what a fact says is written.
THINGS: Final[dict[type, Callable[[Step, Any], Script[None]]]] = {
    f.QueueSaved: _queue_saved,
    f.QueueDeleted: _queue_deleted,
    f.DefinitionSaved: _definition_saved,
    f.DefinitionDeleted: _definition_deleted,
    f.ScheduleSaved: _schedule_saved,
    f.WorkerSaved: _worker_saved,
    f.WorkerDeleted: _worker_deleted,
    f.InstanceSaved: _instance_saved,
    f.InstanceGone: _instance_gone,
    f.OperationSaved: _operation_saved,
    f.Audited: _audited,
    f.Opened: _opened,
}
