"""Reports about jobs that ran elsewhere, and about workers that tell of themselves."""

from __future__ import annotations

import msgspec

from holdfast.job.facts import Audited, Figured
from holdfast.job.model import Attempt, Job
from holdfast.job.state import State


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """An attempt, and whose it is. `job` is the job's id; task and queue are filled by the store when it is read."""

    job: str
    attempt: Attempt
    task: str = ""
    queue: str = ""

    @property
    def id(self) -> str:
        """The attempt's own id: (job, number) names it for ever."""
        return f"{self.job}:{self.attempt.number}"


class StatusUpdate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The state of a job that runs elsewhere. attempt: the one that this speaks of, 0: none."""

    id: str
    state: State
    attempt: int = 0
    error: str = ""
    worker: str = ""


class RecordJobs(msgspec.Struct, frozen=True):
    """Upsert records, all or none."""

    jobs: tuple[Job, ...]


class RecordStatuses(msgspec.Struct, frozen=True):
    """Update states, all or none; unknown ids are passed over."""

    updates: tuple[StatusUpdate, ...]


class RecordAttempts(msgspec.Struct, frozen=True):
    """Add attempts, all or none."""

    attempts: tuple[AttemptRecord, ...]


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """Take in jobs of another store. epoch: the highest that it gave out tokens under."""

    jobs: tuple[Job, ...]
    epoch: int = 0


class ImportRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Take in what another store counted, and its audit log, oldest first. What is here already is left as it is."""

    figures: tuple[Figured, ...] = ()
    audit: tuple[Audited, ...] = ()


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator did that no other command tells of: for the audit log."""

    who: str
    action: str
    subject: str = ""
    detail: str = ""
    count: int = 0


class Export(msgspec.Struct, frozen=True):
    """Note how far an exporter has come: all changes up to number `upto` are elsewhere. on: whether there is one at all.

    gone: the jobs among them that a person had purged.
    """

    on: bool
    upto: int = 0
    gone: tuple[int, ...] = ()


class WorkerBeat(msgspec.Struct, frozen=True):
    """A configured worker was heard of at `at`, seconds since the epoch."""

    name: str
    at: float
