"""Orders on the wire: what people ask for as the core knows it, and its answers as documents. Both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Raw

from holdfast.durations import instant, seconds
from holdfast.errors import ContentError
from holdfast.job import commands as c
from holdfast.job.ids import check_name, check_priority
from holdfast.job.model import Operation, Refusal
from holdfast.wire import requests as r
from holdfast.wire.documents import from_raw, to_raw

if TYPE_CHECKING:
    from holdfast.wire.requests import ActionAnswer, ActionDoc, ActionRequest, Moment, OperationDoc

_ACTION: Final = msgspec.msgpack.Decoder(c.Action)
_FILTER: Final = msgspec.msgpack.Decoder(c.JobFilter)
_OPERATION: Final = msgspec.msgpack.Decoder(Operation)


def order_of(request: ActionRequest) -> c.Order:
    """Return the order of a request. Raises ContentError unless it names ids or a filter."""
    if bool(request.ids) == (request.filter is not None):
        raise ContentError("an action needs ids or a filter: expected exactly one of the two.")
    selection = c.Selection(ids=request.ids, filter=request.filter)
    return c.Order(action=action_of(request.action), selection=selection, who=request.who, preview=request.preview)


def action_of(doc: ActionDoc) -> c.Action:
    """Return the action of a document, its names and times checked."""
    match doc:
        case r.CancelAction():
            return c.Cancel(why=doc.why)
        case r.PauseAction():
            return c.Pause()
        case r.ResumeAction():
            return c.Resume()
        case r.RetryAction():
            return c.Retry()
        case r.ReplayAction():
            return c.Replay(
                force=doc.force,
                payload=_payload(doc.payload),
                queue=_queue(doc.queue),
                delay=seconds(doc.delay, "delay"),
            )
        case r.RunNowAction():
            return c.RunNow()
        case r.EditAction():
            return c.Edit(
                queue=_queue(doc.queue),
                priority=None if doc.priority is None else check_priority(doc.priority),
                run_at=_moment(doc.run_at),
                payload=_payload(doc.payload),
            )
        case r.DeleteAction():
            return c.Delete(hard=doc.hard)


def _moment(when: Moment | None) -> float | None:
    """A moment; numbers may lie before 1970, which only means now."""
    if isinstance(when, float | int) and when < 0:
        return -instant(-when, "run_at")
    return None if when is None else instant(when, "run_at")


def _queue(name: str | None) -> str | None:
    return None if name is None else check_name(name, "queue")


def _payload(value: Raw | msgspec.UnsetType) -> bytes | None:
    return None if value is UNSET else from_raw(value)


def action_doc(action: c.Action) -> ActionDoc:
    """Return an action as a document."""
    match action:
        case c.Cancel():
            return r.CancelAction(why=action.why)
        case c.Pause():
            return r.PauseAction()
        case c.Resume():
            return r.ResumeAction()
        case c.Retry():
            return r.RetryAction()
        case c.Replay():
            return r.ReplayAction(
                force=action.force, payload=to_raw(action.payload), queue=action.queue, delay=action.delay
            )
        case c.RunNow():
            return r.RunNowAction()
        case c.Edit():
            return r.EditAction(
                queue=action.queue, priority=action.priority, run_at=action.run_at, payload=to_raw(action.payload)
            )
        case c.Delete():
            return r.DeleteAction(hard=action.hard)


def request_doc(order: c.Order) -> ActionRequest:
    """Return an order as a request."""
    selection = order.selection
    return r.ActionRequest(
        action=action_doc(order.action),
        ids=selection.ids,
        filter=selection.filter,
        who=order.who,
        preview=order.preview,
    )


def answer_doc(ordered: c.Ordered) -> ActionAnswer:
    """Return the answer to an order as a document."""
    return r.ActionAnswer(
        matched=ordered.matched,
        done=ordered.done,
        refused=ordered.refused,
        rulings=tuple(r.RulingDoc(id=x.id, done=x.done, why=x.why, made=x.made) for x in ordered.rulings),
        refusals=tuple(r.RefusalDoc(id=x.id, why=x.why) for x in ordered.refusals),
        operation=None if ordered.operation is None else operation_doc(ordered.operation),
        estimated=ordered.estimated,
    )


def ordered_of(doc: ActionAnswer) -> c.Ordered:
    """Return the answer that a document stands for."""
    return c.Ordered(
        matched=doc.matched,
        done=doc.done,
        refused=doc.refused,
        rulings=tuple(c.Ruling(x.id, x.done, x.why, x.made) for x in doc.rulings),
        refusals=tuple(Refusal(x.id, x.why) for x in doc.refusals),
        operation=None if doc.operation is None else operation_of(doc.operation),
        estimated=doc.estimated,
    )


def operation_doc(operation: Operation) -> OperationDoc:
    """Return a bulk operation as a document."""
    action: Any = type(_ACTION.decode(operation.action)).__struct_config__.tag
    return r.OperationDoc(
        id=operation.id,
        action=str(action),
        filter=_FILTER.decode(operation.filter),
        who=operation.who,
        state=operation.state,
        matched=operation.matched,
        done=operation.done,
        refused=operation.refused,
        refusals=tuple(r.RefusalDoc(id=x.id, why=x.why) for x in operation.refusals),
        created_at=operation.created_at,
        finished_at=operation.finished_at,
        record=msgspec.msgpack.encode(operation),
        estimated=operation.estimated,
    )


def operation_of(doc: OperationDoc) -> Operation:
    """Return the bulk operation of a document."""
    return _OPERATION.decode(doc.record)
