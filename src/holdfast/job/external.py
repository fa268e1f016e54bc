"""Jobs that ran elsewhere: what a report makes of a record. Pure, and the same in every store.

The engine runs no such job and its state table does not bind them: a record says what somebody else reported. Reports may
come late, twice, or in any order. So attempts are keyed by their number; an attempt whose end was reported is never
rewritten; and the state follows the newest attempt unless a report says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec
from msgspec.structs import replace

from holdfast.errors import Conflict
from holdfast.job.model import ATTEMPTS_KEPT, Attempt, Job
from holdfast.job.state import FAILURES, FINAL, End, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdfast.job.commands import StatusUpdate

EXTERNAL: Final = "external"
_encode: Final = msgspec.msgpack.Encoder().encode

#: Where a record goes when its newest attempt ended so. Whether a failed one gave up is said by a status update.
_STATE_AFTER: Final[Mapping[End, State]] = {
    **dict.fromkeys(FAILURES, State.RETRYING),
    End.SUCCEEDED: State.SUCCEEDED,
    End.CANCELED: State.CANCELED,
    End.SNOOZED: State.SCHEDULED,
    End.RELEASED: State.QUEUED,
}
#: How the attempt ended that a status update speaks of.
_END_BEFORE: Final[Mapping[State, End]] = {
    State.SUCCEEDED: End.SUCCEEDED,
    State.FAILED: End.FAILED,
    State.RETRYING: End.FAILED,
    State.CANCELED: End.CANCELED,
    State.SCHEDULED: End.SNOOZED,
    State.QUEUED: End.RELEASED,
    State.PAUSED: End.RELEASED,
}


def refuse_owned(job: Job) -> None:
    """Raise Conflict if the engine owns the job: its workers alone write it, with their tokens."""
    if job.origin != EXTERNAL:
        raise Conflict(
            f"job {job.id!r} belongs to the engine: expected the id of a job that ran elsewhere, found one that was "
            "enqueued here, whose state and attempts its workers write. Record yours under another id."
        )


def upserted(known: Job | None, given: Job, seq: int, now: float) -> Job:
    """Return the record after an upsert: `given`, except what it was (task), when it was made, and earlier attempts.

    Raises Conflict if the engine owns `known`.
    """
    if known is not None:
        refuse_owned(known)
    record = replace(
        given,
        seq=seq,
        task=known.task if known else given.task,
        origin=EXTERNAL,
        created_at=known.created_at if known else now,
        deleted_at=known.deleted_at if known else None,
        replayed_by=known.replayed_by if known else None,
        token=0,
        suspect=False,
    )
    attempts = (*(known.attempts if known else ()), *given.attempts)
    ended_at = known.finished_at if known and known.state is given.state else None
    return _with(record, attempts, given.state, given.finished_at or ended_at, now)


def with_status(known: Job, update: StatusUpdate, now: float) -> Job:
    """Return the record in the state that a report gives. Raises Conflict if the engine owns the job.

    The attempt it names is opened if it is new and closed if it was open; one that has ended only gets what it lacked.
    """
    refuse_owned(known)
    attempts = list(known.attempts)
    if update.attempt > 0:
        found = next((one for one in attempts if one.number == update.attempt), None)
        attempts.append(_told_of(found or Attempt(update.attempt, 0, "", update.worker, now), update, now))
    ended_at = known.finished_at if known.state is update.state else None
    return _with(known, attempts, update.state, ended_at, now)


def _told_of(attempt: Attempt, update: StatusUpdate, now: float) -> Attempt:
    end = _END_BEFORE.get(update.state) if attempt.end is None else attempt.end
    return replace(
        attempt,
        worker=attempt.worker or update.worker,
        error=attempt.error or update.error,
        end=end,
        ended_at=now if attempt.ended_at is None and end is not None else attempt.ended_at,
    )


def with_attempt(known: Job, attempt: Attempt, now: float) -> Job:
    """Return the record with a reported attempt; the very same record if the report came before.

    Raises Conflict if the engine owns the job, or if another end of this attempt was reported before.
    """
    refuse_owned(known)
    attempt = _completed(attempt)
    found = next((one for one in known.attempts if one.number == attempt.number), None)
    if found is not None and found.end is not None and (attempt.end is None or found.report == attempt.report):
        return known  # a repeat, or the word that it began, overtaken by the word that it ended
    if found is not None and found.report:
        raise Conflict(
            f"attempt {attempt.number} of job {known.id!r} was reported as {found.end}: expected the same report again, "
            f"found {attempt.end}. An attempt that has ended is never rewritten; report the next one."
        )
    return _with(known, (*known.attempts, attempt), _state_after(known, attempt), known.finished_at, now)


def _completed(attempt: Attempt) -> Attempt:
    """An ended attempt as it is kept: how long it took follows from its times unless it was measured."""
    if attempt.end is None:
        return replace(attempt, token=0, ended_at=None, duration=None, report=0)
    ended_at = attempt.started_at if attempt.ended_at is None else attempt.ended_at
    duration = max(0.0, ended_at - attempt.started_at) if attempt.duration is None else attempt.duration
    attempt = replace(attempt, token=0, ended_at=ended_at, duration=duration, report=0)
    return replace(attempt, report=crc32(_encode(attempt)) or 1)


def _state_after(known: Job, attempt: Attempt) -> State:
    newer = attempt.number > known.attempt
    if not newer and (known.final or attempt.number < known.attempt):
        return known.state
    return State.RUNNING if attempt.end is None else _STATE_AFTER.get(attempt.end, known.state)


def _with(job: Job, attempts: Iterable[Attempt], state: State, ended_at: float | None, now: float) -> Job:
    """Return `job` with these attempts (the later of two with one number counts) in `state`."""
    by_number = {attempt.number: attempt for attempt in attempts}
    kept = [by_number[number] for number in sorted(by_number)][-ATTEMPTS_KEPT - 1 :]
    newest = kept[-1].number if kept else 0
    return replace(
        job,
        state=state,
        attempt=max(job.attempt, newest),
        last=kept[-1] if kept else None,
        past=tuple(kept[:-1]),
        failures=sum(attempt.failed for attempt in kept),
        finished_at=(now if ended_at is None else ended_at) if state in FINAL else None,
        updated_at=now,
    )
