"""The port by which a store tells what has ended, so that a history elsewhere can have it: nothing left out, in batches.

A store on which it is switched on notes each change of what has ended, in the very step that makes it. `changes` returns the
oldest that were not acknowledged, each with the job as it is now; `exported` acknowledges them, durably. What was read and
not acknowledged comes again, in this process or the next: at least once. Order of ids or of times is never taken for the
order in which transactions became visible. Until a job was exported, retention spares it for SPARED seconds; then it goes
all the same, and is counted as dropped.

Of unfinished jobs only the attempts that have ended are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from holdfast.job.ledger.upkeep import SPARED
from holdfast.job.model import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SPARED", "Change", "Changes", "ExportFigures", "ExportState", "Feed", "Sink"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has changed. job: as it is now; None: it was purged by a person, and shall be forgotten elsewhere too.

    version: grows from each change of a job to the next, so that of two copies of it the newer one can be told.
    """

    seq: int
    version: int
    job: Job | None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest changes, each job once. receipt: acknowledges them. more: there are others now."""

    items: tuple[Change, ...] = ()
    receipt: bytes = b""
    more: bool = False


class ExportState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the export is. waiting: changes that were not acknowledged. oldest_at: when the oldest of them was made, as far
    as the store can tell, in seconds since the epoch. dropped: jobs that retention purged before they were exported."""

    on: bool
    waiting: int = 0
    oldest_at: float | None = None
    dropped: int = 0


class ExportFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What an exporter has done, and how far it is. jobs, batches, failures: since it was started. rate: jobs a second of
    the last batch. lag: seconds since the oldest change that waits; 0 when none does. problem: why nothing is taken now."""

    jobs: int = 0
    batches: int = 0
    failures: int = 0
    rate: float = 0.0
    waiting: int = 0
    lag: float = 0.0
    dropped: int = 0
    problem: str = ""

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the rate of the last batch; None when that is not known."""
        return self.waiting / self.rate if self.rate and not self.problem else None

    @property
    def words(self) -> str:
        """How far it is, in words.

        >>> ExportFigures(jobs=12, rate=400.0, waiting=2_000, lag=3.0).words
        '2,000 changes wait, the oldest since 3 s; 400 jobs/s, about 5 s left'
        """
        words = "up to date"
        if self.waiting:
            words = f"{self.waiting:,} changes wait, the oldest since {self.lag:.0f} s"
        if self.problem:
            words += f"; stands still: {self.problem}"
        elif self.waiting and self.seconds_left is not None:
            words += f"; {self.rate:,.0f} jobs/s, about {self.seconds_left:.0f} s left"
        return words + (f"; {self.dropped:,} jobs were purged before they were exported" if self.dropped else "")


class Feed(Protocol):
    """What an exporter needs of a store. One exporter at a time; two do the same work twice and harm nothing."""

    async def start_export(self) -> None:
        """Note changes from now on; what has ended before is told as well. Calling it again changes nothing."""
        ...

    async def stop_export(self) -> None:
        """Note nothing more, and forget what was noted."""
        ...

    async def changes(self, limit: int) -> Changes:
        """The oldest changes that were not acknowledged, at most `limit`."""
        ...

    async def exported(self, receipt: bytes) -> None:
        """Acknowledge what `changes` returned with this receipt. A receipt of long ago changes nothing."""
        ...

    async def export_state(self) -> ExportState:
        """How far it is."""
        ...


class Sink(Protocol):
    """Where changes go."""

    async def write(self, changes: Sequence[Change]) -> None:
        """Take all of them, durably; again, if it is not known whether it did. Raises StoreError when it can not now."""
        ...
