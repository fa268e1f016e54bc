"""A job as a row, and back. Times are whole microseconds in a row, and seconds in a job."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from msgspec.structs import replace

from holdfast.job.external import EXTERNAL
from holdfast.job.ledger.lines import holds_lane
from holdfast.job.model import EPOCH_BITS, Attempt, CancelAsk, Job, NewJob, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import FINAL, End, State

if TYPE_CHECKING:
    from holdfast.stores.sql.script import Row

S = TypeVar("S")

#: How a state is stored. Records of jobs that ran elsewhere have ELSEWHERE added, so that no hot statement sees them.
CODES: Final[dict[State, int]] = {
    State.SCHEDULED: 1,
    State.QUEUED: 2,
    State.RUNNING: 3,
    State.RETRYING: 4,
    State.PAUSED: 5,
    State.SUCCEEDED: 6,
    State.FAILED: 7,
    State.CANCELED: 8,
}
STATES: Final[dict[int, State]] = {code: state for state, code in CODES.items()}
ELSEWHERE: Final = 10
#: Added to the code of an ended job that is hidden, where ended jobs are counted.
HIDDEN: Final = 100
SCHEDULED = CODES[State.SCHEDULED]
QUEUED, RUNNING, SUCCEEDED = CODES[State.QUEUED], CODES[State.RUNNING], CODES[State.SUCCEEDED]
#: The first of the codes of final states (modulo ELSEWHERE).
FIRST_FINAL: Final = SUCCEEDED

#: `ready`: not in line, in line, in line as a suspect; the same for the process alone that has the key (`owner`).
#: `lane`: no part of it, in line, keeps it closed.
NOT_READY, READY, SUSPECT, STICKY, STICKY_SUSPECT = 0, 1, 2, 3, 4
LANE_NONE, LANE_LINE, LANE_BUSY = 0, 1, 2

_SUCCEEDED_STATE, _QUEUED_STATE, _RUNNING_STATE, _END_SUCCEEDED = (
    State.SUCCEEDED, State.QUEUED, State.RUNNING, End.SUCCEEDED,
)  # fmt: skip
_NO_RETRY: Final = RetryPolicy()
_HOLD: Final = OnWait.HOLD
_encode: Final = msgspec.msgpack.Encoder().encode


def micros(seconds: float) -> int:
    """Return a time or a duration as it is stored.

    >>> micros(1.5)
    1500000
    """
    return round(seconds * 1e6)


def micros_or_none(seconds: float | None) -> int | None:
    """Return a time as it is stored, or None."""
    return None if seconds is None else round(seconds * 1e6)


def seconds(stored: int) -> float:
    """Return a stored time or duration in seconds."""
    return stored / 1e6


def seconds_or_none(stored: int | None) -> float | None:
    """Return a stored time in seconds, or None."""
    return None if stored is None else stored / 1e6


class Policy(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What an enqueue may give a job and rarely does. Stored only when something of it is set."""

    retry: RetryPolicy = _NO_RETRY
    timeout: float | None = None
    on_wait: OnWait = _HOLD
    unique_window: float | None = None
    tags: tuple[str, ...] = ()
    headers: bytes = b""
    replay_of: str | None = None


class Rest(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a plain life never sets. `last` is the last attempt when the columns do not say all of it.

    A claim leaves this as it is: a `last` with another number than the job's attempt speaks of an earlier one.
    """

    generation: int = 0
    failures: int = 0
    losses: int = 0
    crashes: int = 0
    snoozes: int = 0
    releases: int = 0
    paused_by: str = ""
    cancel: CancelAsk | None = None
    last: Attempt | None = None
    data: bytes = b""
    result: bytes | None = None  # of a job that has not ended; an ended one has a column
    replayed_by: str | None = None


class Tail(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a success brought beside its result."""

    log: bytes = b""
    trace_id: str = ""
    span_id: str = ""


_NOTHING: Final = _encode(Rest())
_NO_POLICY: Final = Policy()
_NO_REST: Final = Rest()
_policies: Final = msgspec.msgpack.Decoder(Policy)
_rests: Final = msgspec.msgpack.Decoder(Rest)
_tails: Final = msgspec.msgpack.Decoder(Tail)
_attempts: Final = msgspec.msgpack.Decoder(Attempt)


# --- writing -------------------------------------------------------------------------------------------------------


def code_of(job: Job) -> int:
    """Return the state of a job as it is stored."""
    return CODES[job.state] if job.origin != EXTERNAL else CODES[job.state] + ELSEWHERE


def lane_of(job: Job) -> int:
    """Return the part that a job has in the lane of its key."""
    if job.key is None or job.origin == EXTERNAL:
        return LANE_NONE
    if job.state is _QUEUED_STATE:
        return LANE_LINE
    return LANE_BUSY if holds_lane(job) else LANE_NONE


def ready_of(job: Job) -> int:
    """Return whether a job without a key is in line. Of a key only the head is; that is found when all are stored."""
    if job.state is not _QUEUED_STATE or job.key is not None or job.origin == EXTERNAL:
        return NOT_READY
    if job.sticky is not None:
        return NOT_READY
    return SUSPECT if job.suspect else READY


@lru_cache(maxsize=1_024)
def _policy_bytes(policy: Policy) -> bytes | None:
    return None if policy == _NO_POLICY else _encode(policy)


def policy_of(
    retry: RetryPolicy,
    timeout: float | None,
    on_wait: OnWait,
    unique_window: float | None,
    tags: tuple[str, ...],
    headers: bytes,
    replay_of: str | None,
) -> bytes | None:
    """Return the stored form of what was asked for besides; None for nothing."""
    plain = retry is _NO_RETRY and timeout is None and on_wait is _HOLD and unique_window is None
    if plain and not tags and not headers and replay_of is None:
        return None
    return _policy_bytes(Policy(retry, timeout, on_wait, unique_window, tags, headers, replay_of))


def _policy(job: Job) -> bytes | None:
    return policy_of(
        job.retry, job.timeout, job.on_wait, job.unique_window, job.tags, job.headers, job.replay_of
    )  # fmt: skip


def plain_attempt(job: Job) -> Attempt | None:
    """Return the last attempt as far as the columns tell it."""
    last = job.last
    if last is None:
        return None
    return Attempt(
        job.attempt,
        job.token,
        last.instance,
        last.worker,
        last.started_at,
        version=last.version,
        queued_at=None if job.origin == EXTERNAL else job.queued_at,
    )


def _rest(job: Job) -> bytes | None:
    last = job.last if job.last is not None and job.last != plain_attempt(job) else None
    encoded = _encode(
        Rest(
            job.generation,
            job.failures,
            job.losses,
            job.crashes,
            job.snoozes,
            job.releases,
            job.paused_by,
            job.cancel,
            last,
            job.data,
            None if job.final else job.result,
            job.replayed_by,
        )
    )
    return None if encoded == _NOTHING else encoded


def job_row(job: Job, lease: float = 0.0) -> Row:
    """Return a job as a row of JOB_COLUMNS. `lease`: until when a running one is held, in seconds since the epoch."""
    last = job.last
    return (
        job.seq,
        job.id,
        job.queue,
        job.task,
        code_of(job),
        ready_of(job),
        -job.priority,
        micros(job.run_at),
        job.payload,
        _policy(job),
        job.key,
        lane_of(job),
        job.unique,
        job.sticky,
        job.pod,
        job.pod_epoch,
        int(job.suspect),
        micros(job.created_at),
        micros_or_none(job.queued_at),
        micros(job.updated_at),
        job.attempt,
        job.token,
        None if last is None else last.instance,
        "" if last is None else last.worker,
        "" if last is None else last.version,
        None if last is None else micros(last.started_at),
        micros(lease),
        int(job.cancel is not None),
        _rest(job),
    )


def new_row(new: NewJob, run_at: int, now: int) -> Row:
    """Return a new job without key as a row of JOB_COLUMNS; its seq is given by the database."""
    due = run_at <= now
    return (
        0, new.id, new.queue, new.task, QUEUED if due else SCHEDULED, READY if due else NOT_READY, -new.priority, run_at,
        new.payload,
        policy_of(new.retry, new.timeout, new.on_wait, new.unique_window, new.tags, new.headers, new.replay_of),
        None, LANE_NONE, None, None, None, 0, 0, now, now if due else None, now, 0, 0, None, "", "", None, 0, 0, None,
    )  # fmt: skip


def done_row(job: Job) -> Row:
    """Return an ended job as a row of DONE_COLUMNS."""
    duration = None if job.last is None else job.last.duration
    return (
        *job_row(job),
        micros(job.finished_at or 0.0),
        duration,
        job.result,
        None,
        micros_or_none(job.deleted_at),
    )


def attempt_row(seq: int, attempt: Attempt) -> Row:
    """Return an earlier attempt as a row."""
    return (seq, attempt.number, _encode(attempt))


def body_of(value: object) -> bytes:
    """Return a struct as it is stored in a `body`."""
    return _encode(value)


# --- reading -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1_024)
def _policy_from(encoded: bytes) -> Policy:
    return _policies.decode(encoded)


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def body_from(encoded: bytes, kind: type[S]) -> S:
    """Return the struct of a `body`."""
    found: S = _decoder(cast("Any", kind)).decode(encoded)
    return found


def attempt_from(encoded: bytes) -> Attempt:
    """Return the attempt of a row's body."""
    return _attempts.decode(encoded)


def job_from(row: Row) -> Job:
    """Return the job of a row of JOB_COLUMNS or DONE_COLUMNS, without its earlier attempts.

    A row of both tables joined has DONE_COLUMNS, of which the last are NULL for a job that has not ended.
    """
    (
        seq, job_id, queue, task, code, _ready, prio, run_at, payload, policy, key, _lane, unique,
        sticky, pod, pod_epoch, suspect, created_at, queued_at, updated_at, attempt, token, instance,
        worker, version, started_at, _lease, _asked, rest,
    ) = row[:29]  # fmt: skip
    asked = _NO_POLICY if policy is None else _policy_from(bytes(policy))
    since = None if queued_at is None else queued_at / 1e6
    last = None
    if instance is not None:
        ready_at = since if code < ELSEWHERE else None
        last = Attempt(attempt, token, instance, worker, started_at / 1e6, version=version, queued_at=ready_at)
    # By place, as in Job: a claim of a hundred pays for each name.
    job = Job(
        seq,
        job_id,
        task,
        queue,
        bytes(payload),
        -prio,
        run_at / 1e6,
        asked.retry,
        asked.timeout,
        key,
        asked.on_wait,
        sticky,
        unique,
        asked.unique_window,
        asked.tags,
        asked.headers,
        asked.replay_of,
        "engine" if code < ELSEWHERE else EXTERNAL,
        created_at / 1e6,
        STATES[code % ELSEWHERE],
        since,
        updated_at / 1e6,
        None,
        None,
        "",
        None,
        pod,
        pod_epoch,
        attempt,
        token,
        last=last,
        suspect=bool(suspect),
    )
    if rest is not None:
        job = _with_rest(job, _rests.decode(rest))
    return job if len(row) == 29 or row[29] is None else _ended(job, row)


def _with_rest(job: Job, rest: Rest) -> Job:
    """Add what the rest says. What it says of an earlier attempt than the last is no longer true of this one."""
    told = rest.last
    if told is not None and told.number != job.attempt and job.origin != EXTERNAL:
        told = None
    return replace(
        job,
        generation=rest.generation,
        failures=rest.failures,
        losses=rest.losses,
        crashes=rest.crashes,
        snoozes=rest.snoozes,
        releases=rest.releases,
        paused_by=rest.paused_by,
        cancel=rest.cancel,
        last=told or job.last,
        data=rest.data,
        result=rest.result,
        replayed_by=rest.replayed_by,
    )


def _ended(job: Job, row: Row) -> Job:
    finished_at, duration, result, tail, deleted_at = row[29:]
    changes: dict[str, Any] = {
        "finished_at": finished_at / 1e6,
        "result": None if result is None else bytes(result),
        "deleted_at": seconds_or_none(deleted_at),
    }
    if job.state is _SUCCEEDED_STATE and job.last is not None and job.last.end is None and job.origin != EXTERNAL:
        # The statement that settled it moved the row as it was: what a success means is added here.
        changes |= {"last": _succeeded(job.last, finished_at / 1e6, duration, tail), "losses": 0, "suspect": False}
    return replace(job, **changes)


def _succeeded(last: Attempt, at: float, duration: float | None, tail: bytes | None) -> Attempt:
    more = Tail() if tail is None else _tails.decode(tail)
    log = last.log[:-1] + b"," + more.log[1:] if last.log and more.log else last.log or more.log
    return replace(
        last,
        end=_END_SUCCEEDED,
        ended_at=at,
        duration=duration,
        log=log,
        trace_id=more.trace_id,
        span_id=more.span_id,
        heartbeat_at=at,
    )


def tail_of(log: bytes, trace_id: str, span_id: str) -> bytes | None:
    """Return what a success brought beside its result, or None."""
    return _encode(Tail(log, trace_id, span_id)) if log or trace_id or span_id else None


def is_final(job: Job | None) -> bool:
    """Tell whether there is such a job and it has ended."""
    return job is not None and job.state in FINAL


def first_token(epoch: str) -> int:
    """Return the first token of an epoch as the database holds it: a number that may have a fraction.

    >>> first_token("2") == 2 << 32, first_token("2.5") == 5 << 31
    (True, True)
    """
    return int(epoch) << EPOCH_BITS if epoch.isdecimal() else int(Decimal(epoch) * (1 << EPOCH_BITS))
