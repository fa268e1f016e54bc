"""The ports of the read and record side: what the hub shows, and where reports of other systems go.

`JobRepository` reads jobs, attempts and figures, and records jobs that ran elsewhere (`origin = "external"`); a job of the
engine is written by its workers alone, and a report about it is refused with Conflict. `WorkerRepository` holds the
configured workers and when each was last heard of. Their promises are shown by `holdfast.testing.contract_history`.

Figures of jobs (`worker_stats`, `queue_stats`) are over what is on record: what retention has purged is no longer counted.
Those of attempts by time (`worker_time_series`, `statistics`, `series`) are kept beside the jobs as they end, so they outlive
them: a job that is purged or hidden later was tried all the same. Reading any of them from a database costs the same however
many jobs have ended. Many rows are read in slices, so a long
read is no snapshot: it shows no job twice and passes over none that was there all the time, but a job that moves meanwhile
is seen either before or after its move.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from msgspec.structs import replace

from holdfast.errors import ConfigError, ContentError, TooLarge
from holdfast.job.commands import SEARCH_WINDOW, AttemptRecord, JobCount, JobFilter, JobPage, Page, StatusUpdate
from holdfast.job.content import ERROR_MAX, PAYLOAD_MAX, clean_text
from holdfast.job.ids import check_id, check_key, check_name, check_priority, check_tags
from holdfast.job.model import Attempt, Job, WorkerConfig
from holdfast.job.state import FINAL, End, State
from holdfast.statistics import HOUR, GroupBy, Span, Spread, Statistics, StatisticsFilter, StatisticsPoint

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ATTEMPT_LIMIT",
    "FAILED_LIMIT",
    "HOUR",
    "JOB_LIMIT",
    "SEARCH_WINDOW",
    "SERIES_HOURS",
    "AttemptFilter",
    "AttemptPage",
    "AttemptRecord",
    "GroupBy",
    "JobFilter",
    "JobPage",
    "JobRepository",
    "Limit",
    "Page",
    "QueueFigures",
    "QueueStats",
    "SeriesBucket",
    "Span",
    "Spread",
    "Statistics",
    "StatisticsFilter",
    "StatisticsPoint",
    "StatusUpdate",
    "WorkerRepository",
    "WorkerStats",
    "checked_attempt",
    "checked_record",
    "checked_update",
    "checked_worker",
]

#: How many jobs of a queue a worker may run at once, and how much one queue may count beside the others.
CONCURRENCY_MAX: Final = 100_000
WEIGHT_MAX: Final = 1_000


class Limit(msgspec.Struct, frozen=True):
    """A limit that a reader may ask for: what is below 1 or above `most` becomes `default`."""

    most: int
    default: int

    def of(self, asked: int) -> int:
        """Return the limit that counts.

        >>> JOB_LIMIT.of(0), JOB_LIMIT.of(200), JOB_LIMIT.of(201)
        (50, 200, 50)
        """
        return asked if 0 < asked <= self.most else self.default


JOB_LIMIT: Final = Limit(200, 50)
ATTEMPT_LIMIT: Final = Limit(200, 50)
FAILED_LIMIT: Final = Limit(1_000, 100)
SERIES_HOURS: Final = Limit(168, 24)


# --- figures -------------------------------------------------------------------------------------------------------


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker did for one queue. avg_duration: seconds of its successful attempts; None: there is none."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    success_rate: float | None = None
    avg_duration: float | None = None


class WorkerStats(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by the worker of their newest attempt. states: every state, zeros included.

    pending: those that wait (scheduled, queued, retrying, paused). success_rate: succeeded / (succeeded + failed), from 0.0
    to 1.0; None until one has ended so. avg_duration: seconds, over successful attempts. estimated: of those that wait or
    run about how many are told, since they are more than 100,000.
    """

    worker: str
    total: int
    pending: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    success_rate: float | None
    avg_duration: float | None
    states: dict[str, int]
    queues: dict[str, QueueFigures]
    estimated: bool = False


class SeriesBucket(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of attempts, by when they ended. at: the hour's start, UTC, seconds since the epoch.

    failed: those that spent a failure, however they ended. total counts snoozed, released and canceled ones too.
    """

    at: float
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    avg_duration: float | None = None


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """One queue. states: jobs of the engine, every state; records: jobs that ran elsewhere. oldest_ready_at: seconds since
    the epoch, None when nothing is ready. estimated: the states of which about how many jobs are told."""

    name: str
    states: dict[str, int]
    records: dict[str, int]
    paused: bool = False
    oldest_ready_at: float | None = None
    estimated: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Jobs of the engine that have not ended."""
        return sum(count for state, count in self.states.items() if State(state) not in FINAL)


class AttemptFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which attempts; all given fields must match. Those that started from `after` (None: a day ago) up to `before`.

    running: only those that have not ended. text: within the error.
    """

    worker: str | None = None
    instance: str | None = None
    queue: str | None = None
    task: str | None = None
    ends: tuple[End, ...] = ()
    running: bool = False
    text: str | None = None
    after: float | None = None
    before: float | None = None


class AttemptPage(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts, the latest start first, and the cursor of the next page (empty: this was the last)."""

    items: tuple[AttemptRecord, ...]
    cursor: str = ""


# --- ports ---------------------------------------------------------------------------------------------------------


class JobRepository(Protocol):
    """Jobs, attempts and figures. An empty worker name means all workers."""

    async def upsert(self, records: Sequence[Job]) -> None:
        """Record jobs that ran elsewhere, all or none: a new id is added, a known one overwritten, except its task, its
        created_at (the repository's clock at the first time) and attempts that `records` do not name.

        Raises Conflict for an id that the engine owns, ContentError for what can not be stored.
        """
        ...

    async def update_status(self, updates: Sequence[StatusUpdate]) -> Sequence[bool]:
        """Set state and newest attempt of records, all or none; tell per update whether there is such a job.

        Raises Conflict for an id that the engine owns.
        """
        ...

    async def get(self, job_id: str) -> Job:
        """One job, also a deleted one. Raises UnknownJob."""
        ...

    async def list(self, which: JobFilter, page: Page) -> JobPage:
        """Jobs that match all that the filter names, newest first, in keyset pages of JOB_LIMIT rows: none is shown twice
        or passed over while others come and go. A text is looked for within a day unless told, in `page.scan` jobs at most:
        such a page may end before it is full. Raises ContentError for a cursor that no page gave."""
        ...

    async def count(self, which: JobFilter) -> JobCount:
        """How many jobs match, exact up to 100,000; of more perhaps about how many, and marked so. See Store.count."""
        ...

    async def insert_attempt(self, attempts: Sequence[AttemptRecord]) -> None:
        """Add attempts of recorded jobs, all or none, keyed by (job, number). The job's state follows its newest attempt.

        The same report again changes nothing. Raises UnknownJob, and Conflict for an id that the engine owns or an attempt
        whose end was reported otherwise before.
        """
        ...

    async def list_attempts(self, job_id: str, limit: int = 0) -> Sequence[Attempt]:
        """A job's attempts, the latest start first, ATTEMPT_LIMIT of them; none for an unknown job."""
        ...

    async def find_attempts(self, which: AttemptFilter, page: Page) -> AttemptPage:
        """Attempts of all jobs, the latest start first, in keyset pages of ATTEMPT_LIMIT rows.

        A page looks at a bounded part: at `page.scan` jobs that were tried in the window where it looks for attempts in jobs.
        It may have few rows or none, and a cursor that goes on, to the attempts of jobs that were accepted before these.
        """
        ...

    async def worker_stats(self, worker: str = "") -> WorkerStats:
        """Totals of a worker; zeros for an unknown one."""
        ...

    async def worker_time_series(self, worker: str = "", hours: int = 0) -> Sequence[SeriesBucket]:
        """The last `hours` hours (SERIES_HOURS), the running one last, each with its figures, empty ones as zeros."""
        ...

    async def statistics(self, which: StatisticsFilter, by: GroupBy = GroupBy.ALL) -> Sequence[Statistics]:
        """Attempts that ended, group by group, by name; groups without any are left out. ALL: one, also when it is empty.

        Raises ContentError for more days than it keeps.
        """
        ...

    async def series(self, which: StatisticsFilter, span: Span = Span.HOUR) -> Sequence[StatisticsPoint]:
        """Attempts that ended, minute by minute, hour by hour or day by day, empty ones as zeros, the running one last.

        Raises ContentError for more days than it keeps, and for more points than a series has.
        """
        ...

    async def list_failed(self, worker: str = "", limit: int = 0) -> Sequence[Job]:
        """Failed jobs, newest first, FAILED_LIMIT of them: for retry in bulk."""
        ...

    async def queue_stats(self) -> Sequence[QueueStats]:
        """All queues, by name."""
        ...


class WorkerRepository(Protocol):
    """Configured workers. last_heartbeat_at is the later of what was reported and what live instances beat."""

    async def upsert(self, config: WorkerConfig) -> WorkerConfig:
        """Add a worker or overwrite its whole configuration; return what is stored. A heartbeat of None keeps the known one.

        Raises ConfigError for a bad name.
        """
        ...

    async def get(self, name: str) -> WorkerConfig:
        """One worker. Raises UnknownWorker."""
        ...

    async def list(self) -> Sequence[WorkerConfig]:
        """All workers, by name."""
        ...

    async def delete(self, name: str) -> None:
        """Forget a worker. Raises UnknownWorker; Conflict while an unfinished job was last with it or an instance lives."""
        ...

    async def update_heartbeat(self, name: str, at: float) -> bool:
        """Set when the worker was heard of, in seconds since the epoch; False, and nothing else, for an unknown one."""
        ...

    async def list_offline(self, silent_for: float) -> Sequence[WorkerConfig]:
        """Workers never heard of, or not for `silent_for` seconds, by name; disabled ones too."""
        ...


# --- what may be recorded ------------------------------------------------------------------------------------------


def checked_record(record: Job) -> Job:
    """Return a record as it may be stored: texts of errors cleaned. Raises ContentError or ConfigError otherwise."""
    check_id(record.id)
    check_name(record.task, "task")
    check_name(record.queue, "queue")
    check_priority(record.priority)
    check_tags(record.tags)
    if len(record.payload) > PAYLOAD_MAX:
        raise TooLarge("payload", len(record.payload), PAYLOAD_MAX, "bytes", "Record the name of the bulk instead.")
    _check_times(record.id, run_at=record.run_at, finished_at=record.finished_at)
    past = tuple(_checked(record.id, attempt) for attempt in record.past)
    return replace(record, past=past, last=_checked(record.id, record.last) if record.last else None)


def checked_import(job: Job) -> Job:
    """Return a job of another store as it may be stored here. Raises ContentError or ConfigError otherwise."""
    checked_record(job)
    if job.key is not None:
        check_key(job.key)
    if job.unique is not None:
        check_key(job.unique, "unique")
    if job.state is State.RUNNING and job.last is None:
        raise ContentError(f"job {job.id!r}: expected an attempt of a running job, found none.")
    _check_times(job.id, created_at=job.created_at, updated_at=job.updated_at, queued_at=job.queued_at)
    if not 0 <= job.token < 2**53 or min(job.attempt, job.failures, job.crashes, job.snoozes, job.releases) < 0:
        raise ContentError(f"job {job.id!r}: expected counts of 0 or more and a token below 2**53.")
    return job


def checked_attempt(report: AttemptRecord) -> AttemptRecord:
    """Return an attempt as it may be stored, its texts cleaned. Raises ContentError otherwise."""
    return replace(report, attempt=_checked(report.job, report.attempt))


def checked_update(update: StatusUpdate) -> StatusUpdate:
    """Return a status update as it may be stored. Raises ContentError otherwise."""
    if update.attempt < 0:
        raise ContentError(f"job {update.id!r}: expected an attempt from 1, or 0 for none, found {update.attempt}.")
    return replace(update, error=clean_text(update.error, ERROR_MAX), worker=clean_text(update.worker, 512))


def checked_worker(config: WorkerConfig) -> WorkerConfig:
    """Return a worker's configuration if it may be stored. Raises ConfigError, which lists every fault, otherwise."""
    check_name(config.name, "worker")
    faults = []
    for share in config.queues:
        check_name(share.name, "queue")
        if not 1 <= share.concurrency <= CONCURRENCY_MAX:
            faults.append(
                f"queues: {share.name}: concurrency: expected 1 to {CONCURRENCY_MAX:,}, found {share.concurrency:,}."
            )
        if not 1 <= share.weight <= WEIGHT_MAX:
            faults.append(f"queues: {share.name}: weight: expected 1 to {WEIGHT_MAX:,}, found {share.weight:,}.")
    names = [share.name for share in config.queues]
    if len(set(names)) < len(names):
        faults.append(f"queues: expected each queue once, found {', '.join(names)}.")
    if config.max_attempts is not None and config.max_attempts < 1:
        faults.append(f"max_attempts: expected 1 or more, found {config.max_attempts}.")
    if config.timeout is not None and not 0 < config.timeout < math.inf:
        faults.append(f"timeout: expected seconds above 0, found {config.timeout:g}.")
    if not 0 <= config.delay < math.inf:
        faults.append(f"delay: expected 0 seconds or more, found {config.delay:g}.")
    if faults:
        raise ConfigError(f"worker {config.name!r} can not be configured so:", faults)
    return config


def _checked(job_id: str, attempt: Attempt) -> Attempt:
    if attempt.number < 1:
        raise ContentError(f"job {job_id!r}: expected an attempt number from 1, found {attempt.number}.")
    _check_times(job_id, started_at=attempt.started_at, ended_at=attempt.ended_at, duration=attempt.duration)
    return replace(
        attempt,
        worker=clean_text(attempt.worker, 512),
        instance=clean_text(attempt.instance, 512),
        error_type=clean_text(attempt.error_type, 512),
        error=clean_text(attempt.error, ERROR_MAX),
        traceback=clean_text(attempt.traceback, ERROR_MAX),
        reason=clean_text(attempt.reason, ERROR_MAX),
        trace_id=clean_text(attempt.trace_id, 128),
        span_id=clean_text(attempt.span_id, 128),
    )


def _check_times(job_id: str, **times: float | None) -> None:
    for name, value in times.items():
        # 2**40 seconds are 34,000 years: beyond it, milliseconds were sent.
        if value is not None and not (math.isfinite(value) and 0.0 <= value < 2.0**40):
            raise ContentError(
                f"job {job_id!r}: {name}: expected seconds since the epoch (or of run time), found {value}."
            )
