"""What a command may cost the log, asked before it is decided.

Facts are applied as they are decided, and can not be taken back. So whether the log takes them has to be known before:
how large they may get, and whether they may use the reserve of a full disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.job import commands as c

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import NewJob

#: Bytes of a stored job beside payload and headers, as a rule. Where a batch comes near the limit it is measured.
_JOB_BYTES: Final = 1_024
_GROWTH: Final = 384  # bytes that a stored job has more than the request for it
_OTHER: Final = 64 * 1024
#: A full disk refuses what brings in more; whatever ends or steers work goes on.
_ORDINARY: Final[frozenset[type]] = frozenset(
    {
        c.Enqueue,
        c.FireSchedule,
        c.ProgressAll,
        c.DefineAll,
        c.SaveSchedule,
        c.ConfigureWorker,
        c.Import,
        c.RecordJobs,
        c.RecordStatuses,
        c.RecordAttempts,
    }
)
_ORDINARY_ACTIONS: Final[frozenset[type]] = frozenset({c.Replay, c.Edit})


def is_essential(command: object) -> bool:
    """Tell whether the facts of a command may use the reserve of a full disk."""
    if isinstance(command, c.Order):
        return type(command.action) not in _ORDINARY_ACTIONS
    return type(command) not in _ORDINARY


def bytes_of(command: object, limit: int) -> int:
    """How large the facts of a command may get, in bytes.

    Never too low for commands that are all or nothing: they must fit one frame of `limit` bytes. For others it is an
    estimate, since they may be spread over several frames.
    """
    if isinstance(command, c.Enqueue | c.FireSchedule):
        return _bytes_of_jobs(command.jobs, limit)
    if isinstance(command, c.Import):
        return len(msgspec.msgpack.encode(command)) + _JOB_BYTES * len(command.jobs)
    return min(_OTHER, limit)


def _bytes_of_jobs(jobs: Sequence[NewJob], limit: int) -> int:
    roughly = sum([len(job.payload) + len(job.headers) for job in jobs]) + _JOB_BYTES * len(jobs)
    if roughly <= limit // 2:
        return roughly
    return len(msgspec.msgpack.encode(jobs)) + _GROWTH * len(jobs)
