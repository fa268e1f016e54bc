"""NewJobs as documents, for producers in other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job.model import NewJob
from holdfast.wire.documents import NewJobDoc, from_raw, retry_doc, to_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN: Final = tuple(name for name in NewJobDoc.__struct_fields__ if name not in ("payload", "headers", "retry"))


def new_job_doc(job: NewJob) -> NewJobDoc:
    """Return a new job as a document."""
    plain: dict[str, Any] = {name: getattr(job, name) for name in _PLAIN}
    return NewJobDoc(**plain, retry=retry_doc(job.retry), payload=to_raw(job.payload), headers=to_raw(job.headers))


def new_jobs_of(docs: Sequence[NewJobDoc]) -> list[NewJob]:
    """Return the new jobs of documents."""
    return [_new_job(doc) for doc in docs]


def _new_job(doc: NewJobDoc) -> NewJob:
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _PLAIN}
    return NewJob(**plain, retry=doc.retry.policy(), payload=from_raw(doc.payload), headers=from_raw(doc.headers))
