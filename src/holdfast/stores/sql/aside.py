"""Queues, definitions and schedules in whose rows somebody else has written, taken with what is safe; told once.

What steers claims stands in columns beside the encoded body. So a queue or a task whose body can not be read goes on as its
columns say, and what only the body knew has the value that does no harm: nothing ended is forgotten, no interval is kept. A
queue whose columns make no sense is taken for paused. A schedule does not fire. What stood there is told in the log, once by
each process, and by lists: in `paused_why` of a queue and in the description of the others.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec.structs import replace

from holdfast.job.model import Definition, Queue, Schedule, ScheduleStatus, TaskStatus
from holdfast.stores.sql.damage import UNREADABLE, shown
from holdfast.stores.sql.rows import body_from, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.stores.sql.script import Row

S = TypeVar("S")

logger: Final = logging.getLogger("holdfast.store")
#: Who is said to have paused a queue of which nobody can tell whether it is.
DAMAGED: Final = "DamagedRow"
#: The columns that are read of each, the name first and the body last.
COLUMNS: Final[dict[type, str]] = {
    Queue: "name, paused, fleet_limit, rescue_after, body",
    Definition: "alias, id, stopped, body",
    Schedule: "name, body",
}
_told: set[tuple[str, str, str]] = set()


def sound_queue(paused: Any, fleet_limit: Any, rescue_after: Any) -> bool:
    """Tell whether the columns of a queue say how its jobs are claimed."""
    return type(paused) is int and type(fleet_limit) in _NUMBER and type(rescue_after) in _NUMBER


def thing_from(kind: type[S], row: Row) -> S:
    """Return the queue, definition or schedule of a row of its COLUMNS, as far as it can be read."""
    name, body = row[0], row[-1]
    try:
        if isinstance(body, bytes | bytearray | memoryview) and (kind is not Queue or sound_queue(*row[1:4])):
            return body_from(bytes(body), kind)
    except UNREADABLE:
        pass
    why = f"its row in the database is not as Holdfast writes it: {'; '.join(shown(value) for value in row[1:])}"
    _tell(kind.__name__.lower(), str(name), why)
    made: S = _USUAL[kind](row, why)
    return made


def _tell(kind: str, name: str, why: str) -> None:
    if (kind, name, why) not in _told:
        _told.add((kind, name, why))
        logger.warning("%s %r is damaged, and taken with safe values: %s. Look at who writes there.", kind, name, why)


def _queue(row: Row, why: str) -> Queue:
    name, paused, limit, lease, _ = row
    sound = sound_queue(paused, limit, lease)
    kept = Queue(name=name, keep_succeeded=None, keep_succeeded_count=None, keep_failed=None, keep_failed_count=None)
    kept = replace(kept, paused=not sound or bool(paused), paused_by=DAMAGED, paused_why=why)
    return replace(kept, limit=limit, rescue_after=None if lease is None else seconds(lease)) if sound else kept


def _definition(row: Row, why: str) -> Definition:
    alias, key, stopped, _ = row
    status = TaskStatus.CANCELED if stopped else TaskStatus.ACTIVE
    return Definition(id=str(key), alias=alias, status=status, description=f"{DAMAGED}: {why}")


def _schedule(row: Row, why: str) -> Schedule:
    return Schedule(name=row[0], rule="", task="", status=ScheduleStatus.INACTIVE, description=f"{DAMAGED}: {why}")


_NUMBER: Final = (int, type(None))
_USUAL: Final[dict[type, Callable[[Row, str], Any]]] = {Queue: _queue, Definition: _definition, Schedule: _schedule}
