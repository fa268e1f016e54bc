"""What becomes of an attempt whose handler was asked to stop, and of a job that nobody here can run. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job.commands import Canceled, ErrorInfo, Failed, Released, Succeeded, TimedOut
from holdfast.job.state import End
from holdfast.worker.context import CancelReason

if TYPE_CHECKING:
    from holdfast.job.commands import Claim, Ending

NO_HANDLER: Final = "no handler here"
STOPPING: Final = "the worker is stopping"
#: A job that no worker can run is given up after this time since its creation, in seconds.
NO_HANDLER_LIMIT: Final = 86_400.0
_FIRST_DELAY: Final = 30.0
_DELAY_MAX: Final = 600.0


def after_cancel(reason: CancelReason, ending: Ending | None, *, limit: float | None, grace: float) -> Ending | None:
    """Return how an attempt ends whose handler was asked to stop because of `reason`; None: its outcome is dropped.

    `ending` is what the handler returned, in spite of the cancel; None if it raised, or never came back. Work that was
    done stands. `limit` and `grace` (seconds) are for the text.
    """
    match reason:
        case CancelReason.LOST:
            return None
        case CancelReason.ASKED:
            if isinstance(ending, Succeeded | Canceled):
                return ending
            return Canceled("a cancel was asked", getattr(ending, "update", None))
        case CancelReason.TIMED_OUT:
            return ending or TimedOut(timeout_info(limit, grace))
        case CancelReason.DRAIN:
            return ending or Released(STOPPING)


def timeout_info(limit: float | None, grace: float) -> ErrorInfo:
    """Say what the limit was and what to do."""
    return ErrorInfo(
        "builtins.TimeoutError",
        f"expected to end within {limit:g} s, found it still running. Raise the task's timeout or split the work; "
        f"a handler has {grace:g} s to stop when it is cancelled."
        if limit is not None
        else "the time limit has passed",
    )


def without_handler(claim: Claim[Any], lease: float) -> Ending:
    """Return what to do with a job whose task this worker does not know: give it back, later and later; at last fail it.

    `lease` is that of the claim: it tells the store's time, because workers' clocks decide nothing.
    """
    created = getattr(claim.item, "created_at", None)
    now = claim.lease_until - lease
    if created is not None and now - created >= NO_HANDLER_LIMIT:
        return Failed(
            ErrorInfo(
                "no_handler",
                f"expected a worker that knows task {claim.task!r}, found none within 24 h. "
                "Start a worker with the module that defines it, then retry the job.",
            ),
            retryable=False,
        )
    delay = min(_DELAY_MAX, _FIRST_DELAY * 2 ** min(_misses(claim), 16))
    return Released(NO_HANDLER, delay=delay, counted=False)


def _misses(claim: Claim[Any]) -> int:
    """How many attempts in a row, up to this one, ended for want of a handler."""
    count = 0
    for attempt in reversed(getattr(claim.item, "past", ())):
        if attempt.end is not End.RELEASED or attempt.reason != NO_HANDLER:
            break
        count += 1
    return count
