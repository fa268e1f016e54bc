"""A journal store on a disk that can lose power, without threads: the log is written when the test says so."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from holdfast.clock import ManualClock
from holdfast.job.ledger import Ledger, canonical, validate
from holdfast.job.ledger.snapshot import restore
from holdfast.stores.journal import JournalOptions, JournalStore
from holdfast.stores.journal.folding import Folded, fold_snapshot
from holdfast.stores.journal.frames import apply_frame
from holdfast.testing.contract.harness import StoreHarness
from holdfast.wal import Log, Recovery, read_snapshot, retire, scan
from tests.wal.disk import SimDisk

if TYPE_CHECKING:
    from collections.abc import Coroutine

#: Segments that a few dozen steps fill.
TINY = JournalOptions(segment_bytes=64 * 1024, reserve_segments=1, snapshot_interval=0, freeze=False)


def unthreaded(recovery: Recovery) -> Log:
    """Serve without a writer thread, on a clock that stands."""
    return recovery.serve(threaded=False, monotonic=lambda: 0.0)


class SimHarness(StoreHarness):
    """The journal on a simulated disk. `run` writes the log as often as a call needs it."""

    store: JournalStore

    def __init__(self, disk: SimDisk | None = None, options: JournalOptions = TINY) -> None:
        self.disk, self.options = disk or SimDisk(), options
        clock = ManualClock()
        super().__init__(self.on(self.disk, clock), clock)

    def on(self, disk: SimDisk, clock: ManualClock) -> JournalStore:
        """Return a store on `disk`, not opened yet."""
        return JournalStore(disk, self.options, clock=clock, serve=unthreaded)

    @property
    def log(self) -> Log:
        """The log of the open store."""
        log = self.store._log
        assert log is not None
        return log

    async def carried_out(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call, writing the log in between."""
        task = asyncio.ensure_future(call)
        while not task.done():
            await asyncio.sleep(0)
            if self.store._open and self.store._failure is None:
                self.log.pump()
        return task.result()

    def snapshot(self, *, clear: bool = True) -> Folded:
        """Make a snapshot of all that is written; with `clear` remove what it replaces."""
        number = self.log.rotate()
        self.log.pump()
        folded = fold_snapshot(self.disk, number)
        if clear:
            retire(self.disk, folded.retirement)
        return folded

    async def cut(self, draw: random.Random) -> None:
        """Power fails; the machine starts again and the store is opened from what the disk kept."""
        self.disk = self.disk.cut(draw)
        await self.start()

    async def reopen(self) -> None:
        """Stop cleanly, start again."""
        await self.store.close()
        await self.start()

    async def reopen_after_kill(self) -> None:
        """The process is killed; the next one finds all that was seen."""
        self.disk = self.disk.killed()
        await self.start()

    async def start(self) -> None:
        """Open a new store on the disk as it is."""
        self.store = self.on(self.disk, self.clock)
        self.source = self.store
        await self.carried_out(self.store.open())

    def faults(self) -> list[str]:
        """Return the contradictions in the ledger."""
        return [f"{fault.job_id}: {fault.what}" for fault in validate(self.store.ledger)]


def replayed(disk: SimDisk, upto: int) -> Ledger:
    """The ledger after frame `upto`, from the first frame on. Only while no segment was removed."""
    ledger = Ledger()
    for frame in scan(disk, 1, upto):
        apply_frame(ledger, frame)
    return ledger


def restored(disk: SimDisk, snapshot: int, upto: int) -> Ledger:
    """The ledger after frame `upto`, from a snapshot and the frames behind it."""
    ledger = Ledger()
    restore(ledger, read_snapshot(disk, snapshot))
    for frame in scan(disk, snapshot + 1, upto):
        apply_frame(ledger, frame)
    return ledger


def assert_same(one: Ledger, other: Ledger) -> None:
    """Two ledgers hold the same state, and neither contradicts itself."""
    assert {**one.table} == {**other.table}
    assert canonical(one) == canonical(other)
    assert validate(one) == validate(other) == []
