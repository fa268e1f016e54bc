"""What becomes of a row: the rules of jobs (`holdfast.job`), applied to one row. Pure.

A row is looked at as a job, the ledger's own rules decide, and the job that they make is written back as columns. So a
task table can not drift from the state table that every store obeys.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job.commands import Accepted, Released, Settled, Succeeded
from holdfast.job.content import clean_text
from holdfast.job.ledger.folding import fold
from holdfast.job.ledger.settling import ending_fact, fingerprint, gone_fact, unless_canceled
from holdfast.job.model import Attempt, CancelAsk, Job
from holdfast.job.state import FAILURES, State
from holdfast.table.columns import micros

if TYPE_CHECKING:
    from holdfast.job.commands import Ending, Settlement
    from holdfast.job.facts import Ended
    from holdfast.job.retry import RetryPolicy
    from holdfast.job.state import End
    from holdfast.table.shape import Key
    from holdfast.table.words import Words

REASON_KEPT: Final = 500
PROGRESS_KEPT: Final = 1_000
WHO_KEPT: Final = 100
_SECOND: Final = 1_000_000
_APPLIED, _REPEATED, _STALE = Accepted.APPLIED, Accepted.REPEATED, Accepted.STALE
_RUNNING, _SUCCEEDED = State.RUNNING, State.SUCCEEDED


class Chance:
    """Jitter for the ledger's rules."""

    def unit(self) -> float:
        """A number from 0.0 up to, not including, 1.0."""
        return random.random()

    def job_id(self, now: float) -> str:
        """Rows have their own ids."""
        raise NotImplementedError("rows are made by users")


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a row keeps besides its columns, as JSON in `task_note`: budgets that are seldom spent, and why it is where it is.

    end, reason, report: of the last attempt that ended otherwise than by success. refused: late writes that were refused.
    cancel: who asked a running row to stop, why, and when (seconds since the epoch).
    """

    losses: int = 0
    crashes: int = 0
    releases: int = 0
    suspect: bool = False
    end: str = ""
    reason: str = ""
    report: int = 0
    refused: int = 0
    cancel: tuple[str, str, float] | None = None
    progress: Any = None


_ENCODE: Final = msgspec.json.Encoder().encode
_DECODER: Final = msgspec.json.Decoder(Note)
_EMPTY: Final = Note()


def read_note(text: str | None) -> Note:
    """Return a row's note; an empty one when the column holds none, or something of another's."""
    if not text:
        return _EMPTY
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return _EMPTY


def write_note(note: Note) -> str | None:
    """Return what the column holds for a note; NULL for an empty one."""
    return None if note == _EMPTY else _ENCODE(note).decode()


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Our columns of one row. Times are microseconds; `stored` is the word in the column, `state` what it means."""

    key: Key
    id: str
    state: State | None
    stored: str
    run_at: int
    lease_until: int
    token: int
    attempt: int
    failures: int
    snoozes: int
    worker: str
    instance: str
    note: Note


class Change(msgspec.Struct, frozen=True):
    """What is written to a row whose token is `token`: our columns by attribute, and the user's."""

    row: Row
    values: dict[str, Any]


class Judge:
    """The rules of one table: its policy, its words."""

    def __init__(self, name: str, words: Words, retry: RetryPolicy, error_kept: int) -> None:
        self.retry = retry
        self._name, self._words, self._error_kept = name, words, error_kept
        self._draw = Chance()

    # --- settle ----------------------------------------------------------------------------------------------------

    def settle(self, row: Row | None, settlement: Settlement[Any], now: int) -> tuple[Settled, Change | None]:
        """Return the answer for one settlement, and what to write."""
        claim, ending = settlement.claim, settlement.ending
        if row is None or row.state is not _RUNNING or row.token != claim.token:
            return self._late(row, claim.id, claim.token, ending)
        if type(ending) is Succeeded:
            return Settled(row.id, row.token, _APPLIED, _SUCCEEDED, row.run_at / _SECOND), Change(
                row, self._success(row, now)
            )
        # The rules merge an update into a job's data; a row's goes to columns, so it is kept from them.
        bare = settlement if isinstance(ending, Released) else _without_update(settlement)
        job = self._job(row)
        return self._ended(row, job, ending_fact(job, bare, now / _SECOND, self._draw), fingerprint(bare.ending), now)

    def _late(self, row: Row | None, row_id: str, token: int, ending: Ending | None) -> tuple[Settled, Change | None]:
        if row is None:
            return Settled(row_id, token, _STALE), None
        if row.token == token and ending is not None and _repeats(row, ending):
            return Settled(row.id, token, _REPEATED, row.state, row.run_at / _SECOND), None
        # A refusal is seen in the row itself, also when the worker that was refused is long gone.
        note = msgspec.structs.replace(row.note, refused=row.note.refused + 1)
        return Settled(row.id, token, _STALE, row.state), Change(row, {"task_note": write_note(note)})

    def refusal(self, row: Row | None, row_id: str, token: int) -> tuple[Settled, Change | None]:
        """Return what to answer to a write of a claim that is over."""
        return self._late(row, row_id, token, None)

    def _success(self, row: Row, now: int) -> dict[str, Any]:
        return {**self.success(now), "task_note": write_note(after_success(row.note))}

    def success(self, now: Any) -> dict[str, Any]:
        """Return our columns of a row that succeeded and has nothing in its note."""
        return {
            "task_state": self._words.succeeded,
            "task_lease_until": None,
            "task_instance": None,
            "task_error": None,
            "task_updated_at": now,
        }

    # --- gone ------------------------------------------------------------------------------------------------------

    def gone(self, row: Row, end: End, now: int, reason: str, *, blamed: bool, suspect: bool) -> tuple[Settled, Change]:
        """Return what becomes of a row whose worker is gone."""
        job = self._job(row)
        fact = gone_fact(job, end, now / _SECOND, self._draw, blamed=blamed, suspect=suspect, reason=reason)
        return self._ended(row, job, unless_canceled(job, fact), 0, now)

    def _ended(self, row: Row, job: Job, fact: Ended, report: int, now: int) -> tuple[Settled, Change]:
        after = fold(job, fact)
        assert after is not None, "an ending removes no row"
        reason = clean_text(fact.reason, REASON_KEPT)
        note = Note(
            losses=after.losses,
            crashes=after.crashes,
            releases=after.releases,
            suspect=after.suspect,
            end=fact.end.value,
            reason=reason,
            report=report,
            refused=row.note.refused,
            cancel=row.note.cancel,
        )
        run_at = micros(after.run_at) if fact.run_at is not None else row.run_at
        values = {
            "task_state": self._words.stored(after.state, suspect=after.suspect),
            "task_run_at": run_at,
            "task_lease_until": None,
            "task_instance": None,
            "task_failures": after.failures,
            "task_snoozes": after.snoozes,
            "task_error": self._error(fact),
            "task_note": write_note(note),
            "task_updated_at": now,
        }
        return Settled(row.id, row.token, _APPLIED, after.state, run_at / _SECOND), Change(row, values)

    def _error(self, fact: Ended) -> str | None:
        if fact.end not in FAILURES and not fact.error:
            return None
        text = fact.error or fact.error_type or fact.reason
        return clean_text(text, self._error_kept)[: self._error_kept]

    def _job(self, row: Row) -> Job:
        """Return a running row as a job, for the ledger's rules."""
        note = row.note
        assert row.state is not None, "a row that is no task is never claimed"
        return Job(
            seq=1,
            id=row.id,
            task=self._name,
            run_at=row.run_at / _SECOND,
            retry=self.retry,
            state=row.state,
            cancel=None if note.cancel is None else CancelAsk(*note.cancel),
            attempt=row.attempt,
            token=row.token,
            failures=row.failures,
            losses=note.losses,
            crashes=note.crashes,
            snoozes=row.snoozes,
            releases=note.releases,
            suspect=note.suspect,
            last=Attempt(row.attempt, row.token, row.instance, row.worker, 0.0),
        )


def after_success(note: Note) -> Note:
    """Return what a note keeps of a row that succeeded: what was refused, and the cancel that came too late."""
    return Note(refused=note.refused, cancel=note.cancel)


def after_retry(note: Note) -> Note:
    """Return what a note keeps when a person gives a row new budgets."""
    return Note(refused=note.refused)


def asked(note: Note, who: str, why: str, now: int) -> Note:
    """Return the note of a row that was asked to stop; the first who asked stays named."""
    ask = note.cancel or (clean_text(who, WHO_KEPT), clean_text(why, REASON_KEPT), now / _SECOND)
    return msgspec.structs.replace(note, cancel=ask)


def with_progress(note: Note, value: bytes) -> Note:
    """Return the note with a running attempt's progress; one that is too long is said to be."""
    if not value:
        return note
    shown = msgspec.Raw(value) if len(value) <= PROGRESS_KEPT else f"[{len(value):,} bytes, too long to keep]"
    return msgspec.structs.replace(note, progress=shown)


def _without_update(settlement: Settlement[Any]) -> Settlement[Any]:
    ending = settlement.ending
    if getattr(ending, "update", None) is None:
        return settlement
    return msgspec.structs.replace(settlement, ending=msgspec.structs.replace(ending, update=None))


def _repeats(row: Row, ending: Ending) -> bool:
    if row.state is _SUCCEEDED:
        return isinstance(ending, Succeeded)
    bare = ending if getattr(ending, "update", None) is None else msgspec.structs.replace(ending, update=None)
    return row.note.report != 0 and row.note.report == fingerprint(bare)
