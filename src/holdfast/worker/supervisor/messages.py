"""What a parent and its worker processes say to each other. The wire is that of `worker.process.frames`."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec

from holdfast.job.commands import Signals
from holdfast.job.model import Instance
from holdfast.worker.options import WorkerOptions

# --- to the worker process -----------------------------------------------------------------------------------------


class StorePlace(msgspec.Struct, frozen=True):
    """A store by its URL, and the options to open it with."""

    url: str
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class LogForm(msgspec.Struct, frozen=True):
    """How to log to standard error: as JSON or for people, and from which level on (a number of `logging`)."""

    json: bool
    level: int


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """The first message: import `app` (`module:attribute`), looking for it where the parent does, and work.

    store: to be used instead of the app's own. log: None leaves logging to the app.
    """

    app: str
    path: tuple[str, ...]
    options: WorkerOptions
    store: StorePlace | None = None
    log: LogForm | None = None


class Beaten(msgspec.Struct, frozen=True, tag="beaten"):
    """A beat was answered. The times are by the machine's monotonic clock, which all its processes share."""

    signals: Signals
    sent: float
    received: float
    last: bool = False


class BeatFailed(msgspec.Struct, frozen=True, tag="beat_failed"):
    """A beat was not answered."""

    why: str
    last: bool = False


class StopStep(msgspec.Struct, frozen=True, tag="stop"):
    """Stop, at least as far as `step`: 1 drain, 2 cancel the handlers, 3 end now."""

    step: int


ToWorker = Begin | Beaten | BeatFailed | StopStep


# --- from the worker process ---------------------------------------------------------------------------------------


class Here(msgspec.Struct, frozen=True, tag="here"):
    """A sign of life, sent by a thread, so that it also comes while a handler blocks the loop.

    turned_at: when the loop last turned. overdue_at: when the loop must have ended the first running handler that has a
    time limit. Both by the machine's monotonic clock. beat: beat now, the record has changed. last: the last one.
    beat_within: seconds between two beats that the shortest of its leases needs.
    """

    instance: Instance
    turned_at: float
    overdue_at: float | None = None
    beat: bool = False
    last: bool = False
    beat_within: float = inf


class Unfit(msgspec.Struct, frozen=True, tag="unfit"):
    """The app or the options can not be used; exit code 78 follows."""

    fault: str


FromWorker = Here | Unfit
