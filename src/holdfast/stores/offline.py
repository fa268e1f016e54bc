"""The last state of a journal, read from its files: no lock, no node, no change. It says how old it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holdfast.errors import UsageError
from holdfast.job.ledger import snapshot
from holdfast.store import Capabilities
from holdfast.stores.journal.frames import apply_frame
from holdfast.stores.ledger_store import LedgerStore
from holdfast.wal import OsFiles, read_snapshot, scan, verify

if TYPE_CHECKING:
    from holdfast.clock import Clock


class OfflineStore(LedgerStore):
    """The Store port, for reads alone, on what the files of a journal say. Claims that it shows as running may be over."""

    capabilities = Capabilities(durable=True, push=False, many_processes=True, transactional=False)

    def __init__(self, folder: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._folder = os.fspath(folder)
        self.as_of = 0.0  # when the files last changed, in seconds since the epoch
        self.number = 0  # of the last frame

    async def open(self) -> None:
        """Read the files. Raises LogDamaged, which names file and offset, when they can not be read as one state."""
        self._read_files()
        self._open = True

    def _read_files(self) -> None:
        files = OsFiles(self._folder)
        report = verify(files)
        if report.damage is not None:
            raise report.damage
        if report.snapshot:
            snapshot.restore(self.ledger, read_snapshot(files, report.snapshot))
        self.number = report.snapshot
        for frame in scan(files, first=report.snapshot + 1):
            apply_frame(self.ledger, frame)
            self.number = frame.number
        names = [f"{self._folder}/{file.name}" for file in report.files if file.name != "FORMAT"]
        self.as_of = max(os.stat(name).st_mtime for name in names if os.path.exists(name))

    async def _run(self, command: object) -> Any:
        raise UsageError(
            "expected a read, found a change: --offline shows what the files say and changes nothing. "
            "Leave it out, and start the node."
        )


def open_offline(folder: str | os.PathLike[str], *, clock: Clock | None = None) -> OfflineStore:
    """Return the last state of the journal in `folder`, not read yet."""
    return OfflineStore(folder, clock=clock)
