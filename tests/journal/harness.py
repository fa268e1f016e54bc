"""A journal store in a folder of its own, on a steered clock."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from holdfast.clock import ManualClock
from holdfast.job.ledger import validate
from holdfast.stores.journal import JournalStore, open_journal
from holdfast.testing.contract.harness import StoreHarness

#: No snapshots unless a test asks for one; nothing of the process is frozen by a test.
PLAIN: dict[str, Any] = {"snapshot_interval": 0, "freeze": False}


class JournalHarness(StoreHarness):
    """The journal in a folder that is removed at the end; it can look at its own ledger."""

    store: JournalStore

    def __init__(self, **options: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-journal-"))
        self.options = {**PLAIN, **options}
        clock = ManualClock()
        super().__init__(self.make_store(clock), clock)

    def make_store(self, clock: ManualClock) -> JournalStore:
        """Return a store over the folder, not opened yet."""
        return open_journal(self.folder, clock=clock, **self.options)

    async def close(self) -> None:
        """Close the store and remove its folder."""
        await super().close()
        shutil.rmtree(self.folder)

    async def reopen(self) -> None:
        """Start again from the files, as a new process would."""
        await self.store.close()
        self.store = self.make_store(self.clock)
        self.source = self.store
        await self.store.open()

    def faults(self) -> list[str]:
        """Return the contradictions in the ledger."""
        return [f"{fault.job_id}: {fault.what}" for fault in validate(self.store.ledger)]
