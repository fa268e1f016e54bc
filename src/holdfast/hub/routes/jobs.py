"""Jobs: enqueue, read, act on."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import UnknownJob, UnknownTask
from holdfast.hub.evidence import with_beat
from holdfast.hub.redaction import without_content
from holdfast.hub.refusals import Refusal
from holdfast.hub.routes.people import record, record_nameless
from holdfast.hub.routing import BATCH_BODY_MAX, Route, Scope
from holdfast.hub.why import Reason, explain, look
from holdfast.job.commands import Enqueued, JobFilter, Page
from holdfast.job.state import State
from holdfast.wire.documents import JobDoc, PageDoc, job_doc, page_doc
from holdfast.wire.orders import answer_doc, operation_doc, order_of
from holdfast.wire.requests import ActionAnswer, ActionRequest, Counted, EnqueueAnswer, JobRequest, OperationDoc, Who

if TYPE_CHECKING:
    from holdfast.hub.routing import Call


class Order(StrEnum):
    """What a list goes by. FINISHED: only jobs that have ended; rows of task tables are not among them."""

    CREATED = "created"
    FINISHED = "finished"


class JobQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs, and which part of the list. attempts: "last" or "all" of each.

    text: in id, payload or error; tag: one of its tags; of jobs enqueued within a day before now, or before created_before,
    unless created_after says since when. A page looks for these, and for paused_by among paused jobs, in 10,000 jobs: it may
    have few rows or none, and a cursor that goes on.
    """

    state: tuple[State, ...] = ()
    id: str | None = None
    queue: str | None = None
    task: str | None = None
    worker: str | None = None
    instance: str | None = None
    key: str | None = None
    tag: str | None = None
    unique: str | None = None
    paused_by: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    text: str | None = None
    deleted: bool = False
    limit: int = 50
    cursor: str = ""
    newest_first: bool = True
    order: Order = Order.CREATED
    attempts: str = "last"

    def filter(self) -> JobFilter:
        """Return the filter that it describes."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in JobFilter.__struct_fields__ if name != "states"}
        return JobFilter(states=self.state, **plain)


class JobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A job with all its attempts, and why it is where it is."""

    job: JobDoc
    why: tuple[Reason, ...]


async def enqueue(call: Call) -> list[EnqueueAnswer] | EnqueueAnswer:
    """Enqueue one job, or a list of jobs: all or none."""
    many = isinstance(call.body, list)
    requests = call.body if many else [call.body]
    try:
        answers = await call.intake.enqueue(requests)
    except UnknownTask as error:
        # The address exists; what was sent to it can not be done.
        raise Unprocessable(error) from error
    docs = [_answer(answer) for answer in answers]
    return docs if many else docs[0]


class Unprocessable(Exception):
    """What was asked is understood and can not be done: 422 instead of the status that its cause has elsewhere."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(str(cause))


def _answer(answer: Enqueued) -> EnqueueAnswer:
    job = answer.job
    return EnqueueAnswer(
        id=job.id, verdict=answer.verdict, state=job.state, queue=job.queue, task=job.task, run_at=job.run_at
    )


async def list_jobs(call: Call) -> PageDoc:
    """List jobs, newest first, in keyset pages."""
    query: JobQuery = call.query
    refuse_search(call, query.text)
    by_end = query.order is Order.FINISHED
    page = Page(limit=query.limit, cursor=query.cursor, newest_first=query.newest_first, by_end=by_end)
    return page_doc(await call.store.find(query.filter(), page), all_attempts=query.attempts == "all")


def refuse_search(call: Call, text: str | None, field: str = "text") -> None:
    """To search in what is hidden, letter by letter, is to read it."""
    if text and not call.sees_payload:
        raise Refusal(403, f"{field}: expected a caller who may read payloads (scope read:payload).", field=field)


async def count_jobs(call: Call) -> Counted:
    """Count the jobs that match: exactly up to 100,000, else perhaps about how many, and marked so."""
    refuse_search(call, call.query.text)
    return Counted.of(await call.store.count(call.query.filter()))


async def get_job(call: Call) -> JobAnswer:
    """Read one job with its attempts, and why it is where it is."""
    [job] = await call.store.jobs([call.path])
    if job is None:
        raise UnknownJob(call.path)
    told = job if call.sees_payload else without_content(job)
    around = await look(call.store, job)
    return JobAnswer(job=job_doc(with_beat(job, around.instances)), why=explain(told, around))


async def act(call: Call) -> ActionAnswer:
    """Cancel, pause, resume, retry, replay, run now, edit or delete jobs, by ids or by filter; or preview that."""
    request: ActionRequest = call.body
    if request.filter is not None:
        refuse_search(call, request.filter.text, "filter.text")
    done = await call.store.control(order_of(request))
    if not request.preview:
        action = str(type(request.action).__struct_config__.tag)
        await record_nameless(call, action, f"{done.matched} jobs", done.done)
    return answer_doc(done)


async def list_operations(call: Call) -> list[OperationDoc]:
    """List bulk operations, newest first."""
    return [operation_doc(one) for one in await call.store.operations()]


async def cancel_operation(call: Call) -> OperationDoc:
    """Stop a bulk operation after the batch it is in."""
    operation = await call.store.cancel_operation(call.path, call.who)
    await record(call, "cancel_operation", call.path, operation.done)
    return operation_doc(operation)


ROUTES: Final = (
    Route(
        method="POST",
        path="/jobs",
        handle=enqueue,
        scope=Scope.ENQUEUE,
        body=JobRequest | list[JobRequest],
        answer=EnqueueAnswer | list[EnqueueAnswer],
        summary="Enqueue one job, or a list of jobs: all or none",
        body_max=BATCH_BODY_MAX,
        status=201,
    ),
    Route(
        method="GET",
        path="/jobs",
        handle=list_jobs,
        scope=Scope.READ,
        query=JobQuery,
        answer=PageDoc,
        summary="List jobs, newest first, in keyset pages",
    ),
    Route(
        method="GET",
        path="/job-count",
        handle=count_jobs,
        scope=Scope.READ,
        query=JobQuery,
        answer=Counted,
        summary="Count the jobs that match",
    ),
    Route(
        method="POST",
        path="/job-actions",
        handle=act,
        scope=Scope.OPERATE,
        body=ActionRequest,
        answer=ActionAnswer,
        summary="Act on jobs by ids or by filter, or preview that",
    ),
    Route(
        method="GET",
        path="/jobs/{id}",
        handle=get_job,
        scope=Scope.READ,
        answer=JobAnswer,
        summary="Read one job with its attempts, and why it is where it is",
    ),
    Route(
        method="GET",
        path="/operations",
        handle=list_operations,
        scope=Scope.READ,
        answer=list[OperationDoc],
        summary="List bulk operations, newest first",
    ),
    Route(
        method="DELETE",
        path="/operations/{id}",
        handle=cancel_operation,
        scope=Scope.OPERATE,
        body=Who | None,
        answer=OperationDoc,
        summary="Stop a bulk operation after the batch it is in",
    ),
)
