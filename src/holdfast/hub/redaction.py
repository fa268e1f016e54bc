"""What callers without the scope `read:payload` do not see: what is in the jobs. What was hidden is named in `hidden`.

Hidden are arguments, headers, data and results; of attempts also the texts of errors, tracebacks, reasons, progress and log
lines, since handlers put anything into them. The type of an error stays, and so do ids, names, keys, tags, states and times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from holdfast.wire.definitions import ScheduleDoc
from holdfast.wire.documents import AttemptDoc, EnqueuedDoc, JobDoc
from holdfast.wire.requests import OperationDoc

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.model import Attempt, Job

T = TypeVar("T")

_JOB: Final = ("payload", "headers", "data", "result", "opaque")
_ATTEMPT: Final = ("error", "traceback", "reason", "progress", "trail", "log", "opaque")


def _without(doc: Any, *names: str, **more: Any) -> Any:
    there = [name for name in names if getattr(doc, name) not in ("", UNSET)]
    gone = {name: "" if isinstance(getattr(doc, name), str) else UNSET for name in there}
    hidden = tuple(name for name in there if name != "opaque") or UNSET
    return replace(doc, **gone, **more, hidden=hidden) if there or more else doc


def _attempt(doc: AttemptDoc) -> AttemptDoc:
    hidden: AttemptDoc = _without(doc, *_ATTEMPT)
    return hidden


def _job(doc: JobDoc) -> JobDoc:
    hidden: JobDoc = _without(doc, *_JOB, attempts=tuple(map(_attempt, doc.attempts)))
    return hidden


def _schedule(doc: ScheduleDoc) -> ScheduleDoc:
    hidden: ScheduleDoc = _without(doc, "payload")
    return hidden


def _operation(doc: OperationDoc) -> OperationDoc:
    return replace(doc, record=b"", filter=replace(doc.filter, text=None))


def _enqueued(doc: EnqueuedDoc) -> EnqueuedDoc:
    return replace(doc, job=_job(doc.job))


_HIDE: Final[dict[type, Callable[[Any], Any]]] = {
    AttemptDoc: _attempt,
    JobDoc: _job,
    ScheduleDoc: _schedule,
    OperationDoc: _operation,
    EnqueuedDoc: _enqueued,
}


def redacted(answer: T) -> T:
    """Return an answer of the API without what is in the jobs, wherever in it a job, attempt or schedule stands."""
    result: Any = answer
    hide = _HIDE.get(type(answer))
    if hide is not None:
        result = hide(answer)
    elif isinstance(answer, list | tuple):
        result = type(answer)(map(redacted, answer))
    elif isinstance(answer, msgspec.Struct):
        changed = {
            name: new for name in answer.__struct_fields__ if (new := redacted(old := getattr(answer, name))) is not old
        }
        result = replace(answer, **changed) if changed else answer
    return cast("T", result)


def without_content(job: Job) -> Job:
    """Return a job without its content, for texts that are made of it."""
    last = _bare(job.last) if job.last is not None else None
    return replace(job, payload=b"", headers=b"", data=b"", result=None, last=last, past=tuple(map(_bare, job.past)))


def _bare(attempt: Attempt) -> Attempt:
    return replace(attempt, error="", traceback="", reason="", progress=b"", log=b"")
