"""Jobs as documents: every field of the stored job, with JSON in place of encoded bytes. Both ways, without loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from holdfast.job.commands import Claim, Claims, Enqueued, JobPage
from holdfast.job.model import Attempt, CancelAsk, Job, OnConflict, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State

if TYPE_CHECKING:
    from collections.abc import Iterable


class RetryDoc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a job may fail, and how long it waits between. Durations are seconds."""

    max_attempts: int = 5
    base: float = 2.0
    factor: float = 2.0
    cap: float = 3_600.0

    def policy(self) -> RetryPolicy:
        """Return it as the core knows it."""
        return RetryPolicy(self.max_attempts, self.base, self.factor, self.cap)


class CancelDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked a running job to stop, why and when."""

    who: str
    why: str
    at: float


class AttemptDoc(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a job. `progress` and `log` are left out while there is none."""

    number: int
    token: int
    instance: str
    worker: str
    started_at: float
    end: End | None
    ended_at: float | None
    duration: float | None
    error_type: str
    error: str
    traceback: str
    reason: str
    version: str
    trace_id: str
    span_id: str
    report: int = 0
    progress: Raw | UnsetType = UNSET
    log: Raw | UnsetType = UNSET


class JobDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `payload`, `headers`, `data` and `result` are left out while there is none (a result may be null).

    attempts: oldest first; a list of jobs carries only the last one of each unless all are asked for.
    """

    seq: int
    id: str
    task: str
    queue: str
    state: State
    priority: int
    run_at: float
    retry: RetryDoc
    timeout: float | None
    key: str | None
    on_wait: OnWait
    sticky: str | None
    unique: str | None
    unique_window: float | None
    tags: tuple[str, ...]
    replay_of: str | None
    replayed_by: str | None
    origin: str
    created_at: float
    queued_at: float | None
    updated_at: float
    finished_at: float | None
    deleted_at: float | None
    paused_by: str
    cancel: CancelDoc | None
    pod: int | None
    pod_epoch: int
    attempt: int
    token: int
    generation: int
    failures: int
    losses: int
    crashes: int
    snoozes: int
    releases: int
    suspect: bool
    attempts: tuple[AttemptDoc, ...]
    payload: Raw | UnsetType = UNSET
    headers: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET


class PageDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a list. `cursor` leads to the next page; empty: this was the last."""

    items: tuple[JobDoc, ...]
    cursor: str = ""


class EnqueuedDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What an enqueue did with one job: the verdict, and the job that now stands for it."""

    verdict: str
    job: JobDoc


class NewJobDoc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job that a producer has checked already, with nothing left to choose. People send a JobRequest instead."""

    id: str
    task: str
    own_id: bool = False
    queue: str = "default"
    priority: int = 0
    run_at: float | None = None
    delay: float | None = None
    retry: RetryDoc = RetryDoc()
    timeout: float | None = None
    key: str | None = None
    on_wait: OnWait = OnWait.HOLD
    sticky: str | None = None
    unique: str | None = None
    unique_window: float | None = None
    on_conflict: OnConflict = OnConflict.ERROR
    tags: tuple[str, ...] = ()
    replay_of: str | None = None
    payload: Raw | UnsetType = UNSET
    headers: Raw | UnsetType = UNSET


# --- out and back --------------------------------------------------------------------------------------------------

_JSON_BYTES: Final = ("payload", "headers", "data", "result", "progress", "log")


def _plain_fields(kind: type[msgspec.Struct], *special: str) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name not in (*_JSON_BYTES, *special))


_ATTEMPT_PLAIN: Final = _plain_fields(AttemptDoc)
_JOB_PLAIN: Final = _plain_fields(JobDoc, "retry", "cancel", "attempts")


def to_raw(data: bytes | None) -> Raw | UnsetType:
    """Return encoded JSON as a part of a document; nothing for None and empty bytes."""
    return Raw(data) if data else UNSET


def from_raw(value: Raw | UnsetType) -> bytes:
    """Return a part of a document as encoded JSON; empty bytes when it was left out."""
    return b"" if value is UNSET else bytes(value)


def attempt_doc(attempt: Attempt) -> AttemptDoc:
    """Return an attempt as a document."""
    plain: dict[str, Any] = {name: getattr(attempt, name) for name in _ATTEMPT_PLAIN}
    return AttemptDoc(**plain, progress=to_raw(attempt.progress), log=to_raw(attempt.log))


def attempt_of(doc: AttemptDoc) -> Attempt:
    """Return the attempt of a document."""
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _ATTEMPT_PLAIN}
    return Attempt(**plain, progress=from_raw(doc.progress), log=from_raw(doc.log))


def retry_doc(policy: RetryPolicy) -> RetryDoc:
    """Return a retry policy as a document."""
    return RetryDoc(max_attempts=policy.max_attempts, base=policy.base, factor=policy.factor, cap=policy.cap)


def job_doc(job: Job, *, all_attempts: bool = True) -> JobDoc:
    """Return a job as a document, with all attempts that are kept or with the last one."""
    plain: dict[str, Any] = {name: getattr(job, name) for name in _JOB_PLAIN}
    shown = job.attempts if all_attempts else job.attempts[-1:]
    cancel = job.cancel
    return JobDoc(
        **plain,
        retry=retry_doc(job.retry),
        cancel=CancelDoc(who=cancel.who, why=cancel.why, at=cancel.at) if cancel else None,
        attempts=tuple(map(attempt_doc, shown)),
        payload=to_raw(job.payload),
        headers=to_raw(job.headers),
        data=to_raw(job.data),
        result=to_raw(job.result),
    )


def job_of(doc: JobDoc) -> Job:
    """Return the job of a document."""
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _JOB_PLAIN}
    attempts = tuple(map(attempt_of, doc.attempts))
    cancel = doc.cancel
    return Job(
        **plain,
        retry=doc.retry.policy(),
        cancel=CancelAsk(cancel.who, cancel.why, cancel.at) if cancel else None,
        past=attempts[:-1],
        last=attempts[-1] if attempts else None,
        payload=from_raw(doc.payload),
        headers=from_raw(doc.headers),
        data=from_raw(doc.data),
        result=None if doc.result is UNSET else from_raw(doc.result),
    )


def page_doc(page: JobPage, *, all_attempts: bool) -> PageDoc:
    """Return a page of jobs as a document."""
    return PageDoc(items=tuple(job_doc(job, all_attempts=all_attempts) for job in page.items), cursor=page.cursor)


def page_of(doc: PageDoc) -> JobPage:
    """Return the page of a document."""
    return JobPage(items=tuple(map(job_of, doc.items)), cursor=doc.cursor)


def enqueued_docs(answers: Iterable[Enqueued]) -> list[EnqueuedDoc]:
    """Return the answers of an enqueue as documents."""
    return [EnqueuedDoc(verdict=answer.verdict, job=job_doc(answer.job)) for answer in answers]


def claims_doc(claims: Claims[Job]) -> Claims[JobDoc]:
    """Return claims with their jobs as documents."""
    items = tuple(_with_item(claim, job_doc(claim.item)) for claim in claims.items)
    return Claims(items, claims.cursor, claims.next_due)


def claims_of(doc: Claims[JobDoc]) -> Claims[Job]:
    """Return the claims of a document."""
    return Claims(tuple(_with_item(claim, job_of(claim.item)) for claim in doc.items), doc.cursor, doc.next_due)


def without_item(claim: Claim[Any]) -> Claim[None]:
    """Return a claim as a settle sends it back: the store knows the job."""
    return _with_item(claim, None)


def _with_item(claim: Claim[Any], item: Any) -> Claim[Any]:
    return Claim(
        item=item,
        id=claim.id,
        task=claim.task,
        queue=claim.queue,
        token=claim.token,
        attempt=claim.attempt,
        lease_until=claim.lease_until,
        ref=claim.ref,
        suspect=claim.suspect,
    )
