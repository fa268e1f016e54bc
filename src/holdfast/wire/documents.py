"""Jobs as documents: every field of the stored job, with JSON in place of encoded bytes. Both ways, without loss."""

from __future__ import annotations

from math import copysign, isfinite, isnan
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
    delays: tuple[float, ...] = ()

    def policy(self) -> RetryPolicy:
        """Return it as the core knows it."""
        return RetryPolicy(self.max_attempts, self.base, self.factor, self.cap, self.delays)


class CancelDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked a running job to stop, why and when."""

    who: str
    why: str
    at: float


class AttemptDoc(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a job. `progress`, `trail` and `log` are left out while there is none.

    queued_at: when the job had become ready for it. heartbeat_at: when its worker was last heard of. trail: the newest
    reports of progress, each [time, progress].
    """

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
    queued_at: float | None = None
    heartbeat_at: float | None = None
    progress: Raw | UnsetType = UNSET
    trail: Raw | UnsetType = UNSET
    log: Raw | UnsetType = UNSET
    opaque: dict[str, bytes] | UnsetType = UNSET
    hidden: tuple[str, ...] | UnsetType = UNSET


class JobDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `payload`, `headers`, `data` and `result` are left out while there is none (a result may be null).

    attempts: oldest first; a list of jobs carries only the last one of each unless all are asked for. opaque: those of the
    fields above whose stored bytes are no plain JSON, in base64; rarely there. hidden: fields that are there and that this
    caller may not see (scope read:payload).
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
    opaque: dict[str, bytes] | UnsetType = UNSET
    hidden: tuple[str, ...] | UnsetType = UNSET


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
    opaque: dict[str, bytes] | UnsetType = UNSET


# --- out and back --------------------------------------------------------------------------------------------------

#: Longer than any clock runs, in seconds, and still a number in JSON.
_ENDLESS: Final = 1e300
_JSON_BYTES: Final = ("payload", "headers", "data", "result", "progress", "trail", "log", "opaque", "hidden")
_RAW: Final = msgspec.json.Decoder(Raw)
#: What opens fewer levels than this is never too deep, and what surrounds it in a document opens fewer than _DEEPER.
_DEPTH_SAFE: Final = 500
_DEEPER: Final = (b"[" * 32, b"]" * 32)


def _plain_fields(kind: type[msgspec.Struct], *special: str) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name not in (*_JSON_BYTES, *special))


_ATTEMPT_PLAIN: Final = _plain_fields(AttemptDoc)
_JOB_PLAIN: Final = _plain_fields(JobDoc, "retry", "cancel", "attempts")


def to_raw(data: bytes | None) -> Raw | UnsetType:
    """Return encoded JSON as a part of a document; nothing for None, for empty bytes, and for what is not plain JSON."""
    return Raw(data) if data and is_plain(data) else UNSET


def from_raw(value: Raw | UnsetType) -> bytes:
    """Return a part of a document as encoded JSON; empty bytes when it was left out."""
    return b"" if value is UNSET else bytes(value)


def is_plain(data: bytes) -> bool:
    """Whether bytes are JSON that survives being part of a larger document, byte for byte."""
    try:
        data.decode()
        if data.count(b"[") + data.count(b"{") > _DEPTH_SAFE:
            _RAW.decode(_DEEPER[0] + data + _DEEPER[1])
        return bytes(_RAW.decode(data)) == data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def parts_out(source: Any, *names: str) -> dict[str, Any]:
    """Return the JSON fields of a document; what is stored and is no plain JSON goes, named, into `opaque`."""
    parts: dict[str, Any] = {}
    opaque: dict[str, bytes] = {}
    for name in names:
        data: bytes | None = getattr(source, name)
        parts[name] = to_raw(data)
        if parts[name] is UNSET and (data or (name == "result" and data is not None)):
            opaque[name] = data
    return {**parts, "opaque": opaque} if opaque else parts


def parts_back(doc: Any, *names: str) -> dict[str, Any]:
    """Return the encoded fields of a document."""
    opaque = {} if doc.opaque is UNSET else doc.opaque
    return {name: opaque[name] if name in opaque else from_raw(getattr(doc, name)) for name in names}


def attempt_doc(attempt: Attempt) -> AttemptDoc:
    """Return an attempt as a document."""
    plain: dict[str, Any] = {name: getattr(attempt, name) for name in _ATTEMPT_PLAIN}
    return AttemptDoc(**plain, **parts_out(attempt, "progress", "trail", "log"))


def attempt_of(doc: AttemptDoc) -> Attempt:
    """Return the attempt of a document."""
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _ATTEMPT_PLAIN}
    return Attempt(**plain, **parts_back(doc, "progress", "trail", "log"))


def retry_doc(policy: RetryPolicy) -> RetryDoc:
    """Return a retry policy as a document. What JSON has no number for becomes one that means the same to a clock."""
    return RetryDoc(
        max_attempts=policy.max_attempts,
        base=_finite(policy.base),
        factor=_finite(policy.factor),
        cap=_finite(policy.cap),
        delays=tuple(map(_finite, policy.delays)),
    )


def _finite(number: float) -> float:
    if isfinite(number):
        return number
    return 0.0 if isnan(number) else copysign(_ENDLESS, number)


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
        **parts_out(job, "payload", "headers", "data", "result"),
    )


def job_of(doc: JobDoc) -> Job:
    """Return the job of a document."""
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _JOB_PLAIN}
    attempts = tuple(map(attempt_of, doc.attempts))
    cancel = doc.cancel
    parts = parts_back(doc, "payload", "headers", "data", "result")
    has_result = doc.result is not UNSET or (doc.opaque is not UNSET and "result" in doc.opaque)
    return Job(
        **plain,
        retry=doc.retry.policy(),
        cancel=CancelAsk(cancel.who, cancel.why, cancel.at) if cancel else None,
        past=attempts[:-1],
        last=attempts[-1] if attempts else None,
        payload=parts["payload"],
        headers=parts["headers"],
        data=parts["data"],
        result=parts["result"] if has_result else None,
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
    return Claims(items, claims.cursor, claims.next_due, claims.ownerless, claims.waited)


def claims_of(doc: Claims[JobDoc]) -> Claims[Job]:
    """Return the claims of a document."""
    items = tuple(_with_item(claim, job_of(claim.item)) for claim in doc.items)
    return Claims(items, doc.cursor, doc.next_due, doc.ownerless, doc.waited)


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
        lease=claim.lease,
    )
