"""Control: what a person may do to jobs, by ids or by a filter."""

from __future__ import annotations

import msgspec

from holdfast.job.model import Operation, Refusal
from holdfast.job.state import State

OPERATION_BATCH = 1_000
REFUSALS_KEPT = 1_000


class JobFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which jobs. All given fields must match; an empty filter matches every job that is not deleted."""

    states: tuple[State, ...] = ()
    id: str | None = None
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
    text: str | None = (
        None  # in error, id or payload; of jobs enqueued within a day, unless created_after says since when
    )
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
    """Enqueue a new job like a final one. Twice only with `force`. Empty fields are taken from the old job.

    delay: seconds until it may run.
    """

    force: bool = False
    payload: bytes | None = None
    queue: str | None = None
    delay: float = 0.0


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


#: The `why` of an id that names no job.
NO_SUCH_JOB = "unknown job: never enqueued here, or purged by retention"


class Ruling(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What an order did to one job. `why` is empty when it was done. `made`: the id of the replay."""

    id: str
    done: bool
    why: str = ""
    made: str = ""


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an order: a ruling per id when ids were given; counts and the operation for a filter.

    matched: how many jobs the selection is, or, as long as it is `estimated`, about how many. done and refused are exact.
    """

    matched: int
    done: int
    refused: int
    rulings: tuple[Ruling, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    operation: Operation | None = None
    estimated: bool = False


class ContinueOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Do the next batch of an operation."""

    id: str


class CancelOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Stop an operation after the batch it is in."""

    id: str
    who: str = ""
