"""The values that a store is called with and answers with. One call is one value, one atomic step, and a batch.

Words: a **claim** is a worker's hold on an item (a job, or a row of a user's table): its `token` fences every later
write. An **ending** is what became of an attempt, as the worker reports it; a **settlement** is a claim with its ending.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from holdfast.job.model import Instance, Job, NewJob, Operation, Refusal, Schedule, WorkerConfig
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State

T = TypeVar("T")

ENQUEUE_JOBS_MAX = 10_000
ENQUEUE_BYTES_MAX = 8 * 1024 * 1024
OPERATION_BATCH = 1_000
REFUSALS_KEPT = 1_000


# --- enqueue -------------------------------------------------------------------------------------------------------


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


# --- claim ---------------------------------------------------------------------------------------------------------


class QueueWant(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How many jobs of one queue a worker can take now."""

    queue: str
    limit: int


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks for: from `queues` in this order, at most `limit` in all.

    lease: seconds until the claim may be rescued unless beats extend it. instance: the random id of the worker's process.
    tasks: only these aliases, when given. pod: also sticky jobs bound to this pod. request: made by a remote client, so that
    a repeat of a lost call returns the same claims.
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


class Claim(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """A worker's hold on `item`. Every write of the worker carries `token`; an older one is refused.

    ref is the store's own reference to the item (an opaque value that it gets back in the settlement).
    lease_until is by the store's clock; the worker counts from its own send time instead.
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


class Claims(msgspec.Struct, Generic[T], frozen=True):
    """The answer to a Want. cursor: give it to `wait`. next_due: when the next scheduled item becomes ready."""

    items: tuple[Claim[T], ...]
    cursor: int = 0
    next_due: float | None = None


# --- settle and progress -------------------------------------------------------------------------------------------


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


# --- heartbeat and rescue ------------------------------------------------------------------------------------------


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


class InstanceDied(msgspec.Struct, frozen=True, kw_only=True):
    """A parent saw this process die: its claims end as crashed, at once."""

    instance: str
    detail: str  # exit code or signal, in words


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """The store was opened: a new epoch of tokens. With `alone` no earlier local claim can be alive: they end as lost."""

    alone: bool = False
    lease: float = 30.0  # seconds that claims of remote workers get from now


# --- control -------------------------------------------------------------------------------------------------------


class JobFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which jobs. All given fields must match; an empty filter matches every job that is not deleted."""

    states: tuple[State, ...] = ()
    queue: str | None = None
    task: str | None = None
    worker: str | None = None
    instance: str | None = None
    key: str | None = None
    tag: str | None = None
    unique: str | None = None
    paused_by: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    text: str | None = None  # in error, id or payload
    deleted: bool = False  # also deleted ones


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which jobs an action is for: `ids`, or all that match `filter`. Exactly one of the two."""

    ids: tuple[str, ...] = ()
    filter: JobFilter | None = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel", omit_defaults=True):
    """Waiting jobs end as canceled at once; running ones are asked to stop."""

    why: str = ""


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag="pause", omit_defaults=True):
    """Hold waiting jobs until they are resumed."""


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag="resume", omit_defaults=True):
    """Let held jobs go on where they were."""


class Retry(msgspec.Struct, frozen=True, kw_only=True, tag="retry", omit_defaults=True):
    """Run failed or canceled jobs again, in place: new budgets, history kept."""


class Replay(msgspec.Struct, frozen=True, kw_only=True, tag="replay", omit_defaults=True):
    """Enqueue a new job like a final one. Twice only with `force`. Empty fields are taken from the old job."""

    force: bool = False
    payload: bytes | None = None
    queue: str | None = None


class RunNow(msgspec.Struct, frozen=True, kw_only=True, tag="run_now", omit_defaults=True):
    """Make scheduled and retrying jobs ready."""


class Edit(msgspec.Struct, frozen=True, kw_only=True, tag="edit", omit_defaults=True):
    """Change waiting jobs; None leaves a field as it is."""

    queue: str | None = None
    priority: int | None = None
    run_at: float | None = None
    payload: bytes | None = None


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag="delete", omit_defaults=True):
    """Hide jobs; waiting ones are canceled in the same step, running ones refused. Retention purges them."""

    hard: bool = False  # purge at once


Action = Cancel | Pause | Resume | Retry | Replay | RunNow | Edit | Delete


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An action on a selection. With `preview` nothing changes: the answer counts what would match."""

    action: Action
    selection: Selection
    who: str = ""
    preview: bool = False


class Ruling(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What an order did to one job. `why` is empty when it was done. `made`: the id of the replay."""

    id: str
    done: bool
    why: str = ""
    made: str = ""


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an order: a ruling per id when ids were given; counts and the operation for a filter."""

    matched: int
    done: int
    refused: int
    rulings: tuple[Ruling, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    operation: Operation | None = None


class ContinueOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Do the next batch of an operation."""

    id: str


class CancelOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Stop an operation after the batch it is in."""

    id: str
    who: str = ""


# --- queues, definitions, schedules, workers -----------------------------------------------------------------------


class ChangeQueue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Change a queue's policy; UNSET leaves a field. `create` makes an unknown queue instead of refusing it."""

    name: str
    who: str = ""
    create: bool = False
    mode: str | msgspec.UnsetType = msgspec.UNSET
    limit: int | msgspec.UnsetType | None = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    why: str = ""
    poll_interval: float | msgspec.UnsetType = msgspec.UNSET
    rescue_after: float | msgspec.UnsetType | None = msgspec.UNSET
    keep_succeeded: float | msgspec.UnsetType | None = msgspec.UNSET
    keep_succeeded_count: int | msgspec.UnsetType | None = msgspec.UNSET
    keep_failed: float | msgspec.UnsetType | None = msgspec.UNSET
    keep_failed_count: int | msgspec.UnsetType | None = msgspec.UNSET


class DeleteQueue(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a queue; refused while it has unfinished jobs."""

    name: str
    who: str = ""


class Define(msgspec.Struct, frozen=True, kw_only=True):
    """Make a definition, or bring an existing one up to date with the code (title, queue, policy; never its status)."""

    alias: str
    id: str = ""
    title: str = ""
    description: str = ""
    memo: str = ""
    queue: str = "default"
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    parameters: bytes = b""
    only_new: bool = False  # refuse with Conflict when the alias is taken


class ChangeDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Change a definition by alias or id. Canceling or deleting pauses its waiting jobs; activating resumes them."""

    alias: str
    who: str = ""
    new_alias: str | msgspec.UnsetType = msgspec.UNSET
    title: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    memo: str | msgspec.UnsetType = msgspec.UNSET
    status: str | msgspec.UnsetType = msgspec.UNSET
    deleted: bool | msgspec.UnsetType = msgspec.UNSET


class DefinitionFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which definitions."""

    aliases: tuple[str, ...] = ()
    status: str | None = None
    deleted: bool = False
    limit: int = 1_000
    offset: int = 0


class DefineAll(msgspec.Struct, frozen=True):
    """A batch of definitions from code."""

    definitions: tuple[Define, ...]


class SaveSchedule(msgspec.Struct, frozen=True):
    """Make or replace a schedule."""

    schedule: Schedule


class FireSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A tick: enqueue `jobs` and move on to `next_run_at`, if the schedule's next_run_at still is `due`."""

    name: str
    due: float
    jobs: tuple[NewJob, ...]
    next_run_at: float | None


class ConfigureWorker(msgspec.Struct, frozen=True):
    """Make or replace a worker's configuration."""

    config: WorkerConfig


class DeleteWorker(msgspec.Struct, frozen=True):
    """Forget a worker's configuration."""

    name: str


# --- reads ---------------------------------------------------------------------------------------------------------


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which part of a list: `limit` rows after `cursor` (opaque, from the page before)."""

    limit: int = 50
    cursor: str = ""
    newest_first: bool = True


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a list, and the cursor of the next page (empty: this was the last)."""

    items: tuple[Job, ...]
    cursor: str = ""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts per queue and state; every state is there, zero-filled."""

    queues: dict[str, dict[str, int]]
    stale_refused: int = 0
    oldest_ready_at: dict[str, float] = {}

    def total(self, state: State) -> int:
        """Jobs in `state` over all queues."""
        return sum(counts[state] for counts in self.queues.values())
