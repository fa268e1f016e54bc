"""Rules of settle and progress: the token first, then where the job goes.

Content never blocks a settle: what can not be merged is left out, and the attempt says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger.clean import clean, wait_seconds
from holdfast.job.ledger.folding import SUCCEEDED_STATE
from holdfast.job.model import CRASHES_MAX, RELEASES_MAX, SNOOZES_MAX, Attempt, Job
from holdfast.job.retry import backoff
from holdfast.job.state import End, Event, State

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger

DATA_MAX = 64 * 1024
_APPLIED = c.Accepted.APPLIED  # reading a member off its enum costs as much as a settle's dict step
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


def settle_all(
    ledger: Ledger, command: c.SettleAll, now: float, draw: Draw
) -> Generator[f.Some, None, list[c.Settled]]:
    """End attempts; each settlement stands alone."""
    table, running = ledger.table, ledger.index.leases  # a job under a lease is running, and the engine's own
    answers: list[c.Settled] = []
    run: dict[int, f.Fact] = {}  # successes in a row, applied together before anything else is looked at
    for settlement in command.settlements:
        claim, ending = settlement.claim, settlement.ending
        if type(ending) is c.Succeeded and type(claim.ref) is int:
            job = table.get(claim.ref)
            if job is not None and job.token == claim.token and (seq := job.seq) in running and seq not in run:
                run[seq] = _succeeded(job, settlement, ending, now)
                answers.append(c.Settled(job.id, job.token, _APPLIED, SUCCEEDED_STATE, job.run_at))
                continue
        if run:
            yield list(run.values())
            run = {}
        answers.append((yield from _settle(ledger, settlement, now, draw)))
    if run:
        yield list(run.values())
    return answers


def _settle(
    ledger: Ledger, settlement: c.Settlement[Job], now: float, draw: Draw
) -> Generator[f.Fact, None, c.Settled]:
    """End an attempt in any other way than by a plain success, if its claim still stands."""
    claim, table = settlement.claim, ledger.table
    job = table.get(claim.ref) if type(claim.ref) is int else None
    if job is None or job.token != claim.token or job.seq not in ledger.index.leases:
        return (yield from _late(ledger, job, settlement, now))
    yield ending_fact(job, settlement, now, draw)
    job = table[job.seq]
    return c.Settled(job.id, claim.token, _APPLIED, job.state, job.run_at)


def _succeeded(job: Job, settlement: c.Settlement[Job], ending: c.Succeeded, now: float) -> f.Succeeded:
    data = None if ending.update is None else merged(job.data, ending.update)[0]
    return f.Succeeded(
        job.seq,
        job.token,
        now,
        settlement.duration,
        ending.result,
        data,
        settlement.log,
        settlement.trace_id,
        settlement.span_id,
    )


# --- late settles --------------------------------------------------------------------------------------------------


def _late(
    ledger: Ledger, job: Job | None, settlement: c.Settlement[Job], now: float
) -> Generator[f.Fact, None, c.Settled]:
    """A settle whose claim is over: fine if it repeats what this very claim said before, else refused and seen."""
    claim = settlement.claim
    if job is not None:
        attempt = next((known for known in reversed(job.attempts) if known.token == claim.token), None)
        if attempt is not None and _repeats(job, attempt, settlement.ending):
            return c.Settled(job.id, claim.token, c.Accepted.REPEATED, job.state, job.run_at)
    seq = claim.ref if isinstance(claim.ref, int) else 0
    yield f.Refused(seq, claim.token, now, type(settlement.ending).__struct_config__.tag)  # type: ignore[arg-type]  # all endings have text tags
    return c.Settled(claim.id, claim.token, c.Accepted.STALE, job.state if job else None)


def _repeats(job: Job, attempt: Attempt, ending: c.Ending) -> bool:
    if isinstance(ending, c.Succeeded):
        return attempt.end is End.SUCCEEDED and job.result == ending.result
    return attempt.report != 0 and attempt.report == fingerprint(ending)


def fingerprint(ending: c.Ending) -> int:
    """A number above 0 that tells one report of a worker from another."""
    return crc32(repr(ending).encode("utf-8", "backslashreplace")) or 1


# --- where the job goes --------------------------------------------------------------------------------------------


def ending_fact(job: Job, settlement: c.Settlement[Job], now: float, draw: Draw) -> f.Ended:
    """Decide what any other ending than success makes of a running job."""
    ending = settlement.ending
    fact = _ENDINGS[type(ending)](job, ending, now, draw)
    update = getattr(ending, "update", None)
    data, note = (None, "") if update is None else merged(job.data, update)
    reason = f"{fact.reason} ({note})".strip() if note else fact.reason
    fact = msgspec.structs.replace(
        fact,
        duration=settlement.duration,
        data=data,
        reason=clean(reason),
        log=settlement.log,
        trace_id=settlement.trace_id,
        span_id=settlement.span_id,
        report=fingerprint(ending),
    )
    return unless_canceled(job, fact)


def unless_canceled(job: Job, fact: f.Ended) -> f.Ended:
    """A job whose cancel was asked ends as canceled, however else its attempt ended. Why it ended stays told."""
    if job.cancel is None:
        return fact
    reason = f"cancel was asked by {job.cancel.who or 'somebody'}: {job.cancel.why or 'no reason given'}"
    end = fact.end if fact.end in (End.LOST, End.CRASHED) else End.CANCELED
    return msgspec.structs.replace(
        fact, event=Event.END_CANCELED, end=end, reason=fact.reason or reason, run_at=None, spent=False, suspect=False
    )


def _snoozed(job: Job, ending: c.Snoozed, now: float, _draw: Draw) -> f.Ended:
    if job.snoozes >= SNOOZES_MAX:
        reason = f"snoozed more than {SNOOZES_MAX:,} times"
        return f.Ended(job.seq, job.token, Event.EXHAUST, End.SNOOZED, now, reason=reason, spent=False)
    run_at = now + wait_seconds(ending.delay)
    return f.Ended(job.seq, job.token, Event.SNOOZE, End.SNOOZED, now, run_at=run_at, reason=ending.reason)


def _failed(job: Job, ending: c.Failed, now: float, draw: Draw) -> f.Ended:
    event, run_at = Event.EXHAUST, None
    if ending.retryable and job.failures + 1 < job.retry.max_attempts:
        wait = ending.retry_in
        if wait is None:
            wait = backoff(job.retry, job.failures + 1, draw.unit())
        event, run_at = Event.RETRY_LATER, now + wait_seconds(wait)
    return _with_error(f.Ended(job.seq, job.token, event, End.FAILED, now, run_at=run_at), ending.error)


def _timed_out(job: Job, ending: c.TimedOut, now: float, draw: Draw) -> f.Ended:
    failed = _failed(job, c.Failed(ending.error), now, draw)
    return msgspec.structs.replace(failed, end=End.TIMED_OUT)


def _crashed(job: Job, ending: c.Crashed, now: float, draw: Draw) -> f.Ended:
    return _with_error(gone_fact(job, End.CRASHED, now, draw, blamed=True, suspect=True), ending.error)


def _canceled(job: Job, ending: c.Canceled, now: float, _draw: Draw) -> f.Ended:
    return f.Ended(job.seq, job.token, Event.END_CANCELED, End.CANCELED, now, reason=ending.reason)


def _released(job: Job, ending: c.Released, now: float, _draw: Draw) -> f.Ended:
    # A release proves nothing about a suspect, so it stays one.
    end = f.Ended(
        job.seq,
        job.token,
        Event.RELEASE,
        End.RELEASED,
        now,
        reason=ending.reason,
        suspect=job.suspect,
        spent=ending.counted,
    )
    if ending.counted and job.releases >= RELEASES_MAX:
        reason = f"released more than {RELEASES_MAX} times; the last reason: {ending.reason or 'none'}"
        return msgspec.structs.replace(end, event=Event.EXHAUST, reason=reason, spent=False, suspect=False)
    if wait_seconds(ending.delay) > 0:
        return msgspec.structs.replace(end, event=Event.DEFER, run_at=now + wait_seconds(ending.delay))
    return end


_ENDINGS: dict[type, Any] = {
    c.Snoozed: _snoozed,
    c.Failed: _failed,
    c.TimedOut: _timed_out,
    c.Crashed: _crashed,
    c.Canceled: _canceled,
    c.Released: _released,
}


def gone_fact(job: Job, end: End, now: float, draw: Draw, *, blamed: bool, suspect: bool, reason: str = "") -> f.Ended:
    """Decide what becomes of a job whose worker is gone: lost (its lease ended) or crashed (its process was seen to die).

    The first loss in a row is queued at once in its old place; backoff starts with the second.
    """
    spent = job.failures + 1 >= job.retry.max_attempts
    poison = blamed and job.crashes + 1 >= CRASHES_MAX
    event, run_at = Event.REQUEUE, None
    if spent or poison:
        event = Event.EXHAUST
        if poison and not spent:
            reason = f"poison: its process died {CRASHES_MAX} times. {reason}".strip()
    elif job.losses > 0:
        event, run_at = Event.RETRY_LATER, now + backoff(job.retry, job.losses, draw.unit())
    return f.Ended(
        job.seq, job.token, event, end, now, run_at=run_at, reason=reason, blamed=blamed, suspect=suspect or job.suspect
    )


def _with_error(fact: f.Ended, error: c.ErrorInfo) -> f.Ended:
    return msgspec.structs.replace(
        fact, error_type=clean(error.type), error=clean(error.text), traceback=clean(error.traceback)
    )


# --- data ----------------------------------------------------------------------------------------------------------


def merged(data: bytes, update: bytes) -> tuple[bytes | None, str]:
    """Merge a JSON object into a job's data; return the whole (None: unchanged), and a note if it was left out."""
    try:
        whole = _OBJECT.decode(data) if data else {}
        whole.update(_OBJECT.decode(update))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return None, f"update left out: expected a JSON object, found {error}"
    encoded = _ENCODER.encode(whole)
    if len(encoded) > DATA_MAX:
        return None, f"update left out: data would have {len(encoded):,} bytes, at most {DATA_MAX:,} are kept"
    return encoded, ""


# --- progress ------------------------------------------------------------------------------------------------------


def progress_all(
    ledger: Ledger, command: c.ProgressAll, now: float, _draw: Draw
) -> Generator[f.Fact, None, list[c.Settled]]:
    """Write what running attempts report; each report stands alone."""
    answers: list[c.Settled] = []
    running = ledger.index.leases
    for report in command.reports:
        claim = report.claim
        job = ledger.table.get(claim.ref) if isinstance(claim.ref, int) else None
        if job is None or job.token != claim.token or job.seq not in running:
            yield f.Refused(claim.ref if isinstance(claim.ref, int) else 0, claim.token, now, "progress")
            answers.append(c.Settled(claim.id, claim.token, c.Accepted.STALE, job.state if job else None))
            continue
        data = None if report.update is None else merged(job.data, report.update)[0]
        yield f.Progressed(job.seq, job.token, now, report.value, data, report.log)
        answers.append(c.Settled(job.id, job.token, c.Accepted.APPLIED, State.RUNNING, job.run_at))
    return answers
