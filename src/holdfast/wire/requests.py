"""What people and programs ask of the HTTP API. Unknown fields are refused: a misspelt option must not pass unseen."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from holdfast.job.commands import Define, JobCount, JobFilter, OnDuplicate, Page, Settlement
from holdfast.job.commands import Progress as ProgressReport
from holdfast.job.model import OnConflict, OnWait
from holdfast.job.state import State
from holdfast.wire.documents import JobDoc, NewJobDoc, RetryDoc

DurationText = float | str
Moment = float | Annotated[datetime, Meta(tz=True)]


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job as people ask for it, in a file, a command or a POST.

    task: its alias; or, as older files have it, `payload.type`. payload: the arguments by name. id: your own; taken ids are
    refused. delay, timeout, unique_for: seconds or a text such as "5m". run_at: seconds since the epoch or a time with a
    zone. What is left out is as the task says.
    """

    task: str = ""
    payload: Raw | UnsetType = UNSET
    id: str | None = None
    queue: str | None = None
    priority: int | None = None
    delay: DurationText | None = None
    run_at: Moment | None = None
    retry: RetryDoc | None = None
    max_attempts: int | None = None
    timeout: DurationText | None = None
    key: str | None = None
    on_wait: OnWait | None = None
    unique: str | None = None
    unique_for: DurationText | None = None
    on_conflict: OnConflict | None = None
    tags: tuple[str, ...] = ()
    headers: Raw | UnsetType = UNSET


class EnqueueAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one requested job. verdict: new, duplicate, kept, replaced, rescheduled or raised."""

    id: str
    verdict: str
    state: State
    queue: str
    task: str
    run_at: float


# --- actions -------------------------------------------------------------------------------------------------------


class CancelAction(msgspec.Struct, frozen=True, kw_only=True, tag="cancel", forbid_unknown_fields=True):
    """Waiting jobs end as canceled at once; running ones are asked to stop."""

    why: str = ""


class PauseAction(msgspec.Struct, frozen=True, kw_only=True, tag="pause", forbid_unknown_fields=True):
    """Hold waiting jobs until they are resumed."""


class ResumeAction(msgspec.Struct, frozen=True, kw_only=True, tag="resume", forbid_unknown_fields=True):
    """Let held jobs go on where they were."""


class RetryAction(msgspec.Struct, frozen=True, kw_only=True, tag="retry", forbid_unknown_fields=True):
    """Run failed or canceled jobs again, in place."""


class ReplayAction(msgspec.Struct, frozen=True, kw_only=True, tag="replay", forbid_unknown_fields=True):
    """Enqueue a new job like a final one; twice only with `force`. What is left out is taken from the old job."""

    force: bool = False
    payload: Raw | UnsetType = UNSET
    queue: str | None = None
    delay: DurationText = 0.0


class RunNowAction(msgspec.Struct, frozen=True, kw_only=True, tag="run_now", forbid_unknown_fields=True):
    """Make scheduled and retrying jobs ready."""


class EditAction(msgspec.Struct, frozen=True, kw_only=True, tag="edit", forbid_unknown_fields=True):
    """Change waiting jobs; what is left out stays."""

    queue: str | None = None
    priority: int | None = None
    run_at: Moment | None = None
    payload: Raw | UnsetType = UNSET


class DeleteAction(msgspec.Struct, frozen=True, kw_only=True, tag="delete", forbid_unknown_fields=True):
    """Hide jobs; waiting ones are canceled in the same step, running ones refused. `hard` purges at once."""

    hard: bool = False


ActionDoc = (
    CancelAction | PauseAction | ResumeAction | RetryAction | ReplayAction | RunNowAction | EditAction | DeleteAction
)


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action for `ids`, or for all jobs that match `filter`: exactly one of the two. `preview` only counts."""

    action: ActionDoc
    ids: tuple[str, ...] = ()
    filter: JobFilter | None = None
    who: str = ""
    preview: bool = False


class RulingDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What an action did to one job. `why` is empty when it was done. `made`: the id of the replay."""

    id: str
    done: bool
    why: str = ""
    made: str = ""


class RefusalDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Why one job of a selection was not changed."""

    id: str
    why: str


class OperationDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A bulk action by filter and how far it is."""

    id: str
    action: str
    filter: JobFilter
    who: str
    state: str
    matched: int
    done: int
    refused: int
    refusals: tuple[RefusalDoc, ...]
    created_at: float
    finished_at: float | None
    record: bytes  # the stored record, for programs
    estimated: bool = False  # matched is about so many


class ActionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an action: a ruling per id; counts and the operation for a filter.

    matched: how many jobs, or, where it is `estimated`, about how many. done and refused are exact.
    """

    matched: int
    done: int
    refused: int
    rulings: tuple[RulingDoc, ...] = ()
    refusals: tuple[RefusalDoc, ...] = ()
    operation: OperationDoc | None = None
    estimated: bool = False


class Who(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks, for the record."""

    who: str = ""


# --- the Store port, for producers and workers in other processes ----------------------------------------------------


class EnqueueBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs that their producer has checked; all or none are stored."""

    jobs: tuple[NewJobDoc, ...]
    on_duplicate: OnDuplicate = OnDuplicate.RAISE


class SettleBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Endings of attempts; each stands alone."""

    settlements: tuple[Settlement[None], ...]


class ProgressBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Reports of running attempts; each stands alone."""

    reports: tuple[ProgressReport[None], ...]


class Rescue(msgspec.Struct, frozen=True, kw_only=True):
    """End what has lost its lease, at most `limit` of it."""

    limit: int = 1_000


class WaitFor(msgspec.Struct, frozen=True, kw_only=True):
    """Answer as soon as work may be ready that `cursor` did not see, or after `timeout` seconds (at most 30)."""

    queues: tuple[str, ...]
    cursor: int
    timeout: float


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether work may be ready."""

    ready: bool


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by their ids; with `timeout` (seconds, at most 30) only those that have ended by then, waiting for them."""

    ids: tuple[str, ...]
    timeout: float | None = None


class ImportBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs of another store, and the highest epoch that it gave out tokens under."""

    jobs: tuple[JobDoc, ...]
    epoch: int = 0


class Find(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs that match `filter`; in a body, since a text that is looked for may be longer than an address."""

    filter: JobFilter
    page: Page = Page()


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A number of jobs, or of attempts."""

    count: int


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs match. estimated: about so many, which is told of more than 100,000 alone."""

    count: int
    estimated: bool = False

    @classmethod
    def of(cls, count: JobCount) -> Counted:
        """Return a count as it is told."""
        return cls(count=int(count), estimated=count.estimated)

    @property
    def number(self) -> JobCount:
        """The count that it tells."""
        return JobCount(self.count, estimated=self.estimated)


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Steps that were taken, by name."""

    names: tuple[str, ...]


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    """A tick of a schedule: enqueue `jobs` and move on, if its next_run_at still is `due`."""

    name: str
    due: float
    jobs: tuple[NewJobDoc, ...]
    next_run_at: float | None


class Definitions(msgspec.Struct, frozen=True, kw_only=True):
    """Definitions from code."""

    definitions: tuple[Define, ...]
