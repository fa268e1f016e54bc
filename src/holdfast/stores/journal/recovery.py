"""From files to a ledger: the newest snapshot, then every later frame, with the same `apply` that live work uses."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from holdfast.errors import StoreCorrupt
from holdfast.job.ledger import Ledger, snapshot
from holdfast.stores.journal.frames import apply_frame
from holdfast.stores.ledger_feed import Marks
from holdfast.wal import COUNT_BITS, Notice, Recovery
from holdfast.wal.frame import frame_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.stores.journal.options import JournalOptions
    from holdfast.wal import Files, Log


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What opening a journal found, and how long it took.

    seconds: until the state stood in memory and the log could be written. snapshot: number of the snapshot that was read, 0
    without one. snapshot_jobs: jobs in it. frames, facts, log_bytes: what was replayed behind it. jobs: jobs now.
    lost: claims of dead workers that were ended. notices: what was odd and cost nothing, such as a torn tail.
    """

    seconds: float
    snapshot: int
    snapshot_bytes: int
    snapshot_jobs: int
    frames: int
    facts: int
    log_bytes: int
    jobs: int
    epoch: int
    fresh: bool
    lost: int = 0
    notices: tuple[Notice, ...] = ()


class Found(NamedTuple):
    """A recovered state, the log that goes on with it, and how it was found."""

    ledger: Ledger
    log: Log
    recovered: Recovered
    marks: Marks | None


class _Counts:
    """What a replay went through."""

    def __init__(self) -> None:
        self.frames = self.facts = self.log_bytes = 0


def recover(files: Files, options: JournalOptions, serve: Callable[[Recovery], Log]) -> Found:
    """Lock the folder, read everything, make the log ready to write.

    `serve` turns the recovery into a log. Raises LogHeld (who holds it), LogDamaged and StoreCorrupt (where), NewerFormat,
    LogIO, UnsafeFolder; then no file was changed.
    """
    begin = time.perf_counter()
    recovery = Recovery.begin(files, options.log)
    try:
        with _no_collections():
            ledger, jobs, counts, marks = _read(recovery)
        log = serve(recovery)
    except BaseException:
        recovery.close()
        raise
    if options.freeze:
        freeze(ledger)
    # The log knows of restores, whose epoch rises by more than one, and which have a number of their own.
    ledger.salt, count = divmod(log.epoch, 1 << COUNT_BITS)
    ledger.epoch = max(ledger.epoch, count - 1)
    found = recovery.snapshot
    recovered = Recovered(
        seconds=time.perf_counter() - begin,
        snapshot=found.number if found else 0,
        snapshot_bytes=found.size if found else 0,
        snapshot_jobs=jobs,
        frames=counts.frames,
        facts=counts.facts,
        log_bytes=counts.log_bytes,
        jobs=len(ledger.table),
        epoch=count,
        fresh=recovery.fresh,
        notices=tuple(recovery.notices),
    )
    return Found(ledger, log, recovered, marks)


def _read(recovery: Recovery) -> tuple[Ledger, int, _Counts, Marks | None]:
    ledger, counts, jobs, marks = Ledger(), _Counts(), 0, None
    if recovery.snapshot is not None:
        jobs = _restore(ledger, recovery.records(), recovery.snapshot.number)
        marks = Marks.after_snapshot(ledger, recovery.snapshot.number)
    for frame in recovery.replay():
        facts = apply_frame(ledger, frame)
        counts.frames += 1
        counts.facts += len(facts)
        counts.log_bytes += frame_size(len(frame.payload))
        if ledger.exported is not None or marks is not None:
            marks = Marks.after_frame(ledger, marks, facts, frame.number)
    return ledger, jobs, counts, marks


def _restore(ledger: Ledger, records: Iterator[bytes], number: int) -> int:
    try:
        return snapshot.restore(ledger, records)
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise StoreCorrupt(
            f"snapshot {number}: expected the records of a state, found: {error}. Its checksum is right, so a newer "
            "Holdfast may have written it: start that version, or move the file away to use the one before."
        ) from error


@contextmanager
def _no_collections() -> Iterator[None]:
    """Nothing that is being read is garbage, so do not look for any: it would be looked at again and again as it grows."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


#: Stands in the table while it is frozen: an empty dict would not be tracked yet, and so would not be frozen.
_TRACKED: Final[Any] = []


def freeze(ledger: Ledger) -> None:
    """Take the ledger's tables out of the garbage collector's sight, also for all that comes into them later.

    Records themselves are never tracked. But a collection walks through the tables that hold them, which takes tens of
    milliseconds at a million jobs; frozen ones are left out. Freezing concerns the whole process and costs nothing.
    """
    ledger.table[-1] = _TRACKED
    gc.freeze()
    del ledger.table[-1]
