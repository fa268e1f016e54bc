"""Whether new jobs are of the types that they declare. Python does not ask, but a journal does when it decodes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ContentError
from holdfast.job.model import NewJob, OnConflict, OnWait
from holdfast.job.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

# Reading enum members is slow, and this looks at every job.
_HOLD, _ERROR = OnWait.HOLD, OnConflict.ERROR
_DEFAULT_RETRY: Final = next(field.default for field in msgspec.structs.fields(NewJob) if field.name == "retry")
_ALIKE: Final = {
    "on_wait": OnWait,
    "on_conflict": OnConflict,
    "retry": RetryPolicy,
    "tags": tuple,
    "payload": bytes,
    "headers": bytes,
}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(NewJob).decode


def check_types(jobs: Sequence[NewJob]) -> None:
    """Raise ContentError for the first job with a field of another type than it declares."""
    try:
        _check_all(jobs)
    except AttributeError:
        given: Sequence[object] = jobs
        stranger = next(job for job in given if not isinstance(job, NewJob))
        raise ContentError(
            f"expected a NewJob, found {type(stranger).__name__}. Make it with task.job(…), or as NewJob(…)."
        ) from None


def _check_all(jobs: Sequence[NewJob]) -> None:
    kind, retry, hold, error, empty = type, _DEFAULT_RETRY, _HOLD, _ERROR, ()
    for new in jobs:
        # What nearly all jobs are like, at a tenth of a microsecond; the rest is looked at in full.
        if (
            kind(new.id) is str
            and kind(new.task) is str
            and kind(new.queue) is str
            and kind(new.payload) is bytes
            and kind(new.headers) is bytes
            and kind(new.priority) is int
            and kind(new.own_id) is bool
            and new.retry is retry
            and (new.timeout is None or kind(new.timeout) is float)
            and (new.delay is None or kind(new.delay) is float)
            and (new.key is None or kind(new.key) is str)
            and (new.unique is None or kind(new.unique) is str)
            and (new.run_at is None or kind(new.run_at) is float)
            and new.unique_window is None
            and new.sticky is None
            and new.replay_of is None
            and new.on_wait is hold
            and new.on_conflict is error
            and new.tags is empty
        ):
            continue
        _check_fully(new)
        retry = new.retry  # the jobs of one batch mostly share it


def _check_fully(new: NewJob) -> None:
    try:
        _decode(_encode(new))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise _refused(new, str(error)) from None
    # Look-alikes are decoded as what they look like.
    for field, kind in _ALIKE.items():
        found = type(getattr(new, field))
        if found is not kind:
            raise _refused(new, f"`{field}` is a {found.__name__}, not a {kind.__name__}")


def _refused(new: NewJob, why: str) -> ContentError:
    return ContentError(
        f"job {new.id!r:.80}: expected each field of a NewJob to be of its type, found otherwise: {why}. Nothing was stored. "
        "Correct the field; task.job(…) makes jobs that are right."
    )
