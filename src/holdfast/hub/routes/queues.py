"""Queues: read, pause, resume, change, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType

from holdfast.errors import ContentError, UnknownQueue
from holdfast.hub.routes.people import record, record_nameless
from holdfast.hub.routing import Route, Scope
from holdfast.job.commands import Cancel, ChangeQueue, Delete, JobFilter, Order, Ordered, Selection, Stats
from holdfast.job.model import Queue, QueueMode
from holdfast.job.state import State
from holdfast.wire.orders import answer_doc
from holdfast.wire.requests import ActionAnswer, Who

if TYPE_CHECKING:
    from holdfast.hub.routing import Call


_WAITING: Final = (State.SCHEDULED, State.QUEUED, State.RETRYING, State.PAUSED)


class QueueDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A queue, its policy, and how many of its jobs are in each state (in those of `estimated` about how many). Durations
    are seconds; null keeps for ever."""

    queue: Queue
    counts: dict[str, int]
    oldest_ready_at: float | None = None
    estimated: tuple[str, ...] = ()


class QueueChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a queue; what is left out stays. `why` and `who` are kept beside a pause. Durations are seconds."""

    paused: bool | UnsetType = UNSET
    why: str = ""
    who: str = ""
    create: bool = False
    mode: QueueMode | UnsetType = UNSET
    limit: int | UnsetType | None = UNSET
    poll_interval: float | UnsetType | None = UNSET
    rescue_after: float | UnsetType | None = UNSET
    keep_succeeded: float | UnsetType | None = UNSET
    keep_succeeded_count: int | UnsetType | None = UNSET
    keep_failed: float | UnsetType | None = UNSET
    keep_failed_count: int | UnsetType | None = UNSET


async def list_queues(call: Call) -> list[QueueDoc]:
    """List queues by name, with their counts."""
    stats = await call.store.stats()
    return [_doc(queue, stats) for queue in await call.store.queues()]


def _doc(queue: Queue, stats: Stats) -> QueueDoc:
    counts = stats.queues.get(queue.name, {})
    return QueueDoc(
        queue=queue,
        counts=counts,
        oldest_ready_at=stats.oldest_ready_at.get(queue.name),
        estimated=stats.estimated.get(queue.name, ()),
    )


async def get_queue(call: Call) -> QueueDoc:
    """Read one queue with its counts."""
    found = next((queue for queue in await call.store.queues() if queue.name == call.path), None)
    if found is None:
        raise UnknownQueue(call.path)
    return _doc(found, await call.store.stats())


async def change_queue(call: Call) -> Queue:
    """Pause, resume or change a queue."""
    change: QueueChange = call.body
    if isinstance(change.limit, int) and change.limit < 1:
        raise ContentError(f"limit: expected 1 or more, or null for none, found {change.limit}. Pause it to stop it.")
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    changed = await call.store.change_queue(ChangeQueue(name=call.path, **fields))
    await record_nameless(call, "change_queue", call.path)
    return changed


class QueueClear(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which queue to empty. dead: of its failed jobs, which are deleted; else of its waiting jobs, which are canceled.

    preview: only count them.
    """

    queue: str
    dead: bool = False
    why: str = ""
    who: str = ""
    preview: bool = False


async def clear_queue(call: Call) -> ActionAnswer:
    """Cancel all waiting jobs of a queue, or delete its failed ones; running ones go on."""
    asked: QueueClear = call.body
    if not any(queue.name == asked.queue for queue in await call.store.queues()):
        raise UnknownQueue(asked.queue)
    return answer_doc(await clear(call, asked.queue, dead=asked.dead, why=asked.why, preview=asked.preview))


async def clear(call: Call, queue: str, *, dead: bool, why: str = "", preview: bool = False) -> Ordered:
    """Empty a queue that there is, and write down who did it."""
    states = (State.FAILED,) if dead else _WAITING
    action = Delete() if dead else Cancel(why=why or "the queue was cleared")
    which = Selection(filter=JobFilter(queue=queue, states=states))
    done = await call.store.control(Order(action=action, selection=which, who=call.who, preview=preview))
    if not preview:
        await record(call, "clear_dead" if dead else "clear_queue", queue, done.done, why)
    return done


async def delete_queue(call: Call) -> Who:
    """Forget a queue without unfinished jobs."""
    await call.store.delete_queue(call.path, call.who)
    return Who(who=call.who)


async def stats(call: Call) -> Stats:
    """Count jobs per queue and state."""
    return await call.store.stats()


ROUTES: Final = (
    Route(
        method="GET",
        path="/queues",
        handle=list_queues,
        scope=Scope.READ,
        answer=list[QueueDoc],
        summary="List queues by name, with their counts",
    ),
    Route(
        method="GET",
        path="/queues/{name}",
        handle=get_queue,
        scope=Scope.READ,
        answer=QueueDoc,
        summary="Read one queue with its counts",
    ),
    Route(
        method="PATCH",
        path="/queues/{name}",
        handle=change_queue,
        scope=Scope.OPERATE,
        body=QueueChange,
        answer=Queue,
        summary="Pause, resume or change a queue",
    ),
    Route(
        method="POST",
        path="/queue-clear",
        handle=clear_queue,
        scope=Scope.OPERATE,
        body=QueueClear,
        answer=ActionAnswer,
        summary="Cancel all waiting jobs of a queue, or delete its failed ones",
    ),
    Route(
        method="DELETE",
        path="/queues/{name}",
        handle=delete_queue,
        scope=Scope.ADMIN,
        body=Who | None,
        answer=Who,
        summary="Forget a queue without unfinished jobs",
    ),
    Route(
        method="GET",
        path="/stats",
        handle=stats,
        scope=Scope.READ,
        answer=Stats,
        summary="Count jobs per queue and state",
    ),
)
