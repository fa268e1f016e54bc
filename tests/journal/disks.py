"""Real folders whose syncs a test can count, hold back and fail."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from holdfast.wal import OsFiles

if TYPE_CHECKING:
    from pathlib import Path


class SteeredDisk(OsFiles):
    """A real folder. `hold` lets the next sync begin and not end; `fail` makes the next one fail; `full` refuses room.

    sparse: room is promised and not taken, which costs nothing in a file system in memory.
    """

    def __init__(self, path: Path, *, sparse: bool = False) -> None:
        super().__init__(path, sync=self._sync, allocate=self._allocate_or_refuse)
        self._sparse = sparse
        self.syncs = 0
        self.full = False
        self.begun = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._error: OSError | None = None

    def hold(self) -> None:
        """Syncs wait from now on; `begun` is set when one does."""
        self.begun.clear()
        self._open.clear()

    def let_go(self) -> None:
        """Syncs end again."""
        self._open.set()

    def fail(self) -> None:
        """The next sync fails, as a broken disk would."""
        self._error = OSError(errno.EIO, os.strerror(errno.EIO))

    def _sync(self, handle: int) -> None:
        self.syncs += 1
        self.begun.set()
        assert self._open.wait(60), "the test never let the disk go"
        error, self._error = self._error, None
        if error is not None:
            raise error
        os.fdatasync(handle)

    def _allocate_or_refuse(self, handle: int, offset: int, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._sparse:
            os.ftruncate(handle, offset + size)
        else:
            os.posix_fallocate(handle, offset, size)
