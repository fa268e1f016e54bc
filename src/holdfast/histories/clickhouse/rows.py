"""Jobs and their attempts as rows, and back. Pure.

Columns are what is looked for and counted; the whole value stands beside them as JSON, and is what readers get. Bytes of a
payload that is text stand in a column of their own, so that it can be searched and is stored once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from holdfast.job.commands import AttemptRecord
from holdfast.job.external import EXTERNAL
from holdfast.job.figures import Cell
from holdfast.job.model import Attempt, Job
from holdfast.job.state import FAILURES, State

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from holdfast.feed import Change

JOB_COLUMNS: Final = (
    "place", "id", "version", "gone", "deleted", "elsewhere", "tried", "state", "queue", "task", "worker", "instance",
    "key", "uniq", "paused_by", "tags", "created", "created_at", "finished_at", "error", "payload", "body",
)  # fmt: skip
ATTEMPT_COLUMNS: Final = (
    "began", "place", "nr", "version", "gone", "hidden", "elsewhere", "gave_up", "job", "queue", "task", "worker", "instance",
    "ended", "started_at", "ended_at", "duration", "waited", "ran", "error", "body",
)  # fmt: skip
#: Times that the columns of ClickHouse hold; the value beside them holds any.
_LATEST: Final = 4_102_444_800.0  # the year 2100
_encode: Final = msgspec.json.Encoder().encode
_job: Final = msgspec.json.Decoder(Job)
_attempt: Final = msgspec.json.Decoder(Attempt)


def job_row(job: Job, version: int, *, gone: bool = False) -> list[Any]:
    """Return a job as a row of "job". gone: it is no longer one that has ended, so its row is covered."""
    last, payload = job.last, _text(job.payload)
    body = replace(job, payload=b"") if payload else job
    return [
        -job.seq, job.id, version, int(gone), int(job.deleted_at is not None), int(job.origin == EXTERNAL),
        int(last is not None), job.state.value, job.queue, job.task, last.worker if last else "",
        last.instance if last else "", job.key or "", job.unique or "", job.paused_by, job.tags, job.created_at,
        _time(job.created_at), _time(job.finished_at or job.updated_at), job.error, payload,
        "" if gone else _encode(body).decode(),
    ]  # fmt: skip


def job_from(body: str, payload: str) -> Job:
    """Return the job of a row."""
    job = _job.decode(body)
    return replace(job, payload=payload.encode()) if payload else job


def attempt_rows(change: Change, gave_up: Container[Place] = ()) -> list[list[Any]]:
    """Return what of a job's attempts is kept here: those that ended, and of a job that has ended all.

    gave_up: attempts by which a job had failed that was retried since.
    """
    job = change.job
    if job is None:
        return []
    told = [one for one in job.attempts if one.end is not None or job.final]
    return [attempt_row(job, one, change.version, gave_up=place_of(job, one) in gave_up) for one in told]


#: Where the row of an attempt is: began, place, nr.
Place = tuple[float, int, int]


def place_of(job: Job, attempt: Attempt) -> Place:
    """Return where the row of an attempt is."""
    return -attempt.started_at, -job.seq, -attempt.number


def attempt_row(job: Job, attempt: Attempt, version: int, *, gone: bool = False, gave_up: bool = False) -> list[Any]:
    """Return an attempt as a row of "attempt"."""
    ended_at = attempt.started_at if attempt.ended_at is None else attempt.ended_at
    last = job.last is not None and job.last.number == attempt.number
    gave_up = gave_up or (last and job.state is State.FAILED and attempt.end in FAILURES)
    return [
        *place_of(job, attempt), version, int(gone), int(job.deleted_at is not None), int(job.origin == EXTERNAL),
        int(gave_up), job.id,
        job.queue, job.task, attempt.worker, attempt.instance, attempt.end.value if attempt.end else "",
        _time(attempt.started_at), _time(ended_at), attempt.duration, _waited(job, attempt),
        round(max(0.0, ended_at - attempt.started_at) * 1e6), attempt.error,
        "" if gone else _encode(attempt).decode(),
    ]  # fmt: skip


def attempt_from(body: str) -> Attempt:
    """Return the attempt of a row, without whose it is."""
    return _attempt.decode(body)


def record_from(job: str, task: str, queue: str, body: str) -> AttemptRecord:
    """Return the attempt of a row."""
    return AttemptRecord(job, attempt_from(body), task, queue)


Histogram = tuple[list[int], list[int]]


def counted_from(
    n: int, gave_up: int, waits_n: int, waited: int, ran: int, waits: Histogram, runs: Histogram
) -> tuple[Cell, int, int]:
    """Return what a roll-up counted: the cell, how many gave up, of how many it is known how long they waited."""
    cell = Cell()
    cell.n, cell.waited, cell.ran = int(n), int(waited), int(ran)
    for histogram, counts in ((cell.waits, waits), (cell.runs, runs)):
        histogram.update(dict(zip(counts[0], counts[1], strict=True)))
    return cell, int(gave_up), int(waits_n)


def minutes_of(rows: Sequence[Sequence[Any]]) -> list[int]:
    """The minutes in which the attempts of rows ended, in seconds since the epoch."""
    texts = {row[_ENDED_AT][:16] for row in rows}
    return sorted(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in texts)


_ENDED_AT: Final = ATTEMPT_COLUMNS.index("ended_at")


def _waited(job: Job, attempt: Attempt) -> int | None:
    """How long a job had been ready when this attempt began; None when it is not known."""
    queued_at = attempt.queued_at
    if queued_at is None and job.last is not None and job.last.number == attempt.number:
        queued_at = job.queued_at
    if queued_at is None:
        return None
    waited = round((attempt.started_at - queued_at) * 1e6)
    return waited if waited >= 0 else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC).isoformat(" ", "microseconds")[:26]


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return ""
