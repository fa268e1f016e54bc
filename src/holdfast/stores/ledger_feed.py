"""What of a ledger was not exported: jobs by the number of the step that changed them last, the oldest first.

It follows from the facts, so a journal finds it again when it is opened: frames behind its snapshot are looked at one by
one; of a snapshot that is newer than the last acknowledgement all is told once more, as it does not say what changed when.
Which purged jobs were not told yet stands in the snapshot itself.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.feed import Change, Changes, ExportState
from holdfast.job import commands as c
from holdfast.job import facts as f

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import RLock

    from holdfast.job.ledger import Ledger
    from holdfast.job.model import Job

R = TypeVar("R")
logger: Final = logging.getLogger("holdfast.export")

#: Facts that may change what has ended, or say that something did.
_KINDS: Final = frozenset({f.Succeeded, f.Ended, f.Refused, f.Canceled, f.Retried, f.Replayed, f.Deleted, f.Recorded})
_EPOCH_BITS: Final = 40  # below them a version holds the number of a step, above them the epoch of the store


class LedgerFeed(ABC):
    """The port `Feed` of a store over a ledger."""

    ledger: Ledger
    _lock: RLock
    _marks: Marks | None = None  # what was not exported, where an exporter is

    @abstractmethod
    def _number(self) -> int:
        """The number of the step that was just done."""

    @abstractmethod
    async def _run(self, command: object) -> Any:
        """Do one command as one atomic, durable step."""

    @abstractmethod
    async def _read(self, look: Callable[[], R]) -> R:
        """Look at the ledger in one step."""

    async def start_export(self) -> None:
        """Note changes from now on, and what has ended before."""
        with self._lock:
            if self._marks is not None:
                return
            self._marks = Marks()
            self._marks.take_all(self.ledger, self._number())
        await self._run(c.Export(on=True))

    async def stop_export(self) -> None:
        """Note nothing more."""
        if self._marks is not None:
            await self._run(c.Export(on=False))
            self._marks = None

    async def changes(self, limit: int) -> Changes:
        """The oldest changes that were not acknowledged."""
        marks = self._marks
        return Changes() if marks is None else await self._read(lambda: marks.oldest(self.ledger, limit))

    async def exported(self, receipt: bytes) -> None:
        """Acknowledge changes."""
        marks, upto = self._marks, int(receipt)
        if marks is not None:
            gone = await self._read(lambda: marks.gone_up_to(upto))
            await self._run(c.Export(on=True, upto=upto, gone=gone))

    async def export_state(self) -> ExportState:
        """How far the export is."""
        marks = self._marks
        return ExportState(on=False) if marks is None else await self._read(lambda: marks.state(self.ledger))


class Marks:
    """Which jobs an exporter has to look at."""

    def __init__(self) -> None:
        self._seqs: dict[int, int] = {}  # seq -> number, in the order of numbers
        self._gone: set[int] = set()  # purged by a person
        self._dropped = 0

    # --- what was changed

    def take(self, ledger: Ledger, facts: Sequence[f.Fact], number: int) -> None:
        """Note what the facts of a step have changed; they were applied."""
        seqs = self._seqs
        for fact in facts:
            kind = type(fact)
            if kind in _KINDS:
                seq: int = fact.seq  # type: ignore[union-attr]  # they are all about a job
                if seq in ledger.table or seq in seqs:
                    seqs.pop(seq, None)
                    seqs[seq] = number
            elif kind is f.Added:
                job = fact.job  # type: ignore[union-attr]  # one of another store may have ended there
                if job.last is not None or job.final:
                    seqs[job.seq] = number
            elif isinstance(fact, f.Purged):
                self._purged(fact, number)
            elif isinstance(fact, f.Exported) and fact.on:
                self._acknowledge(fact.upto)
        ledger.spared = seqs

    def _purged(self, fact: f.Purged, number: int) -> None:
        was_waiting = self._seqs.pop(fact.seq, None) is not None
        if not fact.lapsed:
            self._gone.add(fact.seq)
            self._seqs[fact.seq] = number
        elif was_waiting:
            self._dropped += 1
            logger.error(
                "a job was purged before it was exported: the history was away for too long (seq %d)", fact.seq
            )

    def take_all(self, ledger: Ledger, number: int) -> None:
        """Note all that has ended up to now."""
        for seq, job in ledger.table.items():
            if job.final or _has_ended_attempt(job):
                self._seqs[seq] = number
        self._gone |= ledger.gone
        self._seqs |= dict.fromkeys(sorted(ledger.gone), number)
        ledger.spared = self._seqs

    def gone_up_to(self, upto: int) -> tuple[int, ...]:
        """Which jobs, purged by a person, are acknowledged by this number."""
        return tuple(seq for seq, _ in _until(self._seqs, upto) if seq in self._gone)

    def _acknowledge(self, upto: int) -> None:
        for seq in [seq for seq, number in _until(self._seqs, upto)]:
            del self._seqs[seq]
            self._gone.discard(seq)

    # --- after a restart

    @classmethod
    def after_snapshot(cls, ledger: Ledger, number: int) -> Marks | None:
        """What a snapshot leaves to be exported; None where there is no exporter."""
        if ledger.exported is None:
            return None
        marks = cls()
        if ledger.exported < number:
            marks.take_all(ledger, number)
        return marks

    @classmethod
    def after_frame(cls, ledger: Ledger, marks: Marks | None, facts: Sequence[f.Fact], number: int) -> Marks | None:
        """What is to be exported after one more frame, which was applied."""
        if ledger.exported is None:
            ledger.spared = {}
            return None
        if marks is None:  # this frame has switched it on
            marks = cls()
            marks.take_all(ledger, number)
        else:
            marks.take(ledger, facts, number)
        return marks

    # --- reading

    def oldest(self, ledger: Ledger, limit: int) -> Changes:
        """The oldest changes. What one step has changed is never cut: its number acknowledges all of it."""
        found: list[tuple[int, int]] = []
        for seq, number in self._seqs.items():
            if len(found) >= limit and number != found[-1][1]:
                break
            found.append((seq, number))
        items = [
            Change(seq=seq, version=(ledger.epoch << _EPOCH_BITS) + number, job=ledger.table.get(seq))
            for seq, number in found
        ]
        receipt = str(found[-1][1]).encode() if found else b""
        return Changes(items=tuple(items), receipt=receipt, more=len(found) < len(self._seqs))

    def state(self, ledger: Ledger) -> ExportState:
        """How far it is."""
        first = next(islice(self._seqs, 1), None)
        job = None if first is None else ledger.table.get(first)
        return ExportState(
            on=True,
            waiting=len(self._seqs),
            oldest_at=None if job is None else job.finished_at or job.updated_at,
            dropped=self._dropped,
        )


def _has_ended_attempt(job: Job) -> bool:
    return bool(job.past) or (job.last is not None and job.last.end is not None)


def _until(seqs: dict[int, int], upto: int) -> list[tuple[int, int]]:
    found = []
    for seq, number in seqs.items():
        if number > upto:
            break
        found.append((seq, number))
    return found
