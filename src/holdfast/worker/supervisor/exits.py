"""What the exit codes of worker processes and of their parent mean."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes, as sysexits.h has them where it has them."""

    DRAINED = 0  # stopped when told to; everything was settled or given back
    CUT_OFF = 1  # the parent's: a third signal ended processes that had not drained; the rescue finds their jobs
    ZOMBIES = 75  # a worker process's: abandoned handlers hold too many slots; its parent starts a new one
    CONFIG = 78  # the app or the options can not be used; trying again will not help
