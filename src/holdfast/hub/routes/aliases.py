"""The addresses of an older system, for programs that know them: there a job is called a task.

They are the same steps under other words: `/tasks` are jobs, a worker's queue group is a queue, `pending` are all that wait.
What that system got wrong stays mended: a task is enqueued and recorded in one step, only a finished one is replayed, and
each id of a batch gets its own answer.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from holdfast.durations import instant, seconds
from holdfast.errors import Conflict, ContentError, NoHistory, UnknownJob, UnknownWorker
from holdfast.hub.routing import Route, Scope
from holdfast.job import commands as c
from holdfast.job.model import Attempt
from holdfast.job.state import End, State
from holdfast.wire.documents import AttemptDoc, JobDoc, attempt_doc, job_doc
from holdfast.wire.requests import DurationText, JobRequest, Moment, RulingDoc

if TYPE_CHECKING:
    from holdfast.hub.routing import Call
    from holdfast.job.model import WorkerConfig

BATCH_MAX: Final = 1_000
#: How far a list may be entered by a number; beyond it the cursor leads on.
OFFSET_MAX: Final = 10_000
_TASK_ID: Final = re.compile(r"[A-Za-z0-9-]{1,128}")


class Priority(StrEnum):
    """The three priorities of the older system."""

    LOW = "low"
    DEFAULT = "default"
    CRITICAL = "critical"


_RANK: Final = {Priority.LOW: -10, Priority.DEFAULT: 0, Priority.CRITICAL: 10}


class TaskState(StrEnum):
    """The states of the older system. fail and dead both are `failed`: what still retries is pending."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAIL = "fail"
    DEAD = "dead"


_STATES: Final = {
    TaskState.PENDING: (State.SCHEDULED, State.QUEUED, State.RETRYING, State.PAUSED),
    TaskState.RUNNING: (State.RUNNING,),
    TaskState.SUCCESS: (State.SUCCEEDED,),
    TaskState.FAIL: (State.FAILED,),
    TaskState.DEAD: (State.FAILED,),
}


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job for a queue of a configured worker. task: which function runs it; left out, it is named `worker:queue`."""

    worker_name: str
    queue: str
    payload: Raw
    task: str = ""
    priority: Priority = Priority.DEFAULT
    task_id: str | None = None
    delay_seconds: float | None = None
    run_at: Moment | None = None


class TaskAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The job that was enqueued."""

    task_id: str
    worker_name: str
    queue: str
    priority: Priority
    status: str = "enqueued"


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs, and which part of the list: `limit` after `cursor`, or after `offset` (at most 10,000) of them."""

    worker_name: str | None = None
    status: TaskState | None = None
    queue: str | None = None
    limit: int = 50
    offset: int = 0
    cursor: str = ""

    def filter(self) -> c.JobFilter:
        """Return the filter that it describes."""
        states = _STATES[self.status] if self.status is not None else ()
        return c.JobFilter(worker=self.worker_name, states=states, queue=self.queue)


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs, newest first; how many match (estimated: about how many); the cursor of the next page, if there is one."""

    items: tuple[JobDoc, ...]
    total: int
    cursor: str
    estimated: bool = False


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its last 50 attempts, the latest first."""

    item: JobDoc
    attempts: tuple[AttemptDoc, ...]


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """delay: seconds until the new job may run."""

    delay: DurationText = 0.0
    who: str = ""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The new job."""

    new_task_id: str
    status: str = "replayed"


class BatchRetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replay these jobs, or the newest failed ones of a worker, at most `limit` (1,000) of them. preview: only tell which."""

    task_ids: tuple[str, ...] = ()
    worker_name: str = ""
    status: TaskState = TaskState.FAIL
    limit: int = 100
    preview: bool = False
    who: str = ""


class BatchRetried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of each job."""

    total_retried: int
    new_task_ids: tuple[str, ...]
    results: tuple[RulingDoc, ...]
    status: str = "retried"


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt that ran elsewhere. duration: by the two times when it is left out."""

    attempt: int
    status: TaskState
    started_at: Moment
    finished_at: Moment | None = None
    duration_ms: float | None = None
    error: str = ""
    worker_name: str = ""
    trace_id: str = ""
    span_id: str = ""


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """The job as it is now."""

    item: JobDoc
    status: str = "recorded"


# --- handlers ------------------------------------------------------------------------------------------------------


async def create_task(call: Call) -> TaskAccepted:
    """Enqueue a job for a queue of a configured worker."""
    asked: TaskRequest = call.body
    config = await worker_of(call, asked.worker_name)
    if not config.enabled:
        raise Conflict(
            f"worker_name: expected an enabled worker, found {config.name!r}, which is disabled. Enable it first."
        )
    check_group(config, asked.queue, "queue")
    if asked.task_id is not None and not _TASK_ID.fullmatch(asked.task_id):
        raise ContentError(f"task_id: expected 1 to 128 letters, digits and -, found {asked.task_id!r:.150}.")
    [answer] = await call.intake.enqueue([_request(asked, config)])
    return TaskAccepted(task_id=answer.job.id, worker_name=config.name, queue=answer.job.queue, priority=asked.priority)


async def known_worker(call: Call, name: str) -> WorkerConfig | None:
    """Return the configuration of a worker, None where there is none."""
    return next((config for config in await call.store.workers() if config.name == name), None)


async def worker_of(call: Call, name: str) -> WorkerConfig:
    """Return the configuration of a worker. Raises UnknownWorker."""
    known = await known_worker(call, name)
    if known is None:
        raise UnknownWorker(
            f"worker_name: expected a configured worker, found {name!r:.100}. List the workers to see them."
        )
    return known


def check_group(config: WorkerConfig, name: str, field: str) -> None:
    """Raise ContentError unless a worker has a queue of this name."""
    names = [share.name for share in config.queues]
    if name not in names:
        known = ", ".join(names) or "it has none"
        raise ContentError(f"{field}: expected one of worker {config.name!r} ({known}), found {name!r:.100}.")


def _request(asked: TaskRequest, config: WorkerConfig) -> JobRequest:
    delay = asked.delay_seconds
    if delay is None and asked.run_at is None and config.delay:
        delay = config.delay
    return JobRequest(
        task=asked.task or f"{config.name}:{asked.queue}",
        payload=asked.payload,
        id=asked.task_id,
        queue=asked.queue,
        priority=_RANK[asked.priority],
        delay=delay,
        run_at=asked.run_at,
        max_attempts=config.max_attempts,
        timeout=config.timeout,
    )


async def list_task_jobs(call: Call) -> TaskPage:
    """List jobs, newest first."""
    query: TaskQuery = call.query
    if not 0 <= query.offset <= OFFSET_MAX:
        raise ContentError(f"offset: expected 0 to {OFFSET_MAX:,}, found {query.offset}. Go on with the cursor.")
    which, cursor, left = query.filter(), query.cursor, query.offset
    while left > 0:
        skipped = await call.store.find(which, c.Page(limit=min(left, 200), cursor=cursor))
        left -= len(skipped.items)
        cursor = skipped.cursor
        if not cursor:
            break
    total = await call.store.count(which)
    if query.offset and not cursor:
        return TaskPage(items=(), total=int(total), cursor="", estimated=total.estimated)
    page = await call.store.find(which, c.Page(limit=query.limit, cursor=cursor))
    items = tuple(job_doc(job, all_attempts=False) for job in page.items)
    return TaskPage(items=items, total=int(total), cursor=page.cursor, estimated=total.estimated)


async def get_task_job(call: Call) -> TaskAnswer:
    """Read one job with its attempts."""
    [job] = await call.store.jobs([call.path])
    if job is None:
        raise UnknownJob(call.path)
    attempts = tuple(map(attempt_doc, job.attempts[::-1][:50]))
    return TaskAnswer(item=job_doc(job, all_attempts=False), attempts=attempts)


async def replay_task(call: Call) -> Replayed:
    """Enqueue a new job like a finished one."""
    asked: ReplayRequest = call.body or ReplayRequest()
    action = c.Replay(delay=seconds(asked.delay, "delay"))
    [ruling] = (await _order(call, action, (call.path,))).rulings
    if ruling.done:
        return Replayed(new_task_id=ruling.made)
    if ruling.why.startswith("unknown job"):
        raise UnknownJob(call.path)
    raise Conflict(f"job {call.path!r} was not replayed: {ruling.why}.")


async def batch_retry(call: Call) -> BatchRetried:
    """Replay finished jobs, by ids or the failed ones of a worker; each gets its own answer."""
    asked: BatchRetry = call.body
    ids = asked.task_ids or await _failed(call, asked)
    if len(ids) > BATCH_MAX:
        raise ContentError(f"task_ids: expected at most {BATCH_MAX:,}, found {len(ids):,}. Send fewer at a time.")
    rulings = (await _order(call, c.Replay(), ids, preview=asked.preview)).rulings if ids else ()
    return BatchRetried(
        total_retried=sum(ruling.done for ruling in rulings) if not asked.preview else 0,
        new_task_ids=tuple(ruling.made for ruling in rulings if ruling.made),
        results=tuple(RulingDoc(id=one.id, done=one.done, why=one.why, made=one.made) for one in rulings),
    )


async def _failed(call: Call, asked: BatchRetry) -> tuple[str, ...]:
    if _STATES[asked.status] != (State.FAILED,):
        raise ContentError(f"status: expected fail or dead, for only finished jobs are replayed, found {asked.status}.")
    if not 1 <= asked.limit <= BATCH_MAX:
        raise ContentError(f"limit: expected 1 to {BATCH_MAX:,}, found {asked.limit}.")
    which = c.JobFilter(states=(State.FAILED,), worker=asked.worker_name or None)
    page = await call.store.find(which, c.Page(limit=asked.limit))
    # Those that were replayed already are done with; the next batch reaches the ones behind them.
    return tuple(job.id for job in page.items if job.replayed_by is None)


async def _order(call: Call, action: c.Action, ids: tuple[str, ...], *, preview: bool = False) -> c.Ordered:
    selection = c.Selection(ids=ids)
    return await call.store.control(c.Order(action=action, selection=selection, who=call.who, preview=preview))


async def report_attempt(call: Call) -> Reported:
    """Add or complete an attempt of a job that ran elsewhere."""
    report: Report = call.body
    if call.parts.history is None:
        raise NoHistory
    await call.parts.history.insert_attempt([c.AttemptRecord(call.path, _attempt(report))])
    return Reported(item=job_doc(await call.parts.history.get(call.path), all_attempts=False))


_ENDS: Final = {TaskState.RUNNING: None, TaskState.SUCCESS: End.SUCCEEDED, TaskState.FAIL: End.FAILED}


def _attempt(report: Report) -> Attempt:
    if report.status not in _ENDS:
        raise ContentError(f"status: expected running, success or fail, found {report.status}.")
    started = instant(report.started_at, "started_at")
    ended = None if report.finished_at is None else instant(report.finished_at, "finished_at")
    duration = None if report.duration_ms is None else report.duration_ms / 1_000
    if duration is None and ended is not None:
        duration = max(0.0, ended - started)
    return Attempt(
        report.attempt,
        0,
        "",
        report.worker_name,
        started,
        _ENDS[report.status],
        ended,
        duration,
        error=report.error,
        trace_id=report.trace_id,
        span_id=report.span_id,
    )


def alias(method: str, path: str, of: str, handle: Any, scope: Scope, summary: str, answer: Any, **more: Any) -> Route:
    """Return a route that stands for another one, `of`."""
    return Route(
        method=method, path=path, alias_of=of, handle=handle, scope=scope, summary=summary, answer=answer, **more
    )


ROUTES: Final = (
    alias(
        "POST", "/tasks", "POST /jobs", create_task, Scope.ENQUEUE, "Enqueue a job for a queue of a configured worker",
        TaskAccepted, body=TaskRequest,
    ),
    alias("GET", "/tasks", "GET /jobs", list_task_jobs, Scope.READ, "List jobs, newest first", TaskPage, query=TaskQuery),
    alias("GET", "/tasks/{id}", "GET /jobs/{id}", get_task_job, Scope.READ, "Read one job with its attempts", TaskAnswer),
    alias(
        "POST", "/tasks/{id}/replay", "POST /job-actions", replay_task, Scope.OPERATE,
        "Enqueue a new job like a finished one", Replayed, body=ReplayRequest | None,
    ),
    alias(
        "POST", "/tasks/batch-retry", "POST /job-actions", batch_retry, Scope.OPERATE,
        "Replay finished jobs, by ids or the failed ones of a worker", BatchRetried, body=BatchRetry,
    ),
    alias(
        "POST", "/tasks/{id}/report-attempt", "POST /record-attempts", report_attempt, Scope.WORK,
        "Add or complete an attempt of a job that ran elsewhere", Reported, body=Report,
    ),
)  # fmt: skip
