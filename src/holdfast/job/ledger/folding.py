"""`fold(job, fact) -> job`: the lower layer of apply. It knows one job and nothing else, so that a snapshot can be made
by folding a stream of facts over a stream of jobs without any index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
from msgspec.structs import replace

from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.model import ATTEMPTS_KEPT, TRAIL_KEPT, TRAIL_MAX, Attempt, CancelAsk, Job
from holdfast.job.state import FAILURES, FINAL, TRANSITIONS, End, Event, State, step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Reading a member off its enum costs as much as the look-up that it is for.
_CLAIM, _SUCCEED, _SUCCEEDED = Event.CLAIM, Event.SUCCEED, End.SUCCEEDED
_QUEUED, _RUNNING = State.QUEUED, State.RUNNING
# The two moves of every job's life are looked up once.
_ENCODE: Final = msgspec.json.Encoder().encode
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_CLAIMED_STATE, SUCCEEDED_STATE = TRANSITIONS[_QUEUED, _CLAIM], TRANSITIONS[_RUNNING, _SUCCEED]


def fold(job: Job | None, fact: f.JobFact) -> Job | None:
    """Return the job after `fact`, None when it is gone.

    Raises IllegalTransition if the state table forbids it, and ValueError for a fact about a job that is not there.
    """
    if type(fact) is f.Added:
        if job is not None:
            raise ValueError(f"job {fact.job.id} (seq {fact.job.seq}) was added twice")
        return fact.job
    if type(fact) is f.Recorded:
        return _recorded(job, fact)
    if job is None:
        missing(fact)
    return _FOLDS[type(fact)](job, fact)


def missing(fact: f.JobFact) -> NoReturn:
    """Refuse a fact about a job that is not there."""
    raise ValueError(f"{type(fact).__name__} about job seq {fact.seq}, which is not there")


def _recorded(job: Job | None, fact: f.Recorded) -> Job:
    if job is not None and job.origin != EXTERNAL:
        raise ValueError(f"job {job.id} (seq {job.seq}) is the engine's own, and was recorded as run elsewhere")
    return fact.job


def _readied(job: Job, fact: f.Readied) -> Job:
    state = step(job.state, fact.event, job.id)
    run_at = min(job.run_at, fact.at)
    return replace(job, state=state, queued_at=fact.at, updated_at=fact.at, run_at=run_at)


def claimed(job: Job, fact: f.Claimed) -> Job:
    """A worker got the job: the next attempt begins."""
    attempt = Attempt(
        fact.attempt, fact.token, fact.instance, fact.worker, fact.at, version=fact.version, queued_at=job.queued_at
    )
    past = job.past if job.last is None else (*job.past, job.last)[-ATTEMPTS_KEPT:]
    return replace(
        job,
        state=_CLAIMED_STATE if job.state is _QUEUED else step(job.state, _CLAIM, job.id),
        attempt=fact.attempt,
        token=fact.token,
        last=attempt,
        past=past,
        updated_at=fact.at,
    )


def succeeded(job: Job, fact: f.Succeeded) -> Job:
    """The attempt did the work."""
    last = _last(job)
    ended = replace(
        last,
        end=_SUCCEEDED,
        ended_at=fact.at,
        duration=fact.duration,
        log=_joined(last.log, fact.log) if fact.log else last.log,
        trace_id=fact.trace_id,
        span_id=fact.span_id,
        heartbeat_at=fact.at,
    )
    return replace(
        job,
        state=SUCCEEDED_STATE if job.state is _RUNNING else step(job.state, _SUCCEED, job.id),
        last=ended,
        result=fact.result,
        data=job.data if fact.data is None else fact.data,
        losses=0,
        suspect=False,
        finished_at=fact.at,
        updated_at=fact.at,
    )


#: Which budget an ending spends.
_COUNTERS: Final[Mapping[End, str]] = {
    **dict.fromkeys(FAILURES, "failures"),
    End.SNOOZED: "snoozes",
    End.RELEASED: "releases",
}


def _ended(job: Job, fact: f.Ended) -> Job:
    last = _last(job)
    state = step(job.state, fact.event, job.id)
    return replace(
        job,
        state=state,
        last=_closed(last, fact),
        run_at=job.run_at if fact.run_at is None else fact.run_at,
        data=job.data if fact.data is None else fact.data,
        queued_at=fact.at if state is State.QUEUED else job.queued_at,
        finished_at=fact.at if state in FINAL else None,
        updated_at=fact.at,
        suspect=fact.suspect,
        **_budgets(job, fact),
    )


def _closed(last: Attempt, fact: f.Ended) -> Attempt:
    return replace(
        last,
        end=fact.end,
        ended_at=fact.at,
        duration=fact.duration,
        error_type=fact.error_type,
        error=fact.error,
        traceback=fact.traceback,
        reason=fact.reason,
        log=_joined(last.log, fact.log),
        trace_id=fact.trace_id,
        span_id=fact.span_id,
        report=fact.report,
        heartbeat_at=fact.at if fact.heard_at is None else fact.heard_at,
    )


def _budgets(job: Job, fact: f.Ended) -> dict[str, Any]:
    counts: dict[str, Any] = {"losses": job.losses + 1 if fact.end in (End.LOST, End.CRASHED) else 0}
    if fact.blamed:
        counts["crashes"] = job.crashes + 1
    counter = _COUNTERS.get(fact.end)
    if counter is not None and fact.spent:
        counts[counter] = getattr(job, counter) + 1
    return counts


def _progressed(job: Job, fact: f.Progressed) -> Job:
    last = _last(job)
    attempt = replace(
        last,
        progress=fact.value or last.progress,
        log=_joined(last.log, fact.log),
        trail=trailed(last.trail, fact.at, fact.value) if fact.value else last.trail,
    )
    data = job.data if fact.data is None else fact.data
    step(job.state, Event.PROGRESS, job.id)
    return replace(job, last=attempt, data=data, updated_at=fact.at)


def _refused(job: Job, fact: f.Refused) -> Job:
    if job.last is not None and job.last.token == fact.token:
        return replace(job, last=_stale(job.last, fact))
    if not any(attempt.token == fact.token for attempt in job.past):
        return job
    past = tuple(_stale(attempt, fact) if attempt.token == fact.token else attempt for attempt in job.past)
    return replace(job, past=past)


def _stale(attempt: Attempt, fact: f.Refused) -> Attempt:
    if attempt.end is not End.LOST:
        return attempt
    return replace(attempt, end=End.STALE, reason=f"its lease had ended; then it reported {fact.what} and was refused")


def _cancel_asked(job: Job, fact: f.CancelAsked) -> Job:
    step(job.state, Event.ASK_CANCEL, job.id)
    return replace(job, cancel=CancelAsk(fact.who, fact.why, fact.at), updated_at=fact.at)


def _canceled(job: Job, fact: f.Canceled) -> Job:
    state = step(job.state, Event.CANCEL, job.id)
    ask = CancelAsk(fact.who, fact.why, fact.at)
    return replace(job, state=state, cancel=ask, paused_by="", finished_at=fact.at, updated_at=fact.at)


def _paused(job: Job, fact: f.Paused) -> Job:
    return replace(job, state=step(job.state, Event.PAUSE, job.id), paused_by=fact.by, updated_at=fact.at)


def _resumed(job: Job, fact: f.Resumed) -> Job:
    state = step(job.state, fact.event, job.id)
    queued_at = fact.at if state is State.QUEUED else job.queued_at
    return replace(job, state=state, paused_by="", queued_at=queued_at, updated_at=fact.at)


_EDITABLE: Final = ("queue", "priority", "run_at", "payload", "retry", "timeout", "headers", "tags", "on_wait")


def _edited(job: Job, fact: f.Edited) -> Job:
    state = step(job.state, fact.event, job.id)
    changes = {name: value for name in _EDITABLE if (value := getattr(fact, name)) is not None}
    if state is State.QUEUED and job.state is not State.QUEUED:
        changes["queued_at"] = fact.at
    return replace(job, state=state, updated_at=fact.at, **changes)


def _retried(job: Job, fact: f.Retried) -> Job:
    return replace(
        job,
        state=step(job.state, Event.RETRY, job.id),
        generation=job.generation + 1,
        failures=0,
        losses=0,
        crashes=0,
        snoozes=0,
        releases=0,
        suspect=False,
        cancel=None,
        run_at=fact.at,
        queued_at=fact.at,
        finished_at=None,
        deleted_at=None,
        updated_at=fact.at,
    )


def _replayed(job: Job, fact: f.Replayed) -> Job:
    step(job.state, Event.REPLAY, job.id)
    return replace(job, replayed_by=fact.made, updated_at=fact.at)


def _deleted(job: Job, fact: f.Deleted) -> Job:
    state = step(job.state, Event.DELETE, job.id)
    finished_at = job.finished_at if job.final else fact.at
    cancel = job.cancel if job.final else CancelAsk(fact.who, "deleted", fact.at)
    return replace(
        job,
        state=state,
        cancel=cancel,
        paused_by="",
        deleted_at=fact.at,
        finished_at=finished_at,
        updated_at=fact.at,
    )


def _purged(job: Job, _fact: f.Purged) -> None:
    step(job.state, Event.PURGE, job.id)


def _bound(job: Job, fact: f.Bound) -> Job:
    return replace(job, pod=fact.pod, pod_epoch=fact.epoch, updated_at=fact.at)


def _last(job: Job) -> Attempt:
    if job.last is None:
        raise ValueError(f"job {job.id} is {job.state} and has no attempt")
    return job.last


def trailed(trail: bytes, at: float, value: bytes) -> bytes:
    """Return the trail of an attempt with one more report of progress; the oldest go when it gets too long.

    >>> trailed(b"[[1.0,5]]", 2.0, b"7")
    b'[[1.0,5],[2.0,7]]'
    """
    entry = b"[%b,%b]" % (_ENCODE(at), value)
    if len(entry) + 2 > TRAIL_MAX or not _is_json(value):
        return trail  # it is still shown as the last progress
    longer = _joined(trail, b"[%b]" % entry)
    entries = longer.count(b"],[") + 1  # never too few; decoded below when there may be too many
    if entries <= TRAIL_KEPT and len(longer) <= TRAIL_MAX:
        return longer
    kept = _ENTRIES.decode(longer)[-TRAIL_KEPT:]
    while sum(len(bytes(one)) + 1 for one in kept) + 1 > TRAIL_MAX:
        kept = kept[1:]
    return b"[%b]" % b",".join(map(bytes, kept))


def _is_json(value: bytes) -> bool:
    try:
        _RAW.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _joined(old: bytes, new: bytes) -> bytes:
    """Join two JSON arrays of log lines."""
    if not old or not new:
        return old or new
    if old == b"[]" or new == b"[]":
        return new if old == b"[]" else old
    return old[:-1] + b"," + new[1:]


_FOLDS: Final[Mapping[type, Callable[[Job, Any], Job | None]]] = {
    f.Readied: _readied,
    f.Claimed: claimed,
    f.Succeeded: succeeded,
    f.Ended: _ended,
    f.Progressed: _progressed,
    f.Refused: _refused,
    f.CancelAsked: _cancel_asked,
    f.Canceled: _canceled,
    f.Paused: _paused,
    f.Resumed: _resumed,
    f.Edited: _edited,
    f.Retried: _retried,
    f.Replayed: _replayed,
    f.Deleted: _deleted,
    f.Purged: _purged,
    f.Bound: _bound,
}
