"""History: attempts, figures and series to read; reports of jobs that ran elsewhere to record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ContentError, NoHistory
from holdfast.history import (
    SERIES_HOURS,
    AttemptFilter,
    GroupBy,
    JobRepository,
    QueueStats,
    SeriesBucket,
    Span,
    Statistics,
    StatisticsFilter,
    StatisticsPoint,
    WorkerRepository,
    WorkerStats,
)
from holdfast.hub.routes.jobs import refuse_search
from holdfast.hub.routing import BATCH_BODY_MAX, Route, Scope
from holdfast.job.commands import AttemptRecord, Page, StatusUpdate
from holdfast.job.model import WorkerConfig
from holdfast.job.state import End
from holdfast.wire.documents import AttemptDoc, JobDoc, attempt_doc, attempt_of, job_doc, job_of
from holdfast.wire.requests import Count

if TYPE_CHECKING:
    from holdfast.hub.routing import Call


# --- what is asked, what is answered -------------------------------------------------------------------------------


class AttemptQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which attempts, and which part of the list. end: how they ended. after: None means a day ago. Times as everywhere.

    A page looks at 10,000 jobs: it may have few rows or none, and a cursor that goes on.
    """

    worker: str | None = None
    instance: str | None = None
    queue: str | None = None
    task: str | None = None
    end: tuple[End, ...] = ()
    running: bool = False
    text: str | None = None
    after: float | None = None
    before: float | None = None
    limit: int = 50
    cursor: str = ""

    def filter(self) -> AttemptFilter:
        """Return the filter that it describes."""
        names = [name for name in AttemptFilter.__struct_fields__ if name != "ends"]
        return AttemptFilter(ends=self.end, **{name: getattr(self, name) for name in names})


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt, and whose it is."""

    job: str
    task: str
    queue: str
    attempt: AttemptDoc


class AttemptRows(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts, the latest start first, and the cursor of the next page (empty: this was the last)."""

    items: tuple[AttemptRow, ...]
    cursor: str = ""


class WorkerQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which worker; left out: of all."""

    worker: str = ""


class SeriesQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which worker (left out: of all), and how many hours back, at most 168."""

    worker: str = ""
    hours: int = SERIES_HOURS.default


class StatisticsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which attempts, of how many hours back (at most 168), and what they are told apart by. end: how they ended.

    days: of how many days of UTC instead; more than 7 where the history is in ClickHouse.
    """

    queue: str | None = None
    task: str | None = None
    worker: str | None = None
    end: tuple[End, ...] = ()
    hours: int = SERIES_HOURS.default
    days: int | None = None
    by: GroupBy = GroupBy.ALL


class PointsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which attempts, of how many hours back (at most 168), minute by minute, hour by hour or day by day.

    end: how they ended. days: of how many days of UTC instead; more than 7 where the history is in ClickHouse.
    """

    queue: str | None = None
    task: str | None = None
    worker: str | None = None
    end: tuple[End, ...] = ()
    hours: int = SERIES_HOURS.default
    days: int | None = None
    span: Span = Span.HOUR


class FailedQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which worker (left out: of all), and how many, at most 1,000."""

    worker: str = ""
    limit: int = 100


class OfflineQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """silent_for: seconds without a heartbeat after which a worker counts as offline."""

    silent_for: float = 60.0


class Records(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs that ran elsewhere."""

    jobs: tuple[JobDoc, ...]


class Statuses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New states of jobs that run elsewhere."""

    updates: tuple[StatusUpdate, ...]


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt that ran elsewhere, of a job on record. Times are seconds since the epoch, `duration` is seconds.

    end: how it ended; left out while it runs.
    """

    job: str
    number: int
    started_at: float
    end: End | None = None
    ended_at: float | None = None
    duration: float | None = None
    worker: str = ""
    instance: str = ""
    error_type: str = ""
    error: str = ""
    traceback: str = ""
    reason: str = ""
    version: str = ""
    trace_id: str = ""
    span_id: str = ""


class AttemptReports(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attempts that ran elsewhere."""

    attempts: tuple[AttemptReport, ...]


# --- handlers ------------------------------------------------------------------------------------------------------


def _history(call: Call) -> JobRepository:
    if call.parts.history is None:
        raise NoHistory
    return call.parts.history


def _workers(call: Call) -> WorkerRepository:
    if call.parts.workers is None:
        raise NoHistory
    return call.parts.workers


def _check_hours(hours: int) -> None:
    if not 1 <= hours <= SERIES_HOURS.most:
        raise ContentError(f"hours: expected 1 to {SERIES_HOURS.most}, found {hours}.")


async def find_attempts(call: Call) -> AttemptRows:
    """List attempts of all jobs, the latest start first."""
    query: AttemptQuery = call.query
    refuse_search(call, query.text)
    page = await _history(call).find_attempts(query.filter(), Page(limit=query.limit, cursor=query.cursor))
    return AttemptRows(items=tuple(map(_row, page.items)), cursor=page.cursor)


def _row(record: AttemptRecord) -> AttemptRow:
    return AttemptRow(job=record.job, task=record.task, queue=record.queue, attempt=attempt_doc(record.attempt))


async def worker_stats(call: Call) -> WorkerStats:
    """Count the jobs of a worker, and tell its success rate and mean run time."""
    return await _history(call).worker_stats(call.query.worker)


async def worker_series(call: Call) -> list[SeriesBucket]:
    """Tell hour by hour how attempts ended; the running hour comes last."""
    query: SeriesQuery = call.query
    _check_hours(query.hours)
    return list(await _history(call).worker_time_series(query.worker, query.hours))


def _statistics_filter(query: StatisticsQuery | PointsQuery) -> StatisticsFilter:
    _check_hours(query.hours)
    which = StatisticsFilter(queue=query.queue, task=query.task, worker=query.worker, ends=query.end, hours=query.hours)
    if query.days is None:
        return which
    if query.days < 1:
        raise ContentError(f"days: expected 1 or more, found {query.days}.")
    return msgspec.structs.replace(which, days=query.days)


async def statistics(call: Call) -> list[Statistics]:
    """Count attempts that ended, with how long they waited and ran."""
    query: StatisticsQuery = call.query
    return list(await _history(call).statistics(_statistics_filter(query), query.by))


async def series(call: Call) -> list[StatisticsPoint]:
    """Tell minute by minute, hour by hour or day by day how attempts ended; the running one comes last."""
    query: PointsQuery = call.query
    return list(await _history(call).series(_statistics_filter(query), query.span))


async def list_failed(call: Call) -> list[JobDoc]:
    """List failed jobs, newest first."""
    query: FailedQuery = call.query
    found = await _history(call).list_failed(query.worker, query.limit)
    return [job_doc(job, all_attempts=False) for job in found]


async def queue_stats(call: Call) -> list[QueueStats]:
    """Count the jobs of each queue: those of the engine, and records of those that ran elsewhere."""
    return list(await _history(call).queue_stats())


async def offline_workers(call: Call) -> list[WorkerConfig]:
    """List configured workers that were not heard of lately, disabled ones too."""
    query: OfflineQuery = call.query
    if not query.silent_for > 0:
        raise ContentError(f"silent_for: expected seconds above 0, found {query.silent_for:g}.")
    return list(await _workers(call).list_offline(query.silent_for))


async def record_jobs(call: Call) -> Count:
    """Record jobs that ran elsewhere, all or none."""
    records: Records = call.body
    await _history(call).upsert([msgspec.structs.replace(job_of(doc), origin="external") for doc in records.jobs])
    return Count(count=len(records.jobs))


async def record_statuses(call: Call) -> list[bool]:
    """Set the state of recorded jobs; tell for each whether it is on record."""
    return list(await _history(call).update_status(call.body.updates))


async def record_attempts(call: Call) -> Count:
    """Add attempts of recorded jobs, all or none; the same report again changes nothing."""
    reports: AttemptReports = call.body
    await _history(call).insert_attempt([_record(report) for report in reports.attempts])
    return Count(count=len(reports.attempts))


def _record(report: AttemptReport) -> AttemptRecord:
    fields = {name: getattr(report, name) for name in report.__struct_fields__ if name != "job"}
    return AttemptRecord(report.job, attempt_of(AttemptDoc(token=0, **fields)))


ROUTES: Final = (
    Route(
        method="GET",
        path="/attempts",
        handle=find_attempts,
        scope=Scope.READ,
        query=AttemptQuery,
        answer=AttemptRows,
        summary="List attempts of all jobs, the latest start first",
    ),
    Route(
        method="GET",
        path="/worker-stats",
        handle=worker_stats,
        scope=Scope.READ,
        query=WorkerQuery,
        answer=WorkerStats,
        summary="Count the jobs of a worker, with its success rate and mean run time",
    ),
    Route(
        method="GET",
        path="/worker-series",
        handle=worker_series,
        scope=Scope.READ,
        query=SeriesQuery,
        answer=list[SeriesBucket],
        summary="Tell hour by hour how attempts ended",
    ),
    Route(
        method="GET",
        path="/statistics",
        handle=statistics,
        scope=Scope.READ,
        query=StatisticsQuery,
        answer=list[Statistics],
        summary="Count attempts that ended, with how long they waited and ran",
    ),
    Route(
        method="GET",
        path="/series",
        handle=series,
        scope=Scope.READ,
        query=PointsQuery,
        answer=list[StatisticsPoint],
        summary="Tell minute by minute or hour by hour how attempts ended, and how long they took",
    ),
    Route(
        method="GET",
        path="/failed-jobs",
        handle=list_failed,
        scope=Scope.READ,
        query=FailedQuery,
        answer=list[JobDoc],
        summary="List failed jobs, newest first",
    ),
    Route(
        method="GET",
        path="/queue-stats",
        handle=queue_stats,
        scope=Scope.READ,
        answer=list[QueueStats],
        summary="Count the jobs of each queue, records included",
    ),
    Route(
        method="GET",
        path="/offline-workers",
        handle=offline_workers,
        scope=Scope.READ,
        query=OfflineQuery,
        answer=list[WorkerConfig],
        summary="List configured workers that were not heard of lately",
    ),
    Route(
        method="POST",
        path="/records",
        handle=record_jobs,
        scope=Scope.WORK,
        body=Records,
        answer=Count,
        summary="Record jobs that ran elsewhere, all or none",
        body_max=BATCH_BODY_MAX,
    ),
    Route(
        method="POST",
        path="/record-statuses",
        handle=record_statuses,
        scope=Scope.WORK,
        body=Statuses,
        answer=list[bool],
        summary="Set the state of recorded jobs",
    ),
    Route(
        method="POST",
        path="/record-attempts",
        handle=record_attempts,
        scope=Scope.WORK,
        body=AttemptReports,
        answer=Count,
        summary="Add attempts of recorded jobs, all or none",
        body_max=BATCH_BODY_MAX,
    ),
)
