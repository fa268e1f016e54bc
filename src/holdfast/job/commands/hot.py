"""The hot path: enqueue, claim, settle, progress, heartbeat, rescue."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from holdfast.job.commands.links import KeyLink
from holdfast.job.model import Instance, Job, NewJob, WorkerConfig
from holdfast.job.state import State

T = TypeVar("T")

ENQUEUE_JOBS_MAX = 10_000
ENQUEUE_BYTES_MAX = 8 * 1024 * 1024
#: How many keys that wait for an owner one claim names.
OWNERLESS_MAX = 1_000


class OnDuplicate(StrEnum):
    """What an enqueue does with an id that is taken."""

    RAISE = "raise"
    REPORT = "report"


class Enqueue(msgspec.Struct, frozen=True, kw_only=True):
    """Store all jobs or none. At most ENQUEUE_JOBS_MAX jobs and ENQUEUE_BYTES_MAX bytes, else TooLarge."""

    jobs: tuple[NewJob, ...]
    on_duplicate: OnDuplicate = OnDuplicate.RAISE


class Verdict(StrEnum):
    """What an enqueue did with one job."""

    NEW = "new"
    DUPLICATE = "duplicate"  # the id was taken; the job that has it is returned
    KEPT = "kept"
    REPLACED = "replaced"
    RESCHEDULED = "rescheduled"
    RAISED = "raised"


class Enqueued(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer for one job: `job` is the stored one, or the existing one that holds its id or unique key."""

    verdict: Verdict
    job: Job

    @property
    def id(self) -> str:
        """The id of the job that now stands for the request."""
        return self.job.id


# --- claim ----------------------------------------------------------------------------------------------------


class QueueWant(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How many jobs of one queue a worker can take now."""

    queue: str
    limit: int


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks for: from `queues` in this order, at most `limit` in all.

    lease: seconds until the claim may be rescued unless beats extend it. instance: the random id of the worker's process.
    sticky: the services whose keys it can own; without any it gets no sticky jobs, with some those of the keys that it owns,
    and the answer names keys that wait for an owner. pod: which pod of its services it is. request: made by a remote client,
    so that a repeat of a lost call returns the same claims. wait: seconds that a source which holds claims (see
    Capabilities) may wait for the first item; the same request once more, with a wait of 0, ends it for both.
    """

    queues: tuple[QueueWant, ...]
    limit: int
    lease: float = 30.0
    instance: str = ""
    worker: str = ""
    version: str = ""
    pod: int | None = None
    local: bool = True  # the instance lives in the store's own process
    request: str = ""
    sticky: tuple[str, ...] = ()
    wait: float = 0.0


class Claim(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """A worker's hold on `item`. Every write of the worker carries `token`; an older one is refused.

    ref is the store's own reference to the item (an opaque value that it gets back in the settlement).
    lease_until is by the store's clock; the worker counts from its own send time instead. lease: seconds that the claim lives
    without a beat, where its queue has a lease of its own; 0: those that were wanted.
    """

    item: T
    id: str
    task: str
    queue: str
    token: int
    attempt: int
    lease_until: float
    ref: int | str
    suspect: bool = False
    lease: float = 0.0


class Claims(msgspec.Struct, Generic[T], frozen=True):
    """The answer to a Want. cursor: give it to `wait`. next_due: when the next scheduled item becomes ready.

    ownerless: keys whose next job waits for an owner (at most OWNERLESS_MAX), as the store last knew them. waited: seconds
    that were waited for the first item; leases begin no earlier.
    """

    items: tuple[Claim[T], ...]
    cursor: int = 0
    next_due: float | None = None
    ownerless: tuple[KeyLink, ...] = ()
    waited: float = 0.0


# --- settle and progress --------------------------------------------------------------------------------------


class ErrorInfo(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An error as text: cleaned, within its limits."""

    type: str
    text: str
    traceback: str = ""


class Succeeded(msgspec.Struct, frozen=True, gc=False, tag="succeeded"):
    """The handler is done. result and update are JSON bytes; update is an object, merged into the job's data."""

    result: bytes | None = None
    update: bytes | None = None


class Snoozed(msgspec.Struct, frozen=True, gc=False, tag="snoozed"):
    """The handler wants to run again after `delay` seconds; spends no failure."""

    delay: float
    update: bytes | None = None
    reason: str = ""


class Failed(msgspec.Struct, frozen=True, gc=False, tag="failed"):
    """The handler raised or said fail(). `retry_in` overrides the backoff, in seconds."""

    error: ErrorInfo
    retryable: bool = True
    retry_in: float | None = None
    update: bytes | None = None


class TimedOut(msgspec.Struct, frozen=True, gc=False, tag="timed_out"):
    """The attempt went past its time limit."""

    error: ErrorInfo


class Crashed(msgspec.Struct, frozen=True, gc=False, tag="crashed"):
    """The process that ran this job alone was seen to die; the job is to blame."""

    error: ErrorInfo


class Canceled(msgspec.Struct, frozen=True, gc=False, tag="canceled"):
    """The handler said cancel(), or stopped because a cancel was asked."""

    reason: str = ""
    update: bytes | None = None


class Released(msgspec.Struct, frozen=True, gc=False, tag="released"):
    """Given back unspent: the worker stops, or lost interest. With `delay` (seconds) it waits that long."""

    reason: str = ""
    delay: float = 0.0
    counted: bool = True  # against RELEASES_MAX; a job that never started is given back free


Ending = Succeeded | Snoozed | Failed | TimedOut | Crashed | Canceled | Released


class Settlement(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """What became of a claim. duration: seconds by the worker's monotonic clock. log: JSON array of lines."""

    claim: Claim[T]
    ending: Ending
    duration: float | None = None
    log: bytes = b""
    trace_id: str = ""
    span_id: str = ""


class Accepted(StrEnum):
    """Whether the store took a worker's write."""

    APPLIED = "applied"
    REPEATED = "repeated"  # the same settle by the same token came before: fine, the reply was lost
    STALE = "stale"  # refused: a later claim or a settle has ended this one


class Settled(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer for one settlement or progress: what was stored, never what was hoped."""

    id: str
    token: int
    accepted: Accepted
    state: State | None = None  # the item's state after the call; None when it is gone
    run_at: float | None = None


class Progress(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """A running attempt's report: its progress (JSON), an update to data (JSON object), and new log lines (JSON array)."""

    claim: Claim[T]
    value: bytes = b""
    update: bytes | None = None
    log: bytes = b""


class SettleAll(msgspec.Struct, frozen=True):
    """A batch of settlements of jobs; each stands alone."""

    settlements: tuple[Settlement[Job], ...]


class ProgressAll(msgspec.Struct, frozen=True):
    """A batch of progress reports of jobs; each stands alone."""

    reports: tuple[Progress[Job], ...]


# --- heartbeat and rescue -------------------------------------------------------------------------------------


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """One process says that it lives: extends the leases of all its claims, and renews its record."""

    instance: Instance
    lease: float = 30.0


class Held(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A claim that the store believes this instance holds."""

    ref: int | str
    id: str
    token: int
    cancel: bool = False


class Signals(msgspec.Struct, frozen=True):
    """The answer to a beat. Held here but not by the store: lost. In `held` but unknown to the worker: release it."""

    held: tuple[Held, ...]
    drain: bool = False
    enabled: bool = True
    config: WorkerConfig | None = None  # of the worker, as people keep it; None: there is none


class Rescue(msgspec.Struct, frozen=True, kw_only=True):
    """End up to `limit` claims whose lease has passed, promote what is due, prune what retention lets go."""

    limit: int = 1_000


class Rescued(msgspec.Struct, frozen=True):
    """What a rescue did."""

    lost: int = 0
    promoted: int = 0
    pruned: int = 0
    instances_lost: tuple[str, ...] = ()
    more: bool = False  # the limit was reached: call again
    ended: tuple[Settled, ...] = ()  # what became of the jobs whose lease had passed


class InstanceDied(msgspec.Struct, frozen=True, kw_only=True):
    """A parent saw this process die: its claims end as crashed, at once."""

    instance: str
    detail: str  # exit code or signal, in words


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """The store was opened: a new epoch of tokens. With `alone` no earlier local claim can be alive: they end as lost."""

    alone: bool = False
    lease: float = 30.0  # seconds that claims of remote workers get from now
