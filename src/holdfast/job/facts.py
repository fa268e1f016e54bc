"""Facts: what happened, with everything that was decided in it (times, ids, jitter, chosen jobs).

The ledger decides facts and applies them; the journal stores them; a replay applies the same facts again and needs no
clock and no chance. The encoding is msgpack: a list of facts, each an array that begins with its number. Numbers are
never used twice, fields are only added at the end, with a default: so an old journal stays readable for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.job.model import (
    Definition,
    Instance,
    Job,
    OnWait,
    Operation,
    Queue,
    Schedule,
    WorkerConfig,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, Event

if TYPE_CHECKING:
    from collections.abc import Iterable


class _JobFact(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A fact about one job."""

    seq: int


class Added(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """A job was accepted; the whole job is here."""

    job: Job

    @property
    def seq(self) -> int:
        """The job's number."""
        return self.job.seq


class Readied(_JobFact, frozen=True, gc=False, array_like=True, tag=2):
    """A waiting job became ready: it was due, or a person would not wait."""

    event: Event
    at: float


class Claimed(_JobFact, frozen=True, gc=False, array_like=True, tag=3):
    """A worker got the job. The lease is only the first one: heartbeats extend it and are no facts."""

    attempt: int
    token: int
    instance: str
    worker: str
    version: str
    lease_until: float
    at: float


class Succeeded(_JobFact, frozen=True, gc=False, array_like=True, tag=4):
    """The attempt with `token` did the work. The commonest ending, and so its own short fact."""

    token: int
    at: float
    duration: float | None = None
    result: bytes | None = None
    data: bytes | None = None  # the merged whole; None: unchanged
    log: bytes = b""
    trace_id: str = ""
    span_id: str = ""


class Ended(_JobFact, frozen=True, gc=False, array_like=True, tag=5):
    """The attempt with `token` ended in any other way. `event` says where the job goes, `end` why the attempt ended."""

    token: int
    event: Event
    end: End
    at: float
    run_at: float | None = None
    duration: float | None = None
    data: bytes | None = None
    error_type: str = ""
    error: str = ""
    traceback: str = ""
    reason: str = ""
    log: bytes = b""
    trace_id: str = ""
    span_id: str = ""
    report: int = 0
    blamed: bool = False  # this job is held to have killed its process
    suspect: bool = False  # the job is a suspect from now on
    spent: bool = True  # counts against the failure, snooze or release budget
    heard_at: float | None = None  # when its worker was last heard of; None: it ended the attempt itself, at `at`


class Progressed(_JobFact, frozen=True, gc=False, array_like=True, tag=6):
    """A running attempt reported: progress (JSON), merged data, new log lines (JSON array)."""

    token: int
    at: float
    value: bytes = b""
    data: bytes | None = None
    log: bytes = b""


class Refused(_JobFact, frozen=True, gc=False, array_like=True, tag=7):
    """A write with an old token was refused."""

    token: int
    at: float
    what: str = ""


class CancelAsked(_JobFact, frozen=True, gc=False, array_like=True, tag=8):
    """A person asked a running job to stop."""

    who: str
    why: str
    at: float


class Canceled(_JobFact, frozen=True, gc=False, array_like=True, tag=9):
    """A waiting job was canceled."""

    who: str
    why: str
    at: float


class Paused(_JobFact, frozen=True, gc=False, array_like=True, tag=10):
    """A waiting job is held."""

    by: str
    at: float


class Resumed(_JobFact, frozen=True, gc=False, array_like=True, tag=11):
    """A held job goes on; `event` says where."""

    event: Event
    at: float


class Edited(_JobFact, frozen=True, gc=False, array_like=True, tag=12):
    """A waiting job was changed; None leaves a field."""

    event: Event
    at: float
    queue: str | None = None
    priority: int | None = None
    run_at: float | None = None
    payload: bytes | None = None
    retry: RetryPolicy | None = None
    timeout: float | None = None
    headers: bytes | None = None
    tags: tuple[str, ...] | None = None
    on_wait: OnWait | None = None


class Retried(_JobFact, frozen=True, gc=False, array_like=True, tag=13):
    """A failed or canceled job starts again in place."""

    who: str
    at: float


class Replayed(_JobFact, frozen=True, gc=False, array_like=True, tag=14):
    """A new job like this one was enqueued."""

    made: str
    at: float


class Deleted(_JobFact, frozen=True, gc=False, array_like=True, tag=15):
    """The job is hidden; a waiting one is canceled in the same step."""

    who: str
    at: float


class Purged(_JobFact, frozen=True, gc=False, array_like=True, tag=16):
    """The record is gone. lapsed: retention let it go, so what was exported of it stays; else a person wants it forgotten."""

    lapsed: bool = False


class Bound(_JobFact, frozen=True, gc=False, array_like=True, tag=17):
    """A sticky job is about to run on a pod, under the epoch of its key's link."""

    pod: int | None
    epoch: int
    at: float


class QueueSaved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=20):
    """A queue came into being or changed."""

    queue: Queue


class QueueDeleted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=21):
    """A queue was forgotten."""

    name: str


class DefinitionSaved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=22):
    """A definition came into being or changed."""

    definition: Definition


class DefinitionDeleted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=34):
    """A definition was forgotten."""

    id: str
    alias: str


class ScheduleSaved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=23):
    """A schedule came into being, changed or fired."""

    schedule: Schedule


class WorkerSaved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=24):
    """A worker's configuration came into being or changed."""

    config: WorkerConfig


class WorkerDeleted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=25):
    """A worker's configuration was forgotten."""

    name: str


class InstanceSaved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=26):
    """A worker process appeared, changed its state, or is held to be lost. Plain beats are no facts."""

    instance: Instance


class InstanceGone(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=27):
    """A worker process was forgotten."""

    id: str


class OperationSaved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=28):
    """A bulk operation began, went on or ended."""

    operation: Operation


class Opened(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=29):
    """The store was opened: tokens of this epoch are above all earlier ones."""

    epoch: int
    at: float


class KeyLinked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=30):
    """A key of a service was given to a process, which is a pod of the service (None: taken away)."""

    key: str
    pod: int | None
    instance: str
    epoch: int
    service: str = ""


class Audited(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=31):
    """What an operator did, for the audit log."""

    who: str
    action: str
    subject: str
    detail: str
    at: float
    count: int = 0  # how many jobs, keys or records it was about


class Recorded(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=32):
    """A job that ran elsewhere, as it is known now: the whole record is here, the first time and every time."""

    job: Job

    @property
    def seq(self) -> int:
        """The record's number."""
        return self.job.seq


class Exported(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=33):
    """An exporter has brought all changes up to number `upto` elsewhere. on: whether there is one at all.

    gone: the jobs among them that a person had purged.
    """

    on: bool
    upto: int
    gone: tuple[int, ...] = ()


class Forgotten(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=36):
    """Jobs that a person purged, and that an exporter was not told of yet. In snapshots alone: in a log Purged says it."""

    gone: tuple[int, ...]


class Figured(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=35):
    """Figures of attempts that ended in a minute or an hour. In snapshots, and from another store: else the endings tell.

    span: seconds, 60 or 3,600; number: which of them, from the epoch. For the rest see holdfast.job.figures.
    """

    span: int
    number: int
    queue: str
    task: str
    outcome: int
    worker: str
    n: int
    waited: int
    ran: int
    waits: bytes
    runs: bytes
    timed: int = 0
    took: int = 0


class Reported(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=37):
    """Attempts that ended elsewhere in an hour, counted from the epoch. In snapshots: else the records tell."""

    hour: int
    worker: str
    outcome: int
    n: int
    timed: int
    took: int


JobFact = (
    Added | Readied | Claimed | Succeeded | Ended | Progressed | Refused | CancelAsked | Canceled | Paused | Resumed | Edited
    | Retried | Replayed | Deleted | Purged | Bound | Recorded
)  # fmt: skip
Fact = (
    Added | Readied | Claimed | Succeeded | Ended | Progressed | Refused | CancelAsked | Canceled | Paused | Resumed | Edited
    | Retried | Replayed | Deleted | Purged | Bound
    | QueueSaved | QueueDeleted | DefinitionSaved | DefinitionDeleted | ScheduleSaved | WorkerSaved | WorkerDeleted
    | InstanceSaved | InstanceGone | OperationSaved | Opened | KeyLinked | Audited | Recorded | Exported | Figured
    | Forgotten | Reported
)  # fmt: skip
#: What a decision yields: a fact, or some of one kind that were decided together and are applied together.
Some = Fact | list[Fact]

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[Fact])
_JOB_DECODER: Final = msgspec.msgpack.Decoder(Job)


def encode_facts(facts: Iterable[Fact]) -> bytes:
    """Return the facts of one atomic step as bytes."""
    return _ENCODER.encode(facts if type(facts) is list else list(facts))


def decode_facts(data: bytes) -> list[Fact]:
    """Return the facts of one atomic step. Raises msgspec.MsgspecError if `data` is not one."""
    return _DECODER.decode(data)


def encode_job(job: Job) -> bytes:
    """Return a job as bytes, as snapshots and process children get it."""
    return _ENCODER.encode(job)


def decode_job(data: bytes) -> Job:
    """Return the job that `encode_job` wrote. Raises msgspec.MsgspecError on anything else."""
    return _JOB_DECODER.decode(data)
