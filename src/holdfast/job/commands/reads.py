"""Reads."""

from __future__ import annotations

from typing import Final, Self

import msgspec

from holdfast.job.model import Job
from holdfast.job.state import State

#: How far back a search by text looks unless it is told, in seconds.
SEARCH_WINDOW: Final = 86_400.0
#: At how many jobs one page of it looks, at most.
SCAN_MAX: Final = 10_000
#: Up to how many jobs a count is exact; above it a store for which that is dear tells about how many.
COUNT_EXACT: Final = 100_000


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which part of a list: `limit` rows after `cursor` (opaque, from the page before), in the order of acceptance.

    by_end: of the jobs that have ended, in the order in which they did. scan: at how many jobs a search by text looks for
    this page; one that has looked at so many has fewer rows than `limit`, perhaps none, and a cursor that goes on.
    """

    limit: int = 50
    cursor: str = ""
    newest_first: bool = True
    by_end: bool = False
    scan: int = SCAN_MAX


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a list, and the cursor of the next page (empty: this was the last)."""

    items: tuple[Job, ...]
    cursor: str = ""


class JobCount(int):
    """How many jobs there are: a number like any other. estimated: it is about so many, as counting them was too dear.

    >>> JobCount(100_001, estimated=True) + 2, (JobCount(100_001, estimated=True) + 2).estimated
    (100003, True)
    """

    estimated: bool

    def __new__(cls, number: int, *, estimated: bool = False) -> Self:
        """Return `number` with its mark."""
        made = super().__new__(cls, number)
        made.estimated = estimated
        return made

    def __add__(self, other: int) -> JobCount:
        """A sum is estimated when a part of it is."""
        return JobCount(int(self) + int(other), estimated=self.estimated or getattr(other, "estimated", False))

    __radd__ = __add__

    @property
    def words(self) -> str:
        """As people should read it; of an estimate as many digits as may be true.

        >>> JobCount(1_234_567).words, JobCount(1_234_567, estimated=True).words, JobCount(0, estimated=True).words
        ('1,234,567', 'about 1,230,000', 'about 0')
        """
        if not self.estimated:
            return f"{int(self):,}"
        digits = max(0, len(str(int(self))) - 3)
        return f"about {round(int(self), -digits):,}"


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts per queue and state; every state is there, zero-filled. estimated: by queue, the states whose counts are not
    exact."""

    queues: dict[str, dict[str, int]]
    stale_refused: int = 0
    oldest_ready_at: dict[str, float] = {}
    estimated: dict[str, tuple[str, ...]] = {}

    def count(self, queue: str, state: State) -> JobCount:
        """Jobs in `state` of one queue; 0 for an unknown one."""
        number = self.queues.get(queue, {}).get(state, 0)
        return JobCount(number, estimated=state in self.estimated.get(queue, ()))

    def total(self, state: State) -> JobCount:
        """Jobs in `state` over all queues."""
        return sum((self.count(queue, state) for queue in self.queues), JobCount(0))
