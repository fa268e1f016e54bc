"""Exit codes, and which error leads to which. The table stands in docs/cli.md too; a test keeps the two alike."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from holdfast import errors as e
from holdfast.node.errors import CannotListen, PortInUse
from holdfast.wal.errors import LogHeld, LossRefused, NewerFormat, UnsafeFolder


class Exit(IntEnum):
    """What the exit code of a command says."""

    OK = 0
    BUG = 1
    USAGE = 2
    CONFIG = 3
    CONTENT = 4
    NO_NODE = 5
    HELD = 6
    DAMAGED = 7
    PORT = 8
    UNKNOWN = 9
    REFUSED = 10
    UNAVAILABLE = 11
    UNHEALTHY = 12
    RESTART = 75
    INTERRUPTED = 130


MEANINGS: Final = {
    Exit.OK: "done; for a node or worker: stopped, with everything settled or given back",
    Exit.BUG: "something of ours broke; `--debug` shows where",
    Exit.USAGE: "the command line is wrong: an unknown command or option, a missing argument",
    Exit.CONFIG: "a setting, URL, name or app module is wrong; nothing was started",
    Exit.CONTENT: "a job file, payload or time is not accepted; nothing was stored",
    Exit.NO_NODE: "no node is running on the data folder",
    Exit.HELD: "another process holds the data folder; the message says which",
    Exit.DAMAGED: "the journal is damaged, or of a newer format; the message names file and offset",
    Exit.PORT: "the port is in use, or the address can not be listened at",
    Exit.UNKNOWN: "no such job, task, queue, worker, pod or operation; of several ids: none is known",
    Exit.REFUSED: "refused: an id is taken, a state forbids the step, or some jobs, by ids or by a filter, were not changed",
    Exit.UNAVAILABLE: "the store can not answer now, is full, or has failed; what was acknowledged is safe",
    Exit.UNHEALTHY: "`doctor` or `journal verify` found something wrong",
    Exit.RESTART: "handlers would not stop and held too many slots: start the worker again",
    Exit.INTERRUPTED: "interrupted; a node that is asked to stop a third time exits with 128 + the signal's number",
}

#: The first class that an error is an instance of decides.
_BY_ERROR: Final[tuple[tuple[type[Exception], Exit], ...]] = (
    (e.NodeNotRunning, Exit.NO_NODE),
    (LogHeld, Exit.HELD),
    (NewerFormat, Exit.DAMAGED),
    (LossRefused, Exit.DAMAGED),
    (e.StoreCorrupt, Exit.DAMAGED),
    (UnsafeFolder, Exit.CONFIG),
    (PortInUse, Exit.PORT),
    (CannotListen, Exit.PORT),
    (e.UnknownTask, Exit.UNKNOWN),
    (e.UnknownJob, Exit.UNKNOWN),
    (e.UnknownQueue, Exit.UNKNOWN),
    (e.UnknownPod, Exit.UNKNOWN),
    (e.UnknownSchedule, Exit.UNKNOWN),
    (e.UnknownWorker, Exit.UNKNOWN),
    (e.UnknownOperation, Exit.UNKNOWN),
    (e.DuplicateJob, Exit.REFUSED),
    (e.TaskInactive, Exit.REFUSED),
    (e.Conflict, Exit.REFUSED),
    (e.LeaseLost, Exit.REFUSED),
    (e.ConfigError, Exit.CONFIG),
    (e.TaskError, Exit.CONFIG),
    (e.ContentError, Exit.CONTENT),
    (e.UsageError, Exit.USAGE),
    (e.StoreError, Exit.UNAVAILABLE),
    (e.RouterError, Exit.UNAVAILABLE),
)


def exit_of(error: BaseException) -> Exit:
    """Return the exit code of an error."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.BUG)
