"""The states of a job, the events that move it, and the one table of moves.

Every store obeys this table; the diagram in docs/architecture.md is generated from it. Who moves a job out of a state,
and what a crash there means, stands beside each state. The guard column says in words when a row applies; the ledger
(`holdfast.job.ledger`) is the code of those words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """Where a job is. A job is in exactly one state."""

    SCHEDULED = "scheduled"  # waits for run_at; promoted by the store's clock; a crash changes nothing
    QUEUED = "queued"  # any worker may claim it; a crash changes nothing
    RUNNING = "running"  # under a lease; after a crash the lease ends and the job is rescued
    RETRYING = "retrying"  # failed, waits for its backoff; promoted by the store's clock
    SUCCEEDED = "succeeded"  # final
    FAILED = "failed"  # final: gave up. The dead letter, kept until a person or retention acts
    CANCELED = "canceled"  # final: by a person, or by its own handler
    PAUSED = "paused"  # held by a person or by its task; only a person moves it


FINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED})
WAITING: Final = frozenset({State.SCHEDULED, State.QUEUED, State.RETRYING, State.PAUSED})


class Event(StrEnum):
    """What happened to a job. Each fact of the ledger carries one."""

    DUE = "due"
    RUN_NOW = "run now"
    CLAIM = "claim"
    HEARTBEAT = "heartbeat"
    PROGRESS = "progress"
    SUCCEED = "succeed"
    SNOOZE = "snooze"
    RETRY_LATER = "retry later"
    REQUEUE = "requeue"
    RELEASE = "release"
    DEFER = "defer"
    EXHAUST = "exhaust"
    ASK_CANCEL = "ask cancel"
    END_CANCELED = "end canceled"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME_QUEUED = "resume, due"
    RESUME_RETRYING = "resume, backoff"
    RESUME_SCHEDULED = "resume, later"
    EDIT_DUE = "edit, due"
    EDIT_LATER = "edit, later"
    RETRY = "retry"
    REPLAY = "replay"
    DELETE = "delete"
    PURGE = "purge"


class End(StrEnum):
    """Why an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # raised, or said fail()
    TIMED_OUT = "timed_out"
    SNOOZED = "snoozed"
    LOST = "lost"  # its lease ended unsettled
    CRASHED = "crashed"  # its process was seen to die
    RELEASED = "released"  # given back by a stopping worker, unspent
    CANCELED = "canceled"
    STALE = "stale"  # was lost, and its late report was refused


#: The ends that spend the failure budget.
FAILURES: Final = frozenset({End.FAILED, End.TIMED_OUT, End.LOST, End.CRASHED})


class Row(NamedTuple):
    """One move: from `source` by `event` to `target`, when `guard` holds."""

    source: State
    event: Event
    target: State
    guard: str


_S, _E = State, Event
_WAITING_UNHELD = (_S.QUEUED, _S.SCHEDULED, _S.RETRYING)

ROWS: Final[tuple[Row, ...]] = (
    Row(_S.SCHEDULED, _E.DUE, _S.QUEUED, "run_at has come, by the store's clock"),
    Row(_S.RETRYING, _E.DUE, _S.QUEUED, "run_at has come, by the store's clock"),
    Row(_S.SCHEDULED, _E.RUN_NOW, _S.QUEUED, "a person will not wait"),
    Row(_S.RETRYING, _E.RUN_NOW, _S.QUEUED, "a person will not wait"),
    Row(_S.QUEUED, _E.CLAIM, _S.RUNNING, "queue not paused, task active, limits and key order kept; next token"),
    Row(_S.RUNNING, _E.HEARTBEAT, _S.RUNNING, "token; the lease is extended"),
    Row(_S.RUNNING, _E.PROGRESS, _S.RUNNING, "token; progress, data and log lines"),
    Row(_S.RUNNING, _E.SUCCEED, _S.SUCCEEDED, "token; done, even when a cancel was asked: work that was done stands"),
    Row(_S.RUNNING, _E.SNOOZE, _S.SCHEDULED, "token; snoozes within their limit; no cancel asked"),
    Row(_S.RUNNING, _E.RETRY_LATER, _S.RETRYING, "error, time-out, second loss in a row; budget left; no cancel asked"),
    Row(_S.RUNNING, _E.REQUEUE, _S.QUEUED, "first loss in a row, budget left; no cancel asked"),
    Row(_S.RUNNING, _E.RELEASE, _S.QUEUED, "token; given back unspent, releases within their limit; no cancel asked"),
    Row(_S.RUNNING, _E.DEFER, _S.SCHEDULED, "token; given back unspent for later: the worker has no handler"),
    Row(
        _S.RUNNING, _E.EXHAUST, _S.FAILED, "a budget is spent, or the error is not retryable, or the handler said fail"
    ),
    Row(_S.RUNNING, _E.ASK_CANCEL, _S.RUNNING, "a person asks; the next heartbeat tells the worker"),
    Row(
        _S.RUNNING,
        _E.END_CANCELED,
        _S.CANCELED,
        "the handler said cancel, or a cancel was asked and it did not succeed",
    ),
    *(Row(source, _E.CANCEL, _S.CANCELED, "at once") for source in (*_WAITING_UNHELD, _S.PAUSED)),
    *(
        Row(source, _E.PAUSE, _S.PAUSED, "held by a person, or because its task was canceled")
        for source in _WAITING_UNHELD
    ),
    Row(_S.PAUSED, _E.RESUME_QUEUED, _S.QUEUED, "run_at has come"),
    Row(_S.PAUSED, _E.RESUME_RETRYING, _S.RETRYING, "run_at is ahead and the last attempt failed"),
    Row(_S.PAUSED, _E.RESUME_SCHEDULED, _S.SCHEDULED, "run_at is ahead"),
    Row(_S.QUEUED, _E.EDIT_DUE, _S.QUEUED, "the new run_at has come"),
    Row(_S.SCHEDULED, _E.EDIT_DUE, _S.QUEUED, "the new run_at has come"),
    Row(_S.RETRYING, _E.EDIT_DUE, _S.QUEUED, "the new run_at has come"),
    Row(_S.PAUSED, _E.EDIT_DUE, _S.PAUSED, "stays held; resume looks at run_at"),
    Row(_S.QUEUED, _E.EDIT_LATER, _S.SCHEDULED, "the new run_at is ahead"),
    Row(_S.SCHEDULED, _E.EDIT_LATER, _S.SCHEDULED, "the new run_at is ahead"),
    Row(_S.RETRYING, _E.EDIT_LATER, _S.RETRYING, "the new run_at is ahead"),
    Row(_S.PAUSED, _E.EDIT_LATER, _S.PAUSED, "stays held; resume looks at run_at"),
    Row(_S.FAILED, _E.RETRY, _S.QUEUED, "new budgets, next generation; unique key not held by another; token grows on"),
    Row(
        _S.CANCELED, _E.RETRY, _S.QUEUED, "new budgets, next generation; unique key not held by another; token grows on"
    ),
    *(Row(state, _E.REPLAY, state, "a new job is enqueued; twice only if forced") for state in sorted(FINAL)),
    *(
        Row(source, _E.DELETE, _S.CANCELED, "canceled and hidden in one step")
        for source in (*_WAITING_UNHELD, _S.PAUSED)
    ),
    *(Row(state, _E.DELETE, state, "hidden; retention purges it") for state in sorted(FINAL)),
    *(Row(state, _E.PURGE, state, "retention; the record goes") for state in sorted(FINAL)),
)

TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {(row.source, row.event): row.target for row in ROWS}


def step(state: State, event: Event, subject: str) -> State:
    """Return the state that `event` leads to from `state`.

    `subject` names the job in the error. Raises IllegalTransition if the table has no such row.

    >>> step(State.QUEUED, Event.CLAIM, "job 1").value
    'running'
    """
    target = TRANSITIONS.get((state, event))
    if target is None:
        raise IllegalTransition(subject, state, event)
    return target


def allowed(state: State, event: Event) -> bool:
    """Tell whether the table has a row for `event` in `state`."""
    return (state, event) in TRANSITIONS
