"""A journal store in a folder, on a steered disk and a steered clock."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from holdfast.clock import ManualClock
from holdfast.job.ledger import validate
from holdfast.stores.journal import JournalOptions, JournalStore
from holdfast.testing.contract.harness import StoreHarness
from tests.journal.disks import SteeredDisk

#: No snapshots by themselves; the test process is not frozen.
OPTIONS: Final = JournalOptions(snapshot_interval=0, freeze=False)


class FolderHarness(StoreHarness):
    """A journal on a steered disk; `start` opens another one over the same folder. It can look at its own ledger."""

    store: JournalStore

    def __init__(self, folder: Path, options: JournalOptions = OPTIONS, *, sparse: bool = False) -> None:
        self.folder, self.options, self._sparse = folder, options, sparse
        self.disk = SteeredDisk(folder, sparse=sparse)
        clock = ManualClock()
        super().__init__(JournalStore(self.disk, options, clock=clock), clock)

    async def start(self) -> None:
        """Open the folder again, as a new process would."""
        self.disk = SteeredDisk(self.folder, sparse=self._sparse)
        self.store = JournalStore(self.disk, self.options, clock=self.clock)
        self.source = self.store
        await self.store.open()

    async def restart(self) -> None:
        """Stop cleanly, start again."""
        await self.store.close()
        await self.start()

    def faults(self) -> list[str]:
        """Return the contradictions in the ledger."""
        return [f"{fault.job_id}: {fault.what}" for fault in validate(self.store.ledger)]


class JournalHarness(FolderHarness):
    """For the contract suites: a fresh folder, which is removed at the end."""

    def __init__(self) -> None:
        # In memory where that is possible: the suites ask what is stored, not whether the disk has it.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        super().__init__(Path(tempfile.mkdtemp(prefix="holdfast-journal-", dir=place)), sparse=place is not None)

    async def close(self) -> None:
        """Close the store and remove its folder."""
        await super().close()
        shutil.rmtree(self.folder)
