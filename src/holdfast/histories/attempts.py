"""Attempts of all jobs: which are wanted, and the latest of them, in keyset pages. Pure."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from holdfast import history as h
from holdfast.errors import ContentError
from holdfast.job.ledger.search import check_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.history import AttemptFilter, AttemptPage
    from holdfast.job.model import Attempt, Job

#: How many times as many rows a page passes over, at most, as it looks at jobs that were tried within its window.
PASSED: Final = 10

Place = tuple[float, int, int]  # started_at, seq of the job, number of the attempt


class LatestAttempts:
    """One page of the attempts that a filter wants: jobs go in one by one, in any order."""

    def __init__(
        self, which: AttemptFilter, limit: int, cursor: str, now: float, *, below: Place | None = None
    ) -> None:
        """limit: rows of the page. below: where it begins, in place of a cursor. Raises ContentError for one that no page
        gave."""
        self.after = now - h.SEARCH_WINDOW if which.after is None else which.after
        self._which, self._limit = which, limit
        self._latest = _Latest(limit + 1, below or place_of(cursor))

    def is_of(self, job: Job) -> bool:
        """Tell whether a job may have such attempts: it was tried, and has changed since the window began."""
        is_there = job.deleted_at is None and job.attempt > 0
        return is_there and job.updated_at >= self.after and _of(job, self._which)

    def look(self, jobs: Iterable[Job]) -> None:
        """Look at the attempts of some jobs."""
        for job in jobs:
            if self.is_of(job):
                for attempt in job.attempts:
                    if attempt.started_at >= self.after and _is_wanted(attempt, self._which):
                        self._latest.add(attempt.started_at, job.seq, attempt.number, job)

    def add(self, seq: int, record: h.AttemptRecord) -> None:
        """Take an attempt that somebody else has found to be wanted; seq: its job's."""
        self._latest.add(record.attempt.started_at, seq, record.attempt.number, record)

    def take(self, other: LatestAttempts) -> None:
        """Take what another search has found."""
        for row in other._latest.rows():
            self._latest.add(*row)

    def page(self, edge: float | None = None) -> AttemptPage:
        """What was found, the latest start first. edge: the search has looked at what started then or later, not before."""
        rows = [row for row in self._latest.rows() if edge is None or row[0] >= edge]
        items = tuple(_record(job, number) for _, _, number, job in rows[: self._limit])
        more = len(rows) > self._limit
        cursor = "" if edge is None else f"{edge!r}:0:0"
        if more:
            cursor = ":".join(repr(part) for part in rows[self._limit - 1][:3])
        return h.AttemptPage(items=items, cursor=cursor)

    def page_of(self, block: Block, *, more: bool) -> AttemptPage:
        """What was found in a block, the latest start first. more: there are jobs behind it."""
        rows = self._latest.rows()
        items = tuple(_record(job, number) for _, _, number, job in rows[: self._limit])
        cursor = Block(block.low).cursor if more else ""
        if len(rows) > self._limit:
            started_at, seq, number, _ = rows[self._limit - 1]
            cursor = block._replace(below=(started_at, seq, number)).cursor
        return h.AttemptPage(items=items, cursor=cursor)


class Block(NamedTuple):
    """The jobs that one page of a search looks at, by their numbers: from `low` on and below `top`, None where that is not
    known yet. below: behind which attempt of theirs the page begins."""

    top: int | None = None
    low: int | None = None
    below: Place | None = None

    @property
    def cursor(self) -> str:
        """What leads here."""
        numbers = ["" if one is None else str(one) for one in (self.top, self.low)]
        return ":".join([*numbers, *(map(repr, self.below) if self.below is not None else ("", "", ""))])


def block_of(cursor: str) -> Block:
    """Return the block of a page's cursor. Raises ContentError for one that no page gave."""
    if not cursor:
        return Block()
    try:
        top, low, *place = cursor.split(":")
        started_at, seq, number = place
        below = (float(started_at), int(seq), int(number)) if started_at else None
        return Block(int(top), int(low) if low else None, below)
    except ValueError:
        raise bad_cursor(cursor) from None


#: The next jobs, by descending numbers; up to which number was looked for them, and at how many rows.
Slices = AsyncIterator[tuple["Sequence[Job]", int, int]]


async def page_by_blocks(
    slices: Callable[[int | None], Slices], which: AttemptFilter, page: h.Page, now: float
) -> AttemptPage:
    """Return one page of attempts, from jobs that come in slices by descending numbers, below one (None: from the newest).

    It looks at no more than `page.scan` jobs that were tried within the window, and at PASSED times as many in all. These
    are a block: their attempts come with the latest start first, page by page, and then those of the next block.
    """
    check_scan(replace(page, limit=1))
    block, limit = block_of(page.cursor), h.ATTEMPT_LIMIT.of(page.limit)
    latest = LatestAttempts(which, limit, "", now, below=block.below)
    looked = passed = 0
    top, low, more = block.top, block.top, False
    async for jobs, reached, count in slices(block.top):
        for job in jobs:
            top = job.seq + 1 if top is None else top
            more = job.seq < block.low if block.low is not None else looked == page.scan
            if more:
                break
            looked, low = looked + latest.is_of(job), job.seq
            latest.look((job,))
        if more:
            break
        passed += count
        if block.low is None and passed >= PASSED * page.scan:
            low, more = reached, True
            break
    return latest.page_of(Block(top, block.low if block.low is not None else low), more=more)


def bad_cursor(cursor: str) -> ContentError:
    """The error for a cursor that no page gave."""
    return ContentError(f"bad page cursor {cursor!r:.80}: pass back the cursor of the page before, unchanged.")


def place_of(cursor: str) -> Place | None:
    """Return what a page's cursor says; None for an empty one. Raises ContentError for one that no page gave."""
    if not cursor:
        return None
    try:
        started_at, seq, number = cursor.split(":")
        return float(started_at), int(seq), int(number)
    except ValueError:
        raise bad_cursor(cursor) from None


class _Latest:
    """Keeps the latest `size` rows that lie below a place."""

    def __init__(self, size: int, below: Place | None) -> None:
        self._size, self._below = size, below
        self._places: set[Place] = set()
        self._heap: list[tuple[float, int, int, Job | h.AttemptRecord]] = []

    def add(self, started_at: float, seq: int, number: int, job: Job | h.AttemptRecord) -> None:
        """Look at a row; the first of two that are of one place stays."""
        place = (started_at, seq, number)
        if self._below is not None and place >= self._below:
            return
        if place in self._places:
            return
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (*place, job))
        elif place > self._heap[0][:3]:
            self._places.discard(heapq.heapreplace(self._heap, (*place, job))[:3])
        else:
            return
        self._places.add(place)

    def rows(self) -> list[tuple[float, int, int, Job | h.AttemptRecord]]:
        """What was kept, the latest first."""
        return sorted(self._heap, key=lambda row: row[:3], reverse=True)


def _of(job: Job, which: AttemptFilter) -> bool:
    return which.queue in (None, job.queue) and which.task in (None, job.task)


def _is_wanted(attempt: Attempt, which: AttemptFilter) -> bool:
    return (
        which.worker in (None, attempt.worker)
        and which.instance in (None, attempt.instance)
        and (not which.ends or attempt.end in which.ends)
        and (not which.running or attempt.end is None)
        and (which.before is None or attempt.started_at < which.before)
        and (which.text is None or which.text in attempt.error)
    )


def _record(job: Job | h.AttemptRecord, number: int) -> h.AttemptRecord:
    if isinstance(job, h.AttemptRecord):
        return job
    attempt = next(one for one in job.attempts if one.number == number)
    return h.AttemptRecord(job.id, attempt, job.task, job.queue)
