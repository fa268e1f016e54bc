"""What is stored: jobs, their attempts, and the things that steer them.

All values are frozen. Times are seconds since the epoch (UTC) by the store's clock; durations are seconds. Payload,
result, data and headers stay encoded (JSON bytes), so that a record holds scalars and bytes only and costs the garbage
collector nothing (`gc=False`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from holdfast.job.retry import RetryPolicy
from holdfast.job.state import FAILURES, FINAL, End, State

DEFAULT_QUEUE = "default"
PRIORITY_MIN, PRIORITY_MAX = -100, 100
CRASHES_MAX = 3
SNOOZES_MAX = 1_000
RELEASES_MAX = 100
#: A job keeps its newest attempts; older ones of a long life are dropped from its record (and stay in exported history).
ATTEMPTS_KEPT = 200
#: How many reports of progress an attempt keeps, and how many bytes of them.
TRAIL_KEPT = 50
TRAIL_MAX = 16 * 1024
#: Tokens stay below 2**53, so that JavaScript and JSON readers keep them exact.
EPOCH_BITS = 32


class OnConflict(StrEnum):
    """What an enqueue does when its unique key is held by another job."""

    ERROR = "error"  # refuse the whole batch
    KEEP = "keep"  # leave the existing job as it is and return it
    REPLACE = "replace"  # a waiting job gets the new payload, policy and run_at; a running one is kept
    RESCHEDULE = "reschedule"  # a waiting job gets the new run_at
    RAISE_PRIORITY = "raise_priority"  # a waiting job gets the higher of both priorities


class OnWait(StrEnum):
    """Whether a job that waits for its retry holds up the jobs of its key."""

    HOLD = "hold"
    PASS = "pass"


class Attempt(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One execution of a job: evidence of who ran it, and why it ended (`end` is None while it runs)."""

    number: int
    token: int
    instance: str
    worker: str
    started_at: float
    end: End | None = None
    ended_at: float | None = None
    duration: float | None = None  # seconds by the worker's monotonic clock; None when it could not tell
    error_type: str = ""
    error: str = ""
    traceback: str = ""
    reason: str = ""  # of a snooze, cancel, release, loss or refusal, in words
    version: str = ""  # code version of the worker
    progress: bytes = b""  # JSON, the last progress
    log: bytes = b""  # JSON array of [time, level, text], append-only
    trace_id: str = ""
    span_id: str = ""
    report: int = 0  # fingerprint of what the worker reported, so that a repeat of the same settle is known
    queued_at: float | None = None  # when the job had become ready for it; None: not known
    heartbeat_at: float | None = None  # of one that ended: when its worker was last heard of
    trail: bytes = b""  # JSON array of [time, progress], oldest first: the newest TRAIL_KEPT, within TRAIL_MAX bytes

    @property
    def failed(self) -> bool:
        """Whether it spent a failure: raised, timed out, was lost or crashed."""
        return self.end in FAILURES


class CancelAsk(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who asked a running job to stop, why and when."""

    who: str
    why: str
    at: float


class Job(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One enqueued run of a task, as the store holds it. Name the fields when you make one; only `accept` goes by place."""

    # What it is. Only an edit, or a conflict action, changes these.
    seq: int  # order of acceptance
    id: str
    task: str
    queue: str = DEFAULT_QUEUE
    payload: bytes = b""
    priority: int = 0  # higher runs first
    run_at: float = 0.0  # not before; moved by snooze, retry and edit
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None  # seconds per attempt; None: the task's, or none
    key: str | None = None
    on_wait: OnWait = OnWait.HOLD
    sticky: str | None = None  # the service whose pod must run it
    unique: str | None = None
    unique_window: float | None = None  # seconds from creation; None: while unfinished
    tags: tuple[str, ...] = ()
    headers: bytes = b""  # JSON object
    replay_of: str | None = None
    origin: str = "engine"  # or "external": executed elsewhere, recorded here
    created_at: float = 0.0

    # Where it is.
    state: State = State.QUEUED
    queued_at: float | None = None  # when it last became ready
    updated_at: float = 0.0
    finished_at: float | None = None
    deleted_at: float | None = None
    paused_by: str = ""
    cancel: CancelAsk | None = None
    pod: int | None = None
    pod_epoch: int = 0

    # What it used. `attempt` and `token` grow for ever; the budgets start again with each generation.
    attempt: int = 0
    token: int = 0
    generation: int = 0
    failures: int = 0
    losses: int = 0  # in a row
    crashes: int = 0
    snoozes: int = 0
    releases: int = 0
    suspect: bool = False  # was in a process that died

    # What came of it.
    last: Attempt | None = None
    past: tuple[Attempt, ...] = ()
    data: bytes = b""  # JSON object, merged by `update=`
    result: bytes | None = None  # JSON
    replayed_by: str | None = None

    @property
    def final(self) -> bool:
        """Whether the job has ended: succeeded, failed or canceled."""
        return self.state in FINAL

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts still kept, oldest first."""
        return self.past if self.last is None else (*self.past, self.last)

    @property
    def error(self) -> str:
        """The text of the last attempt's error, or an empty string."""
        return self.last.error if self.last else ""


class NewJob(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What an enqueue asks for. The store adds seq, state and times. See `Job` for the fields."""

    id: str
    task: str
    own_id: bool = False  # the id was chosen by the caller, so a clash is a duplicate and not a repeat
    queue: str = DEFAULT_QUEUE
    payload: bytes = b""
    priority: int = 0
    run_at: float | None = None  # absolute time; None: now
    delay: float | None = None  # seconds from the store's now; instead of run_at
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    key: str | None = None
    on_wait: OnWait = OnWait.HOLD
    sticky: str | None = None
    unique: str | None = None
    unique_window: float | None = None
    on_conflict: OnConflict = OnConflict.ERROR
    tags: tuple[str, ...] = ()
    headers: bytes = b""
    replay_of: str | None = None


class FreshJob(NewJob, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One whose id was made for this enqueue and told to nobody yet: no store can know it."""

    def told(self) -> NewJob:
        """The same for somebody who may keep it, and enqueue it once more."""
        return NewJob(**{name: getattr(self, name) for name in self.__struct_fields__})


class QueueMode(StrEnum):
    """How many jobs of a queue may run at the same time over the fleet."""

    CONCURRENT = "concurrent"  # as many as the workers' slots and `limit` allow
    SERIAL = "serial"  # one, in ready order


class Queue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named line of jobs and its policy. Retention counts and seconds: None keeps for ever."""

    name: str
    mode: QueueMode = QueueMode.CONCURRENT
    limit: int | None = None  # running jobs over the whole fleet
    paused: bool = False
    paused_by: str = ""
    paused_why: str = ""
    paused_at: float | None = None
    poll_interval: float | None = None  # seconds between two looks when nothing comes; None: the worker's
    rescue_after: float | None = None  # lease for its jobs; None: the worker's
    keep_succeeded: float | None = 86_400.0
    keep_succeeded_count: int | None = 10_000
    keep_failed: float | None = 14 * 86_400.0  # failed and canceled
    keep_failed_count: int | None = 10_000
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def fleet_limit(self) -> int | None:
        """How many of its jobs may run at once over the fleet; None: no limit."""
        return 1 if self.mode is QueueMode.SERIAL else self.limit


class TaskStatus(StrEnum):
    """Whether jobs of a definition may be enqueued and claimed."""

    ACTIVE = "active"
    CANCELED = "canceled"


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task as the store knows it: what people read and switch. The function lives in the worker."""

    id: str
    alias: str
    title: str = ""
    description: str = ""
    memo: str = ""
    status: TaskStatus = TaskStatus.ACTIVE
    queue: str = DEFAULT_QUEUE
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    parameters: bytes = b""  # JSON Schema of the arguments
    created_at: float = 0.0
    updated_at: float = 0.0
    deleted_at: float | None = None

    @property
    def runs(self) -> bool:
        """Whether its jobs may be enqueued and claimed."""
        return self.status is TaskStatus.ACTIVE and self.deleted_at is None


class ScheduleStatus(StrEnum):
    """Whether a schedule fires."""

    DRAFT = "draft"
    ACTIVE = "active"
    INACTIVE = "inactive"
    COMPLETED = "completed"


class CatchUp(StrEnum):
    """What happens to ticks that were missed."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """What a tick does while the last tick's job is unfinished."""

    ALLOW = "allow"
    SKIP = "skip"


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule that enqueues jobs. `rule` is a text that `holdfast.schedule.rule` reads.

    It fires while it is active and has a `next_run_at`. `count` is how many jobs it made. `revision` grows with every
    save and every tick, so that whoever changes a schedule can say which one he saw.
    """

    name: str
    rule: str
    zone: str = "UTC"
    task: str
    payload: bytes = b""
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    description: str = ""
    status: ScheduleStatus = ScheduleStatus.DRAFT
    start_at: float | None = None
    end_at: float | None = None
    max_count: int = 0  # 0: no limit
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


class InstanceState(StrEnum):
    """What a worker process is doing."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


class Instance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A live worker process. `id` is random per process; a restarted worker is a new instance."""

    id: str
    worker: str
    host: str = ""
    pid: int = 0
    version: str = ""
    queues: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    slots: int = 0
    busy: int = 0
    load: float = 0.0
    state: InstanceState = InstanceState.STARTING
    pod: int | None = None
    labels: tuple[str, ...] = ()
    local: bool = True  # lives in the store's own process, and so dies with it
    started_at: float = 0.0
    heartbeat_at: float = 0.0
    lease: float = 30.0  # seconds without a beat until it counts as lost


class QueueShare(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One queue of a worker: how many slots it may use, and its weight beside the worker's other queues."""

    name: str
    concurrency: int = 10
    weight: int = 1


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named worker as people configure it; its instances read it."""

    name: str
    queues: tuple[QueueShare, ...] = ()
    max_attempts: int | None = None
    timeout: float | None = None
    delay: float = 0.0
    enabled: bool = True
    drain: bool = False
    base_url: str = ""
    labels: tuple[str, ...] = ()
    last_heartbeat_at: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


class OperationState(StrEnum):
    """How far a bulk operation is."""

    RUNNING = "running"
    DONE = "done"
    CANCELED = "canceled"


class Refusal(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why one job of a selection was not changed."""

    id: str
    why: str


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bulk action by filter: runs in batches of 1,000 by seq, can be resumed and canceled."""

    id: str
    action: bytes  # the encoded action
    filter: bytes  # the encoded filter
    who: str = ""
    state: OperationState = OperationState.RUNNING
    matched: int = 0  # at the start; if that was estimated, at the end how many they were
    done: int = 0
    refused: int = 0
    refusals: tuple[Refusal, ...] = ()  # the first 1,000
    after_seq: int = 0
    upto_seq: int = 0
    created_at: float = 0.0
    finished_at: float | None = None
    estimated: bool = False  # matched is about so many
