"""History from the ledger of the same process: memory and journal need no second store.

Figures are counted as jobs end, and cost the same however long the history is. For searches the ledger has no index, so these
walk over the jobs. A walk goes in slices, and gives the loop a turn between two: claims and settles wait for one slice (a few
milliseconds), never for the whole read.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from msgspec.structs import replace

from holdfast import history as h
from holdfast.errors import UnknownJob
from holdfast.histories.attempts import bad_cursor, page_by_blocks
from holdfast.histories.figures import SeriesTally, WorkerTally
from holdfast.histories.statistics import Groups, Points, Window, wanted
from holdfast.job.commands import RecordAttempts, RecordJobs, RecordStatuses
from holdfast.job.figures import end_of
from holdfast.job.ledger.query import matching, numbers_of, stats_of
from holdfast.job.ledger.search import Search, is_search, windowed
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from holdfast.history import AttemptFilter, AttemptPage, JobFilter, JobPage, Page
    from holdfast.job.commands import JobCount
    from holdfast.job.figures import Cell, Key, Packed
    from holdfast.job.ledger import Ledger
    from holdfast.job.model import Attempt, Job

R = TypeVar("R")

#: How many numbers one slice of a walk looks at. 5 ms are the bound; measured: 2 ms for the dearest filter.
SLICE: Final = 2_048
#: How many minutes or hours of the roll-up one step reads.
NUMBERS: Final = 8


class LedgerAccess(Protocol):
    """What a history needs of a store over a ledger."""

    ledger: Ledger

    def now(self) -> float:
        """The store's clock."""
        ...

    async def run(self, command: object) -> Any:
        """Do a command as one atomic, durable step."""
        ...

    async def read(self, look: Callable[[], R]) -> R:
        """Look at the ledger in one step; the answer leaves when what it shows is durable."""
        ...

    async def count(self, which: JobFilter) -> JobCount:
        """How many jobs match."""
        ...


async def walk(store: LedgerAccess, *, before: int | None = None) -> AsyncIterator[list[Job]]:
    """Yield the jobs with seq below `before` in slices, the newest first; the loop gets a turn after each."""
    ledger = store.ledger
    # Found once: behind many purged jobs, the first key of a dict is far from its start.
    oldest = await store.read(lambda: next(iter(ledger.table), ledger.next_seq))
    top = ledger.next_seq if before is None else min(before, ledger.next_seq)
    while top > oldest:
        low = max(oldest, top - SLICE)
        yield await store.read(partial(_jobs, ledger, range(top - 1, low - 1, -1)))
        top = low
        await asyncio.sleep(0)


async def walk_up(store: LedgerAccess, after: int) -> AsyncIterator[list[Job]]:
    """Yield the jobs with seq above `after` in slices, the oldest first."""
    ledger = store.ledger
    low = await store.read(lambda: max(after + 1, next(iter(ledger.table), ledger.next_seq)))
    while low < ledger.next_seq:
        high = min(low + SLICE, ledger.next_seq)
        yield await store.read(partial(_jobs, ledger, range(low, high)))
        low = high
        await asyncio.sleep(0)


def _jobs(ledger: Ledger, numbers: Sequence[int]) -> list[Job]:
    found = map(ledger.table.get, numbers)
    return [job for job in found if job is not None]


class LedgerJobs:
    """The JobRepository over a ledger."""

    def __init__(self, store: LedgerAccess) -> None:
        """`store` is open while this is used."""
        self._store = store

    # --- records

    async def upsert(self, records: Sequence[Job]) -> None:
        """Record jobs that ran elsewhere."""
        await self._store.run(RecordJobs(tuple(map(h.checked_record, records))))

    async def update_status(self, updates: Sequence[h.StatusUpdate]) -> Sequence[bool]:
        """Set state and newest attempt of records."""
        known: list[bool] = await self._store.run(RecordStatuses(tuple(map(h.checked_update, updates))))
        return known

    async def insert_attempt(self, attempts: Sequence[h.AttemptRecord]) -> None:
        """Add attempts of recorded jobs."""
        await self._store.run(RecordAttempts(tuple(map(h.checked_attempt, attempts))))

    # --- jobs

    async def get(self, job_id: str) -> Job:
        """One job, also a deleted one."""
        job = await self._job(job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    async def _job(self, job_id: str) -> Job | None:
        return await self._store.read(lambda: self._store.ledger.job(job_id))

    async def list(self, which: JobFilter, page: Page) -> JobPage:
        """A page of the jobs that match; the cursor is the last number shown, and numbers grow with created_at."""
        limit, cursor, which = h.JOB_LIMIT.of(page.limit), _seq(page.cursor), windowed(which, self._store.now())
        if is_search(which):
            return await self._search(which, replace(page, limit=limit))
        slices = walk(self._store, before=cursor) if page.newest_first else walk_up(self._store, cursor or 0)
        found = await self._first(slices, which, limit + 1)
        more = len(found) > limit
        return h.JobPage(items=tuple(found[:limit]), cursor=str(found[limit - 1].seq) if more else "")

    async def _search(self, which: JobFilter, page: Page) -> JobPage:
        search, ledger = Search(which, page), self._store.ledger
        jobs = map(ledger.table.get, await self._store.read(lambda: numbers_of(ledger, page, which)))
        done = False
        while not done:
            done = await self._store.read(partial(search.look, jobs))
            await asyncio.sleep(0)
        return search.page()

    async def _first(self, slices: AsyncIterator[Sequence[Job]], which: JobFilter, limit: int) -> Sequence[Job]:
        found: list[Job] = []
        async for jobs in slices:
            found += [job for job in jobs if matching(job, which)]
            if len(found) >= limit:
                break
        return found[:limit]

    async def count(self, which: JobFilter) -> JobCount:
        """How many jobs match: from the counters where the filter names only states and a queue."""
        return await self._store.count(which)

    async def list_failed(self, worker: str = "", limit: int = 0) -> Sequence[Job]:
        """Failed jobs, newest first."""
        which = h.JobFilter(states=(State.FAILED,), worker=worker or None)
        return await self._first(walk(self._store), which, h.FAILED_LIMIT.of(limit))

    # --- attempts

    async def list_attempts(self, job_id: str, limit: int = 0) -> Sequence[Attempt]:
        """A job's attempts, the latest start first."""
        job = await self._job(job_id)
        attempts = sorted(job.attempts if job else (), key=lambda one: (one.started_at, one.number), reverse=True)
        return attempts[: h.ATTEMPT_LIMIT.of(limit)]

    async def find_attempts(self, which: AttemptFilter, page: Page) -> AttemptPage:
        """A page of attempts of all jobs, the latest start first, block by block."""

        async def slices(top: int | None) -> AsyncIterator[tuple[list[Job], int, int]]:
            async for jobs in walk(self._store, before=top):
                if jobs:
                    yield jobs, jobs[-1].seq, len(jobs)

        return await page_by_blocks(slices, which, page, self._store.now())

    # --- figures

    async def worker_stats(self, worker: str = "") -> h.WorkerStats:
        """Totals of a worker, as the ledger counts them when jobs end; its jobs that have not ended are looked at."""
        tally, ledger = WorkerTally(worker), self._store.ledger
        unfinished = await self._store.read(partial(_count_ended, ledger, tally))
        for start in range(0, len(unfinished), SLICE):
            jobs = await self._store.read(partial(_jobs, ledger, unfinished[start : start + SLICE]))
            for job in jobs:
                if job.last is not None and job.last.worker == worker and not job.final:
                    tally.add_many(job.queue, job.state, 1, 0, 0)
            await asyncio.sleep(0)
        return tally.stats()

    async def worker_time_series(self, worker: str = "", hours: int = 0) -> Sequence[h.SeriesBucket]:
        """Hours of attempts, zero-filled: the engine's from the ledger's roll-up, those of records as they were told."""
        tally = SeriesTally(worker, h.SERIES_HOURS.of(hours), self._store.now())
        await self._store.read(lambda: self._count_hours(tally))
        return tally.buckets()

    def _count_hours(self, tally: SeriesTally) -> None:
        ledger = self._store.ledger
        for number in range(tally.first, tally.first + len(tally)):
            for key, cell in ledger.rollup.hour(number):
                if tally.worker in ("", key.worker):
                    tally.add_many(number, end_of(key.outcome), cell.n, cell.timed, cell.took)
            for worker, outcome, *counts in ledger.reports.hour(number):
                if tally.worker in ("", worker):
                    tally.add_many(number, end_of(outcome), *counts)

    async def statistics(self, which: h.StatisticsFilter, by: h.GroupBy = h.GroupBy.ALL) -> Sequence[h.Statistics]:
        """Attempts that ended, group by group, from the ledger's roll-up."""
        window, groups = Window(which, self._store.now()), Groups(by)
        await self._roll_up(window, which, lambda _, key, cell: groups.add(key, cell))
        return groups.statistics()

    async def series(self, which: h.StatisticsFilter, span: h.Span = h.Span.HOUR) -> Sequence[h.StatisticsPoint]:
        """Attempts that ended, minute by minute, hour by hour or day by day, from the ledger's roll-up."""
        window = Window(which, self._store.now(), span)
        points = Points(window)
        await self._roll_up(window, which, points.add)
        return points.series()

    async def _roll_up(
        self, window: Window, which: h.StatisticsFilter, add: Callable[[int, Key, Cell | Packed], None]
    ) -> None:
        """Read what was counted, a few minutes or hours at a time; those of one number in one step."""
        rollup = self._store.ledger.rollup
        read = rollup.hour if window.unit == h.HOUR else rollup.minute

        def some(numbers: Sequence[int]) -> None:
            for number in numbers:
                for key, cell in read(number):
                    if wanted(which, key):
                        add(number, key, cell)

        known = await self._store.read(lambda: rollup.numbers(int(window.unit)))
        numbers = [number for number in known if window.first <= number <= window.last]
        for start in range(0, len(numbers), NUMBERS):
            await self._store.read(partial(some, numbers[start : start + NUMBERS]))
            await asyncio.sleep(0)

    async def queue_stats(self) -> Sequence[h.QueueStats]:
        """All queues, by name."""
        return await self._store.read(lambda: _queue_stats(self._store.ledger))


def _count_ended(ledger: Ledger, tally: WorkerTally) -> list[int]:
    """Count what has ended, and records; return the seqs of the jobs that have not and that a worker may have tried."""
    index = ledger.index
    for (queue, worker), cell in index.tally.ended.items():
        if tally.worker in ("", worker):
            tally.add_times(queue, cell.timed, cell.took)
            if tally.worker:
                for state, count in cell.states.items():
                    tally.add_many(queue, state, count, 0, 0)
    if tally.worker:
        return [*index.tally.tried, *(seq for claims in index.running.values() for seq in claims)]
    for name, line in index.lines.items():
        for state in State:
            tally.add_many(name, state, line.counts[state] + line.records[state], 0, 0)
    return []


def _queue_stats(ledger: Ledger) -> list[h.QueueStats]:
    stats = stats_of(ledger)
    return [
        h.QueueStats(
            name=name,
            states=states,
            records={state.value: count for state, count in ledger.index.lines[name].records.items()},
            paused=ledger.index.lines[name].queue.paused,
            oldest_ready_at=stats.oldest_ready_at.get(name),
        )
        for name, states in stats.queues.items()
    ]


def _seq(cursor: str) -> int | None:
    if not cursor:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise bad_cursor(cursor)
    return int(cursor)
