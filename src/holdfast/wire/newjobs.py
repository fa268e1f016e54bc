"""NewJobs as documents, for producers in other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job.model import NewJob
from holdfast.wire.documents import NewJobDoc, parts_back, parts_out, retry_doc

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN: Final = tuple(
    name for name in NewJobDoc.__struct_fields__ if name not in ("payload", "headers", "retry", "opaque")
)


def new_job_doc(job: NewJob) -> NewJobDoc:
    """Return a new job as a document."""
    plain: dict[str, Any] = {name: getattr(job, name) for name in _PLAIN}
    return NewJobDoc(**plain, retry=retry_doc(job.retry), **parts_out(job, "payload", "headers"))


def new_jobs_of(docs: Sequence[NewJobDoc]) -> list[NewJob]:
    """Return the new jobs of documents."""
    return [_new_job(doc) for doc in docs]


def _new_job(doc: NewJobDoc) -> NewJob:
    plain: dict[str, Any] = {name: getattr(doc, name) for name in _PLAIN}
    return NewJob(**plain, retry=doc.retry.policy(), **parts_back(doc, "payload", "headers"))
